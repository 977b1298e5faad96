"""Steps that can be undone, unless a test says otherwise, and the list of what was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beamflow import Retry, current_step, step
from beamflow.events import CompensationCompleted, CompensationFailed

if TYPE_CHECKING:
    from beamflow import WorkflowHandle


undone: list[str] = []
"""What was undone, outside the engine's knowledge."""

unwell: set[str] = set()
"""What cannot be undone yet."""


def fresh() -> None:
    """Begin with nothing undone, and nothing that cannot be."""
    undone.clear()
    unwell.clear()


@step
async def book(what: str) -> str:
    return f"{what} #1"


@book.compensation(retry=Retry(max_attempts=3, initial=10, jitter=0))
async def unbook(number: str, what: str) -> None:
    info = current_step()
    if what in unwell:
        undone.append(f"{what} fails {info.attempt}")
        raise ConnectionError(f"{what} is unwell")
    undone.append(f"{number} {info.idempotency_key.rpartition('/')[2]}")


@step
async def refuse(why: str) -> None:
    raise ValueError(why)


@step
async def look(what: str) -> str:
    """Has nothing to undo."""
    return what


async def undoings(handle: WorkflowHandle[Any]) -> list[tuple[str, int, int]]:
    return [
        (type(one.event).__name__, one.event.op, one.event.attempt)
        for one in await handle.history()
        if isinstance(one.event, CompensationCompleted | CompensationFailed)
    ]
