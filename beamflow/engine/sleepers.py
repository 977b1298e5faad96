"""The duty that wakes sleeping workflows when their time has come.

Who sleeps stands in the store. Only those that are to be woken within the next hour are known here,
and no more than a number that fits into memory: the others are looked up in time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING

from beamflow.stores.base import LIMIT_MAX, NEVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container

    from beamflow.engine.timers import TimerEntry, TimerQueue
    from beamflow.stores.base import Place, Wakeups

__all__ = ["Sleepers"]

AHEAD = 3_600_000_000
"""How far ahead they are looked up, microseconds."""
KNOWN_MAX = 100_000
_FIRST = (0, "")


class Sleepers:
    """Knows who is to be woken next, and has it woken.

    Args:
        store: where it stands who sleeps.
        timers: callbacks of the wall clock.
        now: the wall clock's time, microseconds since the epoch.
        actors: the workflows in memory.
        most: how many sleepers are known here at a time.
    """

    def __init__(
        self,
        store: Wakeups,
        timers: TimerQueue,
        now: Callable[[], int],
        actors: Container[str],
        most: int = KNOWN_MAX,
    ) -> None:
        """Begin with nobody known."""
        self._store = store
        self._timers = timers
        self._now = now
        self._actors = actors
        self._most = most
        self._known: dict[str, int] = {}
        self._heap: list[Place] = []
        self._known_to: Place = _FIRST
        """Whoever is to be woken up to this place is known."""
        # a dict goes through all that was taken out of it to find its first
        self._due: OrderedDict[str, bool] = OrderedDict()
        self._alarm: TimerEntry | None = None
        self._look: TimerEntry | None = None
        self._is_to_look = True
        self._is_cut_short = False
        self._news = asyncio.Event()

    # For the actors

    def slept(self, workflow_id: str, until: int) -> None:
        """Take note of one who has left memory; the store has it already."""
        if until >= NEVER:
            return
        if (until, workflow_id) <= self._known_to:
            self._hold(workflow_id, until)
        else:
            self._look_at(until - AHEAD)

    def woke(self, workflow_id: str) -> None:
        """Forget one who is in memory again."""
        self._due.pop(workflow_id, None)
        if self._known.pop(workflow_id, None) is not None:
            self._look_for_more()

    def wake(self, workflow_id: str) -> None:
        """Have one woken that something has happened to, if it can still go on."""
        if workflow_id not in self._actors:
            self._due[workflow_id] = True
            self._news.set()

    # The duty

    async def run(self, wake: Callable[[str, bool], Awaitable[None]]) -> None:
        """Wake whoever's time comes, for ever.

        Args:
            wake: brings one into memory; whether it has to be seen first that it can go on.

        Raises:
            StoreError: it cannot be read who sleeps.
        """
        self.close()
        self._news = asyncio.Event()
        while True:
            if self._is_to_look:
                self._is_to_look = False
                await self._look_up()
            elif self._due:
                await wake(*self._due.popitem(last=False))
            else:
                self._news.clear()
                await self._news.wait()

    def close(self) -> None:
        """Forget who is to be woken by time; they are looked up anew."""
        for entry in (self._alarm, self._look):
            if entry is not None:
                entry.cancel()
        self._alarm = self._look = None
        self._known.clear()
        self._heap.clear()
        self._known_to = _FIRST
        self._is_to_look = True
        self._is_cut_short = False

    # Behind it

    async def _look_up(self) -> None:
        """Read who is to be woken soon; then look at when to read again."""
        horizon = self._now() + AHEAD, ""
        while self._known_to < horizon:
            room = min(self._most // 2 - len(self._known), LIMIT_MAX)
            if room <= 0:
                self._is_cut_short = True
                return  # until most of those who are known have been woken
            after, self._known_to = self._known_to, horizon  # who sleeps meanwhile tells us
            found = await self._store.sleepers(after, horizon[0], limit=room)
            if len(found) == room:
                self._known_to = found[-1]
            for until, workflow_id in found:
                if workflow_id not in self._actors:
                    self._hold(workflow_id, until)
        for until, _ in await self._store.sleepers(self._known_to, NEVER, limit=1):
            self._look_at(until - AHEAD)

    def _look_at(self, time: int) -> None:
        if self._look is None or time < self._look.due:
            if self._look is not None:
                self._look.cancel()
            self._look = self._timers.at(time, self._have_looked_up)

    def _have_looked_up(self) -> None:
        self._look = None
        self._is_to_look = True
        self._news.set()

    def _hold(self, workflow_id: str, until: int) -> None:
        if self._known.get(workflow_id) == until:
            return
        self._known[workflow_id] = until
        heapq.heappush(self._heap, (until, workflow_id))
        if len(self._heap) > 2 * self._most or len(self._known) > self._most:
            self._keep_the_first()
        self._set_alarm()

    def _keep_the_first(self) -> None:
        """Let go of who is known and comes late, and of entries that are out of date."""
        self._heap = sorted((until, key) for key, until in self._known.items())
        if len(self._heap) > self._most:
            del self._heap[self._most // 2 :]
            self._known = {key: until for until, key in self._heap}
            self._known_to = self._heap[-1]
            self._is_cut_short = True

    def _set_alarm(self) -> None:
        heap = self._heap
        while heap and self._known.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        if not heap:
            return
        due = heap[0][0]
        if self._alarm is None or due < self._alarm.due:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = self._timers.at(due, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now, heap = self._now(), self._heap
        while heap and heap[0][0] <= now:
            until, workflow_id = heapq.heappop(heap)
            if self._known.get(workflow_id) == until:
                del self._known[workflow_id]
                self._due.setdefault(workflow_id, False)
        self._set_alarm()
        self._look_for_more()
        self._news.set()

    def _look_for_more(self) -> None:
        """Look up those who come after the ones who are known, where there was no room for them."""
        if self._is_cut_short and len(self._known) <= self._most // 4:
            self._is_cut_short = False
            self._is_to_look = True
            self._news.set()
