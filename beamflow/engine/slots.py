"""Slots: how many may be at something at the same time, in the order in which they asked."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["STEPS_MAX", "Slots"]

STEPS_MAX = 10_000


class Slots:
    """Gives so many slots, in the order in which they were asked for.

    Args:
        most: how many there are.
    """

    __slots__ = ("_free", "_waiting")

    def __init__(self, most: int) -> None:
        """Begin with all of them free."""
        self._free = most
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_at_once(self) -> bool:
        """Take one if there is one; `give_back` gives it back."""
        if self._free > 0:
            self._free -= 1
            return True
        return False

    async def take(self) -> None:
        """Wait for one and take it; whoever is cancelled has none."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """Give one back, to whoever has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
