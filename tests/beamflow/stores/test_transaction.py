"""The writer of a SQLite file in the hands of a step, without an engine around it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from beamflow import ConflictError, FencedError, StoreUnavailableError, TransactionError
from beamflow.stores.memory import MemoryStore
from beamflow.stores.sqlite import SQLiteStore
from beamflow.stores.transactions import begin
from beamflow.testing.store_suite.samples import started
from supervision.testing import settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a table of the user's."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (word)")
    return path


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    """A store that is served, under epoch 1."""
    store = SQLiteStore(path, clock=lambda: 0, busy_timeout_s=0)
    await store.open()
    await store.claim("the test", 1000)
    serving = asyncio.create_task(store.serve())
    yield store
    serving.cancel()
    await asyncio.wait({serving})
    await store.close()


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM mine").fetchone()[0])


async def append(store: SQLiteStore, stream: str, expected: int = 0, epoch: int = 1) -> None:
    await store.append(stream, expected, [started()], time=1, epoch=epoch)


async def test_appends_wait_for_the_transaction_and_go_into_later_commits(
    store: SQLiteStore, path: Path
) -> None:
    transaction = await store.begin()
    await transaction.execute("INSERT INTO mine VALUES (1)")
    appending = asyncio.ensure_future(append(store, "other"))
    second = asyncio.ensure_future(store.begin())
    await settle()
    assert (appending.done(), second.done()) == (False, False)
    transaction.seal()
    await transaction.commit("one", 0, [started()], time=1, epoch=1)
    await appending
    assert rows(path) == 1
    (await second).abandon()
    await append(store, "third")
    assert [len(await store.read(stream)) for stream in ("one", "other", "third")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("expected", "epoch", "error"), [(5, 1, ConflictError), (0, 7, FencedError)]
)
async def test_what_cannot_be_appended_takes_the_rows_along(
    store: SQLiteStore, path: Path, expected: int, epoch: int, error: type[Exception]
) -> None:
    """The store goes on; nothing of the transaction is there."""
    transaction = await store.begin()
    await transaction.execute("INSERT INTO mine VALUES (1)")
    with pytest.raises(error):
        await transaction.commit("one", expected, [started()], time=1, epoch=epoch)
    assert rows(path) == 0
    await append(store, "one")
    assert len(await store.read("one")) == 1


async def test_a_database_that_another_process_has_locked_is_not_lent(
    store: SQLiteStore, path: Path
) -> None:
    """Whoever asked is told so; the store is as well as before."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="another process keeps it locked"):
            await store.begin()
        other.execute("ROLLBACK")
    await append(store, "one")


async def test_a_store_that_is_stopped_or_closed_rolls_back(path: Path) -> None:
    """Whoever waits for his turn is told so, and statements that come later are refused."""
    store = SQLiteStore(path, clock=lambda: 0)
    await store.open()
    lease = await store.claim("the test", 1000)
    serving = asyncio.create_task(store.serve())
    transaction = await store.begin()
    await transaction.execute("INSERT INTO mine VALUES (1)")
    waiting = asyncio.ensure_future(store.begin())
    await settle()
    serving.cancel()
    await asyncio.wait({serving})
    with pytest.raises(StoreUnavailableError):
        await waiting
    with pytest.raises(TransactionError, match="is over"):
        await transaction.execute("INSERT INTO mine VALUES (2)")
    with pytest.raises(StoreUnavailableError):
        await transaction.commit("one", 0, [started()], time=1, epoch=1)
    await store.release(lease)
    await store.close()
    assert rows(path) == 0


async def test_whoever_gives_up_before_his_turn_leaves_no_trace(store: SQLiteStore) -> None:
    transaction = await store.begin()
    waiting = asyncio.ensure_future(store.begin())
    await settle()
    waiting.cancel()
    await asyncio.wait({waiting})
    transaction.abandon()
    await append(store, "one")


async def test_a_full_disk_stops_the_store(store: SQLiteStore, path: Path) -> None:
    """As it does when an append meets it."""
    assert store._writer is not None
    await store._writer.execute_fetchall("PRAGMA max_page_count = 1")
    transaction = await store.begin()
    with pytest.raises(StoreUnavailableError, match="disk is full"):
        for _ in range(100):
            await transaction.execute("INSERT INTO mine VALUES (zeroblob(100000))")
    with pytest.raises(StoreUnavailableError):
        await append(store, "one")
    assert rows(path) == 0


async def test_the_memory_store_has_none() -> None:
    with pytest.raises(TransactionError, match="keeps no tables of yours"):
        await begin(MemoryStore(clock=lambda: 0))
