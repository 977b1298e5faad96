"""Refs, by which actors are addressed, and cells, which hold one life of one actor behind its refs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from supervision.errors import (
    ActorStoppedError,
    CallingSelfError,
    CallTimeoutError,
    MailboxFullError,
)
from supervision.events import DeadLetter, Exited, TaskFailed, Zombie
from supervision.mailbox import Mailbox, Put
from supervision.messages import (
    Call,
    ChildExited,
    GetState,
    Info,
    Resume,
    StopRequest,
    Suspend,
    TaskCrashed,
)
from supervision.reasons import (
    ABANDONED,
    CANCELLED,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    ExitReason,
    Stop,
    reason_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable
    from contextvars import Context

    from supervision.clock import Timer
    from supervision.runtime import Runtime

__all__ = ["ActorRef", "Cell", "Down", "Exit", "Monitor"]

RECANCEL_GAP_S: Final = 0.03
RECANCELS_MAX: Final = 8
TASKS_BUDGET_S: Final = 5.0

_T = TypeVar("_T")


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

    async def push(self, message: object) -> None:
        """Send a message for `handle_cast`; suspends while a bounded mailbox has no room."""
        cell = self._cell
        while (refused := cell.mailbox.put(message)) is not None:
            if refused is not Put.FULL:
                cell.refused(refused, message)
                return
            await cell.mailbox.room(cell.runtime.loop)

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
        item = Call(request, future)
        refused = cell.mailbox.put(item)
        if refused is not None:
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
        self._cell.signal(self, reason)

    def kill(self) -> None:
        """End the actor without its `terminate`; its exit reason is ``"killed"``."""
        self._cell.kill(brutal=True)

    def monitor(self, watcher: ActorRef | Callable[[Down], object]) -> Monitor:
        """Watch this life.

        Its end reaches the watcher as one `Down`, at once if it has ended already.

        Args:
            watcher: An actor, which gets it in its system lane by `handle_info`; or a callback,
                which is called by the event loop.
        """
        cell = self._cell
        if isinstance(watcher, ActorRef):
            return cell.watch_for(watcher._cell)
        callback = watcher
        monitor = Monitor(cell, None)
        dead = cell.over

        def tell(ended: Cell) -> None:
            down = Down(monitor, ended.ref, NOPROC if dead else ended.reason)
            ended.runtime.loop.call_soon(_call_if_active, monitor, callback, down)

        cell.watch(monitor, tell)
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

    async def get_state(self) -> object:
        """Look at the actor's state between two messages, see `Actor.get_state` (OTP sys:get_state)."""
        return await self._cell.ask_system(GetState())

    async def suspend(self) -> None:
        """Have the actor handle system messages only, until `resume`."""
        await self._cell.ask_system(Suspend())

    async def resume(self) -> None:
        """Undo `suspend`."""
        await self._cell.ask_system(Resume())

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


