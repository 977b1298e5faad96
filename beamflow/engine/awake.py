"""The workflows in memory: how many there may be at a time, and who leaves first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from beamflow.engine.messages import Leave
from beamflow.errors import EngineFullError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervision import ActorRef, Clock
    from supervision.clock import Timer

__all__ = ["AWAKE_MAX", "IDLE_AFTER_S", "Awake"]

AWAKE_MAX = 20_000
IDLE_AFTER_S = 60.0
_SHORT_REST = 1_000_000
"""Microseconds; who rests no longer than that does not leave just to make the place less crowded."""


class Awake:
    """Bounds the workflows in memory.

    A workflow whose code waits for nothing but time, messages and children rests. Who has rested for
    a while is asked to leave, and while there are many, whoever comes to a longer rest leaves at
    once. Where all places are taken those who have rested longest are asked first.

    Places are given in the order in which they were asked for. What has to go on lest others stand
    still (a child, a message to one who sleeps) asks for none: the bound is one for what could wait.

    Args:
        clock: where time comes from.
        actors: the workflows in memory, by id.
        most: how many there may be.
        idle_after_s: how long one may rest; None for as long as there is room.
    """

    def __init__(
        self,
        clock: Clock,
        actors: Mapping[str, ActorRef],
        most: int = AWAKE_MAX,
        idle_after_s: float | None = IDLE_AFTER_S,
    ) -> None:
        """Begin with none."""
        self._clock = clock
        self._actors = actors
        self._most = self._places = most
        self._crowd = most * 3 // 4
        self._idle_after_s = idle_after_s
        # a dict goes through all that was taken out of it to find its first
        self._resting: OrderedDict[str, tuple[float, ActorRef]] = OrderedDict()
        self._coming = 0
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._sweep: Timer | None = None

    # For the actors

    @property
    def is_crowded(self) -> bool:
        """Whether anybody may have to leave at once."""
        return len(self._actors) > self._crowd or bool(self._waiting) or self._idle_after_s == 0

    @property
    def is_full(self) -> bool:
        """Whether all places are taken."""
        return len(self._actors) + self._coming >= self._places

    def leaves_at_once(self, rest_us: int) -> bool:
        """Tell whether one who comes to a rest of so many microseconds does not wait to be asked."""
        if self._idle_after_s == 0:
            return True
        if self._waiting and not self._resting:
            return True
        return rest_us > _SHORT_REST and len(self._actors) > self._crowd

    def rests(self, workflow_id: str, ref: ActorRef) -> None:
        """Count on this one to leave when it is asked."""
        self._resting.pop(workflow_id, None)
        self._resting[workflow_id] = self._clock.monotonic(), ref
        if self._sweep is None and self._idle_after_s is not None:
            self._sweep = self._clock.call_later(self._idle_after_s, self._look)
        if self._waiting:
            self._ask_longest()

    def works(self, workflow_id: str) -> None:
        """Count on this one no longer."""
        self._resting.pop(workflow_id, None)

    def left(self, workflow_id: str) -> None:
        """Give the place of one that is in memory no more to who waits for it."""
        self._resting.pop(workflow_id, None)
        if self._waiting:
            self._admit()

    # For those who want in

    async def enter(self, *, wait: bool = True, patience_s: float | None = None) -> None:
        """Take a place, for one who is about to come into memory; `entered` gives it back.

        Args:
            wait: whether to wait where all places are taken, and none of those in them rests.
            patience_s: for how long at most, if not for ever; the place is taken all the same then,
                so that what stands still can go on, if slowly.

        Raises:
            EngineFullError: there is none, and this one does not wait.
            EngineStoppedError: the engine has stopped meanwhile.
        """
        if not self._waiting and len(self._actors) + self._coming < self._places:
            self._coming += 1
            return
        if not wait and not self._resting:
            raise EngineFullError(self._most)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[place] = None
        self._ask_longest()
        timer = None
        if patience_s is not None:
            timer = self._clock.call_later(patience_s, self._give, place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.entered()
            raise
        finally:
            self._waiting.pop(place, None)
            if timer is not None:
                timer.cancel()

    def entered(self) -> None:
        """Give a place of `enter` back: whoever it was for is in memory, or does not come."""
        self._coming -= 1
        if self._waiting:
            self._admit()

    # For the engine

    def make_room(self, held: int) -> None:
        """Have a quarter of the places more, at most, while so many wait in theirs for their turn.

        They may do so for long after the death of a process, and others are to go on meanwhile.
        """
        self._places = self._most + min(held, -(-self._most // 4))
        self._admit()

    def begin(self) -> None:
        """Forget who was in memory: they all have gone, with what held them."""
        self._resting.clear()
        self._admit()

    def close(self, error: BaseException) -> None:
        """Ask nobody any more, and tell those who wait that there will be no place."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._resting.clear()
        while self._waiting:
            place, _ = self._waiting.popitem(last=False)
            if not place.done():
                place.set_exception(error)

    # Behind it

    def _admit(self) -> None:
        while self._waiting and len(self._actors) + self._coming < self._places:
            place, _ = self._waiting.popitem(last=False)
            self._give(place)

    def _give(self, place: asyncio.Future[None]) -> None:
        if not place.done():
            self._coming += 1
            place.set_result(None)

    def _ask_longest(self) -> None:
        if self._resting:
            self._ask(next(iter(self._resting)))

    def _ask(self, workflow_id: str) -> None:
        _, ref = self._resting.pop(workflow_id)
        ref.cast(Leave())

    def _look(self) -> None:
        """Ask those to leave who have rested long enough."""
        self._sweep = None
        assert self._idle_after_s is not None
        now = self._clock.monotonic()
        while self._resting:
            workflow_id = next(iter(self._resting))
            left_s = self._resting[workflow_id][0] + self._idle_after_s - now
            if left_s > 0:
                self._sweep = self._clock.call_later(left_s, self._look)
                return
            self._ask(workflow_id)
