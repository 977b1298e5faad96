"""The mailbox of one actor: a system lane ahead of a user lane, one waiter."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from supervision.messages import Call, Info

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

__all__ = ["Mailbox", "Overflow", "Put"]

CLOSED: Final = -1
"""The capacity of a mailbox that takes no more messages."""
GONE: Final = -2
"""That of one whose actor has ended: it takes no system messages either."""


class Overflow(StrEnum):
    """What a full mailbox does with one more message."""

    REJECT = "reject"
    """The sender gets `MailboxFullError`, or waits with `ActorRef.push`."""
    WAIT = "wait"
    """Callers wait for room as part of their timeout; `cast` and `send` cannot, and are rejected."""
    DROP_OLDEST = "drop_oldest"
    """The longest waiting message becomes a dead letter."""
    DROP_NEWEST = "drop_newest"
    """The new message becomes a dead letter."""


class Put(StrEnum):
    """What became of a message that was not simply accepted."""

    CLOSED = "closed"
    """The actor has ended, or is ending."""
    FULL = "full"
    """Refused."""
    DROPPED = "dropped"
    """The new message is lost."""
    EVICTED = "evicted"
    """Accepted; the oldest message has to be taken out by whoever put this one."""


class Mailbox:
    """Two lanes: the system lane is unbounded and always first, the user lane may have a limit.

    In the user lane a cast stands as the bare message, calls and infos as `Call` and `Info`.

    Attributes:
        user: The user lane; the actor's loop takes from its left. It is made with the first message,
            because an empty deque is the biggest part of an idle actor.
        system: The system lane, made when it is first needed.
        limit: How many messages the user lane holds; None for as many as come.
        paused: While true, `wait` does not return for the user lane.
    """

    __slots__ = ("_capacity", "_overflow", "_room", "_waiter", "limit", "paused", "system", "user")

    def __init__(self, limit: int | None = None, overflow: Overflow = Overflow.REJECT) -> None:
        """Make an empty, open mailbox.

        Args:
            limit: How many messages the user lane holds; None for as many as come.
            overflow: What happens to one more.
        """
        self.user: deque[object] | None = None
        self.system: deque[object] | None = None
        self.paused = False
        self.limit = limit
        self._capacity: float = math.inf if limit is None else limit
        self._overflow = overflow
        self._waiter: Future[None] | None = None
        self._room: OrderedDict[Future[object], object] | None = None

    @property
    def closed(self) -> bool:
        """Whether it takes no more messages."""
        return self._capacity < 0

    def put(self, item: object) -> Put | None:
        """Append to the user lane and wake the actor.

        Never suspends; gives None when all went well.
        """
        user = self.user
        if user is None:
            if self._capacity <= 0:
                return self._refuse(item)
            self.user = deque((item,))
        elif len(user) >= self._capacity:
            return self._refuse(item)
        else:
            user.append(item)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        return None

    def put_system(self, item: object) -> None:
        """Append to the system lane and wake the actor.

        Nothing happens once the actor has ended.
        """
        if self._capacity == GONE:
            return
        if self.system is None:
            self.system = deque()
        self.system.append(item)
        self.wake()

    def admit(self, item: object) -> None:
        """Append to the user lane whatever its limit, and wake the actor; nothing happens when it is closed."""
        if not self.closed:
            self.lane.append(item)
            self.wake()

    def wake(self) -> None:
        """Let the actor look at its lanes."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def waiting(self, loop: AbstractEventLoop) -> Future[None]:
        """Give the future that is done at the next message; for the actor's loop only."""
        if not self.user:
            self.user = (
                None  # an empty deque takes more memory than the rest of an idle actor's box
            )
        self._waiter = waiter = loop.create_future()
        return waiter

    @property
    def lane(self) -> deque[object]:
        """The user lane, made if need be."""
        if self.user is None:
            self.user = deque()
        return self.user

    def freed(self) -> None:
        """Let those in whose senders wait for room, in their order.

        Called by whoever took a message.
        """
        room = self._room
        user = self.lane
        while room and len(user) < self._capacity:
            sender, item = room.popitem(last=False)
            if sender.done():
                continue
            user.append(item)
            if type(item) is not Call:
                sender.set_result(True)

    def queue(self, item: object, sender: Future[object]) -> None:
        """Have an item wait for room, unless its sender gives up before.

        Args:
            item: What to let in, ahead of all that is put later.
            sender: Of a call, its own future. Of anything else one which becomes true when the item
                is let in, and false when the mailbox closes before.
        """
        if self._room is None:
            self._room = OrderedDict()
        self._room[sender] = item
        sender.add_done_callback(self._leave)

    def _leave(self, sender: Future[object]) -> None:
        if self._room is not None:
            self._room.pop(sender, None)

    def bound(self, limit: int | None, overflow: Overflow) -> None:
        """Set another limit, and another way to deal with one more."""
        self.limit = limit
        self._overflow = overflow
        if not self.closed:
            self._capacity = math.inf if limit is None else limit

    @property
    def patient(self) -> bool:
        """Whether callers wait for room."""
        return self._overflow is Overflow.WAIT

    def take_casts(self, limit: int | None) -> list[object]:
        """Take the casts at the head of the user lane, at most `limit`.

        Stop before a call or an info.
        """
        taken: list[object] = []
        user = self.user
        while user and (limit is None or len(taken) < limit):
            kind = type(user[0])
            if kind is Call or kind is Info:
                break
            taken.append(user.popleft())
        if taken and self._room:
            self.freed()
        return taken

    def close(self) -> None:
        """Take no more messages; those that wait stay until `drain`."""
        self._capacity = min(self._capacity, CLOSED)
        for sender, item in (self._room or {}).items():
            if type(item) is not Call and not sender.done():
                sender.set_result(False)

    def drain(self) -> list[object]:
        """Close, and take out all that is left: the user lane, and the calls in the system lane."""
        self.close()
        left = list(self.user or ())
        left.extend(item for item in self.system or () if type(item) is Call)
        left.extend(item for item in (self._room or {}).values() if type(item) is Call)
        self.user = self.system = self._room = None
        self._capacity = GONE
        return left

    def _refuse(self, item: object) -> Put:
        if self._capacity < 0:
            return Put.CLOSED
        if self._overflow in {Overflow.REJECT, Overflow.WAIT}:
            return Put.FULL
        if self._overflow is Overflow.DROP_NEWEST:
            return Put.DROPPED
        self.lane.append(item)
        return Put.EVICTED
