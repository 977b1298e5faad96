"""Time, for everything in this package. No other file reads a clock or sleeps."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "SystemClock", "Timer", "pass_turn"]


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None:
        """Forget the callback; harmless when it has run."""


class Clock(Protocol):
    """Where time comes from. Give another one to a tree to simulate time."""

    def now(self) -> float:
        """Wall clock time in seconds since 1970, UTC."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean something."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task for that long."""

    def call_later(self, seconds: float, callback: Callable[..., object], *args: object) -> Timer:
        """Run ``callback(*args)`` in the event loop after that long; never at once."""


class SystemClock:
    """The machine's clock, and the running loop's for everything that waits.

    `monotonic` is the loop's own time, so that it agrees with timers also on a loop with simulated
    time.
    """

    __slots__ = ()

    def now(self) -> float:
        """Wall clock time in seconds since 1970, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on the running loop's clock; must be called inside a loop."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task for that long."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[..., object], *args: object) -> Timer:
        """Run ``callback(*args)`` in the event loop after that long; never at once."""
        return asyncio.get_running_loop().call_later(seconds, callback, *args)


async def pass_turn() -> None:
    """Let every other task that is ready run once."""
    await asyncio.sleep(0)
