"""The part of the port that takes workflows out of the store again, once nobody needs them.

A workflow that has ended is *needed* as long as

- it has a dead letter that is open,
- a child of it is open that ends with it (all but abandoned ones),
- its parent is there and may ask for its outcome again: it has neither completed nor been cancelled, and
  the run that it is in had begun when the child ended,
- a result that it shares with others is valid.

Whatever else knew of it (a fork, an outcome in its parent's log) has a copy. Once it is removed, the store
knows nothing of its id: it can be started anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from beamflow.model.status import WorkflowState

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Removable", "RemovablePage", "RemovableQuery", "Removal"]


class RemovableQuery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which workflows that have ended may go; a page at a time."""

    state: WorkflowState
    """In which state they have ended."""
    closed_before: int
    """They have ended before that time, microseconds since the Unix epoch."""
    now: int
    """Which shared results are valid."""
    workflow: str | None = None
    """Only of this name."""
    others_than: tuple[str, ...] = ()
    """Only of other names."""
    after: str | None = None
    """``cursor`` of the page before."""
    limit: int = 500
    """How many are looked at."""


class Removable(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A workflow that has ended and is not needed."""

    id: str
    seq: int
    """Sequence number of its last event."""
    begun: bool = False
    """Whether its removal had begun when the process died: it is not there any more, its space is."""


class RemovablePage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Those of the workflows looked at that may go, and where the next page begins (None: nowhere).

    A page may be empty and not the last.
    """

    items: tuple[Removable, ...]
    cursor: str | None


class Removal(Protocol):
    """What has ended is found, and taken out."""

    async def removable(self, query: RemovableQuery) -> RemovablePage:
        """Return one page of the workflows that may be removed, those begun with first.

        Raises:
            ValueError: ``limit`` or ``after`` is refused as by `Log.find`.
        """

    async def remove(self, items: Sequence[Removable], *, now: int, epoch: int) -> tuple[str, ...]:
        """Remove workflows: their events, their summaries, their dead letters; return whose.

        One that is needed, has gone on or is not there is left out. Of any other nothing is there from
        one moment on, for whoever looks and after a crash. The space of a long log is given back in
        pieces, between which others write.

        Args:
            items: which, with the place where the log of each ends.
            now: which shared results are valid.
            epoch: that of the lease in hand.

        Raises:
            FencedError: ``epoch`` is not that of the current lease; nothing was removed.
            StoreUnavailableError: the outcome is unknown.
        """
