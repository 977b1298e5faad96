"""Steps whose results are shared by a key: one workflow at a time is at it, the others wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from beamflow.model.events import StepCompleted, StepFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamflow.engine.slots import KeyedSlots
    from beamflow.model.events import Event
    from beamflow.stores.base import Kept, Store

__all__ = ["Claims", "Key"]

Key = tuple[str, str]
"""Name of the step, and the key it was called with."""


class Claims:
    """The keys that one workflow is at, from before it looks for a result until its own is durable.

    Args:
        keys: which ones somebody of the engine is at; in memory, for that dies with those who are.
    """

    def __init__(self, keys: KeyedSlots[Key]) -> None:
        """Begin with none."""
        self._keys = keys
        self._held: dict[int, Key] = {}
        self._closed = False

    async def find(self, store: Store, op: int, key: Key, now: int) -> Kept | None:
        """Return the result that is kept under a key; with None the caller is the one to make it.

        Suspends while somebody else is at it.

        Raises:
            StoreError: the store cannot be read; nobody is at it.
            asyncio.CancelledError: the caller was cancelled; likewise.
        """
        if op in self._held:  # another attempt of the one who is at it
            return None
        await self._keys.take(key)
        claimed = False
        try:
            kept = await store.kept(*key, now)
            claimed = kept is None and not self._is_over()
        finally:
            if not claimed:
                self._keys.give_back(key)
        if claimed:
            self._held[op] = key
        elif kept is None:
            raise asyncio.CancelledError
        return kept

    def _is_over(self) -> bool:
        """Tell whether nobody would let go of a claim: the cancellation has not arrived yet."""
        task = asyncio.current_task()
        return self._closed or (task is not None and task.cancelling() > 0)

    def recorded(self, events: Iterable[Event]) -> None:
        """Let go of what these events, which are durable, are the outcomes of."""
        for event in events:
            if isinstance(event, StepCompleted) or (
                isinstance(event, StepFailed) and event.retry_at is None
            ):
                self.let_go(event.op)

    def let_go(self, op: int) -> None:
        """Let somebody else be at what a step was at; harmless when it was at nothing."""
        key = self._held.pop(op, None)
        if key is not None:
            self._keys.give_back(key)

    def let_go_of_all(self) -> None:
        """Let somebody else be at everything."""
        for op in tuple(self._held):
            self.let_go(op)

    def close(self) -> None:
        """Let go of all, and claim nothing any more: the workflow leaves memory."""
        self._closed = True
        self.let_go_of_all()
