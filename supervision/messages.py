"""What stands in mailboxes, and what callbacks may return."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import Future

__all__ = [
    "IDLE",
    "IGNORE",
    "Call",
    "ChildExited",
    "Continue",
    "ExitSignal",
    "Failure",
    "GetState",
    "Idle",
    "Ignore",
    "Info",
    "Resume",
    "StopRequest",
    "Suspend",
    "TaskCrashed",
]


class Ignore(Enum):
    """The type of `IGNORE`."""

    IGNORE = "ignore"


class Idle(Enum):
    """The type of `IDLE`."""

    IDLE = "idle"


IDLE: Final = Idle.IDLE
"""Given to `handle_info` when no message has come for the actor's `idle_timeout`."""

IGNORE: Final = Ignore.IGNORE
"""Returned by `init` or a start function: nothing to run, and no error."""


class Continue:
    """Returned by `init` or `handle_continue`.

    Go on with ``handle_continue(term)`` before any message.
    """

    __slots__ = ("term",)

    def __init__(self, term: object = None) -> None:
        """Keep the term.

        Args:
            term: Given to `handle_continue`.
        """
        self.term = term


class Failure:
    """Returned by `handle_call`: the caller's call raises this error, the actor lives on."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        """Keep the error.

        Args:
            error: What the caller gets.
        """
        self.error = error


class Call:
    """A request whose sender waits."""

    __slots__ = ("deferred", "future", "request", "timeout")

    def __init__(
        self, request: object, future: Future[object], timeout: float | None = None
    ) -> None:
        """Keep request and reply slot.

        Args:
            request: What is asked.
            future: Where the answer goes.
            timeout: Seconds that the sender waits; None for as long as the actor lives.
        """
        self.request = request
        self.timeout = timeout
        self.future = future
        self.deferred = False

    def answer(self, reply: object) -> None:
        """Give the answer; dropped when the caller waits no more."""
        if self.future.done():
            return
        if type(reply) is Failure:
            self.future.set_exception(reply.error)
        else:
            self.future.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Give an error instead of an answer; dropped when the caller waits no more."""
        if not self.future.done():
            self.future.set_exception(error)


class Info:
    """A message that is neither call nor cast, in the user's lane."""

    __slots__ = ("message",)

    def __init__(self, message: object) -> None:
        """Keep the message.

        Args:
            message: Given to `handle_info`.
        """
        self.message = message


class StopRequest:
    """System lane: end after the current message."""

    __slots__ = ("reason",)

    def __init__(self, reason: object) -> None:
        """Keep the reason.

        Args:
            reason: The exit reason to end with.
        """
        self.reason = reason


class GetState:
    """System call: show the state."""

    __slots__ = ()


class Suspend:
    """System call: leave the user lane alone."""

    __slots__ = ()


class Resume:
    """System call: go back to the user lane."""

    __slots__ = ()


class TaskCrashed:
    """System lane: a spawned task failed, so its actor does."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        """Keep the error.

        Args:
            error: What the task raised.
        """
        self.error = error


class ChildExited:
    """System lane of a supervisor: one life of one child is over."""

    __slots__ = ("child_id", "incarnation", "reason")

    def __init__(self, child_id: object, incarnation: int, reason: object) -> None:
        """Say which life of which child, and why it ended.

        Args:
            child_id: The id in its spec.
            incarnation: Which life.
            reason: The exit reason.
        """
        self.child_id = child_id
        self.incarnation = incarnation
        self.reason = reason


class ExitSignal:
    """System lane of an actor that traps exits: a linked actor has ended, or one sends this reason."""

    __slots__ = ("reason", "sender")

    def __init__(self, sender: object, reason: object) -> None:
        """Say who and why.

        Args:
            sender: The cell of whoever sends it.
            reason: The exit reason.
        """
        self.sender = sender
        self.reason = reason
