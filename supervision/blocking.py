"""Blocking functions of actors, in threads; what cannot be stopped is at least listed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

from supervision.events import ThreadLeft

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervision.runtime import Runtime

__all__ = ["Job", "in_thread"]

_T = TypeVar("_T")


async def in_thread(
    runtime: Runtime, path: str, incarnation: int, function: Callable[[], _T], name: str
) -> _T:
    """Do `Actor.run_blocking`.

    Args:
        runtime: What the tree shares.
        path: The actor's place in the tree.
        incarnation: Which life of it.
        function: What to run.
        name: What to call it.
    """
    job = Job(runtime, function)
    try:
        return await asyncio.to_thread(job.run)
    except asyncio.CancelledError:
        if job.leave():
            left = runtime.leftovers[job] = ThreadLeft(path, incarnation, name)
            runtime.tell(left)
        raise


class Job(Generic[_T]):
    """A function between its thread and the actor that waits for it."""

    __slots__ = ("_begun", "_ended", "_function", "_left", "_lock", "_runtime")

    def __init__(self, runtime: Runtime, function: Callable[[], _T]) -> None:
        """Prepare.

        Args:
            runtime: What the tree shares.
            function: What to run.
        """
        self._runtime = runtime
        self._function = function
        self._lock = Lock()
        self._begun = self._ended = self._left = False

    def run(self) -> _T:
        """Run the function, in its thread, unless nobody waits any more."""
        with self._lock:
            if self._left:
                raise asyncio.CancelledError
            self._begun = True
        try:
            return self._function()
        except StopIteration as error:
            raise RuntimeError(
                "a blocking function raised StopIteration, which no future carries"
            ) from error
        finally:
            with self._lock:
                self._ended = True
            with suppress(RuntimeError):  # the loop is closed, and nobody looks any more
                self._runtime.loop.call_soon_threadsafe(self._runtime.leftovers.pop, self, None)

    def leave(self) -> bool:
        """Stop waiting; tells whether a thread goes on."""
        with self._lock:
            self._left = True
            return self._begun and not self._ended
