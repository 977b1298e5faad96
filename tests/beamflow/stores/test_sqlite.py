# ruff: noqa: ASYNC220 - a test may wait for the disk
"""What the SQLite store promises beyond the port: about its disk, its commits, its owners."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from beamflow.errors import (
    ConflictError,
    CorruptLogError,
    FencedError,
    PayloadError,
    StoreLockedError,
    StoreUnavailableError,
)
from beamflow.model.codec import checksum
from beamflow.stores.base import DeadLetterQuery, WorkflowQuery
from beamflow.stores.sql import statement
from beamflow.stores.sqlite import SQLiteStore
from beamflow.stores.sqlite.lock import OwnerLock
from beamflow.testing.store_suite import ServedStore, StoreClock
from beamflow.testing.store_suite.samples import START, completed, failed, started, stepped
from tests.beamflow.stores.disk import database

if TYPE_CHECKING:
    from beamflow.model.events import Event
    from beamflow.stores.base import Lease


APPENDER = Path(__file__).with_name("appender.py")


async def pragma(connection: Any, name: str) -> object:
    rows = list(await connection.execute_fetchall(f"PRAGMA {name}"))
    return rows[0][0] if rows else None


class Probe:
    """Counts the statements that the writer is handed."""

    def __init__(self, store: SQLiteStore) -> None:
        self.statements: list[str] = []
        writer: Any = store._writer
        self._execute = writer.execute_fetchall
        writer.execute_fetchall = self

    async def __call__(self, sql: str, parameters: Any = None) -> Any:
        self.statements.append(sql)
        return await self._execute(sql, parameters)


# commits


async def test_appends_at_once_share_a_commit(store: SQLiteStore, lease: Lease) -> None:
    """Whoever appends while a commit is in flight goes into the next one."""
    probe = Probe(store)
    await asyncio.gather(
        *(
            store.append(f"workflow-{number}", 0, [started()], time=START, epoch=lease.epoch)
            for number in range(250)
        )
    )
    assert len(probe.statements) == 1
    await store.append("lone", 0, [started()], time=START, epoch=lease.epoch)
    assert len(probe.statements) == 2


async def test_a_commit_has_a_bound(store: SQLiteStore, lease: Lease) -> None:
    """More appends than a commit takes wait for the next, in their order."""
    probe = Probe(store)
    await asyncio.gather(
        *(
            store.append(f"workflow-{number}", 0, [stepped()], time=START, epoch=lease.epoch)
            for number in range(1100)
        )
    )
    assert len(probe.statements) == 3


async def test_a_refused_append_costs_few_commits(store: SQLiteStore, lease: Lease) -> None:
    """One guilty append among many is found by halving, not by writing each one alone."""
    probe = Probe(store)
    outcomes = await asyncio.gather(
        *(
            store.append(
                f"workflow-{number}", number == 700, [started()], time=START, epoch=lease.epoch
            )
            for number in range(1024)
        ),
        return_exceptions=True,
    )
    assert [number for number, outcome in enumerate(outcomes) if outcome is not None] == [700]
    assert isinstance(outcomes[700], ConflictError)
    assert len(probe.statements) == 21


async def test_an_event_larger_than_sqlite_stores(store: SQLiteStore, lease: Lease) -> None:
    """What no row can hold is refused by itself, with what to do; its neighbours are written."""
    assert store._writer is not None
    writer: Any = store._writer
    await writer._execute(writer._conn.setlimit, sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    large = stepped(1, b'"' + b"x" * 200_000 + b'"')
    outcomes = await asyncio.gather(
        store.append("small", 0, [stepped()], time=START, epoch=lease.epoch),
        store.append("large", 0, [large], time=START, epoch=lease.epoch),
        store.append("other", 0, [stepped()], time=START, epoch=lease.epoch),
        return_exceptions=True,
    )
    assert [outcomes[0], outcomes[2]] == [None, None]
    assert isinstance(outcomes[1], PayloadError)
    assert await store.read("large") == []


async def test_a_full_disk(served: ServedStore, store: SQLiteStore, lease: Lease) -> None:
    """A full disk stops the store in these words and takes nothing that was acknowledged."""
    pages = await pragma(store._writer, "page_count")
    await pragma(store._writer, f"max_page_count = {pages}")
    acknowledged = 0
    large = stepped(1, b'"' + b"x" * 1000 + b'"')
    with contextlib.suppress(StoreUnavailableError):
        while True:
            await store.append("one", acknowledged, [large], time=START, epoch=lease.epoch)
            acknowledged += 1
    await pragma(store._writer, f"max_page_count = {1_000_000}")
    with pytest.raises(StoreUnavailableError, match="disk is full"):
        await store.append("one", acknowledged, [large], time=START, epoch=lease.epoch)
    with pytest.raises(StoreUnavailableError, match="disk is full"):
        await store.renew(lease, 30)
    await served.restart()
    assert len(await store.read("one")) == acknowledged
    await store.append("one", acknowledged, [large], time=START, epoch=lease.epoch)


@pytest.mark.invariant("I34")
async def test_a_failed_write_answers_everybody(
    path: Path, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit's appends, those that wait behind it, and `serve` itself all get the error."""
    store = SQLiteStore(path, clock=clock)
    await store.open()
    lease = await store.claim("me", 30)
    assert store._writer is not None

    async def broken(*_: object) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store._writer, "execute_fetchall", broken)
    appends = [
        asyncio.create_task(
            store.append(f"one-{number}", 0, [stepped()], time=START, epoch=lease.epoch)
        )
        for number in range(1100)
    ]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError):
        await store.serve()
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailableError}
    assert len({id(outcome) for outcome in outcomes}) == len(outcomes)
    await store.close()


