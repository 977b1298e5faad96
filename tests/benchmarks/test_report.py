"""Tables for terminals and pages."""

from __future__ import annotations

import pytest

from benchmarks._report import aligned, machine, markdown, shown


def test_columns_are_aligned() -> None:
    """The first to the left, the others to the right."""
    assert aligned(("", "a"), [("one", "1"), ("three", "1,000")]) == (
        "              a\n  one         1\n  three   1,000\n"
    )


def test_markdown_has_a_rule_below_its_header() -> None:
    assert markdown(("", "a"), [("one", "1")]) == "|  | a |\n| --- | ---: |\n| one | 1 |\n"


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0, "0.0"), (1234.56, "1,234.6")])
def test_what_is_not_there_is_a_dash(value: float | None, text: str) -> None:
    assert shown(value, "{:,.1f}") == text


@pytest.mark.parametrize(("value", "text"), [(0.44, "0.4"), (8, "8"), (8.0, "8"), (12.4, "12")])
def test_small_figures_have_a_decimal(value: float, text: str) -> None:
    """Unless they count something."""
    assert shown(value, "{:,.0f}") == text


def test_the_machine_is_named() -> None:
    assert "Python 3." in machine()
    assert "cores" in machine()
