"""The list of OTP's cases: each is a test, or stands in the table of those that mean nothing here."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "internals" / "supervision.md"
TESTED = re.compile(r"(?:def test_|_|id=\")([SX]\d\d)(?=_)")
NAMED = re.compile(r"([SX])(\d\d)(?: to S(\d\d))?")


def has_a_test() -> set[str]:
    """The cases that the names of tests, or of their parameters, carry."""
    return {
        case
        for file in HERE.glob("test_*.py")
        for line in file.read_text().splitlines()
        if "def test_" in line or "pytest.param" in line
        for case in TESTED.findall(line)
    }


def left_out() -> set[str]:
    """The cases of the table of those that are not ported."""
    table = PAGE.read_text().partition("## Not ported")[2].partition("\n## ")[0]
    return {
        f"S{number:02}"
        for line in table.splitlines()
        if line.startswith("| S")
        for _, first, last in NAMED.findall(line.split("|")[1])
        for number in range(int(first), int(last or first) + 1)
    }


def test_every_case_is_a_test_or_has_its_reason() -> None:
    """No case of the suite is forgotten, and none is both."""
    cases = {f"S{number:02}" for number in range(1, 94)}
    assert has_a_test() & left_out() == set()
    assert cases - has_a_test() - left_out() == set()


def test_every_case_of_asyncio_is_a_test() -> None:
    """X01 to X20 are all there."""
    assert {f"X{number:02}" for number in range(1, 21)} - has_a_test() == set()
