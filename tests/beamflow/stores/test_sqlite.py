# ruff: noqa: ASYNC220, ASYNC240 - a test may wait for the disk
"""What the SQLite store promises beyond the port: about its file, its disk, its commits."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from beamflow.errors import (
    ConflictError,
    CorruptLogError,
    FencedError,
    PayloadError,
    StoreFormatError,
    StoreLockedError,
    StoreUnavailableError,
)
from beamflow.model.codec import checksum
from beamflow.model.events import (
    CompensationStarted,
    DeadLetterReason,
    DeadLetterResolved,
    DeadLetterRetried,
)
from beamflow.model.ids import DEAD_LETTERS
from beamflow.stores.base import DeadLetterQuery, WorkflowQuery
from beamflow.stores.sql import migrations, statement
from beamflow.stores.sqlite import SQLiteStore
from beamflow.stores.sqlite import file as sqlite_file
from beamflow.stores.sqlite.lock import OwnerLock
from beamflow.testing.store_suite import ServedStore, StoreClock
from beamflow.testing.store_suite.samples import (
    START,
    completed,
    failed,
    failure,
    parked,
    started,
    stepped,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from beamflow.model.events import Event
    from beamflow.stores.base import Lease

APPENDER = Path(__file__).with_name("appender.py")


@pytest.fixture
def clock() -> StoreClock:
    return StoreClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
async def served(path: Path, clock: StoreClock) -> AsyncIterator[ServedStore]:
    served = ServedStore(SQLiteStore(path, clock=clock, busy_timeout_s=0.05))
    await served.start()
    yield served
    await served.stop()


@contextlib.contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Be a user whom file modes bind, also where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
        directory.chmod(0o755)


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


# the file


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("relaxed", 1)])
async def test_the_writer_is_set_up_for_durability(
    path: Path, clock: StoreClock, durability: Any, synchronous: int
) -> None:
    """The writer owns the checkpoints and syncs as promised; readers cannot write."""
    store = SQLiteStore(path, clock=clock, durability=durability)
    await store.open()
    try:
        writer, readers = store._writer, list(store._readers)
        assert await pragma(writer, "journal_mode") == "wal"
        assert await pragma(writer, "synchronous") == synchronous
        assert await pragma(writer, "wal_autocheckpoint") == 1000
        assert len(readers) == 2
        for reader in readers:
            assert await pragma(reader, "query_only") == 1
            assert await pragma(reader, "wal_autocheckpoint") == 0
        for connection in (writer, *readers):
            assert await pragma(connection, "mmap_size") in {0, None}
    finally:
        await store.close()


async def test_only_the_owner_may_read_the_files(
    path: Path, store: SQLiteStore, lease: Lease
) -> None:
    """The database and what lies beside it are made for this user alone."""
    await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
    names = ["app.db", "app.db-wal", "app.db-shm", "app.db-owner"]
    assert {file.name for file in path.parent.iterdir()} == set(names)
    for name in names:
        assert (path.parent / name).stat().st_mode & 0o777 == 0o600


async def test_a_file_shared_with_others(path: Path, clock: StoreClock) -> None:
    """The store lives beside the tables of the application and leaves them alone."""
    with database(path) as connection:
        connection.execute("CREATE TABLE orders (id TEXT)")
        connection.execute("INSERT INTO orders VALUES ('mine')")
    store = SQLiteStore(path, clock=clock)
    await store.open()
    await store.close()
    with database(path) as connection:
        assert connection.execute("SELECT id FROM orders").fetchall() == [("mine",)]
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        assert all(
            name.startswith(("beamflow_", "sqlite_autoindex_beamflow_", "orders")) for name in names
        )


async def refused(path: Path, error: type[Exception], match: str) -> None:
    """Assert that opening fails, twice, and leaves the file and its directory as they are."""
    before = digest(path)
    names = sorted(file.name for file in path.parent.iterdir())
    store = SQLiteStore(path, clock=StoreClock(), busy_timeout_s=0.01)
    for _ in range(2):
        with pytest.raises(error, match=match):
            await store.open()
    assert digest(path) == before
    assert sorted(file.name for file in path.parent.iterdir()) == names


def digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


@pytest.mark.parametrize(
    "content", [b"hello, I am a text file\n", b"\0" * 5000, b"SQLite format 3\0"]
)
async def test_a_file_that_is_no_database(path: Path, content: bytes) -> None:
    """Another kind of file is refused and stays as it is."""
    path.write_bytes(content)
    await refused(path, StoreFormatError, "not an SQLite database")


async def test_an_empty_file_becomes_a_database(path: Path, clock: StoreClock) -> None:
    """A file of no bytes is a database of no tables."""
    path.touch()
    store = SQLiteStore(path, clock=clock)
    await store.open()
    await store.close()


@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_a_newer_schema(path: Path, clock: StoreClock, mode: str) -> None:
    """What a newer beamflow has made is refused before anything is written, the mode included."""
    with database(path) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE beamflow_meta (key TEXT, value TEXT)")
        connection.execute("INSERT INTO beamflow_meta VALUES ('schema', '99')")
    await refused(path, StoreFormatError, "newer beamflow")


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ("CREATE TABLE beamflow_events (mine TEXT)", "has not made"),
        ("CREATE TABLE beamflow_meta (key TEXT, value TEXT)", "schema version"),
        ("CREATE TABLE beamflow_meta AS SELECT 'schema' AS key, 'x' AS value", "schema version"),
        ("PRAGMA encoding = 'UTF-16'; CREATE TABLE mine (id TEXT)", "UTF-8"),
    ],
)
async def test_a_database_that_only_looks_like_ours(path: Path, script: str, match: str) -> None:
    """Tables of our names that are not ours, or text in another encoding, are refused."""
    with database(path) as connection:
        connection.executescript(script)
    await refused(path, StoreFormatError, match)


async def test_no_place_for_a_file(tmp_path: Path, clock: StoreClock) -> None:
    """A directory that is missing, or in the file's place, is named with what to do."""
    with pytest.raises(StoreUnavailableError, match="Create the directory first"):
        await SQLiteStore(tmp_path / "missing" / "app.db", clock=clock).open()
    with pytest.raises(StoreUnavailableError, match="Name a file in it"):
        await SQLiteStore(tmp_path, clock=clock).open()
    assert list(tmp_path.iterdir()) == []


