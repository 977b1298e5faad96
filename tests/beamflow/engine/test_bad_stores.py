# ruff: noqa: ASYNC240 - a test may wait for the disk
"""Files that are no good are refused, and what is damaged costs as little as it can."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    CorruptLogError,
    Engine,
    EngineStoppedError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
    WorkflowParkedError,
    continue_as_new,
    receive,
    step,
    workflow,
)
from beamflow.model.ids import DEAD_LETTERS
from supervision.testing import settle
from tests.beamflow.engine.plain import misuse, other_process, wait, words
from tests.beamflow.stores.disk import database, unprivileged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Reached = Callable[..., Awaitable[None]]


# the lease


_LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("up", flush=True)
sys.stdin.read()
"""


# files that are no good


async def refused(path: Path, kind: type[Exception], match: str) -> None:
    """Entering fails with a typed error, and the file stays what it is."""
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(kind, match=match):
        await Engine(f"sqlite:///{path}", workflows=[wait]).__aenter__()
    assert (path.read_bytes() if path.exists() else None) == before


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Whatever it is, it is left as it was."""
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 1000)
    await refused(path, StoreFormatError, "notes.txt")


async def test_a_store_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """An older beamflow writes nothing into it."""
    path = tmp_path / "app.db"
    async with Engine(f"sqlite:///{path}", workflows=[wait]):
        pass
    with database(path) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version:
            connection.execute(f"PRAGMA user_version = {version + 1}")
        else:
            connection.execute("UPDATE beamflow_meta SET value = value + 1 WHERE key = 'schema'")
    await refused(path, StoreFormatError, "newer")


async def test_what_cannot_be_written_is_refused() -> None:
    """A file or a directory that is read-only, with what to do about it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / "app.db"
        async with Engine(f"sqlite:///{path}", workflows=[wait]):
            pass
        directory.chmod(0o555)
        path.chmod(0o444)
        with unprivileged():
            await refused(path, StoreUnavailableError, "app.db")
            await refused(directory / "new.db", StoreUnavailableError, "new.db")
        directory.chmod(0o755)
        path.chmod(0o644)


