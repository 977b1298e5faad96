"""For tests of trees: time that passes when the test says so, and waiting until nothing moves."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import TYPE_CHECKING

from supervision.clock import pass_turn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ManualClock", "settle"]

TURNS_MAX = 100_000


async def settle() -> None:
    """Suspend until no task of the running loop can go on without time passing or news from outside.

    Raises:
        RuntimeError: The tasks keep each other awake for ever.
    """
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    for _ in range(TURNS_MAX):
        await pass_turn()
        if not ready:
            return
    raise RuntimeError(f"still busy after {TURNS_MAX} turns of the loop. Something spins.")


class ManualTimer:
    """A callback that waits for its time on a `ManualClock`."""

    __slots__ = ("args", "callback", "cancelled", "when")

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[object, ...]
    ) -> None:
        """Wait until `when`."""
        self.when = when
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the callback."""
        self.cancelled = True


class ManualClock:
    """A `Clock` whose time stands still until `advance`."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        """Stand at a time.

        Args:
            start: The wall clock time to begin with, in seconds since 1970.
        """
        self._start = start
        self._passed = 0.0
        self._order = count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def now(self) -> float:
        """Wall clock time in seconds since 1970, UTC."""
        return self._start + self._passed

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._passed

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task until that much time was given by `advance`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, _resolve, future)
        try:
            await future
        finally:
            timer.cancel()

    def call_later(
        self, seconds: float, callback: Callable[..., object], *args: object
    ) -> ManualTimer:
        """Run ``callback(*args)`` when that much time was given by `advance`."""
        timer = ManualTimer(self._passed + seconds, callback, args)
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    @property
    def pending(self) -> int:
        """How many timers wait."""
        return sum(not timer.cancelled for _, _, timer in self._timers)

    async def advance(self, seconds: float) -> None:
        """Let time pass.

        Run what becomes due, in order, and let the loop settle before and after each.

        Args:
            seconds: How much.
        """
        until = self._passed + seconds
        await settle()
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            if timer.cancelled:
                continue
            self._passed = max(self._passed, when)
            timer.callback(*timer.args)
            await settle()
        self._passed = max(self._passed, until)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