async def test_an_old_library(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SQLite that lacks what the statements need is refused before the file is made."""
    monkeypatch.setattr(sqlite_file, "_VERSION_MIN", (99, 0, 0))
    await refused(path, StoreUnavailableError, r"99\.0\.0")


async def test_a_directory_that_cannot_be_written(public_directory: Path) -> None:
    """No file can be made where this user may not write, and the error says so."""
    public_directory.chmod(0o555)
    with unprivileged():
        await refused(public_directory / "app.db", StoreUnavailableError, "cannot be created")


async def test_a_file_that_cannot_be_written(public_directory: Path, clock: StoreClock) -> None:
    """A store that may be read but not written is refused with what to change."""
    path = public_directory / "app.db"
    store = SQLiteStore(path, clock=clock)
    await store.open()
    await store.close()
    path.chmod(0o444)
    public_directory.chmod(0o555)
    with unprivileged():
        await refused(path, StoreUnavailableError, "Let this user")


async def test_a_moved_file_is_noticed(path: Path, store: SQLiteStore, lease: Lease) -> None:
    """Renewing tells that the file is gone, and nothing is acknowledged from there on."""
    await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(StoreUnavailableError, match="moved"):
        await store.renew(lease, 30)
    with pytest.raises(StoreUnavailableError, match="moved"):
        await store.append("one", 1, [stepped()], time=START, epoch=lease.epoch)
    path.with_name("elsewhere.db").rename(path)


async def test_the_schema_can_be_cut_off_anywhere(
    path: Path, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Creation that dies at any statement leaves a file that the next opening completes."""
    connect, countdown = sqlite_file.connect, 0

    async def failing(*arguments: Any, **options: Any) -> Any:
        connection: Any = await connect(*arguments, **options)
        execute = connection.execute_fetchall

        async def counted(sql: str, parameters: Any = None) -> Any:
            nonlocal countdown
            countdown -= 1
            if countdown == 0:
                raise KeyboardInterrupt
            return await execute(sql, parameters)

        connection.execute_fetchall = counted
        return connection

    monkeypatch.setattr("beamflow.stores.sqlite.store.connect", failing)
    cuts = 0
    while countdown <= 0:
        cuts += 1
        countdown = cuts
        victim = path.with_name(f"{cuts}.db")
        store = SQLiteStore(victim, clock=clock)
        with contextlib.suppress(KeyboardInterrupt):
            await store.open()
        await store.close()
        survivor = ServedStore(SQLiteStore(victim, clock=clock))
        left, countdown = countdown, -1
        await survivor.start()
        lease = await survivor.store.claim("me", 1)
        await survivor.store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        await survivor.stop()
        countdown = left
    assert cuts > 15


@contextlib.contextmanager
def schema_of(version: int) -> Iterator[None]:
    """Be the beamflow that knew so many migrations, and no more."""
    newest = sqlite_file._MIGRATIONS
    sqlite_file._MIGRATIONS = newest[:version]
    try:
        yield
    finally:
        sqlite_file._MIGRATIONS = newest


_BEFORE_0002: tuple[tuple[str, Event], ...] = (
    ("done", started()),
    ("done", completed()),
    ("twice", started()),
    (DEAD_LETTERS, parked("twice")),
    (DEAD_LETTERS, DeadLetterRetried(workflow_id="twice", retried_as="twice")),
    (DEAD_LETTERS, parked("twice", DeadLetterReason.CODE_GONE)),
    ("failed", started("other")),
    (DEAD_LETTERS, parked("failed")),
    (DEAD_LETTERS, DeadLetterRetried(workflow_id="failed", retried_as="failed")),
    ("failed", CompensationStarted(error=failure(), steps=(1,))),
    ("failed", failed("other")),
    (DEAD_LETTERS, DeadLetterResolved(workflow_id="failed", note="by hand")),
    ("open", started()),
)


async def test_an_older_file_is_brought_up_to_date_whenever_it_is_killed(
    path: Path, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each migration is done or not; at its end the indexes are what the log says."""
    with schema_of(1):
        old = ServedStore(SQLiteStore(path, clock=clock))
        await old.start()
        lease = await old.store.claim("me", 1)
        ends: dict[str, int] = {}
        for number, (stream, event) in enumerate(_BEFORE_0002):
            seq = ends.get(stream, 0)
            await old.store.append(stream, seq, [event], time=START + number, epoch=lease.epoch)
            ends[stream] = seq + 1
        await old.store.release(lease)
        await old.stop()
    file, cuts = path.read_bytes(), 0
    while True:
        victim = path.with_name(f"{cuts}.db")
        victim.write_bytes(file)
        with monkeypatch.context() as patch:
            patch.setattr("beamflow.stores.sqlite.store.connect", _cut_after(cuts))
            dying = SQLiteStore(victim, clock=clock)
            try:
                await dying.open()
            except KeyboardInterrupt:
                cuts += 1
            else:
                break
            finally:
                await dying.close()
        survivor = SQLiteStore(victim, clock=clock)
        await survivor.open()
        found = {one.id: one for one in (await survivor.find(WorkflowQuery())).items}
        assert [(one, found[one].state.value, found[one].tags) for one in sorted(found)] == [
            ("done", "completed", ()),
            ("failed", "failed", ()),
            ("open", "running", ()),
            ("twice", "parked", ()),
        ]
        assert found["failed"].closed_at == START + 10
        letters = (await survivor.dead_letters(DeadLetterQuery(states=None))).items
        assert [(one.workflow_id, one.number, one.state.value) for one in letters] == [
            ("twice", 2, "open"),
            ("failed", 2, "resolved"),
        ]
        assert [one.outcome.value for one in letters] == ["parked", "failed"]
        assert letters[1].note == "by hand"
        await survivor.rebuild()
        again = {one.id: one for one in (await survivor.find(WorkflowQuery())).items}
        assert again == found
        rebuilt = (await survivor.dead_letters(DeadLetterQuery(states=None))).items
        assert [one for one in rebuilt if one.number == 2] == list(letters)
        assert {(one.workflow_id, one.state.value) for one in rebuilt if one.number == 1} == {
            ("twice", "retried"),
            ("failed", "retried"),
        }
        await survivor.close()
    assert cuts > len(list(sqlite_file._statements(migrations("sqlite")[1])))


def _cut_after(count: int) -> Any:
    """Return a `connect` whose connections die together at a statement."""
    left = count
    connect = sqlite_file.connect

    async def failing(*arguments: Any, **options: Any) -> Any:
        connection: Any = await connect(*arguments, **options)
        execute = connection.execute_fetchall

        async def counted(sql: str, parameters: Any = None) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return await execute(sql, parameters)

        connection.execute_fetchall = counted
        return connection

    return failing


async def test_several_that_make_the_file_at_once(tmp_path: Path, clock: StoreClock) -> None:
    """Of several that find no schema all end with the same one, whoever is first."""
    for turn in range(20):
        path = tmp_path / f"{turn}.db"
        stores = [SQLiteStore(path, clock=clock) for _ in range(3)]
        await asyncio.gather(*(store.open() for store in stores))
        for store in stores:
            await store.close()
        with database(path) as connection:
            ((schema,),) = connection.execute(
                "SELECT value FROM beamflow_meta WHERE key = 'schema'"
            )
            assert int(schema) == len(migrations("sqlite"))


async def test_closing_leaves_no_thread(path: Path, clock: StoreClock) -> None:
    """Each connection's thread ends with the store, also when opening fails half-way."""
    before = set(threading.enumerate())
    served = ServedStore(SQLiteStore(path, clock=clock))
    await served.start()
    await served.stop()
    path.write_bytes(b"no database any more, and long enough to be looked at" * 100)
    with pytest.raises(StoreFormatError):
        await served.store.open()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.serial
def test_a_host_that_forgets_to_close(path: Path) -> None:
    """A process that ends without closing its store ends."""
    script = f"""
import asyncio, sys
from beamflow.stores.url import open_store
store = open_store("sqlite:///{path}", clock=lambda: 0)
asyncio.run(store.open())
raise SystemExit(7)
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    assert subprocess.run(command, timeout=30, check=False).returncode == 7


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
    "name", ["dead_letters", "dead_letters_of", "summary", "read", "count_all"]
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
