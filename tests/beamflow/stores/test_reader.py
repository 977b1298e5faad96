"""Looking into a store: all that is open, with nothing left behind but SQLite's files."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest
from msgspec import Raw

from beamflow import DefinitionError, StoreUnavailableError, WorkflowState
from beamflow.events import DeadLettered, Failure, WorkflowCompleted, WorkflowStarted
from beamflow.model.events import DeadLetterReason, WorkflowPaused
from beamflow.model.ids import DEAD_LETTERS
from beamflow.stores import sqlite
from beamflow.stores.sqlite import SQLiteReader, SQLiteStore
from beamflow.stores.url import open_reader
from beamflow.testing.store_suite import ServedStore, StoreClock

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 25


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """Some workflows: one in five ended, one in five parked, the others running."""
    path = tmp_path / "app.db"
    clock = StoreClock()
    served = ServedStore(SQLiteStore(path, clock=clock))
    await served.start()
    store = served.store
    lease = await store.claim("me", 30)
    for number in range(COUNT):
        events = [WorkflowStarted(workflow="w", version=number, input=Raw(b"[]"))]
        await store.append(f"{number}", 0, events, time=100 - number, epoch=lease.epoch)
        if number % 5 == 0:
            end = [WorkflowCompleted(result=Raw(b"1"))]
            await store.append(f"{number}", 1, end, time=101, epoch=lease.epoch)
    for number in range(1, COUNT, 5):
        letter = DeadLettered(
            workflow_id=f"{number}",
            workflow="w",
            reason=DeadLetterReason.POISON,
            error=Failure(type="x", message="y"),
        )
        await store.append(DEAD_LETTERS, number // 5, [letter], time=102, epoch=lease.epoch)
    await served.stop()
    return path


async def unfinished(path: Path) -> list[tuple[str, WorkflowState]]:
    async with SQLiteReader(path) as reader:
        return [(one.id, one.state) async for one in reader.unfinished()]


async def test_all_that_is_open_is_seen_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order of start, over any number of pages."""
    whole = await unfinished(file)
    assert whole == [
        (f"{number}", WorkflowState.PARKED if number % 5 == 1 else WorkflowState.RUNNING)
        for number in reversed(range(COUNT))
        if number % 5
    ]
    for limit in (1, 2, 7):
        monkeypatch.setattr(sqlite.reader, "LIMIT_MAX", limit)
        assert await unfinished(file) == whole


async def test_an_engine_may_write_meanwhile(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stays open is seen once, whatever state it moves to; nothing of the writer is held up."""
    monkeypatch.setattr(sqlite.reader, "LIMIT_MAX", 3)
    whole = {one for one, _ in await unfinished(file)}
    served = ServedStore(SQLiteStore(file, clock=StoreClock()))
    async with SQLiteReader(file) as reader:
        await served.start()
        lease = await served.store.claim("me", 30)
        seen: list[str] = []
        async for one in reader.unfinished():
            if not seen:
                end = [WorkflowCompleted(result=Raw(b"1"))]
                await served.store.append("2", 1, end, time=200, epoch=lease.epoch)
                for paused in ("3", "4", "23"):
                    events = [WorkflowPaused()]
                    await served.store.append(paused, 1, events, time=200, epoch=lease.epoch)
            seen.append(one.id)
            with contextlib.closing(sqlite3.connect(file)) as other:
                ((busy, *_),) = other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                assert not busy
        assert len(await reader.read("2")) == 2
        await served.stop()
    assert sorted(seen) == sorted(whole - {"2"})


async def test_what_a_killed_engine_has_left_stays_as_it_is(tmp_path: Path) -> None:
    """Its write-ahead log is read, and not moved into the file: that is the next engine's part."""
    served = ServedStore(SQLiteStore(tmp_path / "app.db", clock=StoreClock()))
    await served.start()
    lease = await served.store.claim("me", 30)
    started = [WorkflowStarted(workflow="w", version=1, input=Raw(b"[]"))]
    await served.store.append("one", 0, started, time=1, epoch=lease.epoch)
    left = tmp_path / "left"
    left.mkdir()
    for name in ("app.db", "app.db-wal"):
        (left / name).write_bytes((tmp_path / name).read_bytes())
    await served.stop()
    before = [file.read_bytes() for file in (left / "app.db", left / "app.db-wal")]
    assert before[1]
    assert await unfinished(left / "app.db") == [("one", WorkflowState.RUNNING)]
    assert [file.read_bytes() for file in (left / "app.db", left / "app.db-wal")] == before


async def test_it_cannot_write(file: Path) -> None:
    """SQLite itself refuses, whatever the statement."""
    async with SQLiteReader(file) as reader:
        assert reader._connection is not None
        with pytest.raises(StoreUnavailableError, match="cannot be written"):
            await reader._row("DELETE FROM beamflow_events RETURNING 1", {})


async def test_it_leaves_no_thread_when_it_cannot_look(tmp_path: Path) -> None:
    """Neither for a file that is not there nor for one that is something else."""
    before = set(threading.enumerate())
    odd = tmp_path / "odd.db"
    odd.write_bytes(b"no database at all, and long enough to be looked at" * 100)
    for path in (tmp_path / "none.db", odd, tmp_path):
        with pytest.raises((StoreUnavailableError, ValueError)):
            async with SQLiteReader(path):
                pass
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before
    assert not (tmp_path / "none.db").exists()


async def test_it_is_used_while_it_is_open(file: Path) -> None:
    """Not before, and not after."""
    reader = SQLiteReader(file)
    with pytest.raises(StoreUnavailableError, match="not open"):
        await reader.read("1")


@pytest.mark.parametrize("url", ["memory://", "redis://x", "sqlite://x", "sqlite:///", 3])
def test_a_url_that_nobody_else_can_see_is_refused(url: str) -> None:
    """A store in memory is its engine's alone."""
    with pytest.raises(DefinitionError):
        open_reader(url)
