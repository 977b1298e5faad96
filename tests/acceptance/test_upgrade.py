"""An upgrade of a store can be killed behind any statement: the next opening completes it."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import Raw

from beamflow import WorkflowState
from beamflow.model.codec import checksum, encode_event
from beamflow.model.events import Recorded, WorkflowStarted
from beamflow.stores.sql import migrations
from beamflow.stores.sqlite import SQLiteStore, file
from beamflow.testing.store_suite import ServedStore

pytestmark = [pytest.mark.serial, pytest.mark.timeout(200)]

KILL = Path(__file__).with_name("kill_upgrade.py")
STARTED = WorkflowStarted(workflow="w", version=1, input=Raw(b"[]"))
NEWEST = len(migrations("sqlite"))


def store_of(version: int, path: Path) -> Path:
    """Make the file that a beamflow of so many migrations has left, with one workflow in it."""
    path.touch()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for script in migrations("sqlite")[:version]:
            connection.executescript(script)
        if version:
            data = encode_event(STARTED)
            connection.execute(
                "UPDATE beamflow_meta SET value = ? WHERE key = 'schema'", (f"{version}",)
            )
            connection.execute(
                "INSERT INTO beamflow_events (stream, seq, at, epoch, crc, data) "
                "VALUES ('one', 1, 7, 1, ?, ?)",
                (checksum("one", 1, data), data.decode()),
            )
            connection.execute(
                "INSERT INTO beamflow_workflows (id, workflow, version, state, started_at, error) "
                "VALUES ('one', 'w', 1, 'running', 7, 'null')"
            )
    return path


async def assert_complete(path: Path, version: int) -> None:
    """Open the file as the newest version does, and hold it to what was there before."""
    served = ServedStore(SQLiteStore(path, clock=lambda: 0))
    await served.start()
    lease = await served.store.claim("me", 1)
    if version:
        history = await served.store.read("one")
        assert history == [Recorded(stream="one", seq=1, time=7, epoch=1, event=STARTED)]
        summary = await served.store.summary("one")
        assert summary is not None
        assert (summary.workflow, summary.state) == ("w", WorkflowState.RUNNING)
    await served.store.append("two", 0, [STARTED], time=8, epoch=lease.epoch)
    await served.stop()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT value FROM beamflow_meta WHERE key = 'schema'").fetchall()
        assert rows == [(f"{NEWEST}",)]


def run(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(KILL), str(path)]
    return subprocess.run(command, check=False, timeout=150, capture_output=True, text=True)


@pytest.mark.invariant("I31")
@pytest.mark.parametrize("version", range(NEWEST))
def test_an_upgrade_that_is_killed_anywhere_is_completed(tmp_path: Path, version: int) -> None:
    """From each schema there ever was; statement by statement, by SIGKILL."""
    upgraded = run(store_of(version, tmp_path / "original.db"))
    assert upgraded.returncode == 0, upgraded.stderr
    victims = sorted(tmp_path.glob("[0-9]*.db"))
    statements = [list(file._statements(script)) for script in migrations("sqlite")[version:]]
    assert len(victims) > sum(map(len, statements)) + 1
    for victim in victims:
        asyncio.run(assert_complete(victim, version))


@pytest.mark.invariant("I31")
def test_a_newer_store_is_left_as_it_is(tmp_path: Path) -> None:
    """Not a byte of it changes, and no file appears beside it but SQLite's own."""
    path = store_of(NEWEST, tmp_path / "newer.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE beamflow_meta SET value = '99' WHERE key = 'schema'")
    before = path.read_bytes()
    refused = run(path)
    assert refused.returncode == 1
    assert f"its schema is version 99, this beamflow knows {NEWEST}" in refused.stderr
    assert path.with_name("1.db").read_bytes() == path.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir() if each.name.startswith("1.")} <= {
        "1.db",
        "1.db-wal",
        "1.db-shm",
    }