async def test_a_file_that_another_process_has_locked_is_refused(tmp_path: Path) -> None:
    """After a while, with the reason; it works as soon as the lock is gone."""
    path = tmp_path / "app.db"
    with database(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    async with other_process(_LOCKER, str(path)):
        from beamflow.stores.sqlite import SQLiteStore

        store = SQLiteStore(path, clock=lambda: 0, busy_timeout_s=0.05)
        with pytest.raises(StoreUnavailableError, match="locked"):
            await Engine(store, workflows=[wait]).__aenter__()
    async with Engine(f"sqlite:///{path}", workflows=[wait]) as engine:
        assert await engine.dead_letters.list() == []


@pytest.mark.invariant("I26")
async def test_a_damaged_row_parks_its_workflow_and_no_other(tmp_path: Path) -> None:
    """The others run on; once the row is restored, so does this one."""
    path = tmp_path / "app.db"
    async with Engine(f"sqlite:///{path}", workflows=[wait]) as engine:
        for name in ("good", "bad"):
            await engine.start(wait, id=name)
            await engine.handle(name).signal("other", name)
    flip = "UPDATE beamflow_events SET data = replace(data, ?, ?) WHERE stream = 'bad' AND seq = 2"
    with database(path) as connection:
        assert connection.execute(flip, ('"bad"', '"bat"')).rowcount == 1
    async with Engine(f"sqlite:///{path}", workflows=[wait]) as engine:
        with pytest.raises(WorkflowParkedError, match="event 2 of stream 'bad' is damaged"):
            await engine.handle("bad").result()
        (letter,) = await engine.dead_letters.list()
        assert (letter.workflow_id, letter.reason.value) == ("bad", "corrupt_log")
        await engine.handle("good").signal("word", "fine")
        assert await engine.handle("good").result() == "fine"
    with database(path) as connection:
        connection.execute(flip, ('"bat"', '"bad"'))
    async with Engine(f"sqlite:///{path}", workflows=[wait]) as engine:
        async with asyncio.timeout(10):
            while await engine.dead_letters.list():
                pass
        await engine.handle("bad").signal("word", "mended")
        assert await engine.handle("bad").result() == "mended"
        assert await engine.dead_letters.list() == []


async def test_a_damaged_row_of_an_earlier_run_parks_whom_it_keeps_from_knowing(
    tmp_path: Path,
) -> None:
    """A key may stand in any run: whoever sends one is told, and no step runs over and over for it."""
    path, attempts = tmp_path / "app.db", 0

    @step
    async def work() -> None:
        nonlocal attempts
        attempts += 1
        await asyncio.Event().wait()

    @workflow
    async def renews(again: bool) -> None:  # noqa: FBT001 - it is started by position
        if again:
            await receive("word")
            continue_as_new(False)  # noqa: FBT003 - likewise
        await work()

    async with Engine(f"sqlite:///{path}", workflows=[renews]) as engine:
        handle = await engine.start(renews, True, id="bad")  # noqa: FBT003 - likewise
        await handle.signal("word", "first")
        while not attempts:
            await settle()
        with database(path) as connection:
            connection.execute(
                "UPDATE beamflow_events SET data = replace(data, ?, ?) WHERE seq = 2",
                ('"first"', '"worst"'),
            )
        for _ in range(2):
            with pytest.raises(CorruptLogError, match="event 2 of stream 'bad'"):
                await handle.signal("more", key="k")
        with pytest.raises(WorkflowParkedError, match="event 2 of stream 'bad' is damaged"):
            await handle.result()
    assert attempts == 1


@pytest.mark.invariant("I34")
async def test_a_full_disk_stops_the_engine_and_loses_nothing(tmp_path: Path) -> None:
    """Acknowledged or refused, nothing in between; with space again it goes on."""
    path = tmp_path / "app.db"
    acknowledged: list[str] = []
    url = f"sqlite:///{path}"
    with pytest.raises(EngineStoppedError, match="the engine had given up.*the disk is full.*Free"):
        async with Engine(url, workflows=[wait]) as engine:
            handle = await engine.start(wait, id="one")
            store: Any = engine._services.store
            original = store.open

            async def small() -> None:
                await original()
                await store._writer.execute_fetchall("PRAGMA max_page_count = 1")

            store.open = small
            await store._writer.execute_fetchall("PRAGMA max_page_count = 40")
            waiting = asyncio.create_task(handle.result())
            for number in range(1000):
                try:
                    await handle.signal("other", f"{number} {'x' * 2000}")
                except (StoreUnavailableError, EngineStoppedError):
                    if (await asyncio.wait({waiting}, timeout=0.01))[0]:
                        break
                else:
                    acknowledged.append(f"{number}")
            with pytest.raises(
                EngineStoppedError, match="the engine has given up.*the disk is full"
            ):
                await waiting
    assert acknowledged
    async with Engine(url, workflows=[wait]) as engine:
        handle = engine.handle("one")
        kept = [word.split()[0] for word in await words(handle)]
        assert [number for number in kept if number in acknowledged] == acknowledged
        await handle.signal("word", "space again")
        assert await handle.result() == "space again"


async def test_a_damaged_stream_of_dead_letters_is_refused(tmp_path: Path) -> None:
    """The engine does not go on from an end that cannot be read; the error names the stream."""
    path = tmp_path / "app.db"
    async with Engine(f"sqlite:///{path}", workflows=[misuse]) as engine:
        with pytest.raises(WorkflowParkedError):
            await (await engine.start(misuse)).result()
    with database(path) as connection:
        connection.execute(
            "UPDATE beamflow_events SET data = '{}' WHERE stream = ?", (DEAD_LETTERS,)
        )
    with pytest.raises(StoreError, match="dead-letters"):
        await Engine(f"sqlite:///{path}", workflows=[misuse]).__aenter__()