class Cell:
    """One life of one child: its mailbox, its task, and how it ends. Internal to this package.

    Its end is made known in one place, `conclude`, in OTP's order: names are released first, then
    callers, links and monitors hear of it, then its supervisor.
    """

    __slots__ = (
        "_parent",
        "_timer",
        "actor",
        "born_at",
        "cause",
        "current",
        "ending",
        "greeting",
        "id",
        "incarnation",
        "info",
        "killed",
        "links",
        "mailbox",
        "monitors",
        "orderly",
        "over",
        "path",
        "ready",
        "reason",
        "ref_type",
        "releases",
        "requested",
        "runtime",
        "spawned",
        "started",
        "stash",
        "task",
        "trap_exit",
        "unanswered",
        "watchers",
    )

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        runtime: Runtime,
        parent: Cell | None,
        child_id: Hashable,
        actor: object,
        mailbox: Mailbox,
        ref_type: type[ActorRef] = ActorRef,
    ) -> None:
        """Make a life which does not run yet.

        Args:
            runtime: What the tree shares.
            parent: The supervisor's cell; None for a root.
            child_id: The id in the child's spec.
            actor: The actor, or the coroutine of a function child.
            mailbox: Its mailbox.
            ref_type: What its refs are.
        """
        self.runtime = runtime
        self._parent = parent
        self.id = child_id
        self.path: str = f"{'' if parent is None else parent.path}/{child_id}"
        self.incarnation = runtime.next_incarnation()
        self.actor: object | None = actor
        self.mailbox = mailbox
        self.ref_type = ref_type
        self.info: object = None
        self.task: asyncio.Task[ExitReason] | None = None
        self.greeting: Call | None = None
        self.ready: asyncio.Future[object] | None = None
        self.started = False
        self.requested = False
        self.killed = False
        self.ending = False
        self.over = False
        self.trap_exit = False
        self.orderly = False
        self.reason: ExitReason = None
        self.cause: BaseException | None = None
        self.born_at = runtime.clock.monotonic()
        self.current: object = None
        self.stash: list[object] | None = None
        self.spawned: set[asyncio.Task[object]] | None = None
        self.unanswered: set[Call] | None = None
        self.watchers: dict[object, Callable[[Cell], object]] | None = None
        self.monitors: dict[Monitor, None] | None = None
        self.links: dict[Cell, None] | None = None
        self.releases: dict[object, Callable[[], object]] | None = None
        self._timer: Timer | None = None

    @property
    def ref(self) -> ActorRef:
        """A ref to this life."""
        return self.ref_type(self)

    # Start

    def launch(
        self, body: Coroutine[object, object, ExitReason], context: Context
    ) -> asyncio.Future[object]:
        """Run the body in a task of its own.

        Gives the future which `report_started` or the end completes.
        """
        loop = self.runtime.loop
        self.ready = ready = loop.create_future()
        self.task = task = loop.create_task(body, name=self.path, context=context)
        task.add_done_callback(self, context=context)
        return ready

    def report_started(self, outcome: object) -> None:
        """Tell whoever starts this child that its init is through."""
        self.started = True
        ready, self.ready = self.ready, None
        if ready is not None and not ready.done():
            ready.set_result(outcome)
        greeting, self.greeting = self.greeting, None
        if greeting is not None and outcome is None:
            greeting.answer(self.ref)  # one turn of the loop earlier than the supervisor could

    # Stop

    def ask(self, reason: ExitReason) -> None:
        """End it after its current message; a function child, which has no messages, at once."""
        if asyncio.iscoroutine(self.actor):
            self.request_stop(reason)
        else:
            self.mailbox.put_system(StopRequest(reason))

    def request_stop(self, reason: ExitReason) -> None:
        """Rung 0 of the stop ladder: close the mailbox and cancel once.

        Doing it again changes nothing.
        """
        if self.over or self.requested or self.killed:
            return
        self.requested = True
        self.reason = reason
        self.mailbox.close()
        if self.task is not None:
            self.task.cancel("stop requested")

    def fail_start(self, reason: ExitReason) -> None:
        """Kill it unless its init is through; the start fails with that reason."""
        if not self.started and not self.over:
            self.requested = True
            self.reason = reason
            self.kill(brutal=True)

    def kill(self, *, brutal: bool = False) -> None:
        """Rungs 2 to 4.

        Cancel again and again, then close the coroutine (if brutal), then abandon it.
        """
        if self.over or self.killed:
            return
        self.killed = True
        self.mailbox.close()
        self._press(0, brutal)

    def _press(self, attempt: int, brutal: bool) -> None:  # noqa: FBT001 - a timer passes no keywords
        task = self.task
        if self.over or task is None:
            return
        if attempt > RECANCELS_MAX or (attempt == RECANCELS_MAX and not brutal):
            self._abandon()
            return
        if attempt == RECANCELS_MAX:
            _close(task)
        task.cancel("killed")
        if self.orderly:
            return  # it ends as soon as its children have
        self._timer = self.runtime.clock.call_later(
            RECANCEL_GAP_S, self._press, attempt + 1, brutal
        )

    def _abandon(self) -> None:
        runtime = self.runtime
        runtime.zombies.add(self)
        if runtime.observer is not None:
            runtime.tell(Zombie(self.path, self.incarnation, len(runtime.zombies)))
        self.conclude(ABANDONED, None)

    # End

    def explain(self, error: BaseException | None) -> tuple[ExitReason, BaseException | None]:
        """Classify what came out of the child (None for a plain return).

        Exit reason and its cause.
        """
        if isinstance(error, Stop):
            return error.reason, error.cause
        reason = NORMAL if error is None else reason_of(error)
        if error is None or reason is CANCELLED:
            if self.requested and not self.started:
                return self.reason, None
            if self.killed:
                return KILLED, None
            if self.requested:
                return self.reason, None
        return reason, None

    def __call__(self, task: asyncio.Task[ExitReason]) -> None:
        """Take the end of the task; the cell is the callback itself, which saves a method object each."""
        if self.over:
            self.runtime.zombies.discard(self)
            self.task = None
            if not task.cancelled():
                task.exception()
            return
        if asyncio.iscoroutine(self.actor):
            with suppress(RuntimeError):  # it refuses even that; nobody will run it any more
                self.actor.close()
        if task.cancelled():
            self.conclude(*self.explain(asyncio.CancelledError()))
            return
        error = task.exception()
        if error is None:
            self.conclude(task.result(), self.cause)
        else:
            self.conclude(*((KILLED, None) if self.killed else self.explain(error)))

    def conclude(self, reason: ExitReason, cause: BaseException | None) -> None:
        """Make the end known to everybody, in order."""
        for release in tuple((self.releases or {}).values()):
            release()
        self.over = True
        self.reason = reason
        self.cause = cause
        self.actor = self.current = self.releases = None
        if reason is not ABANDONED:
            self.task = None
        if self._timer is not None:
            self._timer.cancel()
        if self.runtime.observer is not None and self.started:
            requested = self.requested or self.killed
            self.runtime.tell(Exited(self.path, self.incarnation, reason, requested))
        self._fail_callers()
        ready, self.ready = self.ready, None
        if ready is not None and not ready.done():
            ready.set_result(self)
        self._tell_watchers()
        parent, self._parent = self._parent, None
        if parent is not None:
            parent.mailbox.put_system(ChildExited(self.id, self.incarnation, reason))

    def _fail_callers(self) -> None:
        left = [*(self.stash or ()), *self.mailbox.drain()]
        calls, self.unanswered, self.stash = self.unanswered, None, None
        for call in calls or ():
            call.fail(ActorStoppedError(self.path, self.reason))
        for item in left:
            if type(item) is Call:
                item.fail(ActorStoppedError(self.path, self.reason))
            elif self.runtime.observer is not None:
                self.dead_letter(item, "stopped")

    def _tell_watchers(self) -> None:
        links, self.links = self.links, None
        for peer in links or ():
            if peer.links is not None:
                peer.links.pop(self, None)
            peer.signal(self.ref, self.reason)
        for monitor in tuple(self.monitors or ()):
            monitor.cancel()
        watchers, self.watchers = self.watchers, None
        for tell in (watchers or {}).values():
            tell(self)

    # Messages

    def refused(self, refused: Put, item: object) -> None:
        """Settle what the mailbox did not simply accept.

        Raises:
            MailboxFullError: The mailbox is full and rejects.
            ActorStoppedError: The item is a call to an actor that has ended, or is ending.
        """
        if refused is Put.CLOSED:
            if type(item) is Call:
                raise ActorStoppedError(
                    self.path, NOPROC if self.over else KILLED if self.killed else self.reason
                )
            self.dead_letter(item, NOPROC)
            return
        limit = self.mailbox.limit or 0
        if refused is Put.FULL:
            raise MailboxFullError(self.path, limit)
        lost = self.mailbox.user.popleft() if refused is Put.EVICTED else item
        if type(lost) is Call:
            lost.fail(MailboxFullError(self.path, limit))
        self.dead_letter(lost, "full")

    async def ask_system(self, request: object) -> object:
        """Ask the loop itself, in the system lane.

        Raises:
            ActorStoppedError: It has ended, or ends before it answers.
        """
        call = Call(request, self.runtime.loop.create_future())
        if self.mailbox.closed:
            self.refused(Put.CLOSED, call)
        self.mailbox.put_system(call)
        return await call.future

    def dead_letter(self, item: object, why: str) -> None:
        """Tell the observer of a message that reached nobody."""
        if self.runtime.observer is None:
            return
        message = (
            item.message if type(item) is Info else item.request if type(item) is Call else item
        )
        self.runtime.tell(DeadLetter(self.path, self.incarnation, message, why))

    def owe(self, call: Call) -> None:
        """Remember a call that is answered later, so that the end of the actor answers it."""
        if self.unanswered is None:
            self.unanswered = set()
        self.unanswered.add(call)

    # Watching

    def watch(self, key: object, tell: Callable[[Cell], object]) -> None:
        """Have `tell` called with this cell when it ends, at once if it has.

        `unwatch` takes it back.
        """
        if self.over:
            tell(self)
            return
        if self.watchers is None:
            self.watchers = {}
        self.watchers[key] = tell

    def unwatch(self, key: object) -> None:
        """Forget a watcher."""
        if self.watchers is not None:
            self.watchers.pop(key, None)

    def watch_for(self, watcher: Cell) -> Monitor:
        """Monitor this cell for another actor."""
        monitor = Monitor(self, watcher)
        if self.over:
            watcher.mailbox.put_system(Down(monitor, self.ref, NOPROC))
            return monitor
        self.watch(
            monitor,
            lambda ended: watcher.mailbox.put_system(Down(monitor, ended.ref, ended.reason)),
        )
        if watcher.monitors is None:
            watcher.monitors = {}
        watcher.monitors[monitor] = None
        return monitor

    def link(self, other: Cell) -> None:
        """Link both ways; linking a dead one signals ``"noproc"`` at once."""
        if other is self:
            return
        if other.over:
            self.signal(other.ref, NOPROC)
            return
        for one, peer in ((self, other), (other, self)):
            if one.links is None:
                one.links = {}
            one.links[peer] = None

    def unlink(self, other: Cell) -> None:
        """Undo `link`; harmless when they are not linked."""
        for one, peer in ((self, other), (other, self)):
            if one.links is not None:
                one.links.pop(peer, None)

    def signal(self, sender: ActorRef, reason: ExitReason) -> None:
        """Take an exit signal: a message when trapping, else the end, unless it is ``"normal"``."""
        if self.over:
            return
        if self.trap_exit:
            self.mailbox.put_system(Exit(sender, reason))
        elif not (isinstance(reason, str) and reason == NORMAL):
            self.request_stop(reason)

    # Tasks

    def spawn(self, body: Coroutine[object, object, _T], name: str | None) -> asyncio.Task[_T]:
        """Run a task which ends with this cell; see `Actor.spawn`."""
        if self.ending or self.over:
            body.close()
            raise ActorStoppedError(self.path, self.reason)
        if self.spawned is None:
            self.spawned = set()
        task = self.runtime.loop.create_task(self._guarded(body), name=name or f"{self.path}+")
        self.spawned.add(task)
        task.add_done_callback(partial(self._spawned_done, body))
        return task

    async def _guarded(self, body: Coroutine[object, object, _T]) -> _T:
        try:
            return await body
        except (KeyboardInterrupt, SystemExit) as error:
            # asyncio would tear the whole loop down
            self.mailbox.put_system(TaskCrashed(error))
            raise asyncio.CancelledError from error

    def _spawned_done(self, body: Coroutine[object, object, _T], task: asyncio.Task[_T]) -> None:
        body.close()  # it may never have begun
        error = None if task.cancelled() else task.exception()
        if self.spawned is None or task not in self.spawned:
            return
        self.spawned.discard(task)
        if error is None:
            return
        if not self.ending:
            self.mailbox.put_system(TaskCrashed(error))
        elif self.runtime.observer is not None:
            self.runtime.tell(TaskFailed(self.path, self.incarnation, error))

    def abandon_task(self, task: asyncio.Task[_T]) -> None:
        """Make a spawned task a zombie; see `Actor.abandon`."""
        if self.ending or self.spawned is None or task not in self.spawned:
            return
        self.spawned.discard(task)
        self.runtime.zombies.add(task)
        task.add_done_callback(self.runtime.zombies.discard)

    async def end_tasks(self) -> None:
        """Cancel the spawned tasks and wait for their end.

        What outlives every cancel becomes a zombie.
        """
        self.ending = True
        tasks = self.spawned
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        patience = TASKS_BUDGET_S
        attempts = 0
        while tasks and attempts <= RECANCELS_MAX:
            try:
                await self._tasks_ended(tasks, patience)
            except asyncio.CancelledError:
                if not self.killed:
                    continue
            attempts += 1
            patience = RECANCEL_GAP_S
            for task in tasks:
                task.cancel()
        self.runtime.zombies |= tasks
        for task in tasks:
            task.add_done_callback(self.runtime.zombies.discard)

    async def _tasks_ended(self, tasks: set[asyncio.Task[object]], patience: float) -> None:
        waiter: asyncio.Future[None] = self.runtime.loop.create_future()

        def look(_: object = None) -> None:
            if not tasks and not waiter.done():
                waiter.set_result(None)

        for task in tasks:
            task.add_done_callback(look)
        timer = self.runtime.clock.call_later(patience, _resolve, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            for task in tasks:
                task.remove_done_callback(look)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _late(item: Call, path: str, timeout_s: float) -> None:
    item.fail(CallTimeoutError(path, timeout_s, item.request))


def _call_if_active(monitor: Monitor, callback: Callable[[Down], object], down: Down) -> None:
    if monitor.settle():
        callback(down)


def _close(task: asyncio.Task[ExitReason]) -> None:
    """Rung 3: cut a coroutine off where it is suspended. CPython promises nothing about it."""
    with suppress(BaseException):  # whatever the child answers, the ladder goes on
        task.get_coro().close()
