"""What stands in the mailbox of a workflow's actor, beside what its attempts came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beamflow.errors import ConflictError, StoreError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from beamflow.engine.child_call import ChildCall
    from beamflow.engine.steering import Alarm
    from beamflow.model.events import Event, UpdateCompleted
    from beamflow.model.status import Control

__all__ = [
    "Beat",
    "Begin",
    "ChildNews",
    "ChildrenRest",
    "ControlRequest",
    "Dropped",
    "Due",
    "Leave",
    "Poisoned",
    "Renewed",
    "Rung",
    "Signal",
    "Unasked",
    "Update",
    "Waiting",
    "acknowledge",
    "refuse",
    "reject",
]


class Waiting:
    """A question to the actor: what does the workflow wait for?"""


class Begin:
    """The start of a workflow; ``acknowledged`` is settled once it is in the log, or cannot be."""

    __slots__ = ("acknowledged", "events")

    def __init__(self, events: tuple[Event, ...], acknowledged: asyncio.Future[None]) -> None:
        """Say what its log begins with, and who is told."""
        self.events = events
        self.acknowledged = acknowledged


class Signal:
    """A signal on its way; ``acknowledged`` is settled once it is in the log, or cannot be."""

    __slots__ = ("acknowledged", "id", "key", "may_be_known", "name", "payload")

    def __init__(
        self,
        signal_id: str,
        name: str,
        payload: bytes,
        acknowledged: asyncio.Future[None],
        *,
        again: bool,
        key: str = "",
    ) -> None:
        """Keep what is sent, who is told, and whether an actor that has ended may have taken it."""
        self.may_be_known = again or bool(key)
        self.key = key
        self.id = signal_id
        self.name = name
        self.payload = payload
        self.acknowledged = acknowledged


class Update:
    """A request on its way; ``acknowledged`` is settled with its reply, or why there is none."""

    __slots__ = ("acknowledged", "id", "input", "name")

    def __init__(
        self, request: str, name: str, data: bytes, acknowledged: asyncio.Future[UpdateCompleted]
    ) -> None:
        """Keep what is asked for, and who is told."""
        self.id = request
        self.name = name
        self.input = data
        self.acknowledged = acknowledged


class Unasked:
    """Whoever has made a request waits for its reply no longer."""

    __slots__ = ("request",)

    def __init__(self, request: Update) -> None:
        """Say which request."""
        self.request = request


class ControlRequest:
    """What an operator wants; ``acknowledged`` is settled once it is in the log, or refused."""

    __slots__ = ("acknowledged", "control", "grace_s", "reason")

    def __init__(
        self, control: Control, acknowledged: asyncio.Future[None], *, reason: str, grace_s: float
    ) -> None:
        """Say what is wanted and why, and how long the code may take to end."""
        self.control = control
        self.acknowledged = acknowledged
        self.reason = reason
        self.grace_s = grace_s


class Rung:
    """An alarm of the workflow has gone off."""

    __slots__ = ("alarm",)

    def __init__(self, alarm: Alarm) -> None:
        """Say which."""
        self.alarm = alarm


class Due:
    """A timer of the code, or the wait before an attempt, is over."""

    __slots__ = ("is_timer", "op", "run")

    def __init__(self, op: int, run: int, *, is_timer: bool) -> None:
        """Say whose time has come, in which run, and which of the two it is."""
        self.op = op
        self.run = run
        self.is_timer = is_timer


class Poisoned:
    """Word to the actor that its workflow has killed the process, so many times in a row."""

    __slots__ = ("deaths",)

    def __init__(self, deaths: int) -> None:
        """Say how often."""
        self.deaths = deaths


class Beat:
    """A heartbeat of a step whose details are to be recorded."""

    __slots__ = ("details", "op")

    def __init__(self, op: int, details: bytes) -> None:
        """Say which step, and what it said."""
        self.op = op
        self.details = details


class ChildNews:
    """What has become of a child: started, or ended; None for one that never was."""

    __slots__ = ("call", "event")

    def __init__(self, call: ChildCall, event: Event | None) -> None:
        """Say whose news, and what is to be recorded of it."""
        self.call = call
        self.event = event


class ChildrenRest:
    """All that is left to do for the children is to wait for their ends, so the workflow may rest."""


class Renewed:
    """A new run has begun; what its code asks for is to be seen to."""


class Leave:
    """Word to the actor that it is to leave memory, if its workflow still rests."""


class Dropped:
    """A step that the code waits for no longer has let go."""

    __slots__ = ("op",)

    def __init__(self, op: int) -> None:
        """Say which step."""
        self.op = op


def acknowledge(messages: Iterable[object]) -> None:
    """Tell the senders that what they asked for is in the log."""
    for message in messages:
        if isinstance(message, _ACKNOWLEDGED) and not message.acknowledged.done():
            message.acknowledged.set_result(None)


def refuse(messages: Iterable[object], error: BaseException) -> None:
    """Tell the senders that nobody knows whether what they asked for is in the log.

    Where this life is over and the store is well, they look by themselves.
    """
    if not isinstance(error, StoreError) or isinstance(error, ConflictError):
        return
    for message in messages:
        if isinstance(message, Signal | Update | ControlRequest):
            reject(message.acknowledged, error)


def reject(acknowledged: asyncio.Future[Any], error: BaseException) -> None:
    """Tell one sender, who may have gone, that nothing comes of it."""
    if not acknowledged.done():
        acknowledged.set_exception(error)


_ACKNOWLEDGED = (Signal, ControlRequest, Begin)
