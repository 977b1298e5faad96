"""The event loop that workflow code runs on: a queue of callbacks and nothing else.

Each workflow has one of its own. It owns no selector and no clock: whoever holds it sets its time,
makes something ready (a step's result, a timer, a signal) and calls `drain`, which runs callbacks
first in, first out until none is ready. The same deliveries in the same order therefore repeat
every interleaving exactly, and everything in asyncio that is built on tasks and futures (gather,
TaskGroup, timeout, queues, locks, wait) behaves on replay as it did live.

What such a loop cannot repeat (sockets, threads, subprocesses, futures of the host's loop) is
refused at the place of use with `HostLoopError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio import events
from typing import TYPE_CHECKING, Any, NoReturn, TypeVarTuple
from zlib import crc32

from beamflow.authoring.runtime import WorkflowRuntime
from beamflow.errors import HostLoopError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

__all__ = ["LoopTimer", "WorkflowLoop", "WorkflowTask"]

Ts = TypeVarTuple("Ts")

MICROSECONDS = 1_000_000
_CALLBACKS_MAX = 1_000_000


class WorkflowTask(asyncio.Task[Any]):
    """A task of a workflow. It hashes by workflow and number of creation, not by address.

    Sets of tasks (``asyncio.wait``, ``as_completed``) then iterate in the same order in every
    process. The hash differs between workflows, since all tasks also live in one set of asyncio's.
    """

    __slots__ = ("_hash", "_inner")

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: WorkflowLoop,
        name: str | None = None,
        context: Context | None = None,
    ) -> None:
        """Schedule the coroutine on the loop, guarded against futures of other loops."""
        number = loop.next_task_number()
        self._hash = loop.seed ^ number * 0x9E3779B1
        self._inner = coro
        super().__init__(
            loop.guarded(coro), loop=loop, name=name or f"task-{number}", context=context
        )

    def __hash__(self) -> int:
        """Return the same number in every process."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Compare by identity, as every task does."""
        return self is other

    def get_coro(self) -> Any:
        """Return the author's coroutine, without the guard around it."""
        return self._inner

    def discard(self) -> None:
        """Close the coroutine where it stands; nothing of the task runs after that."""
        self._log_destroy_pending = False
        for coroutine in (super().get_coro(), self._inner):
            with contextlib.suppress(BaseException):
                coroutine.close()


class LoopTimer(asyncio.TimerHandle):
    """A timer that code has set and not yet cancelled; the loop's owner makes it fire.

    Attributes:
        op: number of the timer among the commands, 0 until the activation ends.
        due: when it may fire, microseconds since the epoch.
    """

    __slots__ = ("due", "op")

    op: int
    due: int


