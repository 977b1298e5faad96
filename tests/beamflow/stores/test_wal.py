"""The write-ahead log stays small: under constant load, with constant readers, after a slow one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from beamflow.errors import StoreUnavailableError
from beamflow.stores.base import WorkflowQuery
from beamflow.stores.sqlite import SQLiteStore
from beamflow.stores.sqlite import wal as wal_file
from beamflow.testing.store_suite import ServedStore, StoreClock
from beamflow.testing.store_suite.samples import START, started, stepped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from beamflow.stores.base import Lease

LIMIT = 5 * 1024 * 1024
"""A little above the four megabytes at which SQLite moves pages into the file by itself."""
SLACK = 4 * 1024 * 1024
"""What is written between two looks."""
WRITERS = 20
LARGE = stepped(1, b'"%s"' % (b"x" * 20_000))


@pytest.fixture
async def served(path: Path) -> AsyncIterator[ServedStore]:
    """A store whose log is to stay small."""
    served = ServedStore(SQLiteStore(path, clock=StoreClock(), wal_bytes_max=LIMIT))
    await served.start()
    yield served
    await served.stop()


def size(path: Path) -> int:
    """Return the bytes of the log."""
    return path.with_name(f"{path.name}-wal").stat().st_size


async def write(store: SQLiteStore, lease: Lease, path: Path, rounds: int, first: int = 0) -> int:
    """Append from many sides at once, 400 kB a round; return how large the log was at most."""
    largest = 0

    async def writer(number: int) -> None:
        nonlocal largest
        for seq in range(first, first + rounds):
            event = LARGE if seq else started()
            await store.append(f"{number}", seq, [event], time=START, epoch=lease.epoch)
            largest = max(largest, size(path))

    await asyncio.gather(*(writer(number) for number in range(WRITERS)))
    return largest


class Overlapping:
    """Reads all the time on both connections, so that there is no moment without a reader."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store
        self._stopped = False
        self._open: list[Any] = list(store._readers)
        self.reads = 0

    async def __call__(self) -> None:
        """Begin the next read before the one before has ended, on the other connection."""
        await asyncio.gather(*(self._read(number) for number in range(6)))

    async def _read(self, number: int) -> None:
        while not self._stopped:
            await self._store.read(f"{number % WRITERS}")
            await self._store.find(WorkflowQuery())
            self.reads += 1

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True


async def test_the_log_stays_small_with_constant_readers(
    path: Path, store: SQLiteStore, lease: Lease
) -> None:
    """Twenty megabytes are written while somebody reads at every moment; a few are in the log."""
    readers = Overlapping(store)
    reading = asyncio.create_task(readers())
    largest = await write(store, lease, path, 50)
    readers.stop()
    await reading
    assert largest <= 2 * LIMIT + SLACK
    assert readers.reads


async def test_readers_wait_where_they_never_leave_a_gap(
    path: Path, store: SQLiteStore, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite alone would let it grow: without its own attempts, the look at its size holds it down."""
    assert store._writer is not None
    await store._writer.execute_fetchall("PRAGMA wal_autocheckpoint = 0")
    readers = Overlapping(store)
    reading = asyncio.create_task(readers())
    assert await write(store, lease, path, 60) <= 2 * LIMIT + SLACK
    readers.stop()
    await reading
    with monkeypatch.context() as patch:
        patch.setattr(wal_file, "_BYTES_BETWEEN_LOOKS", 10**12)
        patch.setattr(wal_file, "_COMMITS_BETWEEN_LOOKS", 10**12)
        assert await write(store, lease, path, 60, first=60) > 2 * LIMIT + SLACK


async def test_a_reader_of_somebody_else_is_told_of_and_recovered_from(
    path: Path, store: SQLiteStore, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    """While it reads the log grows and commits go on; a warning says so, not one for each commit."""
    await write(store, lease, path, 2)
    with contextlib.closing(sqlite3.connect(path)) as foreign:
        foreign.execute("BEGIN")
        foreign.execute("SELECT count(*) FROM beamflow_events").fetchall()
        with caplog.at_level(logging.WARNING, "beamflow"):
            grown = await write(store, lease, path, 60, first=2)
        assert grown > 2 * LIMIT
        warned = [record for record in caplog.records if "wal_held_up" in record.getMessage()]
        assert 1 <= len(warned) <= 3
        assert "wal_bytes=" in warned[0].getMessage()
        assert len((await store.find(WorkflowQuery())).items) == WRITERS, "readers read on"
    await write(store, lease, path, 20, first=62)
    assert size(path) <= LIMIT


async def test_readers_that_are_held_back_are_let_go_by_a_failure(
    served: ServedStore, store: SQLiteStore
) -> None:
    """Whoever waits to read when the store ends is refused, and does not wait for ever."""
    store._readers.hold(lambda: None)
    reading = asyncio.create_task(store.find(WorkflowQuery()))
    await asyncio.sleep(0)
    await served.stop()
    with pytest.raises(StoreUnavailableError):
        await reading


async def test_a_transaction_of_a_step_lets_readers_go(store: SQLiteStore, lease: Lease) -> None:
    """They may be its own workflow's, which has to read before the transaction can be over."""
    wal = store._commits._wal
    reading = asyncio.create_task(store.find(WorkflowQuery()))
    await asyncio.sleep(0)
    wal._is_held = True
    store._readers.hold(lambda: None)
    transaction = await store.begin()
    async with asyncio.timeout(10):
        assert (await store.find(WorkflowQuery())).items == ()
    transaction.abandon()
    await reading
