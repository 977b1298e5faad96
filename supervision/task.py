"""The task supervisor: functions that run once, watched over (Elixir's Task.Supervisor)."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Generic, Literal, TypeVar, cast, overload

from supervision.child import BrutalKill, ChildSpec, Restart
from supervision.dynamic import DynamicSupervisor
from supervision.errors import ActorStoppedError, CallTimeoutError
from supervision.management import DynamicSupervisorRef
from supervision.messages import Call
from supervision.reasons import SHUTDOWN, ExitReason
from supervision.record import Child
from supervision.ref import cell_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from supervision.clock import Clock
    from supervision.ref import ActorRef

__all__ = ["TaskHandle", "TaskSupervisor", "TaskSupervisorRef"]

BUDGET_S: Final = 5.0
"""What a task may take to end when it is asked to."""

_T = TypeVar("_T")
_I = TypeVar("_I")


@dataclass(frozen=True, slots=True)
class StartTask:
    """Request: `TaskSupervisorRef.start_task`."""

    spec: ChildSpec
    link: ActorRef | None
    context: contextvars.Context


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

    @property
    def done(self) -> bool:
        """Whether it has ended, one way or another."""
        return not self.ref.alive

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
        raise self._failure(reason)

    async def shutdown(self, budget: float = BUDGET_S) -> _T | None:
        """Stop the function, if it still runs, and wait for its end; kill it when it takes too long.

        Args:
            budget: Seconds that it may take.

        Returns:
            What the function returned after all; None when it did not come to that.
        """
        self.ref.exit(SHUTDOWN)
        try:
            await self.ref.wait(budget)
        except CallTimeoutError:
            self.ref.kill()
            await self.ref.wait()
        return self._box[0] if self._box else None

    def _failure(self, reason: ExitReason) -> Exception:
        return reason if isinstance(reason, Exception) else ActorStoppedError(self.ref.path, reason)


class Job(Generic[_T]):
    """One task of a stream, with its time."""

    __slots__ = ("_handle", "_late", "_timeout", "_timer")

    def __init__(self, handle: TaskHandle[_T], clock: Clock, timeout: float | None) -> None:
        """Watch over a task that has just begun."""
        self._handle = handle
        self._timeout = timeout
        self._late = False
        self._timer = None if timeout is None else clock.call_later(timeout, self._give_up)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._handle.done

    def _give_up(self) -> None:
        self._late = True
        self._handle.ref.kill()

    async def outcome(self) -> _T | Exception:
        """Wait for its end; gives the result, or what stands for it."""
        try:
            return await self._handle.result(None)
        except Exception as error:  # noqa: BLE001 - it is handed on
            return self._too_late() if self._late else error
        finally:
            self.forget()

    def _too_late(self) -> Exception:
        return CallTimeoutError(self._handle.ref.path, self._timeout or 0.0, self._handle)

    def forget(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()

    def ask_to_stop(self) -> None:
        """Have it end now."""
        self.forget()
        self._handle.ref.exit(SHUTDOWN)

    async def stopped(self, budget: float) -> None:
        """Wait for that, and kill it when it takes too long."""
        await self._handle.shutdown(budget)


class TaskSupervisorRef(DynamicSupervisorRef):
    """How a `TaskSupervisor` is used."""

    __slots__ = ()

    async def start_task(
        self,
        function: Callable[..., Coroutine[object, object, _T]],
        *args: object,
        link: ActorRef | None = None,
        restart: Restart = Restart.TEMPORARY,
        shutdown: float | BrutalKill = BUDGET_S,
    ) -> TaskHandle[_T]:
        """Run a function in a child of its own.

        It sees the context variables of the caller, as they are now.

        Args:
            function: The coroutine function.
            *args: Its arguments.
            link: An actor that shares its fate, from before it begins: each one's abnormal end ends the
                other.
            restart: When it is run again; never by default.
            shutdown: Its budget when it is stopped.

        Raises:
            MaxChildrenError: There are `max_children` already.
        """
        request, box = _request(function, args, link, restart, shutdown)
        return TaskHandle(cast("ActorRef", await self.call(request, timeout=None)), box)

    @overload
    def stream(
        self,
        function: Callable[[_I], Coroutine[object, object, _T]],
        items: Iterable[_I] | AsyncIterable[_I],
        *,
        max_concurrency: int = 8,
        ordered: bool = True,
        timeout: float | None = 5.0,
        return_exceptions: Literal[False] = False,
    ) -> AsyncGenerator[_T, None]: ...
    @overload
    def stream(
        self,
        function: Callable[[_I], Coroutine[object, object, _T]],
        items: Iterable[_I] | AsyncIterable[_I],
        *,
        max_concurrency: int = 8,
        ordered: bool = True,
        timeout: float | None = 5.0,
        return_exceptions: Literal[True],
    ) -> AsyncGenerator[_T | Exception, None]: ...
    async def stream(
        self,
        function: Callable[[_I], Coroutine[object, object, _T]],
        items: Iterable[_I] | AsyncIterable[_I],
        *,
        max_concurrency: int = 8,
        ordered: bool = True,
        timeout: float | None = 5.0,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[_T | Exception, None]:
        """Run a function for each item, a bounded number of them at the same time, and yield the results.

        When one fails, its exception is raised in its place; then, and when the consumer stops
        early, those that still run are stopped. Close the iterator (``contextlib.aclosing``) to
        have that happen at once.

        Args:
            function: The coroutine function.
            items: What to give it; taken as they are needed.
            max_concurrency: How many run at the same time.
            ordered: Whether results come in the order of the items, or as they are ready.
            timeout: Seconds that each one may run before it is killed, which is a `CallTimeoutError`
                in its place; None for no limit.
            return_exceptions: Whether to yield exceptions in the place of results and go on.

        Raises:
            ValueError: max_concurrency is below 1.
        """
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency must be 1 or more, not {max_concurrency}.")
        waiting = _async(items)
        running: list[Job[_T]] = []
        ended = asyncio.Event()
        more = True
        try:
            while True:
                while more and len(running) < max_concurrency:
                    try:
                        item = await anext(waiting)
                    except StopAsyncIteration:
                        more = False
                    else:
                        running.append(await self._job(function, item, timeout, ended))
                if not running:
                    return
                job = running[0] if ordered else await _first_ended(running, ended)
                outcome = await job.outcome()
                running.remove(job)
                if isinstance(outcome, Exception) and not return_exceptions:
                    raise outcome
                yield outcome
        finally:
            for job in running:
                job.ask_to_stop()
            clock = self._cell.runtime.clock
            deadline = clock.monotonic() + BUDGET_S
            for job in running:
                await job.stopped(max(0.0, deadline - clock.monotonic()))

    async def _job(
        self,
        function: Callable[[_I], Coroutine[object, object, _T]],
        item: _I,
        timeout: float | None,
        ended: asyncio.Event,
    ) -> Job[_T]:
        request, box = _request(function, (item,))
        handle = TaskHandle(await self._start_for_me(request), box)
        handle.ref.monitor(lambda _: ended.set())
        return Job(handle, self._cell.runtime.clock, timeout)

    async def _start_for_me(self, request: StartTask) -> ActorRef:
        """Have a task started which ends if the caller is cancelled before it knows of it."""
        cell = self._cell
        started: asyncio.Future[object] = cell.runtime.loop.create_future()
        asked = Call(request, started)
        refused = cell.mailbox.put(asked)
        if refused is not None:
            cell.refused(refused, asked)
        try:
            return cast("ActorRef", await asyncio.shield(started))
        except asyncio.CancelledError:
            started.add_done_callback(_unwanted)
            raise


class TaskSupervisor(DynamicSupervisor):
    """Runs functions as temporary children; see `TaskSupervisorRef.start_task`."""

    ref_type: ClassVar[type[ActorRef]] = TaskSupervisorRef

    @property
    def ref(self) -> TaskSupervisorRef:
        """This life's own ref; there from before `init`."""
        return TaskSupervisorRef(self._cell)

    async def manage(self, request: object) -> object:
        """Answer a management call."""
        if not isinstance(request, StartTask):
            return await super().manage(request)
        child = Child(request.spec)
        child.context = request.context
        child.link = None if request.link is None else cell_of(request.link)
        return await self.start_new(child, self.call_at_hand)


def _request(
    function: Callable[..., Coroutine[object, object, _T]],
    args: tuple[object, ...],
    link: ActorRef | None = None,
    restart: Restart = Restart.TEMPORARY,
    shutdown: float | BrutalKill = BUDGET_S,
) -> tuple[StartTask, list[_T]]:
    """Say what is to be run, and give the box for its result."""
    box: list[_T] = []

    async def body(*_: object) -> None:
        result = await function(*args)
        box[:] = [result]

    name = getattr(function, "__qualname__", "task")
    spec = ChildSpec(name, body, restart=restart, shutdown=shutdown)
    return StartTask(spec, link, contextvars.copy_context()), box


def _unwanted(started: asyncio.Future[object]) -> None:
    if not started.cancelled() and started.exception() is None:
        cast("ActorRef", started.result()).exit(SHUTDOWN)


async def _async(items: Iterable[_I] | AsyncIterable[_I]) -> AsyncIterator[_I]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _first_ended(running: list[Job[_T]], ended: asyncio.Event) -> Job[_T]:
    while True:
        for job in running:
            if job.done:
                return job
        ended.clear()
        await ended.wait()
