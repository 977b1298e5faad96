"""The task supervisor: functions that run once, watched over (Elixir's Task.Supervisor)."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from supervision.child import BrutalKill, ChildSpec, Restart
from supervision.dynamic import DynamicSupervisor
from supervision.errors import ActorStoppedError
from supervision.management import DynamicSupervisorRef
from supervision.reasons import SHUTDOWN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    from supervision.ref import ActorRef

__all__ = ["TaskHandle", "TaskSupervisor", "TaskSupervisorRef"]

_T = TypeVar("_T")
_I = TypeVar("_I")


class TaskHandle(Generic[_T]):
    """One function that runs, or ran, under a `TaskSupervisor`.

    Attributes:
        ref: The child that runs it.
    """

    __slots__ = ("_box", "ref")

    def __init__(self, ref: ActorRef, box: list[_T]) -> None:
        """Hold a task.

        Args:
            ref: The child that runs it.
            box: Where its result will be.
        """
        self.ref = ref
        self._box = box

    async def result(self, timeout: float | None = 5.0) -> _T:
        """Wait for what the function returns.

        Args:
            timeout: Seconds to wait; None to wait as long as it takes.

        Raises:
            CallTimeoutError: It has not ended in time; it goes on.
            ActorStoppedError: It was stopped.
            Exception: What the function raised.
        """
        reason = await self.ref.wait(timeout)
        if self._box:
            return self._box[0]
        if isinstance(reason, Exception):
            raise reason
        raise ActorStoppedError(self.ref.path, reason)

    async def shutdown(self) -> None:
        """Stop the function, if it still runs, and wait for its end."""
        self.ref.exit(SHUTDOWN)
        await self.ref.wait()


class TaskSupervisorRef(DynamicSupervisorRef):
    """How a `TaskSupervisor` is used."""

    __slots__ = ()

    async def start_task(
        self,
        function: Callable[..., Coroutine[object, object, _T]],
        *args: object,
        link: ActorRef | None = None,
        restart: Restart = Restart.TEMPORARY,
        shutdown: float | BrutalKill = 5.0,
    ) -> TaskHandle[_T]:
        """Run a function in a child of its own.

        Args:
            function: The coroutine function.
            *args: Its arguments.
            link: An actor that shares its fate: each one's abnormal end ends the other.
            restart: When it is run again; never by default.
            shutdown: Its budget when it is stopped.

        Raises:
            MaxChildrenError: There are `max_children` already.
        """
        box: list[_T] = []

        async def body(*_: object) -> None:
            result = await function(*args)
            box[:] = [result]

        name = getattr(function, "__qualname__", "task")
        ref = await self.start_child(ChildSpec(name, body, restart=restart, shutdown=shutdown))
        if ref is None:
            raise ActorStoppedError(self.path, "ignore")
        if link is not None:
            ref.link(link)
        return TaskHandle(ref, box)

    async def stream(
        self,
        function: Callable[[_I], Coroutine[object, object, _T]],
        items: Iterable[_I],
        *,
        max_concurrency: int = 8,
        ordered: bool = True,
        timeout: float | None = 5.0,
    ) -> AsyncIterator[_T]:
        """Run a function for each item, a bounded number of them at the same time, and yield the results.

        When one fails, its exception is raised in its place; then, and when the consumer stops
        early, those that still run are stopped. Close the iterator (``contextlib.aclosing``) to
        have that happen at once.

        Args:
            function: The coroutine function.
            items: What to give it; taken as they are needed.
            max_concurrency: How many run at the same time.
            ordered: Whether results come in the order of the items, or as they are ready.
            timeout: Seconds for each one after its turn to yield has come; None for no limit.

        Raises:
            ValueError: max_concurrency is below 1.
        """
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency must be 1 or more, not {max_concurrency}.")
        waiting = iter(items)
        running: deque[TaskHandle[_T]] = deque()
        ended = asyncio.Event()
        try:
            while True:
                while len(running) < max_concurrency:
                    try:
                        item = next(waiting)
                    except StopIteration:
                        break
                    handle = await self.start_task(function, item)
                    handle.ref.monitor(lambda _: ended.set())
                    running.append(handle)
                if not running:
                    return
                handle = running[0] if ordered else await _first_ended(running, ended)
                yield await handle.result(timeout)
                running.remove(handle)
        finally:
            for handle in running:
                handle.ref.exit(SHUTDOWN)
            for handle in running:
                await handle.ref.wait()


class TaskSupervisor(DynamicSupervisor):
    """Runs functions as temporary children; see `TaskSupervisorRef.start_task`."""

    ref_type: ClassVar[type[ActorRef]] = TaskSupervisorRef

    @property
    def ref(self) -> TaskSupervisorRef:
        """This life's own ref; there from before `init`."""
        return TaskSupervisorRef(self._cell)


async def _first_ended(running: deque[TaskHandle[_T]], ended: asyncio.Event) -> TaskHandle[_T]:
    while True:
        for handle in running:
            if not handle.ref.alive:
                return handle
        ended.clear()
        await ended.wait()
