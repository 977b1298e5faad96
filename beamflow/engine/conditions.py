"""Conditions: what workflow code waits until, looked at whenever it has come to rest."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from beamflow.engine.workflow_loop import WorkflowLoop

__all__ = ["Conditions"]

_LOOKS_MAX = 100_000


class Conditions:
    """The conditions that the code of one run waits for, in the order in which it began to.

    Whenever nothing is ready any more they are looked at. The first one that holds wakes who waits
    for it, and the code runs until it waits again before the next one is looked at: of two that wait
    for the same thing, the second sees what the first has left.

    Args:
        loop: the loop that the code runs on.
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: WorkflowLoop) -> None:
        """Begin with none."""
        self._loop = loop
        self._waiting: dict[asyncio.Future[None], Callable[[], object]] = {}

    async def wait(self, condition: Callable[[], object]) -> None:
        """Return once the condition holds; at once if it does. Raises what it raises."""
        if condition():
            return
        future = self._loop.create_future()
        self._waiting[future] = partial(copy_context().run, condition)
        try:
            await future
        finally:
            del self._waiting[future]

    def __len__(self) -> int:
        return sum(not future.done() for future in self._waiting)

    def look(self) -> None:
        """Wake, one after the other, those whose condition holds; the code runs on in between."""
        for _ in range(_LOOKS_MAX):
            waiting = tuple(self._waiting.items())
            if not any(self._settled(future, holds) for future, holds in waiting):
                return
            self._loop.drain()
        self._loop.refuse_to_spin()

    def _settled(self, future: asyncio.Future[None], holds: Callable[[], object]) -> bool:
        if future.done():
            return False
        try:
            if not self._loop.inside(holds):
                return False
        except Exception as error:  # noqa: BLE001 - it is for whoever waits
            future.set_exception(error)
        else:
            future.set_result(None)
        return True
