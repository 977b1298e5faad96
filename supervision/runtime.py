"""What all members of one tree share: loop, clock, observer, incarnation numbers, zombies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from supervision.clock import Clock
    from supervision.events import Event, Observer

__all__ = ["Runtime"]


class Runtime:
    """One per tree, made with its root.

    Attributes:
        loop: The event loop of the whole tree.
        clock: Where the tree's time comes from.
        observer: Who hears of events, if anybody does. Test it before you make an event.
        chance: Gives random numbers in [0, 1), for jitter.
        zombies: What refused to end and still runs; held here so that it is never collected.
    """

    __slots__ = ("_incarnations", "chance", "clock", "loop", "observer", "zombies")

    def __init__(
        self,
        loop: AbstractEventLoop,
        clock: Clock,
        observer: Observer | None,
        chance: Callable[[], float],
    ) -> None:
        """Share these.

        Args:
            loop: The running event loop.
            clock: Where the tree's time comes from.
            observer: Who hears of events.
            chance: Gives random numbers in [0, 1).
        """
        self.loop = loop
        self.clock = clock
        self.observer = observer
        self.chance = chance
        self.zombies: set[object] = set()
        self._incarnations = 0

    def next_incarnation(self) -> int:
        """Mint the number of a new life: greater than all before it, so it can fence them off."""
        self._incarnations += 1
        return self._incarnations

    def tell(self, event: Event) -> None:
        """Give an event to the observer.

        What it raises is reported to the loop and goes no further.
        """
        if self.observer is None:
            return
        try:
            self.observer(event)
        except Exception as error:
            self.loop.call_exception_handler(
                {"message": f"supervision: the observer failed on {event!r}", "exception": error}
            )
