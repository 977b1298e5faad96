"""The tasks of a workflow's loop: asyncio's own, which repeat on replay and can be taken away."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine
from contextvars import Context, copy_context
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from zlib import crc32

from beamflow.authoring.runtime import WorkflowRuntime
from beamflow.errors import HostLoopError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["TaskHome", "WorkflowTask"]

_EVICTIONS_MAX = 100


class TaskHome(WorkflowRuntime):
    """What the tasks of a workflow see of their loop.

    Attributes:
        seed: the workflow's share of the hash of each task.
        ready: what runs next.
        unordered: wake-ups among them that came in an order which no replay repeats, each with the
            number of its task.
        tasks_by_number: the tasks whose coroutines have not ended, in order of creation.
    """

    __slots__ = ("_tasks_made", "ready", "seed", "tasks_by_number", "unordered")

    def __init__(self, workflow_id: str, origin: str) -> None:
        """Begin without tasks."""
        self.workflow_id = workflow_id
        self.seed = crc32((origin or workflow_id).encode()) << 20
        self.ready: list[asyncio.Handle] = []
        self.unordered: tuple[tuple[int, asyncio.Handle], ...] = ()
        self.tasks_by_number: dict[int, WorkflowTask] = {}
        self._tasks_made = 0

    def next_task_number(self) -> int:
        """Count the tasks of this workflow."""
        self._tasks_made += 1
        return self._tasks_made

    def put_in_order(self) -> None:
        """Bring the unordered wake-ups into the order of their tasks, on the places they have."""
        chosen = {id(handle) for _, handle in self.unordered}
        places = [place for place, handle in enumerate(self.ready) if id(handle) in chosen]
        wanted = sorted(self.unordered, key=itemgetter(0))
        for place, (_, handle) in zip(places, wanted, strict=True):
            self.ready[place] = handle
        self.unordered = ()


class WorkflowTask(asyncio.Task[Any]):
    """A task of a workflow. It hashes by workflow and number of creation, not by address.

    Sets of tasks (``asyncio.wait``, ``as_completed``) then iterate in the same order in every
    process. The hash differs between workflows, since all tasks also live in one set of asyncio's.

    Args:
        coro: what it runs.
        loop: the workflow's loop; a future of any other is refused where it is awaited.
        name: its name; made of the number without one.
        context: what it runs in; a copy of the current context without one.
    """

    __slots__ = ("_hash", "_home")

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: TaskHome,
        name: str | None,
        context: Context | None,
    ) -> None:
        """Schedule the coroutine on the loop."""
        number = loop.next_task_number()
        self._hash = loop.seed ^ number * 0x9E3779B1
        self._home = loop
        if context is None:
            context = copy_context()
        guarded = _Guarded(coro, loop, number, context)
        name = f"task-{number}" if name is None else str(name)
        super().__init__(guarded, loop=loop, name=name, context=context)
        # not before: a Ctrl-C in there leaves half a task, and Python dies of a look at its coroutine
        loop.tasks_by_number[number] = self

    def __hash__(self) -> int:
        """Return the same number in every process."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Compare by identity, as every task does."""
        return self is other

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel; what anyio cancels, in the order of a set of scopes, wakes in a fixed order."""
        if sys._getframe(1).f_code.co_name != "_deliver_cancellation":
            return super().cancel(msg)
        ready = self._home.ready
        before = len(ready)
        cancelled = super().cancel(msg)
        self._home.unordered += tuple((self._guarded.number, handle) for handle in ready[before:])
        return cancelled

    def get_coro(self) -> Any:
        """Return the author's coroutine, without the guard around it."""
        return self._guarded.coro

    @property
    def context(self) -> Context:
        """What its coroutine runs in."""
        return self._guarded.context

    @property
    def _guarded(self) -> _Guarded:
        guarded = super().get_coro()
        assert isinstance(guarded, _Guarded)
        return guarded

    def add_done_callback(self, fn: Callable[..., object], /, *, context: Any = None) -> None:
        """Refuse anyio's worker threads, which tie themselves to the task that starts them."""
        owner = getattr(fn, "__self__", None)
        if isinstance(owner, threading.Thread):
            fn(None)
            raise HostLoopError(
                "workflow code called anyio.to_thread: threads cannot be replayed. Put the call "
                "into a function decorated with @step (a plain `def` runs in a thread by itself)"
            )
        super().add_done_callback(fn, context=context)

    def evict(self) -> None:
        """End the coroutine where it stands, as its task, on a loop that is closed."""
        self._log_destroy_pending = False
        asyncio.tasks._enter_task(self._home, self)
        try:
            self._guarded.evict()
        finally:
            asyncio.tasks._leave_task(self._home, self)
        _tell_nobody(self)
        waits_for = self._fut_waiter  # type: ignore[attr-defined] # unknown to typeshed
        if waits_for is not None:
            _tell_nobody(waits_for)
        # anyio keeps what it knows of a task, and with it the task, until the task is done
        anyio = sys.modules.get("anyio._backends._asyncio")
        getattr(anyio, "_task_states", {}).pop(self, None)


