"""Goals are judged by the medians of a run."""

from __future__ import annotations

from benchmarks.goals import GOALS, judged
from benchmarks.results import Cell, Part, Party, Results


def run(**cells: dict[str, Cell]) -> Results:
    """Return a run with these cells."""
    parties = {name: Party(title=name, durability="") for name in cells}
    return Results(when="", machine="", parties=parties, cells=dict(cells))


def cell(**figures: float) -> Cell:
    """Return a cell of one round."""
    return Cell(rounds=[figures])


def verdicts(results: Results) -> dict[str, tuple[str, str]]:
    """Return figure and verdict of each goal."""
    return {title: (figure, met) for title, _, figure, met in judged(results)}


def test_every_goal_has_a_line() -> None:
    """Also when nothing was measured."""
    lines = list(judged(run()))
    assert len(lines) == len(GOALS)
    assert {met.partition(" (")[0] for *_, met in lines} == {"not measured"}


def test_a_limit_counts_as_met() -> None:
    found = verdicts(run(beamflow={"A": cell(workflows_s=6_000, steps_s=29_999)}))
    assert found["A, 2,000 open, workflows/s"] == ("6,000", "yes")
    assert found["A, 2,000 open, steps/s"] == ("29,999", "**no**")


def test_the_best_peer_is_the_fastest() -> None:
    """The floor and beamflow's own variants are no peers."""
    found = verdicts(
        run(
            beamflow={"A": cell(workflows_s=1_000)},
            floor={"A": cell(workflows_s=9_000)},
            dbos={"A": cell(workflows_s=10)},
            restate={"A": cell(workflows_s=500)},
            edda={"A": Cell(why="not run here")},
        )
    )
    assert found["A, times DBOS on SQLite"] == ("100", "yes")
    assert found["A, times the best peer"] == ("2.0", "**no**")


def test_goals_between_two_limits() -> None:
    """A step that gets cheaper by far is as suspicious as one that gets dearer."""
    for growth, met in ((0.89, "**no**"), (0.9, "yes"), (1.1, "yes"), (1.2, "**no**")):
        found = verdicts(run(beamflow={"D": cell(growth=growth)}))
        assert found["D, step 1,000 to step 10"][1] == met


def test_latency_alone_is_judged_by_the_floor() -> None:
    found = verdicts(
        run(beamflow={"alone": cell(alone_p50_ms=3.0)}, floor={"alone": cell(alone_p50_ms=2.0)})
    )
    assert found["A alone, p50, times the raw commits it needs"] == ("1.50", "yes")


def test_what_takes_long_is_judged_by_itself() -> None:
    """By its last run with the whole load; it does not matter what the load beside it was."""
    title = "a page of any query over a million, ms"
    results = run()
    results.scale = 0.1
    assert verdicts(results)[title] == ("-", "not measured (`make bench-scale ARGS=finding`)")
    for count, page_ms, met in (
        (1_000_000, 20.0, "yes"),
        (1_000_000, 20.1, "**no**"),
        (300, 0.1, "300 of 1,000,000"),
    ):
        part = Part(when="", machine="", count=count, figures={"page_ms": page_ms})
        results.long = {"finding": part}
        assert verdicts(results)[title] == (f"{page_ms:.1f}", met)


def test_a_part_of_the_load_meets_no_goal() -> None:
    """Nor misses any."""
    part = run(beamflow={"A": cell(workflows_s=6_000)})
    part.scale = 0.1
    assert verdicts(part)["A, 2,000 open, workflows/s"] == ("6,000", "0.1 of the load")
