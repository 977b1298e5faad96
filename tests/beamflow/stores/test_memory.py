"""What the memory store promises beyond the port."""

from __future__ import annotations

import asyncio
import threading

from msgspec import Raw

from beamflow.model.events import StepCompleted
from beamflow.stores.base import DeadLetterQuery, WorkflowQuery
from beamflow.stores.memory import MemoryStore
from beamflow.testing.store_suite import ServedStore, StoreClock
from beamflow.testing.store_suite.samples import START, failed, started, stepped


async def test_it_keeps_bytes() -> None:
    """What is read is decoded anew, so nothing lives on that a file would not have kept."""
    served = ServedStore(MemoryStore(clock=StoreClock()))
    await served.start()
    lease = await served.store.claim("me", 1)
    event = stepped(1, b'{"a":1}')
    await served.store.append("one", 0, [event], time=START, epoch=lease.epoch)
    (record,) = await served.store.read("one")
    assert record.event == event
    assert record.event is not event
    assert isinstance(record.event, StepCompleted)
    assert isinstance(record.event.result, Raw)
    await served.stop()


async def test_an_append_is_done_when_it_returns() -> None:
    """It needs nobody to serve it, no thread, and not a single turn of the loop."""
    store = MemoryStore(clock=StoreClock())
    await store.open()
    lease = await store.claim("me", 1)
    threads = threading.active_count()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    for number in range(100):
        await store.append(f"{number}", 0, [started()], time=START, epoch=lease.epoch)
    assert turns == 0
    assert threading.active_count() == threads
    counter.cancel()
    await store.close()


async def test_lost_indexes_are_derived_again() -> None:
    """In the order in which the events were committed, whatever their streams."""
    store = MemoryStore(clock=StoreClock())
    await store.open()
    lease = await store.claim("me", 1)
    for one in ("b", "a"):
        for seq, event in enumerate([started(tags=["x"]), failed()]):
            await store.append(one, seq, [event], time=START, epoch=lease.epoch)
    found = await store.find(WorkflowQuery(tags=("x",)))
    letters = await store.dead_letters(DeadLetterQuery())
    assert (len(found.items), len(letters.items)) == (2, 2)
    store._summaries.clear()
    store._starts.clear()
    store._letters.clear()
    await store.rebuild()
    assert await store.find(WorkflowQuery(tags=("x",))) == found
    assert await store.dead_letters(DeadLetterQuery()) == letters
    await store.close()
