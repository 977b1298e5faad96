"""Slots: how many may be at something at the same time, in the order in which they asked."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["STEPS_MAX", "KeyedSlots", "Slots"]

K = TypeVar("K", bound="Hashable")

STEPS_MAX = 10_000


class Slots:
    """Gives so many slots, in the order in which they were asked for.

    Args:
        most: how many there are.
    """

    __slots__ = ("_free", "_most", "_waiting")

    def __init__(self, most: int) -> None:
        """Begin with all of them free."""
        self._most = self._free = most
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def is_idle(self) -> bool:
        """Whether all of them are free."""
        return self._free == self._most

    def take_at_once(self) -> bool:
        """Take one if there is one; `give_back` gives it back."""
        if self._free > 0:
            self._free -= 1
            return True
        return False

    async def take(self) -> None:
        """Wait for one and take it; whoever is cancelled has none."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            raise
        finally:
            self._waiting.pop(turn, None)

    def give_back(self) -> None:
        """Give one back, to whoever has waited longest."""
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class KeyedSlots(Generic[K]):
    """Gives so many slots for each key; nothing is kept of a key of which all are free.

    Args:
        most: how many there are for each.
    """

    __slots__ = ("_most", "_slots")

    def __init__(self, most: int) -> None:
        """Begin with all of them free."""
        self._most = most
        self._slots: dict[K, Slots] = {}

    async def take(self, key: K) -> None:
        """Take one, waiting for it if need be; whoever is cancelled has none."""
        slots = self._slots.get(key)
        if slots is None:
            slots = self._slots[key] = Slots(self._most)
        if slots.take_at_once():
            return
        try:
            await slots.take()
        finally:
            self._forget_idle(key)

    def give_back(self, key: K) -> None:
        """Give one back, to whoever has waited longest."""
        self._slots[key].give_back()
        self._forget_idle(key)

    def _forget_idle(self, key: K) -> None:
        slots = self._slots.get(key)
        if slots is not None and slots.is_idle:
            del self._slots[key]
