"""Plots are SVG, and the same for the same run."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

pytest.importorskip("matplotlib", reason="in the dependency group `bench`")

from benchmarks.contenders import CONTENDERS
from benchmarks.plots import COLOURS, PLOTS, drawn
from benchmarks.results import Cell, Party, Results

CURVES = {"alone": "alone", "C": "signal", "D": "long", "crowds": "crowds"}


def run() -> Results:
    """Return a run of two, one of which has not been run."""
    cells = {
        workload: Cell(rounds=[{"workflows_s": 10.0}], curves={curve: [(1, 1.5), (100, 30)]})
        for workload, curve in CURVES.items()
    }
    cells["A"] = Cell(rounds=[{"workflows_s": 1_234.0}])
    names = {"beamflow": "beamflow", "dbos": "DBOS", "floor": "the floor"}
    return Results(
        when="",
        machine="",
        parties={name: Party(title=title, durability="") for name, title in names.items()},
        cells={"beamflow": cells, "dbos": {"A": Cell(why="not run here")}, "floor": cells},
    )


@pytest.fixture(scope="module")
def plots() -> dict[str, str]:
    """Return the plots of that run."""
    return drawn(run())


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_svg(name: str, plots: dict[str, str]) -> None:
    """Well-formed, small, with names that can be read and searched."""
    svg = plots[name]
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "the floor" in "".join(root.itertext())
    assert "DBOS" not in "".join(root.itertext())
    assert len(svg) < 60_000


def test_the_same_run_is_drawn_the_same(plots: dict[str, str]) -> None:
    """So that a page that has not changed is not committed again."""
    assert drawn(run()) == plots


def test_nothing_is_drawn_of_nothing() -> None:
    """An empty run gives empty plots, not an error."""
    empty = drawn(Results(when="", machine=""))
    assert all(ET.fromstring(svg) is not None for svg in empty.values())


def test_everybody_has_a_colour() -> None:
    """Of their own, the same in every plot."""
    assert COLOURS.keys() == CONTENDERS.keys()
    assert len(set(COLOURS.values())) == len(COLOURS)