class WorkflowLoop(WorkflowRuntime):
    """Runs the tasks of one workflow, one activation at a time.

    Args:
        workflow_id: its id; seeds the order of its tasks in sets.

    Attributes:
        now: the loop's time, microseconds since the epoch: that of the event delivered last.
        issued: what the code has asked for in this activation, in order; timers that it has
            cancelled again are among them.
        timers_cancelled: timers of earlier activations that the code has cancelled in this one.
    """

    __slots__ = (
        "_closed",
        "_parked",
        "_ready",
        "_running",
        "_tasks",
        "_tasks_made",
        "issued",
        "now",
        "seed",
        "timers_cancelled",
        "workflow_id",
    )

    def __init__(self, workflow_id: str) -> None:
        """Make an empty loop at time 0."""
        self.workflow_id = workflow_id
        self.seed = crc32(workflow_id.encode()) << 20
        self.now = 0
        self.issued: list[Any] = []
        self.timers_cancelled: list[LoopTimer] = []
        self._ready: list[asyncio.Handle] = []
        self._parked: list[asyncio.Handle] = []
        self._running: asyncio.Handle | None = None
        self._tasks: dict[WorkflowTask, None] = {}
        self._tasks_made = 0
        self._closed = False

    # Driving

    def drain(self) -> None:
        """Run callbacks until none is ready. Never suspends; returns with the host's loop in place.

        A callback that only ever schedules itself again (anyio redelivers cancellations so for as
        long as a shielded task lives) is set aside until something else has run.
        """
        host = events._get_running_loop()
        host_task = _leave_task(host)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        events._set_running_loop(self)
        try:
            self._run_ready()
        finally:
            self._running = None
            events._set_running_loop(host)
            sys.set_asyncgen_hooks(*hooks)
            _enter_task(host, host_task)

    def _run_ready(self) -> None:
        budget = _CALLBACKS_MAX
        while self._ready:
            ready, self._ready = self._ready, []
            budget -= len(ready)
            if budget < 0:
                self._refuse_to_spin()
            for handle in ready:
                if handle._cancelled:
                    continue
                self._running = handle
                with contextlib.suppress(SystemExit):  # its task has it as its outcome
                    handle._run()
                if self._running is handle and self._parked:
                    self._ready.extend(self._parked)
                    self._parked.clear()

    def _refuse_to_spin(self) -> NoReturn:
        message = (
            f"workflow {self.workflow_id!r} ran {_CALLBACKS_MAX:,} callbacks in one activation and "
            f"still waits for nothing durable: look for a loop around `await asyncio.sleep(0)`"
        )
        raise HostLoopError(message)

    def close(self) -> None:
        """Close every coroutine where it stands, newest first, with the loop marked as dead.

        ``finally`` blocks run but can issue no command: whatever they ask of the loop is refused.
        Nothing is left to the garbage collector.
        """
        self._closed = True
        host = events._get_running_loop()
        host_task = _leave_task(host)
        events._set_running_loop(self)
        try:
            for task in reversed(tuple(self._tasks)):
                task.discard()
        finally:
            events._set_running_loop(host)
            _enter_task(host, host_task)
        self._tasks.clear()
        self._ready.clear()
        self._parked.clear()
        self.issued.clear()

    @property
    def tasks(self) -> tuple[WorkflowTask, ...]:
        """The tasks whose coroutines have not ended, in order of creation."""
        return tuple(self._tasks)

    def next_task_number(self) -> int:
        """Count the tasks of this workflow."""
        self._tasks_made += 1
        return self._tasks_made

    async def guarded(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Await the coroutine, refusing futures that belong to another loop."""
        task = asyncio.current_task(self)
        assert isinstance(task, WorkflowTask)
        self._tasks[task] = None
        try:
            return await _Guard(self, coro)
        finally:
            self._tasks.pop(task, None)

    # What asyncio asks of a loop

    def time(self) -> float:
        """Return the workflow's time in seconds since the epoch."""
        return self.now / MICROSECONDS

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Queue a callback."""
        if self._closed:
            _refuse_dead(self.workflow_id)
        handle = asyncio.Handle(callback, args, self, context)
        running = self._running
        if running is not None and running._callback == callback and running._args == args:  # type: ignore[attr-defined]
            self._parked.append(handle)
            self._running = None
        else:
            self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a durable timer, ``delay`` seconds from the workflow's time."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a durable timer for a time of this loop, in seconds since the epoch."""
        if self._closed:
            _refuse_dead(self.workflow_id)
        timer = LoopTimer(when, callback, args, self, context)
        timer.op = 0
        timer.due = round(when * MICROSECONDS)
        if timer.due <= self.now:
            self._ready.append(timer)
        else:
            self.issued.append(timer)
        return timer

    def fire(self, timer: LoopTimer) -> None:
        """Make a timer's callback ready, unless the code has cancelled it."""
        if not timer.cancelled():
            self._ready.append(timer)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        assert isinstance(handle, LoopTimer)
        if handle.op and not self._closed:
            self.timers_cancelled.append(handle)

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **_options: Any,
    ) -> WorkflowTask:
        """Make a task of this loop."""
        if self._closed:
            coro.close()
            _refuse_dead(self.workflow_id)
        return WorkflowTask(coro, loop=self, name=name, context=context)

    def get_task_factory(self) -> None:
        """There is none: the loop makes its own tasks."""

    def is_running(self) -> bool:
        """The loop runs for as long as its workflow is in memory."""
        return not self._closed

    def is_closed(self) -> bool:
        """Whether the workflow was taken out of memory."""
        return self._closed

    def get_debug(self) -> bool:
        """Debug mode is the host loop's business."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass the report on to the host's loop, with the workflow's id."""
        if self._closed:
            return
        host = events._get_running_loop()
        if host is not None and host is not self:
            host.call_exception_handler({**context, "workflow_id": self.workflow_id})

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Report like `call_exception_handler`."""
        self.call_exception_handler(context)


class _Guard:
    """Awaits a coroutine and lets only futures of its own loop through."""

    __slots__ = ("_coro", "_loop")

    def __init__(self, loop: WorkflowLoop, coro: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._coro = coro

    def __await__(self) -> Generator[Any, Any, Any]:
        coro = self._coro
        resume: Callable[..., Any] = coro.send
        value: Any = None
        while True:
            try:
                awaited = resume(value)
            except StopIteration as end:
                return end.value
            if awaited is not None and getattr(awaited, "_loop", None) is not self._loop:
                awaited._asyncio_future_blocking = False
                resume, value = coro.throw, _foreign(awaited)
                continue
            try:
                value = yield awaited
                resume = coro.send
            except BaseException as error:  # noqa: BLE001 - handed on to the author's coroutine
                resume, value = coro.throw, error


def _foreign(awaited: object) -> HostLoopError:
    return HostLoopError(
        f"workflow code awaited {awaited!r}, which belongs to the host application's event loop; "
        f"replay could not repeat it. Put it into a function decorated with @step and await that"
    )


def _refuse_dead(workflow_id: str) -> NoReturn:
    message = (
        f"workflow {workflow_id!r} was taken out of memory while this code was suspended; it "
        f"issues nothing any more and runs again from its log"
    )
    raise HostLoopError(message)


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(self: WorkflowLoop, *_args: Any, **_kwargs: Any) -> NoReturn:
        message = (
            f"workflow {self.workflow_id!r} called {name}() of its event loop: input, output, "
            f"threads, subprocesses and signals cannot be replayed. Put the call into a function "
            f"decorated with @step and await that"
        )
        raise HostLoopError(message)

    refuse.__name__ = name
    return refuse


_own = set(vars(WorkflowLoop)) | set(vars(WorkflowRuntime))
for _name in vars(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in _own:
        setattr(WorkflowLoop, _name, _refused(_name))


if sys.version_info >= (3, 14):
    # From 3.14 on a thread has one current task, not one per loop, so the host's has to step aside.
    def _leave_task(host: asyncio.AbstractEventLoop | None) -> Any:
        return None if host is None else asyncio.tasks._swap_current_task(host, None)

    def _enter_task(host: asyncio.AbstractEventLoop | None, task: Any) -> None:
        if host is not None:
            asyncio.tasks._swap_current_task(host, task)

else:

    def _leave_task(_host: asyncio.AbstractEventLoop | None) -> Any:
        return None

    def _enter_task(_host: asyncio.AbstractEventLoop | None, _task: Any) -> None:
        return None
