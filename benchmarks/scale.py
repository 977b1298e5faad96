"""``python -m benchmarks.scale part [options]``: what takes long, one part at a time.

A part that has a goal says whether it is met; with the whole load it is kept for the page of the docs.
"""

from __future__ import annotations

import importlib
import sys
from datetime import UTC, datetime

import msgspec

from benchmarks._report import machine, rows
from benchmarks.environments import CACHE
from benchmarks.goals import GOALS, MILLION, judged
from benchmarks.results import Part, Results

__all__ = ["KEPT", "PARTS", "kept", "main"]

PARTS = {
    "sleepers": "a million workflows that sleep for a day",
    "finding": "a page of each kind of query among a million workflows",
    "soak": "a constant load for twenty minutes: does anything grow?",
}
"""What can be run, each a module ``benchmarks._<part>`` with a ``main(argv)``.

It returns its figures, among them ``count``, or None where there is no goal to judge them by.
"""

KEPT = CACHE / "scale.json"
"""The last run of each part with the whole load."""


def main(argv: list[str]) -> int:
    """Run the part that is named first."""
    if not argv or argv[0] not in PARTS:
        parts = "\n".join(f"  {name:10} {what}" for name, what in PARTS.items())
        sys.stderr.write(f"usage: python -m benchmarks.scale part [options]; the parts:\n{parts}\n")
        return 2
    figures = importlib.import_module(f"benchmarks._{argv[0]}").main(argv[1:])
    if figures is not None:
        _judge(argv[0], figures)
    return 0


def kept() -> dict[str, Part]:
    """Return the last run of each part with the whole load, of those that were run."""
    return msgspec.json.decode(KEPT.read_bytes(), type=dict[str, Part]) if KEPT.exists() else {}


def _judge(name: str, figures: dict[str, float]) -> None:
    """Print which goals are met, and keep the figures if they are of the whole load."""
    count = int(figures["count"])
    part = Part(
        when=f"{datetime.now(UTC):%Y-%m-%d}", machine=machine(), count=count, figures=figures
    )
    goals = [goal for goal in GOALS if goal.part == name]
    sys.stdout.write("\n")
    rows(
        ("", "goal", "figure", "met"),
        judged(Results(when=part.when, machine=part.machine, long={name: part}), goals),
    )
    if count >= MILLION:
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        KEPT.write_bytes(msgspec.json.format(msgspec.json.encode({**kept(), name: part})))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
