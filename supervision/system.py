"""Roots: running a tree, and stopping it in order."""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from supervision.actor import Actor
from supervision.clock import Clock, SystemClock
from supervision.errors import ActorStoppedError
from supervision.life import launch
from supervision.reasons import SHUTDOWN, ExitReason, is_normal
from supervision.ref import ActorRef
from supervision.runtime import Runtime
from supervision.tree import Node, snapshot

if TYPE_CHECKING:
    from types import TracebackType

    from supervision.cell import Cell
    from supervision.events import Observer
    from supervision.runtime import Around

__all__ = ["System", "run"]

_R = TypeVar("_R", bound=ActorRef)
_R_co = TypeVar("_R_co", bound=ActorRef, covariant=True)


class Root(Protocol[_R_co]):
    """An actor that can be the root of a tree, typically a supervisor."""

    @property
    def ref(self) -> _R_co:
        """Its ref."""


class System(Generic[_R]):
    """One tree of actors from its start to its end.

    Use `run` where the life of the tree is a block, `start` and `stop` where it is the life of an
    object.
    """

    def __init__(
        self,
        root: Root[_R],
        *,
        clock: Clock | None = None,
        observer: Observer | None = None,
        name: str | None = None,
        around: Around | None = None,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            root: The supervisor, or a single actor, that all others are children of.
            clock: Where the tree's time comes from; the machine's by default.
            observer: Called with each event of the whole tree.
            name: The first part of all paths; by default the root's own name, or "root".
            around: Stands around every callback of the whole tree; see `Around`.

        Raises:
            TypeError: The root is no actor.
        """
        if not isinstance(root, Actor):
            raise TypeError(f"the root of a system is a Supervisor or another Actor, not {root!r}")
        self._root: Root[_R] = root
        self._actor: Actor = root
        self._clock: Clock = SystemClock() if clock is None else clock
        self._observer = observer
        self._around = around
        self._name = name or getattr(root, "name", None) or "root"
        self._cell: Cell | None = None
        self._ref: _R | None = None
        self._host: asyncio.Task[object] | None = None

    @property
    def ref(self) -> _R:
        """The root's ref.

        Raises:
            RuntimeError: The system has not been started.
        """
        if self._ref is None:
            raise RuntimeError(
                "the system has not been started. Await start(), or use it with `async with`."
            )
        return self._ref

    @property
    def zombies(self) -> int:
        """How many children refused to end and still run, outside the tree."""
        return 0 if self._cell is None else len(self._cell.runtime.zombies)

    async def start(self) -> _R:
        """Start the tree; returns when all static children have started.

        Raises:
            ChildStartError: A child did not come up; those before it have been stopped. Its
                ``__cause__`` is the child's own exception.
            RuntimeError: The system has been started before.
        """
        if self._cell is not None:
            raise RuntimeError("a system is started once. Make a new one, with a new root.")
        chance = Random().random  # noqa: S311 - jitter is no secret
        loop = asyncio.get_running_loop()
        runtime = Runtime(loop, self._clock, self._observer, chance, self._around)
        cell, ready = launch(
            self._actor,
            runtime,
            parent=None,
            child_id=self._name,
            context=contextvars.copy_context(),
        )
        self._cell = runtime.root = cell
        self._ref = self._root.ref
        try:
            outcome = await ready
        except asyncio.CancelledError:
            await self._bring_down(cell)
            raise
        if outcome is cell:
            raise _failure(cell, self.ref) or ActorStoppedError(cell.path, cell.reason)
        return self.ref

    async def stop(self) -> None:
        """Stop all children in order and return when nothing runs any more.

        Doing it twice is harmless.

        A cancel of the caller meanwhile is raised after the tree has stopped.

        Raises:
            RestartLimitError: The root had given up by itself.
            BaseException: What else had ended it by itself.
        """
        cell = self._cell
        if cell is None:
            return
        await self._bring_down(cell)
        error = _failure(cell, self.ref)
        if error is not None:
            raise error

    def tree(self) -> Node:
        """Look at all that runs, at once and without asking anybody.

        Raises:
            RuntimeError: The system has not been started.
        """
        if self._cell is None:
            raise RuntimeError("the system has not been started. Await start() first.")
        return snapshot(self._cell)

    async def wait(self) -> ExitReason:
        """Wait until the tree has ended; gives the root's exit reason."""
        return await self.ref.wait()

    async def __aenter__(self) -> _R:
        """Start the tree; gives the root's ref."""
        self._host = asyncio.current_task()
        ref = await self.start()
        if self._cell is not None:
            self._cell.watch(self, self._interrupted)
        return ref

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the tree.

        An exception of the block goes on; else what had ended the tree is raised.
        """
        host, self._host = self._host, None
        interrupt = self._interrupt()
        if interrupt is not None:
            if host is not None and host.cancelling():
                host.uncancel()
            raise interrupt
        if error is None:
            await self.stop()
        elif self._cell is not None:
            await self._bring_down(self._cell)

    def _interrupt(self) -> KeyboardInterrupt | None:
        reason = None if self._cell is None else self.ref.reason
        return reason if isinstance(reason, KeyboardInterrupt) else None

    def _interrupted(self, _: Cell) -> None:
        if self._host is not None and self._interrupt() is not None:
            self._host.cancel()

    async def _bring_down(self, cell: Cell) -> None:
        cell.request_stop(SHUTDOWN)
        cancelled: asyncio.CancelledError | None = None
        while not cell.over:
            ended: asyncio.Future[None] = cell.runtime.loop.create_future()
            cell.watch(ended, partial(_set, ended))
            try:
                await ended
            except asyncio.CancelledError as error:
                cell.unwatch(ended)
                cancelled = error
        if cancelled is not None:
            raise cancelled


def run(
    root: Root[_R],
    *,
    clock: Clock | None = None,
    observer: Observer | None = None,
    name: str | None = None,
    around: Around | None = None,
) -> System[_R]:
    """Run a tree for as long as a block lasts.

    Entering starts it and gives the root's ref; leaving stops it in order. When the root ends by
    itself, the block goes on: its calls fail with `ActorStoppedError`, ``ref.wait()`` tells the
    reason, and leaving the block raises the cause, such as `RestartLimitError`. A KeyboardInterrupt
    in a child cancels the block.

    Args:
        root: The supervisor.
        clock: Where the tree's time comes from; the machine's by default.
        observer: Called with each event of the whole tree.
        name: The first part of all paths; by default the root's own name, or "root".
        around: Stands around every callback of the whole tree; see `Around`.
    """
    return System(root, clock=clock, observer=observer, name=name, around=around)


def _set(future: asyncio.Future[None], _: Cell) -> None:
    if not future.done():
        future.set_result(None)


def _failure(cell: Cell, ref: ActorRef) -> BaseException | None:
    if ref.cause is not None:
        return ref.cause
    return None if is_normal(cell.reason) else ActorStoppedError(cell.path, cell.reason)
