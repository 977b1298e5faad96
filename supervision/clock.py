"""Time, for everything in this package. No other file reads a clock or sleeps."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "SystemClock", "Timer", "WallTimer", "machine_seconds", "pass_turn"]

LOOK_S_MAX: Final = 60.0
"""How long to go without a look at the wall clock, which may jump or run on while asleep."""


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

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Timer:
        """Run ``callback(*args)`` in the event loop once `now` has reached ``when``.

        Never early and never at once, also when the wall clock is set forward or back meanwhile.
        """


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

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Timer:
        """Run ``callback(*args)`` in the event loop once `now` has reached ``when``.

        The wall clock is looked at every minute, so a jump of it is noticed that late.
        """
        return WallTimer(self, when, callback, args)


class WallTimer:
    """A callback that waits for a time of the wall clock, however that is set."""

    __slots__ = ("_args", "_callback", "_clock", "_look_s", "_timer", "_when")

    _timer: Timer

    def __init__(
        self,
        clock: Clock,
        when: float,
        callback: Callable[..., object],
        args: tuple[object, ...],
        look_s: float = LOOK_S_MAX,
    ) -> None:
        """Wait.

        Args:
            clock: Whose wall clock.
            when: For which time, in seconds since 1970.
            callback: What to call then.
            args: With what.
            look_s: How long to go without a look at the wall clock.
        """
        self._clock = clock
        self._when = when
        self._callback = callback
        self._args = args
        self._look_s = look_s
        self.arm()

    def arm(self) -> None:
        """Wait for as long as the wall clock tells now."""
        wait_s = min(max(0.0, self._when - self._clock.now()), self._look_s)
        self._timer = self._clock.call_later(wait_s, self.look)

    def look(self) -> None:
        """Call back if it is time, else wait on."""
        if self._clock.now() >= self._when:
            self._callback(*self._args)
        else:
            self.arm()

    def cancel(self) -> None:
        """Forget the callback; harmless when it has run."""
        self._timer.cancel()


def machine_seconds() -> float:
    """Seconds on the machine's own clock, whatever time a loop simulates; only differences mean something."""
    return time.monotonic()


async def pass_turn() -> None:
    """Let every other task that is ready run once."""
    await asyncio.sleep(0)
