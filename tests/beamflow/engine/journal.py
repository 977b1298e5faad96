"""A store that remembers its appends, so that a crash after any of them can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow.events import Event
    from beamflow.stores.base import Sleep
    from supervision.testing import ManualClock


class Journal(MemoryStore):
    """Keeps all streams, and its appends in order."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=lambda: int(clock.now() * 1_000_000))
        self.appends: list[tuple[str, int, Sequence[Event], int]] = []

    async def append(
        self,
        stream: str,
        expected: int,
        events: Sequence[Event],
        *,
        time: int,
        epoch: int,
        sleep: Sleep | None = None,
    ) -> None:
        await super().append(stream, expected, events, time=time, epoch=epoch, sleep=sleep)
        self.appends.append((stream, expected, tuple(events), time))

    async def cut(self, appends: int, clock: ManualClock) -> Journal:
        """Return a store that holds the first so many appends, and no more."""
        store = Journal(clock)
        await store.open()
        lease = await store.claim("whoever was killed", 1)
        for stream, expected, events, time in self.appends[:appends]:
            await store.append(stream, expected, events, time=time, epoch=lease.epoch)
        await store.close()
        return store
