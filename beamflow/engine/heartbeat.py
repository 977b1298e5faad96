"""Heartbeats: an attempt that gives none is cut off, what it says is recorded, not too often."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from beamflow.engine.time_limit import TimeLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from supervision import Clock
    from supervision.clock import Timer

__all__ = ["Pulse"]

_NOTHING = b"null"


class Pulse(TimeLimit):
    """A time limit that begins again with each heartbeat.

    Args:
        clock: what the time is taken from.
        seconds: how long the block may go without one.
        record: called with details that are to be recorded: the first at once, then the latest,
            twice in ``seconds`` at most.
        grace_s: seconds that the block has to end after it was cancelled.
        give_up: called when it has not.
    """

    __slots__ = ("_details", "_is_noticed", "_last", "_loop", "_pause", "_record", "_recorded")

    def __init__(
        self,
        clock: Clock,
        seconds: float,
        *,
        record: Callable[[bytes], object],
        grace_s: float,
        give_up: Callable[[], object],
    ) -> None:
        """Prepare; time runs from the beginning of the block."""
        super().__init__(clock, seconds, grace_s=grace_s, give_up=give_up)
        self._record = record
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last = 0.0
        self._is_noticed = False
        self._details = self._recorded = _NOTHING
        self._pause: Timer | None = None

    def __enter__(self) -> Self:
        """Begin; must be entered in a task."""
        self._loop = asyncio.get_running_loop()
        self._last = self._clock.monotonic()
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; raises TimeoutError in place of the cancellation that the limit has sent."""
        self._loop = None
        if self._pause is not None:
            self._pause.cancel()
        super().__exit__(kind, error, traceback)

    def beat(self, details: bytes) -> None:
        """Take a heartbeat, from any thread; what comes after the block is ignored."""
        loop = self._loop
        if loop is None:
            return
        if details != _NOTHING:
            self._details = details
        if not self._is_noticed:
            self._is_noticed = True
            loop.call_soon_threadsafe(self._notice)

    def flush(self) -> None:
        """Have recorded what is not yet."""
        if self._details is not self._recorded:
            self._recorded = self._details
            self._record(self._details)

    def _notice(self) -> None:
        self._is_noticed = False
        if self._loop is not None:
            self._last = self._clock.monotonic()
            if self._pause is None:
                self._record_now_and_then()

    def _record_now_and_then(self) -> None:
        self._pause = None
        if self._details is not self._recorded:
            self.flush()
            assert self._seconds is not None
            self._pause = self._clock.call_later(self._seconds / 2, self._record_now_and_then)

    def _time_is_up(self) -> None:
        assert self._seconds is not None
        left_s = self._last + self._seconds - self._clock.monotonic()
        if left_s > 0:
            self._timer = self._clock.call_later(left_s, self._time_is_up)
        else:
            super()._time_is_up()
