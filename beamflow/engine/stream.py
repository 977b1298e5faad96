"""The end of a workflow's log at which its actor writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow.stores.base import AWAKE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from beamflow.engine.services import Services
    from beamflow.model.events import Event, Recorded
    from beamflow.stores.base import Sleep
    from beamflow.stores.transactions import OpenTransaction

__all__ = ["Stream"]


class Stream:
    """Knows where the log ends, and appends there. There is one writer: whoever is in its place.

    Args:
        services: what the engine's actors share.
        workflow_id: which workflow.

    Attributes:
        seq: number of the last event; 0 before the first.
        time: when that was recorded, microseconds.
        sleep: what the store has noted of its sleep; None where that is not known.
    """

    __slots__ = ("_services", "_workflow_id", "seq", "sleep", "time")

    def __init__(self, services: Services, workflow_id: str) -> None:
        """Begin before the first event."""
        self._services = services
        self._workflow_id = workflow_id
        self.seq = 0
        self.time = 0
        self.sleep: Sleep | None = AWAKE

    def begin_after(self, last: Recorded) -> None:
        """Go on behind an event that is there already.

        An earlier life may have had the sleep noted, or be about to: it is noted anew with the first
        append.
        """
        self.seq, self.time = last.seq, last.time
        self.sleep = None

    def next_time(self) -> int:
        """Return the time of what is recorded now: the clock's, and never before what is there."""
        return max(self._services.now(), self.time)

    def append(
        self,
        events: Sequence[Event],
        time: int,
        transaction: OpenTransaction | None = None,
        sleep: Sleep = AWAKE,
    ) -> Awaitable[None]:
        """Append; `advance` once it is durable. With it the workflow sleeps, or is awake.

        Raises:
            ConflictError: the log does not end where it is thought to.
            StoreError: the events may not be in the log.
            PayloadError: the store takes less than they hold.
        """
        services = self._services
        append = services.store.append if transaction is None else transaction.commit
        if self.sleep == sleep:
            return append(self._workflow_id, self.seq, events, time=time, epoch=services.epoch)
        self.sleep = sleep
        return append(
            self._workflow_id, self.seq, events, time=time, epoch=services.epoch, sleep=sleep
        )

    async def fall_asleep(self, sleep: Sleep) -> None:
        """Have the store note that the workflow sleeps; raises `StoreError`."""
        if self.sleep != sleep:
            self.sleep = sleep
            await self._services.store.sleep(self._workflow_id, sleep, epoch=self._services.epoch)

    def advance(self, events: Sequence[Event], time: int) -> None:
        """Take note of events that are durable, and tell those who follow the log."""
        self.seq += len(events)
        self.time = time
        services = self._services
        if services.crashes:
            services.crashes.pop(self._workflow_id, None)
        services.grown(self._workflow_id)

    async def record(self, *events: Event) -> None:
        """Append events that no message and no code has led to; raises like `append`."""
        time = self.next_time()
        await self.append(events, time)
        self.advance(events, time)
