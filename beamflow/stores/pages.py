"""Pages of a listing: where they begin, and the cursors that say where they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow.stores.base import LIMIT_MAX

if TYPE_CHECKING:
    from beamflow.stores.base import DeadLetter, Place, WorkflowQuery

__all__ = [
    "bounds_of",
    "checked_limit",
    "cursor_at",
    "letter_cursor_at",
    "letter_place_of",
    "place_of",
]


def cursor_at(time: int, workflow_id: str) -> str:
    """Write the place of a workflow in a listing as the cursor of the page that it ends."""
    return f"{time}:{workflow_id}"


def place_of(cursor: str | None) -> Place:
    """Read a cursor back; None is the place before everything. Raises ValueError for no cursor."""
    if cursor is None:
        return -(2**63), ""
    time, _, workflow_id = cursor.partition(":")
    try:
        workflow_id.encode()
        place = int(time), workflow_id
    except ValueError as error:
        raise _no_cursor(cursor) from error
    if not -(2**63) <= place[0] < 2**63:
        raise _no_cursor(cursor)
    return place


def bounds_of(query: WorkflowQuery) -> tuple[Place, Place]:
    """Return the places between which, exclusively, the page of a query begins.

    Raises:
        ValueError: ``after`` is no cursor, or there is a version of no workflow.
    """
    if query.version is not None and query.workflow is None:
        raise ValueError(
            f"version={query.version!r} is refused: say the version of which workflow "
            f"(workflow=...)"
        )
    low = -(2**63) if query.started_after is None else query.started_after, ""
    high = 2**63 - 1 if query.started_before is None else query.started_before, ""
    if query.after is None:
        return low, high
    after = place_of(query.after)
    return (low, min(high, after)) if query.newest_first else (max(low, after), high)


def letter_cursor_at(letter: DeadLetter) -> str:
    """Write the place of a dead letter in a listing as the cursor of the page that it ends."""
    return cursor_at(letter.created_at, f"{letter.number}:{letter.workflow_id}")


def letter_place_of(cursor: str | None) -> tuple[int, str, int]:
    """Read a cursor of dead letters back: time, workflow and number; see `place_of`."""
    time, rest = place_of(cursor)
    if cursor is None:
        return time, "", 0
    number, _, workflow_id = rest.partition(":")
    try:
        return time, workflow_id, int(number)
    except ValueError as error:
        raise _no_cursor(cursor) from error


def _no_cursor(cursor: str) -> ValueError:
    return ValueError(f"after={cursor!r} is no cursor: pass the cursor of the page before, or None")


def checked_limit(limit: int) -> int:
    """Return the page size; raises ValueError for one that is no bound."""
    if not 1 <= limit <= LIMIT_MAX:
        raise ValueError(f"limit={limit!r} is refused: a page holds 1 to {LIMIT_MAX:,} items")
    return limit
