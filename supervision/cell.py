"""Cells: one life of one actor, as this package sees it from inside."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from supervision.errors import ActorStoppedError, MailboxFullError
from supervision.events import DeadLetter, Exited, TaskFailed, Zombie
from supervision.mailbox import Mailbox, Put
from supervision.messages import (
    IGNORE,
    Call,
    ChildExited,
    ExitSignal,
    Info,
    StopRequest,
    TaskCrashed,
)
from supervision.reasons import (
    ABANDONED,
    CANCELLED,
    KILLED,
    NOPROC,
    NORMAL,
    ExitReason,
    Stop,
    reason_of,
)
from supervision.spawned import RECANCEL_GAP_S, RECANCELS_MAX, Spawned

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable
    from contextvars import Context

    from supervision.clock import Timer
    from supervision.runtime import Runtime
    from supervision.stash import RestartStash

__all__ = ["Cell", "Watch"]

_T = TypeVar("_T")


class Watch(Protocol):
    """What an actor watches another one with."""

    def cancel(self) -> None:
        """Tell nothing any more."""


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
        "is_function",
        "killed",
        "links",
        "mailbox",
        "monitors",
        "orderly",
        "over",
        "path",
        "ready",
        "reason",
        "ref",
        "ref_type",
        "releases",
        "requested",
        "runtime",
        "spawned",
        "started",
        "stash",
        "stash_between_lives",
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
        ref_type: Callable[[Cell], object],
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
        self.ref: object = None
        self.info: object = None
        self.is_function = False
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
        self.spawned: Spawned | None = None
        self.stash_between_lives: RestartStash | None = None
        self.unanswered: dict[Call, None] | None = None
        self.watchers: dict[object, Callable[[Cell], object]] | None = None
        self.monitors: dict[Watch, None] | None = None
        self.links: dict[Cell, None] | None = None
        self.releases: dict[object, Callable[[], object]] | None = None
        self._timer: Timer | None = None

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
        self.started = outcome is not IGNORE
        ready, self.ready = self.ready, None
        if ready is not None and not ready.done():
            ready.set_result(outcome)
        greeting, self.greeting = self.greeting, None
        if greeting is not None and outcome is None:
            greeting.answer(
                self.address()
            )  # one turn of the loop earlier than the supervisor could

    def address(self) -> object:
        """Give the ref to this life: one for as long as it lasts, and none that it holds after that."""
        ref = self.ref
        if ref is None:
            ref = self.ref_type(self)
            if not self.over:
                self.ref = ref
        return ref

    # Stop

    def ask(self, reason: ExitReason) -> None:
        """End it after its current message; a function child, which has no messages, at once."""
        if self.is_function:
            self.request_stop(reason)
        else:
            self.mailbox.put_system(StopRequest(reason))

    def request_stop(self, reason: ExitReason) -> None:
        """Rung 0 of the stop ladder: close the mailbox and cancel once.

        One that is ending already is not cancelled: it ends, and its `terminate` has its budget. Doing it
        again changes nothing.
        """
        if self.over or self.requested or self.killed:
            return
        self.requested = True
        self.reason = reason
        self.mailbox.close()
        if self.task is not None and not self.ending:
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
        if self.is_function:
            with suppress(Exception):  # it refuses even that; nobody will run it any more
                self.actor.close()  # type: ignore[union-attr]
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
        if self.releases is not None:
            self._release(self.releases)
        self.over = True
        self.reason = reason
        self.cause = cause
        self.actor = self.current = self.releases = self.ref = None
        if reason is not ABANDONED:
            self.task = None
        if self._timer is not None:
            self._timer.cancel()
        if self.runtime.observer is not None and self.started:
            requested = self.requested or self.killed
            self.runtime.tell(Exited(self.path, self.incarnation, reason, requested))
        if self.spawned is not None:
            self._leave_tasks(self.spawned)
        self._fail_callers()
        ready, self.ready = self.ready, None
        if ready is not None and not ready.done():
            ready.set_result(self)
        self._tell_watchers()
        parent, self._parent = self._parent, None
        if parent is not None:
            parent.mailbox.put_system(ChildExited(self.id, self.incarnation, reason))

    def _release(self, releases: dict[object, Callable[[], object]]) -> None:
        for release in tuple(releases.values()):
            try:
                release()
            except Exception as error:
                self.runtime.report(f"what {self.path} was to do at its end failed", error)

    def _leave_tasks(self, spawned: Spawned) -> None:
        """Tell of failures that this life has not come to, and end the tasks that it could not end itself."""
        for item in self.mailbox.system or ():
            if type(item) is not TaskCrashed or isinstance(item.error, Stop):
                continue
            if item.error is not self.reason:  # else who awaited the task has ended of it
                self.runtime.tell(TaskFailed(self.path, self.incarnation, item.error))
        spawned.end_alone()

    def _fail_callers(self) -> None:
        left = [*(self.stash or ()), *self.mailbox.drain()]
        if self.stash_between_lives is not None:
            left = self.stash_between_lives.inherit(left)
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
            peer.signal(self, self.reason)
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
            stash = self.stash_between_lives
            if stash is not None and stash.take(item):
                return
            if type(item) is Call:
                raise self.stopped()
            self.dead_letter(item, NOPROC)
            return
        limit = self.mailbox.limit or 0
        if refused is Put.FULL:
            raise MailboxFullError(self.path, limit)
        lost = self.mailbox.lane.popleft() if refused is Put.EVICTED else item
        if type(lost) is Call:
            lost.fail(MailboxFullError(self.path, limit))
        self.dead_letter(lost, "full")

    def present_mailbox(self) -> Mailbox:
        """Give its mailbox, or that of the life which has followed it, where a stash joins the two."""
        mailbox, stash = self.mailbox, self.stash_between_lives
        later = stash.mailbox if mailbox.closed and stash is not None else None
        return mailbox if later is None else later

    def stopped(self) -> ActorStoppedError:
        """Make the error of who asks it something and finds its mailbox closed."""
        reason = NOPROC if self.over else KILLED if self.killed else self.reason
        return ActorStoppedError(self.path, reason)

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
            self.unanswered = {}
        self.unanswered[call] = None

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
            if not self.watchers:
                self.watchers = None

    def link(self, other: Cell) -> None:
        """Link both ways; linking a dead one signals ``"noproc"`` at once."""
        if other is self:
            return
        if other.over:
            self.signal(other, NOPROC)
            return
        if self.over:
            other.signal(self, NOPROC)
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

    def signal(self, sender: object, reason: ExitReason) -> None:
        """Take an exit signal: a message when trapping, else the end, unless it is ``"normal"``."""
        if self.over:
            return
        if self.trap_exit:
            self.mailbox.put_system(ExitSignal(sender, reason))
        elif not (isinstance(reason, str) and reason == NORMAL):
            self.request_stop(reason)

    # Tasks

    def spawn(self, body: Coroutine[object, object, _T], name: str | None) -> asyncio.Task[_T]:
        """Run a task which ends with this cell; see `Actor.spawn`."""
        if self.ending or self.over:
            body.close()
            raise ActorStoppedError(self.path, self.reason)
        if self.spawned is None:
            self.spawned = Spawned(self.runtime, self.path, self.incarnation, self.mailbox)
        return self.spawned.start(body, name)

    async def end_tasks(self) -> None:
        """Cancel the spawned tasks and wait for their end.

        What outlives every cancel becomes a zombie.
        """
        self.ending = True
        if self.spawned is not None:
            await self.spawned.end(lambda: self.killed)


def _close(task: asyncio.Task[ExitReason]) -> None:
    """Rung 3: cut a coroutine off where it is suspended. CPython promises nothing about it."""
    with suppress(BaseException):  # whatever the child answers, the ladder goes on
        task.get_coro().close()
