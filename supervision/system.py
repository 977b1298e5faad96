"""Roots: running a tree, and stopping it in order."""

from __future__ import annotations

import asyncio
import contextvars
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from supervision.actor import Actor
from supervision.clock import Clock, SystemClock
from supervision.errors import ActorStoppedError, SpecError
from supervision.interrupts import Interrupts
from supervision.life import launch
from supervision.reasons import SHUTDOWN, ExitReason, TreeExit, is_normal
from supervision.ref import ActorRef
from supervision.restarts import is_count
from supervision.runtime import Runtime
from supervision.tree import Node, holds, snapshot
from supervision.watchdog import Guard, Watchdog

if TYPE_CHECKING:
    from signal import Signals
    from types import TracebackType

    from supervision.cell import Cell
    from supervision.events import Event, Observer
    from supervision.runtime import Around

__all__ = ["System", "run"]

HURRY_S: Final = 0.5
"""What every shutdown budget is cut to at the second signal."""

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
        signals: bool = False,
        watchdog: Watchdog | None = None,
        max_zombies: int | None = None,
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            root: The supervisor, or a single actor, that all others are children of.
            clock: Where the tree's time comes from; the machine's by default.
            observer: Called with each event of the whole tree.
            name: The first part of all paths; by default the root's own name, or "root".
            around: Stands around every callback of the whole tree; see `Around`.
            signals: Whether to take SIGINT and SIGTERM while the tree runs; see `run`.
            watchdog: Reports what blocks the loop; without one nobody does.
            max_zombies: How many children may have refused to end. With one more, the supervisor whose
                child it is gives up. None for no limit.

        Raises:
            TypeError: The root is no actor.
            SpecError: ``invalid_max_zombies``.
        """
        if not isinstance(root, Actor):
            raise TypeError(f"the root of a system is a Supervisor or another Actor, not {root!r}")
        self._root: Root[_R] = root
        self._actor: Actor = root
        self._clock: Clock = SystemClock() if clock is None else clock
        self._observer = observer
        if max_zombies is not None and not is_count(max_zombies):
            raise SpecError("invalid_max_zombies", max_zombies, "Give an int from 0, or None.")
        self._around = around
        self._watchdog = watchdog
        self._max_zombies = max_zombies
        self._signals = signals
        self._interrupts: Interrupts | None = None
        self._name = name or getattr(root, "name", None) or "root"
        self._cell: Cell | None = None
        self._ref: _R | None = None
        self._host: asyncio.Task[object] | None = None
        self._cancelled = False

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

    @property
    def leftovers(self) -> tuple[Event, ...]:
        """The threads that run on though their actors wait for them no more, as `ThreadLeft` events."""
        return () if self._cell is None else tuple(self._cell.runtime.leftovers.values())

    @property
    def signal(self) -> Signals | None:
        """The signal that asked for the end, if one did."""
        return None if self._interrupts is None else self._interrupts.first

    async def start(self) -> _R:
        """Start the tree; returns when all static children have started.

        Raises:
            ChildStartError: A child did not come up; those before it have been stopped. Its
                ``__cause__`` is the child's own exception.
            RuntimeError: The system has been started before; or it takes signals, and this is not the
                main thread.
        """
        if self._cell is not None:
            raise RuntimeError("a system is started once. Make a new one, with a new root.")
        chance = Random().random  # noqa: S311 - jitter is no secret
        loop = asyncio.get_running_loop()
        runtime = Runtime(loop, self._clock, self._observer, chance, self._around)
        runtime.max_zombies = self._max_zombies
        if self._signals:
            self._interrupts = Interrupts(loop, self._stop_asked, self._hurry_asked)
            self._interrupts.install()
        try:
            cell, ready = launch(
                self._actor,
                runtime,
                parent=None,
                child_id=self._name,
                context=contextvars.copy_context(),
            )
        except BaseException:
            if self._interrupts is not None:
                self._interrupts.remove()
            raise
        self._cell = runtime.root = cell
        self._ref = self._root.ref
        self._attend(cell)
        try:
            outcome = await ready
        except asyncio.CancelledError:
            await self._bring_down(cell)
            raise
        if outcome is cell:
            raise _failure(cell, self.ref) or ActorStoppedError(cell.path, cell.reason)
        return self.ref

    def _attend(self, cell: Cell) -> None:
        """Have what is here for the time of the tree end with it."""
        if self._interrupts is not None:
            interrupts = self._interrupts
            cell.watch(interrupts, lambda _: interrupts.remove())
        if self._watchdog is not None:
            guard = Guard(self._watchdog, cell)
            guard.start()
            cell.watch(guard, lambda _: guard.stop())

    async def stop(self) -> None:
        """Stop all children in order and return when nothing runs any more.

        Doing it twice is harmless.

        A cancel of the caller meanwhile is raised after the tree has stopped; that of a caller inside the tree
        at once, because the tree waits for its end.

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
        ref = await self.start()
        self._host = asyncio.current_task()
        if self._cell is not None:
            self._cell.watch(self, self._interrupted)
        return ref

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Stop the tree.

        An exception of the block goes on; else what had ended the tree is raised. A block that was
        ended by a signal has ended well.
        """
        host, self._host = self._host, None
        signalled = self._signalled(host)
        interrupt = self._interrupt()
        if interrupt is not None:
            if host is not None and host.cancelling():
                host.uncancel()
            raise interrupt
        if error is None or (signalled and kind is asyncio.CancelledError):
            await self.stop()
            return True
        if self._cell is not None:
            await self._bring_down(self._cell)
        return False

    def _signalled(self, host: asyncio.Task[object] | None) -> bool:
        """Whether a cancel of the host is that of a signal, and of nobody else."""
        asked, self._cancelled = self._cancelled, False
        return asked and host is not None and not host.uncancel()

    def _stop_asked(self) -> None:
        if self._host is not None:
            self._cancelled = True
            self._host.cancel()
        elif self._cell is not None:
            self._cell.request_stop(SHUTDOWN)

    def _hurry_asked(self) -> None:
        if self._cell is not None:
            self._cell.request_stop(SHUTDOWN)
            self._cell.runtime.hurry(HURRY_S)

    def _interrupt(self) -> KeyboardInterrupt | TreeExit | None:
        reason = None if self._cell is None else self.ref.reason
        return reason if isinstance(reason, KeyboardInterrupt | TreeExit) else None

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
                if holds(cell, asyncio.current_task()):
                    raise
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
    signals: bool = False,
    watchdog: Watchdog | None = None,
    max_zombies: int | None = None,
) -> System[_R]:
    """Run a tree for as long as a block lasts.

    Entering starts it and gives the root's ref; leaving stops it in order. When the root ends by
    itself, the block goes on: its calls fail with `ActorStoppedError`, ``ref.wait()`` tells the
    reason, and leaving the block raises the cause, such as `RestartLimitError`. A KeyboardInterrupt
    in a child cancels the block.

    With ``signals=True`` the first SIGINT or SIGTERM ends the block as a cancel would, and so the tree,
    in order; the block has then ended without an error, and `System.signal` tells the signal. The
    second one cuts every shutdown budget to half a second. The third one ends the process at once. While
    the tree is still starting, the first one ends the start with `ActorStoppedError`.

    Args:
        root: The supervisor.
        clock: Where the tree's time comes from; the machine's by default.
        observer: Called with each event of the whole tree.
        name: The first part of all paths; by default the root's own name, or "root".
        around: Stands around every callback of the whole tree; see `Around`.
        signals: Whether to take SIGINT and SIGTERM for as long as the tree runs; in the main thread only.
        watchdog: Reports what blocks the loop; without one nobody does.
        max_zombies: How many children may have refused to end. With one more, the supervisor whose child
            it is gives up. None for no limit.
    """
    return System(
        root,
        clock=clock,
        observer=observer,
        name=name,
        around=around,
        signals=signals,
        watchdog=watchdog,
        max_zombies=max_zombies,
    )


def _set(future: asyncio.Future[None], _: Cell) -> None:
    if not future.done():
        future.set_result(None)


def _failure(cell: Cell, ref: ActorRef) -> BaseException | None:
    if ref.cause is not None:
        return ref.cause
    return None if is_normal(cell.reason) else ActorStoppedError(cell.path, cell.reason)
