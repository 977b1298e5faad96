"""What beamflow is to reach on two cores, and whether a run has reached it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.results import Results

__all__ = ["PEERS", "Goal", "judged"]

PEERS = ("dbos", "edda", "langgraph", "prefect", "restate")


class Goal(NamedTuple):
    """One line: what, how it is measured, between which limits it has to be, how it is written."""

    title: str
    figure: Callable[[Results], float | None]
    least: float | None
    most: float | None
    form: str

    @property
    def wanted(self) -> str:
        """The limits, in words."""
        if self.least is not None and self.most is not None:
            return f"{self.form.format(self.least)} to {self.form.format(self.most)}"
        if self.least is not None:
            return f"≥ {self.form.format(self.least)}"
        return f"≤ {self.form.format(self.most)}"

    def met(self, value: float) -> bool:
        """Say whether a figure is between the limits."""
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )


def judged(results: Results) -> Iterator[tuple[str, str, str, str]]:
    """Yield a line for each goal: what, the goal, the figure, whether it is met."""
    for goal in GOALS:
        value = goal.figure(results)
        if value is None:
            yield goal.title, goal.wanted, "-", "not measured"
        else:
            yield goal.title, goal.wanted, goal.form.format(value), _verdict(goal, value, results)


def _verdict(goal: Goal, value: float, results: Results) -> str:
    if results.scale != 1:
        return f"{results.scale:g} of the load"
    return "yes" if goal.met(value) else "**no**"


def _of(contender: str, workload: str, figure: str) -> Callable[[Results], float | None]:
    return lambda results: results.figure(contender, workload, figure)


def _times_best_peer(results: Results) -> float | None:
    ratios = (results.ratio("beamflow", peer, "A", "workflows_s") for peer in PEERS)
    return min((ratio for ratio in ratios if ratio is not None), default=None)


GOALS = (
    Goal("A, 2,000 open, workflows/s", _of("beamflow", "A", "workflows_s"), 6_000, None, "{:,.0f}"),
    Goal("A, 2,000 open, steps/s", _of("beamflow", "A", "steps_s"), 30_000, None, "{:,.0f}"),
    Goal(
        "A, times DBOS on SQLite",
        lambda results: results.ratio("beamflow", "dbos", "A", "workflows_s"),
        80,
        None,
        "{:,.0f}",
    ),
    Goal("A, times the best peer", _times_best_peer, 10, None, "{:,.1f}"),
    Goal(
        "A alone, p50, times the raw commits it needs",
        lambda results: results.ratio("beamflow", "floor", "alone", "alone_p50_ms"),
        None,
        1.5,
        "{:.2f}",
    ),
    Goal(
        "A alone, memory store, p50, ms",
        _of("memory", "alone", "alone_p50_ms"),
        None,
        0.3,
        "{:.2f}",
    ),
    Goal(
        "a waiting workflow, bytes", _of("beamflow", "C", "waiting_bytes"), None, 5_000, "{:,.0f}"
    ),
    Goal(
        "signal to continuation, p50, ms",
        _of("beamflow", "C", "signal_p50_ms"),
        None,
        1.0,
        "{:.2f}",
    ),
    Goal(
        "the same, memory store, p50, ms", _of("memory", "C", "signal_p50_ms"), None, 0.1, "{:.3f}"
    ),
    Goal("D, step 1,000 to step 10", _of("beamflow", "D", "growth"), 0.9, 1.1, "{:.2f}"),
    Goal(
        "replay, events/s", _of("beamflow", "replay", "replay_events_s"), 100_000, None, "{:,.0f}"
    ),
    Goal("recovery of 10,000, s", _of("beamflow", "recovery", "back_s"), None, 3.0, "{:.1f}"),
    Goal("import beamflow, s", _of("beamflow", "import", "import_s"), None, 0.2, "{:.2f}"),
)
