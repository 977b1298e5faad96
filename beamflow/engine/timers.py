"""Timers of the wall clock: a heap, and one timer of the host's loop for its earliest entry."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervision import Clock
    from supervision.clock import Timer

__all__ = ["TimerEntry", "TimerQueue"]

_SWEEP_MIN = 1_000


class TimerEntry:
    """A callback and its time, microseconds since the epoch."""

    __slots__ = ("_queue", "callback", "due")

    def __init__(self, due: int, callback: Callable[[], object], queue: TimerQueue) -> None:
        self.due = due
        self.callback: Callable[[], object] | None = callback
        self._queue = queue

    def __lt__(self, other: TimerEntry) -> bool:
        """Order by time."""
        return self.due < other.due

    def cancel(self) -> None:
        """Forget the callback."""
        if self.callback is not None:
            self.callback = None
            self._queue.forgotten()


class TimerQueue:
    """Calls back when the wall clock has reached a time, never earlier."""

    def __init__(self, clock: Clock) -> None:
        """Start empty."""
        self._clock = clock
        self._heap: list[TimerEntry] = []
        self._armed: Timer | None = None
        self._armed_for = 0
        self._cancelled = 0

    def at(self, due: int, callback: Callable[[], object]) -> TimerEntry:
        """Call back once ``due`` has come; soon, if it has already."""
        entry = TimerEntry(due, callback, self)
        heapq.heappush(self._heap, entry)
        if self._armed is None or due < self._armed_for:
            self._arm()
        return entry

    def forgotten(self) -> None:
        """Count a cancelled entry; drop them all when they are the greater part."""
        self._cancelled += 1
        if self._cancelled > _SWEEP_MIN and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry.callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def close(self) -> None:
        """Forget everything."""
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        self._heap.clear()
        self._cancelled = 0

    def _arm(self) -> None:
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        if not self._heap:
            return
        due = self._heap[0].due
        self._armed_for = due
        # a microsecond more: the clock's float may round to just below what it stands for
        self._armed = self._clock.call_at((due + 1) / 1e6, self._look)

    def _look(self) -> None:
        self._armed = None
        now = int(self._clock.now() * 1e6)
        due: list[Any] = []
        while self._heap and self._heap[0].due <= now:
            entry = heapq.heappop(self._heap)
            if entry.callback is None:
                self._cancelled -= 1
            else:
                due.append(entry.callback)
                entry.callback = None
        self._arm()
        for callback in due:
            callback()
