"""The tasks of a workflow's loop: asyncio's own, which repeat on replay and can be taken away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from beamflow.errors import HostLoopError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["WorkflowTask"]

_EVICTIONS_MAX = 100


class WorkflowTask(asyncio.Task[Any]):
    """A task of a workflow. It hashes by workflow and number of creation, not by address.

    Sets of tasks (``asyncio.wait``, ``as_completed``) then iterate in the same order in every
    process. The hash differs between workflows, since all tasks also live in one set of asyncio's.

    Args:
        coro: what it runs.
        loop: the workflow's loop; a future of any other is refused where it is awaited.
        seed: the workflow's share of the hash.
        number: which task of the workflow it is, from 1.
        forget: called with the number and None once the coroutine has ended.
        name: its name; made of the number without one.
        context: what it runs in; a copy of the current context without one.
    """

    __slots__ = ("_hash",)

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: asyncio.AbstractEventLoop,
        seed: int,
        number: int,
        forget: Callable[[int, None], object],
        name: str | None,
        context: Context | None,
    ) -> None:
        """Schedule the coroutine on the loop."""
        self._hash = seed ^ number * 0x9E3779B1
        if context is None:
            context = copy_context()
        guarded = _Guarded(coro, loop, number, forget, context)
        super().__init__(guarded, loop=loop, name=name or f"task-{number}", context=context)

    def __hash__(self) -> int:
        """Return the same number in every process."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Compare by identity, as every task does."""
        return self is other

    def get_coro(self) -> Any:
        """Return the author's coroutine, without the guard around it."""
        return self._guarded.coro

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
        asyncio.tasks._enter_task(self.get_loop(), self)
        try:
            self._guarded.evict()
        finally:
            asyncio.tasks._leave_task(self.get_loop(), self)


class _Evicted(BaseException):
    """Thrown into the coroutines of a workflow that leaves memory: no author's code names it.

    Closing them would not do. Where an inner coroutine goes on in spite of ``GeneratorExit``, Python
    raises RuntimeError in the outer ones, whose ``except Exception`` would then run.
    """


class _Guarded(Coroutine[Any, Any, Any]):
    """A task's coroutine, which lets only futures of its own loop through."""

    __slots__ = ("_context", "_forget", "_loop", "_number", "_refusal", "coro")

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop,
        number: int,
        forget: Callable[[int, None], object],
        context: Context,
    ) -> None:
        self.coro = coro
        self._loop = loop
        self._number = number
        self._forget = forget
        self._context = context
        self._refusal: HostLoopError | None = None

    def send(self, value: Any) -> Any:
        if self._refusal is not None:
            return self.throw(self._refusal)
        try:
            awaited = self.coro.send(value)
        except BaseException:
            self._forget(self._number, None)
            raise
        if awaited is None or getattr(awaited, "_loop", None) is self._loop:
            return awaited
        return self._refuse(awaited)

    def throw(self, error: Any, *_more: Any) -> Any:
        self._refusal = None
        try:
            awaited = self.coro.throw(error)
        except BaseException:
            self._forget(self._number, None)
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
        self._forget(self._number, None)

    def evict(self) -> None:
        for _ in range(_EVICTIONS_MAX):
            try:
                self._context.run(self.coro.throw, _Evicted())
            except BaseException:  # noqa: BLE001 - its own, or what its last words raised: it has ended
                return
        _undying.append(self.coro)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.coro.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.coro, name)


_undying: list[Coroutine[Any, Any, Any]] = []
"""Coroutines that catch every end. Kept suspended: the garbage collector would wake them again."""