async def test_a_commit_that_waits_too_long_for_a_lock(
    path: Path, served: ServedStore, store: SQLiteStore, lease: Lease
) -> None:
    """Another process that keeps writing makes the store give up with advice, and lose nothing."""
    with database(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="End the other process"):
            await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        with pytest.raises(StoreUnavailableError):
            await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        assert await store.read("one") == []
        other.execute("ROLLBACK")
    await served.restart()
    await store.append("one", 0, [started()], time=START, epoch=lease.epoch)


async def test_a_writer_cancelled_in_the_middle_of_a_commit(path: Path, clock: StoreClock) -> None:
    """The appends in flight learn that their outcome is unknown; the store wants to be reopened."""
    store = SQLiteStore(path, clock=clock, busy_timeout_s=5)
    await store.open()
    lease = await store.claim("me", 30)
    server = asyncio.create_task(store.serve())
    with database(path) as other:
        other.execute("BEGIN IMMEDIATE")
        append = asyncio.create_task(
            store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        )
        while store._commits.in_flight is None:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)
        server.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server
        with pytest.raises(StoreUnavailableError, match="middle of a commit"):
            await append
        other.execute("ROLLBACK")
    with pytest.raises(StoreUnavailableError, match="middle of a commit"):
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
    with pytest.raises(StoreUnavailableError, match="middle of a commit"):
        await store.serve()
    await store.close()
    served = ServedStore(store)
    await served.start()
    records = await store.read("one")
    await store.append("one", len(records), [stepped()], time=START, epoch=lease.epoch)
    await served.stop()


async def test_a_lease_is_given_back_after_an_interrupted_commit(
    path: Path, clock: StoreClock
) -> None:
    """An engine that is left in the middle of its work leaves nobody waiting for its lease."""
    store = SQLiteStore(path, clock=clock)
    await store.open()
    lease = await store.claim("me", 30)
    server = asyncio.create_task(store.serve())
    append = asyncio.create_task(store.append("one", 0, [started()], time=START, epoch=lease.epoch))
    while store._commits.in_flight is None:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)
    server.cancel()
    await asyncio.wait({server, append})
    assert isinstance(append.exception(), StoreUnavailableError)
    await store.release(lease)
    await store.close()
    with database(path) as other:
        assert other.execute("SELECT owner FROM beamflow_leases").fetchall() == [(None,)]


@pytest.mark.parametrize("mode", ["EXCLUSIVE", "IMMEDIATE"])
async def test_opening_what_another_process_locks(path: Path, mode: str) -> None:
    """A new store waits for the lock for its busy timeout and then says who is in the way."""
    with database(path) as other:
        other.execute(f"BEGIN {mode}")
        other.execute("CREATE TABLE mine (id TEXT)")
        store = SQLiteStore(path, clock=StoreClock(), busy_timeout_s=0.01)
        with pytest.raises(StoreUnavailableError, match="another process keeps it locked"):
            await store.open()
        other.execute("ROLLBACK")
    await store.open()
    await store.close()


# damage


