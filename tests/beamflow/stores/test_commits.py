"""The line in front of the writer: it has a bound, and whoever comes to a full one waits in turn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow.errors import ConflictError, PayloadError, StoreUnavailableError
from beamflow.model.events import WorkflowPaused
from beamflow.stores.sqlite import SQLiteStore
from beamflow.testing.store_suite import ServedStore, StoreClock
from beamflow.testing.store_suite.samples import START, stepped
from supervision.testing import ManualClock, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from beamflow.stores.base import Lease

BOUND = 100_000
LARGE = 10_000
COMMIT_S = 0.05


class SlowDisk:
    """Makes each commit of a store take 50 ms of a clock that the test moves."""

    def __init__(self, store: SQLiteStore, clock: ManualClock) -> None:
        writer: Any = store._writer
        self._execute = writer.execute_fetchall
        writer.execute_fetchall = self
        self._clock = clock
        self.committed = asyncio.Event()
        self.commits = 0
        self.begun: Callable[[], object] = lambda: None

    async def __call__(self, sql: str, parameters: Any = None) -> Any:
        if "beamflow_journal" not in sql:
            return await self._execute(sql, parameters)
        self.begun()
        await self._clock.sleep(COMMIT_S)
        try:
            return await self._execute(sql, parameters)
        finally:
            self.commits += 1
            self.committed.set()

    async def turn(self) -> None:
        """Let the commit in flight come to its end."""
        await settle()
        self.committed.clear()
        await self._clock.advance(COMMIT_S)
        await self.committed.wait()
        await settle()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedStore]:
    """A store whose line is short."""
    store = SQLiteStore(tmp_path / "app.db", clock=StoreClock(), queue_bytes_max=BOUND)
    served = ServedStore(store)
    await served.start()
    yield served
    await served.stop()


def large(number: int = 0) -> Any:
    """Make an event of ten kilobytes."""
    return stepped(number, b'"%s"' % (b"x" * LARGE))


async def test_a_slow_disk_lets_no_more_wait_than_the_bound(
    store: SQLiteStore, lease: Lease
) -> None:
    """With 50 ms a commit, four megabytes of appends never lie in line: a tenth of one does."""
    disk = SlowDisk(store, ManualClock())
    acknowledged: list[int] = []

    async def append(number: int) -> None:
        await store.append(f"{number}", 0, [large()], time=START, epoch=lease.epoch)
        acknowledged.append(number)

    appends = [asyncio.create_task(append(number)) for number in range(400)]
    peak = 0
    while len(acknowledged) < len(appends):
        async with asyncio.timeout(10):
            await disk.turn()
        assert store._commits.waiting_bytes <= BOUND + LARGE + 1_000
        peak = max(peak, store._commits.waiting_bytes)
    assert peak > BOUND / 2
    assert disk.commits > 4 * 1024 * 1024 / (2 * BOUND)
    assert acknowledged == list(range(400)), "in the order in which they came"
    assert store._commits.waiting_bytes == 0


async def test_whoever_is_cancelled_in_front_of_a_full_line_takes_no_room(
    store: SQLiteStore, lease: Lease
) -> None:
    """What waits behind comes in all the same, also when the one whose turn it is goes away."""
    disk = SlowDisk(store, ManualClock())
    appends = [
        asyncio.create_task(store.append(f"{n}", 0, [large()], time=START, epoch=lease.epoch))
        for n in range(60)
    ]

    def cancel_the_one_just_let_in() -> None:
        if len(store._commits._outside) in range(1, 30):
            appends[len(appends) - len(store._commits._outside) - 1].cancel()

    disk.begun = cancel_the_one_just_let_in
    async with asyncio.timeout(10):
        while not all(task.done() for task in appends):
            await disk.turn()
    cancelled = [n for n, task in enumerate(appends) if task.cancelled()]
    assert cancelled
    for number, task in enumerate(appends):
        assert len(await store.read(f"{number}")) == (not task.cancelled())


async def test_what_cannot_be_written_takes_no_room(store: SQLiteStore, lease: Lease) -> None:
    """Whoever stands behind it in front of a full line comes in all the same, and is written."""
    disk = SlowDisk(store, ManualClock())
    bad = WorkflowPaused(note="\ud800")
    appends = [
        asyncio.create_task(store.append(f"{n}", 0, [event], time=START, epoch=lease.epoch))
        for n, event in enumerate([*[large()] * 20, *[bad] * 20, large()])
    ]
    async with asyncio.timeout(10):
        while not all(task.done() for task in appends):
            await disk.turn()
    refused = [isinstance(task.exception(), PayloadError) for task in appends]
    assert refused == [*[False] * 20, *[True] * 20, False]


async def test_those_in_front_of_a_full_line_hear_of_a_failure(
    served: ServedStore, store: SQLiteStore, lease: Lease
) -> None:
    """Whoever waits for room when the store ends is told, as those in line are; nobody hangs."""
    SlowDisk(store, ManualClock())
    appends = [
        asyncio.create_task(store.append(f"{n}", 0, [large()], time=START, epoch=lease.epoch))
        for n in range(60)
    ]
    await settle()
    assert store._commits.is_full
    await served.stop()
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailableError}
    await served.start()
    assert not store._commits.is_full


async def test_whoever_is_let_in_as_the_store_fails_hears_of_it(
    store: SQLiteStore, lease: Lease
) -> None:
    """There is nobody any more who would see to what is put in line."""
    disk, commits = SlowDisk(store, ManualClock()), store._commits
    disk.begun = lambda: commits.fail(commits.unusable("the test has said so"))
    appends = [
        asyncio.create_task(store.append(f"{n}", 0, [large()], time=START, epoch=lease.epoch))
        for n in range(60)
    ]
    await settle()
    assert all(task.done() for task in appends)
    assert {type(task.exception()) for task in appends} == {StoreUnavailableError}


async def test_refusals_give_their_room_back(store: SQLiteStore, lease: Lease) -> None:
    """Appends that are refused leave no trace in the count."""
    outcomes = await asyncio.gather(
        *(
            store.append("one", number % 2, [large()], time=START, epoch=lease.epoch)
            for number in range(50)
        ),
        return_exceptions=True,
    )
    assert {type(outcome) for outcome in outcomes} == {type(None), ConflictError}
    assert store._commits.waiting_bytes == 0


async def test_an_append_larger_than_the_line(store: SQLiteStore, lease: Lease) -> None:
    """One that is larger than the bound gets in by itself."""
    huge = stepped(1, b'"%s"' % (b"x" * (3 * BOUND)))
    async with asyncio.timeout(10):
        await asyncio.gather(
            *(store.append(f"{n}", 0, [huge], time=START, epoch=lease.epoch) for n in range(5))
        )
    assert (await store.read("4"))[0].event == huge
