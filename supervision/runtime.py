"""What all members of one tree share: loop, clock, observer, incarnation numbers, zombies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from supervision.clock import Clock
    from supervision.events import Event, Observer

__all__ = ["Around", "Handle", "Kind", "Runtime"]

Kind = Literal["call", "cast", "info", "body"]
"""What is handled: a message by its callback, or the whole body of a function child."""
Handle = Callable[[], Awaitable[object]]
"""The callback itself; gives what it returns."""


class Around(Protocol):
    """Stands around every `handle_call`, `handle_cast` and `handle_info`, and every child function.

    What it returns is taken for what the callback returned, what it raises for what the callback
    raised. It runs in the actor's task, with the message as the current one.
    """

    async def __call__(self, ref: Any, kind: Kind, message: object, handle: Handle) -> object:
        """Await ``handle()``, before and after whatever there is to do.

        Args:
            ref: The actor's `ActorRef`.
            kind: What is handled.
            message: The message; None for a body.
            handle: The callback.
        """


class Hasty(Protocol):
    """A stop that is under way."""

    def hurry(self) -> None:
        """Cut the budgets to what the runtime says."""


class Runtime:
    """One per tree, made with its root.

    Attributes:
        loop: The event loop of the whole tree.
        clock: Where the tree's time comes from.
        observer: Who hears of events, if anybody does. Test it before you make an event.
        chance: Gives random numbers in [0, 1), for jitter.
        around: What stands around every callback, if anything does.
        root: The cell of the root, once that is launched.
        zombies: What refused to end and still runs; held here so that it is never collected.
        leftovers: Threads that run on though nobody waits for them.
        ladders: The stops that are under way.
        hurry_s: What every budget is cut to once the tree is in a hurry.
        max_zombies: How many of those there may be before a supervisor gives up.
    """

    __slots__ = (
        "_incarnations",
        "around",
        "chance",
        "clock",
        "hurry_s",
        "ladders",
        "leftovers",
        "loop",
        "max_zombies",
        "observer",
        "root",
        "zombies",
    )

    def __init__(
        self,
        loop: AbstractEventLoop,
        clock: Clock,
        observer: Observer | None,
        chance: Callable[[], float],
        around: Around | None = None,
    ) -> None:
        """Share these.

        Args:
            loop: The running event loop.
            clock: Where the tree's time comes from.
            observer: Who hears of events.
            chance: Gives random numbers in [0, 1).
            around: What stands around every callback.
        """
        self.loop = loop
        self.clock = clock
        self.observer = observer
        self.chance = chance
        self.around = around
        self.root: Any = None
        self.zombies: set[object] = set()
        self.leftovers: dict[object, Event] = {}
        self.ladders: set[Hasty] = set()
        self.hurry_s: float | None = None
        self.max_zombies: int | None = None
        self._incarnations = 0

    def next_incarnation(self) -> int:
        """Mint the number of a new life: greater than all before it, so it can fence them off."""
        self._incarnations += 1
        return self._incarnations

    def hurry(self, seconds: float) -> None:
        """Cut all budgets, of the stops that are under way and of those to come."""
        self.hurry_s = seconds
        for ladder in tuple(self.ladders):
            ladder.hurry()

    def tell(self, event: Event) -> None:
        """Give an event to the observer.

        What it raises is reported to the loop and goes no further.
        """
        if self.observer is None:
            return
        try:
            self.observer(event)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self.report(f"the observer failed on {event!r}", error)

    def report(self, what: str, error: BaseException) -> None:
        """Give the loop's exception handler an error of code that must not disturb the tree."""
        self.loop.call_exception_handler({"message": f"supervision: {what}", "exception": error})
