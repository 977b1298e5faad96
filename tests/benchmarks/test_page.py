"""The page of the docs and the baseline are of one run."""

from __future__ import annotations

import pytest

from benchmarks.page import BASELINE, PAGE, PICTURES, PLOT_OF, placed, rendered
from benchmarks.results import Cell, Party, Results


def test_the_page_shows_the_baseline() -> None:
    """`make bench ARGS=page` makes both, and nobody edits either."""
    page = PAGE.read_text()
    assert placed(page, rendered(Results.read(BASELINE))) == page


@pytest.mark.parametrize("name", sorted(name for name, _ in PLOT_OF.values()))
def test_each_plot_stands_beside_the_page(name: str) -> None:
    assert (PICTURES / f"{name}.svg").read_text().startswith("<?xml")
    assert f"({PICTURES.name}/{name}.svg)" in PAGE.read_text()


def test_figures_are_replaced_in_their_place() -> None:
    """What stands around them is left."""
    page = placed(PAGE.read_text(), "new \\1 figures")
    assert page.count("new \\1 figures") == 1
    assert placed(page, "x") == placed(PAGE.read_text(), "x")
    assert page.startswith(PAGE.read_text()[:200])


def test_who_was_not_run_says_why() -> None:
    run = Results(
        when="2026-01-01",
        machine="a machine",
        parties={
            "beamflow": Party(title="beamflow", durability="all", version="1.0"),
            "dbos": Party(title="DBOS", durability="all"),
        },
        cells={
            "beamflow": {"A": Cell(rounds=[{"workflows_s": 20.0, "count": 10, "window": 5}])},
            "dbos": {"A": Cell(why="not run here: no network")},
        },
    )
    text = rendered(run)
    assert "DBOS: not run here: no network." in text
    assert "| beamflow 1.0 | 20 | - |" in text
    assert "| 10 (5 open) | 1 |" in text
