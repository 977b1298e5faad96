"""``asyncio.timeout`` by a clock that is handed in, with a word to whoever waits for the block."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from supervision import Clock
    from supervision.clock import Timer

__all__ = ["TimeLimit"]


class TimeLimit:
    """Cancels what runs in a ``with`` block when its time is up, and raises TimeoutError after it.

    What the block comes to by itself then, a result or an error of its own, counts.

    Args:
        clock: what the time is taken from.
        seconds: how long the block may take; None for as long as it takes.
        grace_s: seconds that the block has to end after it was cancelled.
        give_up: called when it has not.

    Attributes:
        expired: whether the time was up before the block ended.
    """

    __slots__ = (
        "_cancels",
        "_clock",
        "_give_up",
        "_grace_s",
        "_seconds",
        "_task",
        "_timer",
        "expired",
    )

    def __init__(
        self,
        clock: Clock,
        seconds: float | None,
        *,
        grace_s: float = 0.0,
        give_up: Callable[[], object] | None = None,
    ) -> None:
        """Prepare; time runs from the beginning of the block."""
        self._clock = clock
        self._seconds = seconds
        self._grace_s = grace_s
        self._give_up = give_up
        self._timer: Timer | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancels = 0
        self.expired = False

    def __enter__(self) -> Self:
        """Begin; must be entered in a task."""
        if self._seconds is not None:
            self._task = asyncio.current_task()
            assert self._task is not None
            self._cancels = self._task.cancelling()
            self._timer = self._clock.call_later(self._seconds, self._time_is_up)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; raises TimeoutError in place of the cancellation that the limit has sent."""
        if self._timer is not None:
            self._timer.cancel()
        self._give_up = None  # it has this limit: what has ended is not left to the collector
        task, self._task = self._task, None
        if not self.expired or task is None:
            return
        if task.uncancel() <= self._cancels and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def _time_is_up(self) -> None:
        self.expired = True
        assert self._task is not None
        self._task.cancel()
        if self._give_up is not None:
            self._timer = self._clock.call_later(self._grace_s, self._give_up)
