"""Actors: the callbacks a user writes, and what they may call on themselves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, ParamSpec, TypeVar

from supervision.blocking import in_thread
from supervision.errors import StashFullError
from supervision.mailbox import Overflow
from supervision.messages import Call, Continue, Ignore
from supervision.ref import ActorRef, Monitor

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from supervision.cell import Cell
    from supervision.reasons import ExitReason

__all__ = ["Actor", "ReplyTo"]

_T = TypeVar("_T")
_P = ParamSpec("_P")


class ReplyTo:
    """A call whose answer is given later, by whoever holds this."""

    __slots__ = ("_call", "_cell")

    def __init__(self, cell: Cell, call: Call) -> None:
        """Hold a call.

        Args:
            cell: The actor that owes the answer.
            call: What it was asked.
        """
        self._cell = cell
        self._call = call

    @property
    def waiting(self) -> bool:
        """Whether the caller still waits."""
        return not self._call.future.done()

    def reply(self, value: object) -> None:
        """Give the answer, or a `Failure`; dropped when the caller waits no more."""
        if self._cell.unanswered is not None:
            self._cell.unanswered.pop(self._call, None)
        self._call.answer(value)


class Actor:
    """One sequential mailbox loop with callbacks, in a task of its own (OTP gen_server(3)).

    Subclass it; the instance is the state, one instance for each life. The constructor belongs to
    the user and is called by the start function of the child's spec; whatever needs to wait belongs
    into `init`.

    Example::

        class Counter(Actor):
            def __init__(self) -> None:
                self.count = 0

            async def handle_cast(self, message: object) -> None:
                self.count += 1

            async def handle_call(self, request: object) -> object:
                return self.count

    An exception in a callback is the end of this life; its supervisor decides what comes next.

    Attributes:
        mailbox_limit: How many messages may wait; None for as many as come.
        overflow: What a full mailbox does with one more.
        trap_exit: Whether ends of linked actors come as `Exit` messages and do not end this one.
        stash_limit: How many messages `stash` may hold.
        ref_type: What refs to this actor are.
        idle_timeout: Seconds without any message after which `handle_info` gets `IDLE`, again and
            again; None for never. May be set at any time.
        claim: Called with the ref before the task starts, to take a name; see `Registry.via`.
        orderly: Whether `terminate` runs even when it is killed, because it has children to stop.
    """

    mailbox_limit: ClassVar[int | None] = None
    overflow: ClassVar[Overflow] = Overflow.REJECT
    trap_exit: ClassVar[bool] = False
    stash_limit: ClassVar[int] = 1000
    ref_type: ClassVar[type[ActorRef]] = ActorRef
    orderly: ClassVar[bool] = False

    idle_timeout: float | None = None
    claim: Callable[[ActorRef], object] | None = None
    _cell: Cell

    @property
    def ref(self) -> ActorRef:
        """This life's own ref; there from before `init`."""
        return self._cell.address()  # type: ignore[return-value] # as `ref_type` says

    # Callbacks

    async def init(self) -> Continue | Ignore | None:
        """Prepare this life, in its own task.

        The start of the child, and of those after it, waits for it.

        Returns:
            None; or `Continue` to have `handle_continue` called before any message; or `IGNORE` to
            end at once without an error.
        """
        return None

    async def handle_continue(self, term: object, /) -> Continue | None:
        """Go on after `init`, before any message.

        Args:
            term: What `Continue` carries.

        Returns:
            None, or another `Continue`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} returned Continue({term!r}) and has no handle_continue"
        )

    async def handle_call(self, request: object, /) -> object:
        """Answer a request.

        Args:
            request: What `ActorRef.call` was given.

        Returns:
            The answer; or `Failure`, which raises its error at the caller. After `defer` it is
            ignored.
        """
        raise NotImplementedError(
            f"{type(self).__name__} was asked {request!r} and has no handle_call"
        )

    async def handle_cast(self, message: object, /) -> None:
        """Take a message that nobody waits for.

        Args:
            message: What `ActorRef.cast` was given.
        """
        raise NotImplementedError(
            f"{type(self).__name__} was cast {message!r} and has no handle_cast"
        )

    async def handle_info(self, message: object, /) -> None:
        """Take everything else: `Down`, `Exit`, what came by `ActorRef.send`.

        By default it is a dead letter.

        Args:
            message: The message.
        """
        self._cell.dead_letter(message, "unhandled")

    async def terminate(self, reason: ExitReason, /) -> None:
        """Clean up.

        Called at the end of every life whose `init` came through, except when it is killed.

        Spawned tasks have ended before. While the budget lasts nobody cancels it; never rely on it
        for correctness, a process can die.

        Args:
            reason: Why the life ends.
        """

    def get_state(self) -> object:
        """Show the state to `ActorRef.get_state`; may be a coroutine function.

        By default a copy of the instance's attributes.
        """
        return {name: value for name, value in vars(self).items() if name not in {"_cell", "claim"}}

    # For use inside callbacks

    def spawn(
        self, body: Coroutine[object, object, _T], *, name: str | None = None
    ) -> asyncio.Task[_T]:
        """Run a coroutine beside the loop, in a task that belongs to this life.

        When the life ends, the task is cancelled and waited for, before `terminate`. When it fails,
        the life ends with its exception after the current message.

        Args:
            body: The coroutine.
            name: The task's name.

        Raises:
            ActorStoppedError: The life is ending.
        """
        return self._cell.spawn(body, name)

    async def run_blocking(
        self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Run a blocking function in a thread of the loop's default executor, and give what it returns.

        A stop does not wait for it: the actor ends at once, and the thread, which cannot be stopped, is told of
        as a `ThreadLeft` and stands in `System.leftovers` until it ends. Code that may never end belongs into
        a child with ``isolation="process"``.

        Refs belong to the loop's thread. A function that has something to tell before it returns does so by
        ``loop.call_soon_threadsafe(ref.cast, message)``.

        Args:
            function: The function.
            *args: Its arguments.
            **kwargs: Its arguments by name.
        """
        cell = self._cell
        name = getattr(function, "__qualname__", repr(function))
        call = partial(function, *args, **kwargs)
        return await in_thread(cell.runtime, cell.path, cell.incarnation, call, name)

    def abandon(self, task: asyncio.Task[_T]) -> None:
        """Let go of a spawned task that ignores its cancel: nothing waits for it any more.

        Until it ends it is a zombie, counted and kept alive; what it returns or raises is ignored.

        Args:
            task: One that `spawn` gave.
        """
        if self._cell.spawned is not None:
            self._cell.spawned.abandon(task)

    def take_queued(self, limit: int | None = None) -> list[object]:
        """Take the casts that already wait, in order, up to the first call or info.

        To work in batches.

        Args:
            limit: How many at most.
        """
        mailbox = self._cell.mailbox
        return mailbox.take_casts(limit) if mailbox.user else []

    def has_queued(self) -> bool:
        """Whether messages wait that no callback has seen."""
        return bool(self._cell.mailbox.user)

    def defer(self) -> ReplyTo:
        """Answer the current call later; whatever `handle_call` returns now is ignored.

        When the actor ends before, the caller gets `ActorStoppedError`.

        Raises:
            RuntimeError: There is no current call.
        """
        call = self._cell.current
        if type(call) is not Call:
            raise RuntimeError(
                "defer() works inside handle_call only. Call it there and keep what it gives."
            )
        call.deferred = True
        self._cell.owe(call)
        return ReplyTo(self._cell, call)

    def monitor(self, ref: ActorRef) -> Monitor:
        """Watch another actor: its end comes to `handle_info` as a `Down`."""
        return ref.monitor(self.ref)

    def link(self, ref: ActorRef) -> None:
        """Share the fate of another actor.

        The abnormal end of one ends the other, see `trap_exit`.
        """
        ref.link(self.ref)

    def unlink(self, ref: ActorRef) -> None:
        """Undo `link`."""
        ref.unlink(self.ref)

    def stash(self) -> None:
        """Keep the current message for later; a stashed call's caller goes on waiting.

        Raises:
            StashFullError: There are `stash_limit` messages already.
            RuntimeError: There is no current message.
        """
        cell = self._cell
        if cell.current is None:
            raise RuntimeError(
                "stash() works inside handle_call, handle_cast and handle_info only."
            )
        if cell.stash is None:
            cell.stash = []
        if len(cell.stash) >= self.stash_limit:
            raise StashFullError(cell.path, self.stash_limit)
        cell.stash.append(cell.current)
        if type(cell.current) is Call:
            cell.current.deferred = True

    def unstash_all(self) -> None:
        """Put what was stashed back in front of all other messages, in the order in which it came.

        May be used in a spawned task too.
        """
        cell = self._cell
        stashed, cell.stash = cell.stash, None
        for item in reversed(stashed or ()):
            if type(item) is Call:
                item.deferred = False
            cell.mailbox.lane.appendleft(item)
        cell.mailbox.wake()
