"""The tasks that an actor runs beside its loop: they end with it, and their failure is its failure."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING, Final, TypeVar

from supervision.events import TaskFailed, Zombie
from supervision.messages import TaskCrashed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from supervision.mailbox import Mailbox
    from supervision.runtime import Runtime

__all__ = ["RECANCELS_MAX", "RECANCEL_GAP_S", "Spawned"]

RECANCEL_GAP_S: Final = 0.03
RECANCELS_MAX: Final = 8
BUDGET_S: Final = 5.0
ATTEMPTS_MAX: Final = RECANCELS_MAX - 2
"""Fewer than a killed actor has for itself, so that it does not become a zombie for its tasks' sake."""

_T = TypeVar("_T")


class Spawned:
    """The spawned tasks of one life."""

    __slots__ = ("_alone", "_ending", "_incarnation", "_mailbox", "_path", "_runtime", "_tasks")

    def __init__(self, runtime: Runtime, path: str, incarnation: int, mailbox: Mailbox) -> None:
        """Have no tasks yet.

        Args:
            runtime: What the tree shares.
            path: The actor's place in the tree.
            incarnation: Which life of it.
            mailbox: Where the failure of a task is told.
        """
        self._runtime = runtime
        self._path = path
        self._incarnation = incarnation
        self._mailbox = mailbox
        self._tasks: dict[asyncio.Task[object], Coroutine[object, object, object]] = {}
        self._ending = False
        self._alone: asyncio.Task[None] | None = None

    def __contains__(self, task: object) -> bool:
        """Tell whether a task is one of those."""
        return task in self._tasks

    def start(self, body: Coroutine[object, object, _T], name: str | None) -> asyncio.Task[_T]:
        """Run a task; see `Actor.spawn`."""
        context = copy_context()
        task = self._runtime.loop.create_task(
            self._guarded(body), name=name or f"{self._path}+", context=context
        )
        self._tasks[task] = body
        task.add_done_callback(self._ended, context=context)
        return task

    async def _guarded(self, body: Coroutine[object, object, _T]) -> _T:
        try:
            result = await body
        except (KeyboardInterrupt, SystemExit) as error:
            # asyncio would tear the whole loop down
            self._mailbox.put_system(TaskCrashed(error))
            raise asyncio.CancelledError from error
        task = asyncio.current_task(self._runtime.loop)
        assert task is not None
        tasks = self._tasks
        if tasks.pop(task, None) is not None:  # the usual end saves the event loop a turn
            task.remove_done_callback(self._ended)
            if not tasks and not self._ending:
                self._tasks = {}  # an emptied one keeps its table
        return result

    def _ended(self, task: asyncio.Task[object]) -> None:
        error = None if task.cancelled() else task.exception()
        body = self._tasks.pop(task, None)
        if body is None:
            return
        body.close()  # it may never have begun
        if error is None:
            return
        if not self._ending:
            self._mailbox.put_system(TaskCrashed(error))
        elif self._runtime.observer is not None:
            self._runtime.tell(TaskFailed(self._path, self._incarnation, error))

    def abandon(self, task: asyncio.Task[_T]) -> None:
        """Make a task a zombie; see `Actor.abandon`."""
        if self._ending or task not in self._tasks:
            return
        del self._tasks[task]
        self._give_up(task)

    def _give_up(self, task: asyncio.Task[_T]) -> None:
        runtime = self._runtime
        runtime.zombies.add(task)
        task.add_done_callback(runtime.zombies.discard)
        if runtime.observer is not None:
            runtime.tell(Zombie(task.get_name(), self._incarnation, len(runtime.zombies)))

    async def end(self, killed: Callable[[], bool]) -> None:
        """Cancel all and wait for their end; what outlives every cancel becomes a zombie.

        Args:
            killed: Whether the actor is killed, so that there is no time for patience.
        """
        self._ending = True
        tasks = self._tasks
        for task in tasks:
            task.cancel()
        patience = BUDGET_S
        attempts = 0
        while tasks and attempts <= ATTEMPTS_MAX:
            try:
                await self._all_ended(patience)
            except asyncio.CancelledError:
                if not killed():
                    continue
            attempts += 1
            patience = RECANCEL_GAP_S
            for task in tasks:
                task.cancel()
        for task in tuple(tasks):
            self._give_up(task)

    def end_alone(self) -> None:
        """Do `end` in a task of its own, unless the actor came to it before it was cut off."""
        if self._runtime.zombies.issuperset(self._tasks):
            return
        self._alone = self._runtime.loop.create_task(self.end(lambda: True), name=f"{self._path}+")

    async def _all_ended(self, patience: float) -> None:
        tasks = self._tasks
        waiter: asyncio.Future[None] = self._runtime.loop.create_future()

        def look(_: object = None) -> None:
            if not tasks and not waiter.done():
                waiter.set_result(None)

        for task in tasks:
            task.add_done_callback(look)
        timer = self._runtime.clock.call_later(patience, _resolve, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            for task in tasks:
                task.remove_done_callback(look)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
