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
import sys
import warnings
from asyncio import events
from math import isnan
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple

from beamflow.authoring.runtime import WorkflowRuntime
from beamflow.engine.workflow_task import TaskHome, WorkflowTask
from beamflow.errors import HostLoopError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextvars import Context
    from types import FrameType

__all__ = ["MICROSECONDS", "LoopTimer", "WorkflowLoop", "check_caller"]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

MICROSECONDS = 1_000_000
_CALLBACKS_MAX = 1_000_000
_REDELIVERIES_MAX = 100
_NEVER = 2**63 // MICROSECONDS
_get_running_loop = events._get_running_loop


class LoopTimer(asyncio.TimerHandle):
    """A timer that code has set and not yet cancelled; the loop's owner makes it fire.

    Attributes:
        op: number of the timer among the commands, 0 until the activation ends.
        due: when it may fire, microseconds since the epoch.
        recorded: whether its start is in the log.
    """

    __slots__ = ("due", "op", "recorded")

    op: int
    due: int
    recorded: bool


class WorkflowLoop(TaskHome):
    """Runs the tasks of one workflow, one activation at a time.

    Args:
        workflow_id: its id.
        origin: what seeds the order of its tasks in sets, if not the id.

    Attributes:
        now: the loop's time, microseconds since the epoch: that of the event delivered last.
        issued: what the code has asked for in this activation, in order; timers that it has
            cancelled again are among them.
        timers_cancelled: timers of earlier activations that the code has cancelled in this one.
        rests: whether whoever drives it has nothing to deliver: what wakes it now is somebody else.
        trespass: what somebody else was told who has tried to; empty where nobody has.
    """

    __slots__ = (
        "_closed",
        "_generators",
        "_host",
        "_running",
        "_set_aside",
        "issued",
        "now",
        "rests",
        "timers_cancelled",
        "trespass",
    )

    def __init__(self, workflow_id: str, origin: str = "") -> None:
        """Make an empty loop at time 0."""
        super().__init__(workflow_id, origin)
        self.now = 0
        self.rests = False
        self.trespass = ""
        self.issued: list[Any] = []
        self.timers_cancelled: tuple[LoopTimer, ...] = ()
        self._set_aside: tuple[asyncio.Handle, ...] = ()
        self._running: asyncio.Handle | None = None
        self._generators: tuple[AsyncGenerator[Any, Any], ...] = ()
        self._host: asyncio.AbstractEventLoop | None = None
        self._closed = False

    # Driving

    def drain(self) -> None:
        """Run callbacks until none is ready. Never suspends; returns with the host's loop in place.

        A callback that schedules itself again (anyio redelivers cancellations so for as long as a
        task of the scope lives) is set aside until something else has run. That may be its own
        doing, so it also has to wait for the next drain after a hundred times.
        """
        try:
            self.inside(self._run_ready)
        finally:
            self._running = None
        if self._generators:
            self._generators = tuple(each for each in self._generators if _is_unfinished(each))

    def inside(self, function: Callable[[], R]) -> R:
        """Call a function with this loop as the running one; nothing else runs."""
        if _get_running_loop() is self:  # as it is for the whole of a replay
            return function()
        entered = self._enter()
        try:
            return function()
        finally:
            self._leave(*entered)

    def _enter(self) -> tuple[Any, Any]:
        """Become the thread's running loop."""
        host = self._host = _get_running_loop()
        task = _leave_task(host)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self._keep, _let_go)
        events._set_running_loop(self)
        return task, hooks

    def _leave(self, task: Any, hooks: Any) -> None:
        """Put the host's loop and its task back into their place."""
        host, self._host = self._host, None
        events._set_running_loop(host)
        sys.set_asyncgen_hooks(*hooks)
        _enter_task(host, task)

    def _keep(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators += (generator,)

    def _run_ready(self) -> None:
        budget = _CALLBACKS_MAX
        redeliveries = _REDELIVERIES_MAX
        while self.ready:
            ready, self.ready = self.ready, []
            budget -= len(ready)
            if budget < 0:
                self.refuse_to_spin()
            for handle in ready:
                if handle._cancelled:
                    continue
                self._running = handle
                try:
                    handle._run()
                except SystemExit:
                    continue  # its task has it as its outcome
                if self.unordered:
                    self.put_in_order()
                if self._set_aside and self._running is handle and redeliveries:
                    redeliveries -= 1
                    self.ready.extend(self._set_aside)
                    self._set_aside = ()
            ready = handle = None  # type: ignore[assignment] # an error has this frame, and they the task that has it

    def refuse_to_spin(self) -> NoReturn:
        """Raise `HostLoopError`: the code runs on and on."""
        message = (
            f"workflow {self.workflow_id!r} ran {_CALLBACKS_MAX:,} callbacks in one activation and "
            f"still waits for nothing durable: look for a loop around `await asyncio.sleep(0)`"
        )
        raise HostLoopError(message)

    def close(self) -> None:
        """End every coroutine where it stands, newest first, with the loop marked as dead.

        Whatever holds a coroutine open (``finally``, ``except BaseException``) runs up to its next
        ``await`` and no further: a dead loop takes everything and does nothing. Nothing is left to
        the garbage collector.
        """
        self.end_coroutines()
        self._generators = ()
        self.issued.clear()
        self.timers_cancelled = ()

    def end_coroutines(self) -> None:
        """End every coroutine where it stands; from here on the loop runs nothing."""
        self._closed = True
        self.ready.clear()
        self._set_aside = ()
        if self.tasks_by_number:
            self.inside(self._evict_all)

    def _evict_all(self) -> None:
        with warnings.catch_warnings():
            # of coroutines that were about to be awaited
            warnings.simplefilter("ignore", RuntimeWarning)
            while self.tasks_by_number:
                self.tasks_by_number.popitem()[1].evict()

    @property
    def tasks(self) -> tuple[WorkflowTask, ...]:
        """The tasks whose coroutines have not ended, in order of creation."""
        return tuple(self.tasks_by_number.values())

    @property
    def generators(self) -> tuple[AsyncGenerator[Any, Any], ...]:
        """The asynchronous generators that were begun and not brought to their end, in order."""
        return self._generators

    # What asyncio asks of a loop

    def time(self) -> float:
        """Return the workflow's time in seconds since the epoch."""
        return self.now / MICROSECONDS

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Queue a callback."""
        handle = asyncio.Handle(callback, args, self, context)
        if self._closed:
            return handle
        running = self._running
        if running is None:
            if self.rests and _get_running_loop() is not self:
                self._refuse_to_be_woken()
            self.ready.append(handle)
        elif running._callback == callback and running._args == args:  # type: ignore[attr-defined]
            self._set_aside += (handle,)
            self._running = None
        else:
            self.ready.append(handle)
        return handle

    def _refuse_to_be_woken(self) -> NoReturn:
        self.trespass = (
            f"workflow {self.workflow_id!r} waits for something of asyncio (a lock, an event, a "
            f"queue, a future) that was made outside of it, and was to be woken by that; replay "
            f"could not repeat it. Send it a signal instead, or put into a step what is shared"
        )
        raise HostLoopError(self.trespass)

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
        """Set a durable timer for a time of this loop, in seconds since the epoch.

        One that is due later than a log can say (infinity is) never fires and needs no log.
        """
        if isnan(when):
            raise ValueError("a timer cannot be due at NaN")
        timer = LoopTimer(when, callback, args, self, context)
        timer.op = 0
        timer.recorded = False
        timer.due = round(min(max(when, 0), _NEVER) * MICROSECONDS)
        if self._closed or when >= _NEVER:
            return timer
        if timer.due <= self.now:
            self.ready.append(timer)
        else:
            self.issued.append(timer)
        return timer

    def fire(self, timer: LoopTimer) -> None:
        """Make a timer's callback ready, unless the code has cancelled it."""
        if not timer.cancelled():
            self.ready.append(timer)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        assert isinstance(handle, LoopTimer)
        if handle.op and not self._closed:
            self.timers_cancelled += (handle,)

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
        """Make a task of this loop, kept until its coroutine has ended."""
        if not self._closed and _is_unordered(sys._getframe(1)):
            coro.close()
            raise HostLoopError(
                "asyncio.as_completed() was given coroutines: it starts them in the order of their "
                "addresses, which no replay could repeat. Give it tasks: "
                "as_completed([asyncio.create_task(each) for each in coroutines])"
            )
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
        host = self._host or _get_running_loop()
        while isinstance(host, WorkflowLoop):
            host = host._host
        if host is not None:
            host.call_exception_handler({**context, "workflow_id": self.workflow_id})

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Report like `call_exception_handler`."""
        self.call_exception_handler(context)


def check_caller() -> None:
    """Raise `HostLoopError` if it is workflow code that calls: the engine is its host's to use."""
    loop = _get_running_loop()
    if isinstance(loop, WorkflowLoop):
        message = (
            f"workflow {loop.workflow_id!r} used the engine, or a handle: replay could not repeat "
            f"what that answers. Call another workflow, or start_child(); do the rest in a step"
        )
        raise HostLoopError(message)


def _is_unfinished(generator: Any) -> bool:
    return generator.ag_frame is not None


def _let_go(_generator: object) -> None:
    """Do nothing for a generator that is dropped; it is closed when its workflow ends."""


def _is_unordered(frame: FrameType | None) -> bool:
    """Tell whether as_completed() is making tasks of a set of coroutines."""
    for _ in range(4):
        if frame is None or frame.f_code.co_filename != asyncio.tasks.__file__:
            return False
        if (
            frame.f_code.co_name == "as_completed"
            or "_AsCompletedIterator" in frame.f_code.co_qualname
        ):
            return True
        frame = frame.f_back
    return False


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


_own = {name for kind in (WorkflowLoop, TaskHome, WorkflowRuntime) for name in vars(kind)}
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