DAMAGE = {
    "changed": ("UPDATE beamflow_events SET data = replace(data, '2', '3') WHERE {row}", 2),
    "cut": ("UPDATE beamflow_events SET data = substr(data, 1, 20) WHERE {row}", 2),
    "emptied": ("UPDATE beamflow_events SET data = '' WHERE {row}", 2),
    "no text": ("UPDATE beamflow_events SET data = CAST(x'ff00fe' AS TEXT) WHERE {row}", 2),
    "checksum": ("UPDATE beamflow_events SET crc = crc + 1 WHERE {row}", 2),
    "missing": ("DELETE FROM beamflow_events WHERE {row}", 2),
    "first missing": ("DELETE FROM beamflow_events WHERE stream = 'one' AND seq = 1", 1),
    "moved": ("UPDATE beamflow_events SET seq = 4 WHERE {row}", 2),
    "from another stream": (
        """
        UPDATE beamflow_events SET (data, crc) = (
          SELECT data, crc FROM beamflow_events WHERE stream = 'two' AND seq = 2
        ) WHERE {row}
        """,
        2,
    ),
}


@pytest.mark.parametrize(("script", "seq"), DAMAGE.values(), ids=DAMAGE)
async def test_a_damaged_row(
    path: Path, served: ServedStore, lease: Lease, script: str, seq: int
) -> None:
    """Damage is found where it is and named; every other stream reads as before."""
    store = served.store
    for stream in ("one", "two"):
        events: list[Event] = [started(), stepped(2 if stream == "one" else 22), completed()]
        await store.append(stream, 0, events, time=START, epoch=lease.epoch)
    await served.stop()
    with database(path) as connection:
        connection.execute(script.format(row="stream = 'one' AND seq = 2"))
    await served.start()
    with pytest.raises(CorruptLogError) as caught:
        await store.read("one")
    assert (caught.value.stream, caught.value.seq) == ("one", seq)
    assert len(await store.read("two")) == 3
    assert len((await store.find(WorkflowQuery())).items) == 2


async def test_an_unknown_event_with_a_right_checksum(
    path: Path, store: SQLiteStore, lease: Lease
) -> None:
    """What a newer version wrote, or nobody, is damage too: it is no event of ours."""
    await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
    data = b'{"type":"teleported"}'
    with database(path) as connection:
        connection.execute(
            "UPDATE beamflow_events SET data = ?, crc = ?",
            (data.decode(), checksum("one", 1, data)),
        )
    with pytest.raises(CorruptLogError, match="teleported"):
        await store.read("one")


# owners


async def test_two_stores_on_one_file(
    path: Path, clock: StoreClock, store: SQLiteStore, lease: Lease
) -> None:
    """A second engine is refused while the first lives, even in one process."""
    second = ServedStore(SQLiteStore(path, clock=clock))
    await second.start()
    with pytest.raises(StoreLockedError, match="the test"):
        await second.store.claim("second", 30)
    await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
    assert len(await second.store.read("one")) == 1
    await store.close()
    assert (await second.store.claim("second", 30)).epoch == lease.epoch + 1
    await second.stop()


@pytest.mark.invariant("I38")
async def test_a_stuck_owner_is_fenced(
    path: Path, clock: StoreClock, store: SQLiteStore, lease: Lease
) -> None:
    """Who has not renewed in time loses the lease and cannot write when it wakes."""
    second = ServedStore(SQLiteStore(path, clock=clock))
    await second.start()
    clock.advance(31)
    taken = await second.store.claim("second", 30)
    with pytest.raises(FencedError):
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
    with pytest.raises(FencedError):
        await store.renew(lease, 30)
    await store.release(lease)
    await second.store.append("one", 0, [started()], time=START, epoch=taken.epoch)
    await second.stop()


async def test_an_owner_without_the_lock_file(
    path: Path, clock: StoreClock, store: SQLiteStore, lease: Lease
) -> None:
    """Who took over from a stuck owner is not taken for dead when that one goes."""
    second, third = (ServedStore(SQLiteStore(path, clock=clock)) for _ in range(2))
    await second.start()
    await third.start()
    clock.advance(31)
    taken = await second.store.claim("second", 30)
    await store.close()
    with pytest.raises(StoreLockedError, match="second"):
        await third.store.claim("third", 30)
    await second.store.renew(taken, 30)
    with pytest.raises(StoreLockedError, match="second"):
        await third.store.claim("third", 30)
    await second.stop()
    await third.store.claim("third", 30)
    await third.stop()


