"""The figures of each workload: what they are called, how they are written, which way is better."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FIGURES", "TITLES", "Figure"]


class Figure(NamedTuple):
    """One column of a table."""

    name: str
    title: str
    form: str
    more_is_better: bool = False


WORKFLOWS = Figure("workflows_s", "workflows/s", "{:,.0f}", more_is_better=True)
STEPS = Figure("steps_s", "steps/s", "{:,.0f}", more_is_better=True)
CPU = Figure("cpu_s", "CPU s/1,000 steps", "{:.3f}")
P50 = Figure("load_p50_ms", "p50, ms", "{:,.0f}")
P99 = Figure("load_p99_ms", "p99, ms", "{:,.0f}")
RSS = Figure("rss_peak_mb", "RSS peak, MB", "{:,.0f}")
DISK = Figure("disk_bytes", "disk, bytes/step", "{:,.0f}")

TITLES = {
    "A": "A: 5 steps in a row, many workflows open",
    "alone": "A, alone: the same, one workflow at a time",
    "B": "B: 20 steps in parallel",
    "C": "C: wait for a signal, then one step",
    "D": "D: 1,000 steps in a row in one workflow",
    "E": "E: a tree of children, 1 → 10 → 10, a step in each leaf",
    "F": "F: 5 steps of 10 ms of I/O in a row, many workflows open",
    "crowds": "A, by how many workflows are open, up to n",
    "recovery": "recovery: all workflows open at a SIGKILL, until each is back at work",
    "replay": "replay: logs of 1,000 steps",
    "import": "import: what `import beamflow` adds to the start of Python",
}

FIGURES: dict[str, tuple[Figure, ...]] = {
    "A": (WORKFLOWS, STEPS, P50, P99, CPU, RSS, DISK),
    "alone": (
        Figure("alone_p50_ms", "p50, ms", "{:,.2f}"),
        Figure("alone_p99_ms", "p99, ms", "{:,.2f}"),
        Figure("first_step_ms", "start to first step, ms", "{:,.2f}"),
    ),
    "B": (WORKFLOWS, STEPS, P50, P99, CPU, DISK),
    "C": (
        Figure("signal_p50_ms", "signal to continuation p50, ms", "{:,.2f}"),
        Figure("signal_p99_ms", "p99, ms", "{:,.2f}"),
        Figure("waiting_bytes", "bytes per waiting workflow", "{:,.0f}"),
    ),
    "D": (
        STEPS,
        Figure("early_us", "step 10, µs", "{:,.0f}"),
        Figure("late_us", "the last step, µs", "{:,.0f}"),
        Figure("growth", "last/10th", "{:.2f}"),
        Figure("reached", "steps taken", "{:,.0f}", more_is_better=True),
    ),
    "E": (WORKFLOWS, STEPS, CPU, RSS, DISK),
    "F": (WORKFLOWS, STEPS, P50, P99, CPU, RSS),
    "crowds": (
        Figure("most_s", "workflows/s, n open", "{:,.0f}", more_is_better=True),
        Figure("hundred_s", "100 open", "{:,.0f}", more_is_better=True),
        Figure("alone_s", "1 open", "{:,.0f}", more_is_better=True),
    ),
    "recovery": (
        Figure("back_s", "all at work, s", "{:,.2f}"),
        Figure("first_back_s", "the first, s", "{:,.2f}"),
        Figure("done_s", "all ended, s", "{:,.2f}"),
        Figure("twice", "steps run twice", "{:,.0f}"),
        Figure("open", "open at the kill", "{:,.0f}", more_is_better=True),
    ),
    "replay": (Figure("replay_events_s", "events/s", "{:,.0f}", more_is_better=True),),
    "import": (Figure("import_s", "s", "{:.3f}"),),
}
"""The first figure of a workload is the one whose ratio to beamflow's is shown."""
