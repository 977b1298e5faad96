"""Refs, by which actors are addressed, and what they tell: `Down`, `Exit`, `Monitor`."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import TYPE_CHECKING

from supervision.errors import CallingSelfError, CallTimeoutError, MailboxFullError
from supervision.mailbox import Put
from supervision.messages import Call, GetState, Info, Resume, Suspend
from supervision.reasons import NOPROC, NORMAL, SHUTDOWN, ExitReason

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from supervision.cell import Cell

__all__ = ["ActorRef", "Down", "Exit", "Monitor", "cell_of", "ref_of"]


class Down:
    """Given to `handle_info` or a monitor's callback: the monitored actor has ended.

    Attributes:
        monitor: Which monitor tells it.
        ref: Who ended.
        reason: The exit reason; ``"noproc"`` when it was gone before the monitor was made.
    """

    __slots__ = ("monitor", "reason", "ref")
    __match_args__ = ("ref", "reason")

    def __init__(self, monitor: Monitor, ref: ActorRef, reason: ExitReason) -> None:
        """Tell an end.

        Args:
            monitor: Which monitor tells it.
            ref: Who ended.
            reason: The exit reason.
        """
        self.monitor = monitor
        self.ref = ref
        self.reason = reason

    @property
    def incarnation(self) -> int:
        """Which life ended."""
        return self.ref.incarnation

    def __repr__(self) -> str:
        """Show who and why."""
        return f"Down({self.ref!r}, {self.reason!r})"


class Exit:
    """Given to `handle_info` of an actor that traps exits: a linked actor has ended.

    Attributes:
        ref: Who ended.
        reason: The exit reason.
    """

    __slots__ = ("reason", "ref")
    __match_args__ = ("ref", "reason")

    def __init__(self, ref: ActorRef, reason: ExitReason) -> None:
        """Tell an end.

        Args:
            ref: Who ended.
            reason: The exit reason.
        """
        self.ref = ref
        self.reason = reason

    def __repr__(self) -> str:
        """Show who and why."""
        return f"Exit({self.ref!r}, {self.reason!r})"


class Monitor:
    """A one-way watch over one life of an actor; tells its end once, unless cancelled before.

    Attributes:
        active: Whether it can still tell, or its Down is still on the way.
    """

    __slots__ = ("_cell", "_watcher", "active")

    def __init__(self, cell: Cell, watcher: Cell | None) -> None:
        """Watch a cell.

        Args:
            cell: Who is watched.
            watcher: The actor that hears of it; None when a callback does.
        """
        self._cell = cell
        self._watcher = watcher
        self.active = True

    def cancel(self) -> None:
        """Tell nothing any more, not even a Down that already waits in the mailbox (OTP's demonitor, flush)."""
        self.settle()
        self._cell.unwatch(self)

    def settle(self) -> bool:
        """Tell whether the watcher still wants to hear, and count it as told."""
        wanted, self.active = self.active, False
        if self._watcher is not None and self._watcher.monitors is not None:
            self._watcher.monitors.pop(self, None)
        return wanted


class ActorRef:
    """The address of one life of one actor; after a restart there is another.

    Refs are values: two refs to the same life are equal and hash alike. A ref keeps no dead actor's
    state.
    """

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        """Address a cell; refs are made by this package only.

        Args:
            cell: The life it addresses.
        """
        self._cell = cell

    def __eq__(self, other: object) -> bool:
        """Refs are equal when they address the same life."""
        return self._cell is other._cell if isinstance(other, ActorRef) else NotImplemented

    def __hash__(self) -> int:
        """Hash by the life it addresses."""
        return hash(self._cell)

    def __repr__(self) -> str:
        """Show place, life, and the exit reason of a dead one."""
        state = "" if self.alive else f" ended {self._cell.reason!r}"
        return f"<{type(self).__name__} {self._cell.path}#{self._cell.incarnation}{state}>"

    @property
    def id(self) -> Hashable:
        """The id in the child's spec."""
        return self._cell.id

    @property
    def path(self) -> str:
        """The place in the tree, such as ``/root/workers/7``."""
        return self._cell.path

    @property
    def incarnation(self) -> int:
        """Which life this is; a later life of the same tree has a greater number."""
        return self._cell.incarnation

    @property
    def info(self) -> object:
        """What the start function gave beside the actor."""
        return self._cell.info

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return not self._cell.over

    @property
    def reason(self) -> ExitReason:
        """The exit reason; None while it lives."""
        return self._cell.reason if self._cell.over else None

    @property
    def cause(self) -> BaseException | None:
        """The exception behind the exit reason, if there is one."""
        reason = self.reason
        return reason if isinstance(reason, BaseException) else self._cell.cause

    def cast(self, message: object) -> None:
        """Send a message for `handle_cast` and do not wait. Never suspends.

        To an actor that has ended the message is dropped and becomes a dead letter.

        Raises:
            MailboxFullError: The mailbox is bounded, full and rejects.
        """
        cell = self._cell
        refused = cell.mailbox.put(message)
        if refused is not None:
            cell.refused(refused, message)

    def send(self, message: object) -> None:
        """Send a message for `handle_info`; else like `cast`."""
        cell = self._cell
        item = Info(message)
        refused = cell.mailbox.put(item)
        if refused is not None:
            cell.refused(refused, item)

    async def push(self, message: object, timeout: float | None = None) -> None:
        """Send a message for `handle_cast`; suspends while a bounded mailbox has no room.

        Those who wait are let in in their order, ahead of all that is sent later.

        Args:
            message: The message.
            timeout: Seconds to wait for room; None to wait as long as the actor lives.

        Raises:
            MailboxFullError: There was no room in time; the message is not sent.
        """
        cell = self._cell
        mailbox = cell.present_mailbox()
        refused = mailbox.put(message)
        if refused is None:
            return
        if refused is not Put.FULL:
            cell.refused(refused, message)
            return
        room: asyncio.Future[object] = cell.runtime.loop.create_future()
        mailbox.queue(message, room)
        timer = None
        if timeout is not None:
            timer = cell.runtime.clock.call_later(timeout, _no_room, room, cell)
        try:
            if not await room:
                cell.refused(Put.CLOSED, message)
        finally:
            if timer is not None:
                timer.cancel()

    async def call(self, request: object, timeout: float | None = 5.0) -> object:
        """Ask `handle_call` and wait for what it returns.

        Args:
            request: The question.
            timeout: Seconds to wait; None to wait as long as the actor lives.

        Raises:
            CallTimeoutError: No answer in time. The work is not cancelled; its answer will be
                dropped.
            ActorStoppedError: The actor ended before it answered.
            CallingSelfError: The actor asks itself.
            MailboxFullError: The mailbox is bounded, full and rejects.
        """
        cell = self._cell
        runtime = cell.runtime
        if cell.task is not None and asyncio.current_task() is cell.task:
            raise CallingSelfError(cell.path, "call")
        future: asyncio.Future[object] = runtime.loop.create_future()
        item = Call(request, future, timeout)
        refused = cell.mailbox.put(item)
        if refused is Put.FULL and cell.mailbox.patient:
            cell.mailbox.queue(item, future)
        elif refused is not None:
            cell.refused(refused, item)
        if timeout is None:
            return await future
        timer = runtime.clock.call_later(timeout, _late, item, cell.path, timeout)
        try:
            return await future
        finally:
            timer.cancel()

    async def stop(self, reason: ExitReason = NORMAL, timeout: float | None = None) -> None:
        """End the actor after its current message, ahead of what waits in its mailbox, and wait for its end.

        Its supervisor treats that as the actor's own exit: a permanent child is restarted.

        Args:
            reason: The exit reason it ends with.
            timeout: Seconds to wait; None to wait as long as it takes.

        Raises:
            CallTimeoutError: It has not ended in time; it is still asked to.
            CallingSelfError: The actor stops itself: raise Stop instead.
        """
        cell = self._cell
        if cell.task is not None and asyncio.current_task() is cell.task:
            raise CallingSelfError(cell.path, "stop")
        cell.ask(reason)
        await self.wait(timeout)

    def exit(self, reason: ExitReason = SHUTDOWN) -> None:
        """Send an exit signal (OTP ``exit/2``): ends the actor now, between two of its awaits.

        An actor that traps exits gets an `Exit` message instead; ``"normal"`` does nothing to
        others.
        """
        self._cell.signal(self._cell, reason)

    def kill(self) -> None:
        """End the actor without its `terminate`; its exit reason is ``"killed"``."""
        self._cell.kill(brutal=True)

    def monitor(self, watcher: ActorRef | Callable[[Down], object]) -> Monitor:
        """Watch this life.

        Its end reaches the watcher as one `Down`, at once if it has ended already.

        Args:
            watcher: An actor, which gets it in its system lane by `handle_info`; or a callback,
                which is called by the event loop, in the context of who monitors.
        """
        cell = self._cell
        context = None if isinstance(watcher, ActorRef) else copy_context()
        hearer = watcher._cell if isinstance(watcher, ActorRef) else None
        monitor = Monitor(cell, hearer)
        if hearer is not None and hearer.over:
            monitor.active = False
            return monitor
        dead = cell.over

        def tell(ended: Cell) -> None:
            down = Down(monitor, ref_of(ended), NOPROC if dead else ended.reason)
            if isinstance(watcher, ActorRef):
                watcher._cell.mailbox.put_system(down)
            else:
                ended.runtime.loop.call_soon(
                    _call_if_active, monitor, watcher, down, context=context
                )

        cell.watch(monitor, tell)
        if hearer is not None and not dead:
            if hearer.monitors is None:
                hearer.monitors = {}
            hearer.monitors[monitor] = None
        return monitor

    def at_end(self, key: object, release: Callable[[], object]) -> None:
        """Have a function called at the end of this life before anybody hears of it.

        For registries.
        """
        cell = self._cell
        if cell.releases is None:
            cell.releases = {}
        cell.releases[key] = release

    def not_at_end(self, key: object) -> None:
        """Undo `at_end`."""
        if self._cell.releases is not None:
            self._cell.releases.pop(key, None)

    async def get_state(self, timeout: float | None = 5.0) -> object:
        """Look at the actor's state between two messages, see `Actor.get_state` (OTP sys:get_state).

        What `get_state` raises is raised here, and the actor lives on.

        Args:
            timeout: Seconds to wait; None to wait as long as the actor lives.

        Raises:
            CallTimeoutError: It is still busy with its current message.
            ActorStoppedError: It has ended, or is a child function, which has no state to show.
        """
        return await self._ask_system(GetState(), timeout)

    async def suspend(self, timeout: float | None = 5.0) -> None:
        """Have the actor handle system messages only, until `resume`; else like `get_state`."""
        await self._ask_system(Suspend(), timeout)

    async def resume(self, timeout: float | None = 5.0) -> None:
        """Undo `suspend`; else like `get_state`."""
        await self._ask_system(Resume(), timeout)

    async def _ask_system(self, request: object, timeout: float | None) -> object:
        cell = self._cell
        item = Call(request, cell.runtime.loop.create_future())
        mailbox = cell.present_mailbox()
        if mailbox.closed:
            raise cell.stopped()
        mailbox.put_system(item)
        if timeout is None:
            return await item.future
        timer = cell.runtime.clock.call_later(timeout, _late, item, cell.path, timeout)
        try:
            return await item.future
        finally:
            timer.cancel()

    def link(self, other: ActorRef) -> None:
        """Link two actors both ways.

        The abnormal end of one ends the other, unless that one traps exits.
        """
        other._cell.link(self._cell)

    def unlink(self, other: ActorRef) -> None:
        """Undo `link`; harmless when they are not linked."""
        other._cell.unlink(self._cell)

    async def wait(self, timeout: float | None = None) -> ExitReason:
        """Wait until this life has ended; gives its exit reason, also of one that ended long ago.

        Args:
            timeout: Seconds to wait; None to wait as long as it takes.

        Raises:
            CallTimeoutError: It has not ended in time.
        """
        cell = self._cell
        if cell.over:
            return cell.reason
        future: asyncio.Future[object] = cell.runtime.loop.create_future()
        item = Call("the end", future)
        cell.watch(item, lambda ended: item.answer(ended.reason))
        timer = None
        if timeout is not None:
            timer = cell.runtime.clock.call_later(timeout, _late, item, cell.path, timeout)
        try:
            return await future
        finally:
            cell.unwatch(item)
            if timer is not None:
                timer.cancel()


def ref_of(cell: Cell) -> ActorRef:
    """Give a ref to a life, of the type that its actor chose."""
    return cell.address()  # type: ignore[return-value] # what its actor's `ref_type` makes


def cell_of(ref: ActorRef) -> Cell:
    """Give the life that a ref addresses."""
    return ref._cell


def _late(item: Call, path: str, timeout_s: float) -> None:
    item.fail(CallTimeoutError(path, timeout_s, item.request))


def _no_room(room: asyncio.Future[object], cell: Cell) -> None:
    if not room.done():
        room.set_exception(MailboxFullError(cell.path, cell.mailbox.limit or 0))


def _call_if_active(monitor: Monitor, callback: Callable[[Down], object], down: Down) -> None:
    if monitor.settle():
        callback(down)
