"""One workflow's log as a drawing: what was done from left to right, what was undone back again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from beamflow.model.events import CompensationCompleted, StepCompleted, StepFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from beamflow import Recorded

__all__ = ["draw"]

WIDTH = 13


class Mark(msgspec.Struct, frozen=True):
    """A step or its compensation, in the column that the step has."""

    column: int
    name: str
    when: str
    attempt: int = 1


def draw(history: Sequence[Recorded]) -> Iterator[str]:
    """Draw steps in order of completion, and compensations below the steps that they undo."""
    steps, undone = read(history)
    width = WIDTH * len(steps)
    axis = "start " + "═" * (width - 6)
    yield inlaid(axis, ((mark.column, "╤") for mark in steps)) + "▶"
    yield row((mark.column, "▼") for mark in steps)
    yield from named(steps)
    if any(mark.attempt > 1 for mark in steps):
        yield row((mark.column, f"{mark.attempt} attempts") for mark in steps if mark.attempt > 1)
    if undone:
        failed = steps[-1].column
        first, last = centre(undone[-1].column), centre(failed)
        yield row([(failed, "│")])
        way = " " * first + "─" * (last - first) + "┘"
        arrows = ((mark.column, f" {mark.name.partition('_')[0]} ◀") for mark in undone)
        yield inlaid(way, arrows)
        yield from list(named(undone))[1:]


def read(history: Sequence[Recorded]) -> tuple[list[Mark], list[Mark]]:
    """Pick what is drawn: steps that ended, and compensations that completed."""
    steps: list[Mark] = []
    undone: list[Mark] = []
    columns: dict[int, int] = {}
    for recorded in history:
        when = f"{(recorded.time - history[0].time) / 1_000_000:.3f} s"
        match recorded.event:
            case StepCompleted(op=op, name=name, attempt=attempt):
                columns[op] = len(columns)
                steps.append(Mark(columns[op], name, when, attempt))
            case StepFailed(op=op, name=name, attempt=attempt, retry_at=None):
                columns[op] = len(columns)
                steps.append(Mark(columns[op], name, "FAILED", attempt))
            case CompensationCompleted(op=op, name=name, attempt=attempt):
                undone.append(Mark(columns[op], name, when, attempt))
            case _:
                pass
    return steps, undone


def named(marks: Iterable[Mark]) -> Iterator[str]:
    """Write names on two lines, and below them the time since the start."""
    marks = list(marks)
    yield row((mark.column, mark.name.partition("_")[0]) for mark in marks)
    yield row((mark.column, mark.name.partition("_")[2].replace("_", " ")) for mark in marks)
    yield row((mark.column, mark.when) for mark in marks)


def row(cells: Iterable[tuple[int, str]]) -> str:
    """Write texts, each in the middle of its column."""
    return inlaid("", cells)


def inlaid(line: str, cells: Iterable[tuple[int, str]]) -> str:
    """Write texts over a line, each in the middle of its column."""
    for column, text in cells:
        start = max(centre(column) - len(text) // 2, 0)
        line = line.ljust(start)
        line = line[:start] + text + line[start + len(text) :]
    return line


def centre(column: int) -> int:
    """Return where the middle of a column is."""
    return column * WIDTH + WIDTH // 2
