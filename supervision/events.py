"""What a tree tells its observer.

Plain facts, no refs, so that they can be kept, compared and sent away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "DeadLetter",
    "Event",
    "Exited",
    "GaveUp",
    "LoopBlocked",
    "Observer",
    "Restarted",
    "ShutdownError",
    "StartFailed",
    "Started",
    "StillStopping",
    "TaskFailed",
    "ThreadLeft",
    "Zombie",
]


@dataclass(frozen=True, slots=True)
class Event:
    """What all events have.

    Attributes:
        path: The place in the tree of the child it is about.
        incarnation: Which life of that child; grows with every start in the tree.
    """

    path: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Started(Event):
    """A child came up for the first time."""


@dataclass(frozen=True, slots=True)
class Restarted(Event):
    """A child came up again after its supervisor restarted it.

    Attributes:
        restarts: How often this child has been restarted by now.
    """

    restarts: int


@dataclass(frozen=True, slots=True)
class StartFailed(Event):
    """A child did not come up.

    Attributes:
        reason: Why.
        retrying: Whether its supervisor will try again.
    """

    reason: object
    retrying: bool


@dataclass(frozen=True, slots=True)
class Exited(Event):
    """A child ended, whoever wanted it.

    Attributes:
        reason: The exit reason.
        requested: Whether it had been asked to.
    """

    reason: object
    requested: bool


@dataclass(frozen=True, slots=True)
class ShutdownError(Event):
    """A child that was asked to stop ended with another reason than it should have.

    Attributes:
        reason: The reason it ended with.
    """

    reason: object


@dataclass(frozen=True, slots=True)
class StillStopping(Event):
    """A child with an infinite budget has not stopped yet; told again and again.

    Attributes:
        waited_s: For how long its supervisor has been waiting.
        stack: Where its task stands, one line for each frame.
    """

    waited_s: float
    stack: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Zombie(Event):
    """A child refused to end and was dropped from the tree; it may still run.

    Attributes:
        zombies: How many there are now.
    """

    zombies: int


@dataclass(frozen=True, slots=True)
class GaveUp(Event):
    """A supervisor needed more restarts than it may do and stops itself.

    Attributes:
        child_id: The child whose restart was one too many.
        reason: The last exit reason of that child.
    """

    child_id: object
    reason: object


@dataclass(frozen=True, slots=True)
class DeadLetter(Event):
    """A message reached nobody.

    Attributes:
        message: The message.
        why: ``"noproc"``, ``"full"``, ``"stopped"``, ``"unhandled"`` or ``"unpicklable"``.
    """

    message: object
    why: str


@dataclass(frozen=True, slots=True)
class TaskFailed(Event):
    """A task which an actor had spawned failed while the actor was ending.

    Attributes:
        error: Its exception.
    """

    error: BaseException


@dataclass(frozen=True, slots=True)
class LoopBlocked(Event):
    """Something did not let the loop turn; told by a `Watchdog`. The path is empty when it was no task.

    Attributes:
        blocked_s: For how long, by the machine's clock.
        stack: Where it stood, one line for each frame, the innermost last.
    """

    blocked_s: float
    stack: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ThreadLeft(Event):
    """An actor stopped waiting for a blocking function, whose thread goes on.

    Attributes:
        function: Its name.
    """

    function: str


Observer = Callable[[Event], object]
"""Called with each event, in the loop, at once.

It must be quick; what it raises goes to the loop's handler.
"""