@pytest.mark.serial
async def test_a_killed_owner_frees_the_lease_at_once(path: Path) -> None:
    """However long its lease would run: a process that was killed is known to be dead."""
    with subprocess.Popen(
        [sys.executable, APPENDER, path, "2", "3", "full"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        told = [process.stdout.readline().split() for _ in range(8)]
        assert told[-1] == ["done"]
        store = SQLiteStore(path, clock=StoreClock())
        await store.open()
        with pytest.raises(StoreLockedError, match=f"pid {process.pid}"):
            await store.claim("me", 30)
        process.kill()
    lease = await store.claim("me", 30)
    assert lease.epoch == int(told[0][1]) + 1
    assert [len(await store.read(f"stream-{number}")) for number in range(2)] == [3, 3]
    await store.close()


@pytest.mark.serial
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A process pool's worker that outlives the owner is not taken for the owner."""
    lock, other = (OwnerLock(tmp_path / "app.db-owner") for _ in range(2))
    assert lock.acquire()
    assert not other.acquire()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, b"x")
        signal.pause()
    assert os.read(told, 1) == b"x"
    try:
        assert lock.is_held
        assert not other.acquire()
        lock.release()
        assert other.acquire()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(told)
        os.close(tell)
        other.release()


# indexes


async def test_lost_indexes_are_derived_again(path: Path, served: ServedStore) -> None:
    """All of them, from nothing but the events."""
    store = served.store
    lease = await store.claim("the test", 30)
    for number in range(30):
        story = [started(tags=["x"], attributes={"n": number}, parent="p")]
        await store.append(f"{number}", 0, story, time=START, epoch=lease.epoch)
        end = failed() if number % 2 else completed()
        await store.append(f"{number}", 1, [end], time=START + 1, epoch=lease.epoch)
    queries = [WorkflowQuery(), WorkflowQuery(tags=("x",)), WorkflowQuery(parent="p")]
    before = [await store.find(query) for query in queries]
    letters = await store.dead_letters(DeadLetterQuery())
    assert len(letters.items) == 15
    with database(path) as connection:
        for table in ("workflows", "labels", "letters"):
            connection.execute(f"DELETE FROM beamflow_{table}")
    assert (await store.find(WorkflowQuery())).items == ()
    await served.rebuild()
    assert [await store.find(query) for query in queries] == before
    assert await store.dead_letters(DeadLetterQuery()) == letters


async def test_a_rebuild_changes_nothing_where_an_event_is_damaged(
    path: Path, served: ServedStore
) -> None:
    """It names the event; what the indexes showed before, they show after."""
    store = served.store
    lease = await store.claim("the test", 30)
    for one in ("a", "b"):
        await store.append(one, 0, [started()], time=START, epoch=lease.epoch)
    before = await store.find(WorkflowQuery())
    with database(path) as connection:
        connection.execute("UPDATE beamflow_events SET data = data || ' ' WHERE stream = 'b'")
    with pytest.raises(CorruptLogError, match="event 1 of stream 'b'"):
        await served.rebuild()
    await served.stop()
    await served.start()
    assert await store.find(WorkflowQuery()) == before


# statements


@pytest.mark.parametrize(
    "name", ["dead_letters", "dead_letters_of", "summary", "read", "end", "count_all"]
)
async def test_reads_use_an_index(path: Path, store: SQLiteStore, name: str) -> None:
    """No read walks through a whole table."""
    with database(path) as connection:
        parameters = dict.fromkeys(
            [
                "states",
                "after_time",
                "after_id",
                "after_number",
                "workflow",
                "workflow_id",
                "limit",
                "id",
                "stream",
                "after",
            ]
        )
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement('sqlite', name)}", parameters)
        steps = [step for *_, step in plan]
    assert any("USING" in step and "INDEX" in step for step in steps)
    assert not [step for step in steps if step.startswith("SCAN") and "beamflow" in step]
    assert not [step for step in steps if step in {"SCAN w", "SCAN l"}]


async def test_the_log_can_be_told_from_the_table(
    path: Path, store: SQLiteStore, lease: Lease
) -> None:
    """Events lie in the file as readable JSON, in the order in which they were committed."""
    await store.append("one", 0, [started(), failed()], time=START, epoch=lease.epoch)
    await store.append("two", 0, [started()], time=START, epoch=lease.epoch)
    with database(path) as connection:
        rows = connection.execute(
            "SELECT stream, seq, data ->> 'type' FROM beamflow_events ORDER BY position"
        ).fetchall()
    assert rows == [
        ("one", 1, "workflow_started"),
        ("one", 2, "workflow_failed"),
        ("two", 1, "workflow_started"),
    ]
    assert len((await store.dead_letters(DeadLetterQuery())).items) == 1
