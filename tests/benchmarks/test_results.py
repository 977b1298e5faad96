"""Medians, ratios, and what is kept of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.results import Cell, Party, Results, compared

if TYPE_CHECKING:
    from pathlib import Path


def results(**workflows_s: list[float]) -> Results:
    """Return a run in which contenders have made so many workflows a second in each round."""
    return Results(
        when="2026-01-01",
        machine="a machine",
        parties={name: Party(title=name, durability="all") for name in workflows_s},
        cells={
            name: {"A": Cell(rounds=[{"workflows_s": value} for value in values])}
            for name, values in workflows_s.items()
        },
    )


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert results(one=[3.0, 1.0, 2.0]).figure("one", "A", "workflows_s") == 2.0


def test_what_was_not_measured_is_none() -> None:
    run = results(one=[1.0], none=[])
    assert run.figure("none", "A", "workflows_s") is None
    assert run.figure("one", "B", "workflows_s") is None
    assert run.figure("another", "A", "workflows_s") is None
    assert run.figure("one", "A", "steps_s") is None


def test_ratios_are_of_medians() -> None:
    """And there is none to nothing, or to what is not there."""
    run = results(one=[1.0, 4.0, 100.0], two=[2.0], zero=[0.0])
    assert run.ratio("one", "two", "A", "workflows_s") == 2.0
    assert run.ratio("one", "zero", "A", "workflows_s") is None
    assert run.ratio("one", "another", "A", "workflows_s") is None


def test_runs_are_compared_figure_by_figure() -> None:
    """Where both have one."""
    now, before = results(one=[6.0], new=[1.0]), results(one=[4.0], gone=[1.0])
    assert list(compared(now, before)) == [("one", "A", "workflows_s", 4.0, 6.0, 1.5)]


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With as many digits as mean something."""
    run = results(one=[1.23456789, 1234567.0])
    run.cells["one"]["A"].curves = {"load": [(50.0, 3.0)]}
    run.cells["one"]["B"] = Cell(why="not run here: no reason")
    run.write(tmp_path / "new" / "run.json")
    read = Results.read(tmp_path / "new" / "run.json")
    assert read.cells["one"]["A"].rounds == [{"workflows_s": 1.2346}, {"workflows_s": 1234600.0}]
    assert read.cells["one"]["A"].curves == {"load": [(50.0, 3.0)]}
    assert read.cells["one"]["B"].why == "not run here: no reason"
    assert read.parties == run.parties