def _tell_nobody(future: asyncio.Future[Any]) -> None:
    """Drop the callbacks of a future that never ends: it and who waits for it hold each other."""
    for callback, _ in future._callbacks or ():
        future.remove_done_callback(callback)


class _Evicted(BaseException):
    """Thrown into the coroutines of a workflow that leaves memory: no author's code names it.

    Closing them would not do. Where an inner coroutine goes on in spite of ``GeneratorExit``, Python
    raises RuntimeError in the outer ones, whose ``except Exception`` would then run.
    """


class _Guarded(Coroutine[Any, Any, Any]):
    """A task's coroutine, which lets only futures of its own loop through."""

    __slots__ = ("_loop", "_refusal", "context", "coro", "number")

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        loop: TaskHome,
        number: int,
        context: Context,
    ) -> None:
        self.coro = coro
        self._loop = loop
        self.number = number
        self.context = context
        self._refusal: HostLoopError | None = None

    def send(self, value: Any) -> Any:
        if self._refusal is not None:
            return self.throw(self._refusal)
        try:
            awaited = self.coro.send(value)
        except BaseException:
            self._loop.tasks_by_number.pop(self.number, None)
            raise
        if awaited is None or getattr(awaited, "_loop", None) is self._loop:
            return awaited
        return self._refuse(awaited)

    def throw(self, error: Any, *_more: Any) -> Any:
        self._refusal = None
        try:
            awaited = self.coro.throw(error)
        except BaseException:
            self._loop.tasks_by_number.pop(self.number, None)
            del error  # it has this frame
            raise
        if awaited is None or getattr(awaited, "_loop", None) is self._loop:
            return awaited
        return self._refuse(awaited)

    def _refuse(self, awaited: Any) -> None:
        """Have the error thrown in at the next turn, so that code which catches it cannot spin."""
        if hasattr(awaited, "_asyncio_future_blocking"):
            awaited._asyncio_future_blocking = False
        self._refusal = HostLoopError(
            f"workflow code awaited {awaited!r}, which belongs to the host application's event "
            f"loop; replay could not repeat it. Put it into a function decorated with @step and "
            f"await that"
        )

    def close(self) -> None:
        self.coro.close()
        self._loop.tasks_by_number.pop(self.number, None)

    def evict(self) -> None:
        for _ in range(_EVICTIONS_MAX):
            try:
                self.context.run(self.coro.throw, _Evicted())
            except BaseException:  # noqa: BLE001 - its own, or what its last words raised: it has ended
                return
        _undying.append(self.coro)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.coro.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.coro, name)


_undying: list[Coroutine[Any, Any, Any]] = []
"""Coroutines that catch every end. Kept suspended: the garbage collector would wake them again."""
