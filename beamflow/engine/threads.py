"""The threads that plain ``def`` steps run in: so many at a time, and those that were given up."""

from __future__ import annotations

import math
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["THREADS", "Threads"]

T = TypeVar("T")

THREADS = 40
"""How many steps run in threads at the same time, where the engine is not told."""


class Threads:
    """Runs functions in threads of anyio's, with the context of whoever asks.

    Enter `room` first: it bounds how many run at once. A function that is given up goes on alone,
    for a thread cannot be stopped; it gives its room back at once, so that functions that hang use
    up no capacity, and is counted until it ends.

    Args:
        count: how many may run at once.

    Attributes:
        room: to be held while a function runs.
        left: how many run on though nobody waits for them.
    """

    def __init__(self, count: int) -> None:
        """Begin without a thread."""
        self.room = anyio.CapacityLimiter(count)
        self.left = 0
        self._unbounded = anyio.CapacityLimiter(math.inf)
        self._lock = Lock()

    async def run(self, function: Callable[[], T], given_up: Callable[[int], object]) -> T:
        """Return what the function returns.

        Args:
            function: what to run.
            given_up: called with the number of those left when the caller is cancelled meanwhile.
        """
        job = _Job(self, function, self._lock)
        try:
            await anyio.to_thread.run_sync(job.run, abandon_on_cancel=True, limiter=self._unbounded)
        except BaseException:
            if job.leave():
                given_up(self.left)
            raise
        return job.outcome()


class _Job(Generic[T]):
    """A function between its thread and whoever waits for it."""

    __slots__ = ("_error", "_function", "_is_left", "_lock", "_result", "_runs", "_threads")

    def __init__(self, threads: Threads, function: Callable[[], T], lock: Lock) -> None:
        self._threads = threads
        self._function = function
        self._lock = lock
        self._runs = False
        self._is_left = False
        self._result: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Run the function, in its thread, unless it was given up before its thread came to it."""
        with self._lock:
            if self._is_left:
                return
            self._runs = True
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - GeneratorExit finds no way through a future
            self._error = error
        with self._lock:
            self._runs = False
            self._threads.left -= self._is_left

    def leave(self) -> bool:
        """Wait no longer; tell whether the function goes on."""
        with self._lock:
            self._is_left = True
            self._threads.left += self._runs
            return self._runs

    def outcome(self) -> T:
        """Return what the function has returned, or raise what it has raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return cast("T", self._result)
