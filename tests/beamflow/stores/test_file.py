# ruff: noqa: ASYNC240 - a test may wait for the disk
"""The file of the SQLite store: made, opened, refused, brought up to date."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from beamflow.errors import StoreFormatError, StoreUnavailableError
from beamflow.model.events import (
    CompensationStarted,
    DeadLetterReason,
    DeadLetterResolved,
    DeadLetterRetried,
)
from beamflow.model.ids import DEAD_LETTERS
from beamflow.stores.base import DeadLetterQuery, WorkflowQuery
from beamflow.stores.sql import migrations
from beamflow.stores.sqlite import SQLiteStore
from beamflow.stores.sqlite import file as sqlite_file
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
from tests.beamflow.stores.disk import database, unprivileged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamflow.model.events import Event
    from beamflow.stores.base import Lease


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
