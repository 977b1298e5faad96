"""What beamflow is to reach on two cores, and whether a run has reached it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmarks.results import Results

__all__ = ["GOALS", "MILLION", "PEERS", "Goal", "judged"]

MILLION = 1_000_000
"""How many workflows the goals of ``make bench-scale`` are about."""

PEERS = ("dbos", "edda", "langgraph", "prefect", "restate")


class Goal(NamedTuple):
    """One line: what, how it is measured, between which limits it has to be, how it is written."""

    title: str
    figure: Callable[[Results], float | None]
    least: float | None
    most: float | None
    form: str
    part: str = ""
    """Which part of ``make bench-scale`` measures it, if it is not ``make bench``."""

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


def judged(
    results: Results, goals: Iterable[Goal] | None = None
) -> Iterator[tuple[str, str, str, str]]:
    """Yield a line for each goal, or for some: what, the goal, the figure, whether it is met."""
    for goal in GOALS if goals is None else goals:
        value = goal.figure(results)
        if value is None:
            how = f" (`make bench-scale ARGS={goal.part}`)" if goal.part else ""
            yield goal.title, goal.wanted, "-", f"not measured{how}"
        else:
            yield goal.title, goal.wanted, goal.form.format(value), _verdict(goal, value, results)


def _verdict(goal: Goal, value: float, results: Results) -> str:
    if goal.part:
        count = results.long[goal.part].count
        if count < MILLION:
            return f"{count:,} of {MILLION:,}"
    elif results.scale != 1:
        return f"{results.scale:g} of the load"
    return "yes" if goal.met(value) else "**no**"


def _of(contender: str, workload: str, figure: str) -> Callable[[Results], float | None]:
    return lambda results: results.figure(contender, workload, figure)


def _at_scale(part: str, figure: str) -> Callable[[Results], float | None]:
    return lambda results: results.long[part].figures[figure] if part in results.long else None


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
    Goal(
        "a million asleep, started a second",
        _at_scale("sleepers", "started_per_s"),
        5_000,
        None,
        "{:,.0f}",
        part="sleepers",
    ),
    Goal(
        "a million asleep, memory at its peak, MB",
        _at_scale("sleepers", "peak_mb"),
        None,
        400,
        "{:,.0f}",
        part="sleepers",
    ),
    Goal(
        "a million asleep, the first wakes late, ms",
        _at_scale("sleepers", "first_late_ms"),
        None,
        50,
        "{:,.1f}",
        part="sleepers",
    ),
    Goal(
        "a page of any query over a million, ms",
        _at_scale("finding", "page_ms"),
        None,
        20,
        "{:,.1f}",
        part="finding",
    ),
    Goal("import beamflow, s", _of("beamflow", "import", "import_s"), None, 0.2, "{:.2f}"),
)
