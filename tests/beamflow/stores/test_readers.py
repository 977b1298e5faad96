"""The connections that read."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from beamflow.errors import StoreUnavailableError
from beamflow.stores.sqlite.file import connect
from beamflow.stores.sqlite.readers import Readers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from beamflow.stores.sqlite.readers import Execute

CLOSED = StoreUnavailableError("store", "it was closed", "Open it")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another connection to a file with one number in it."""
    with contextlib.closing(
        sqlite3.connect(tmp_path / "app.db", isolation_level=None, check_same_thread=False)
    ) as one:
        one.execute("PRAGMA journal_mode = WAL")
        one.execute("CREATE TABLE number (value INTEGER)")
        one.execute("INSERT INTO number VALUES (1)")
        yield one


@pytest.fixture
async def readers(tmp_path: Path, writer: sqlite3.Connection) -> AsyncIterator[Readers]:
    """One connection that reads the file."""
    readers = Readers("store", lambda: CLOSED, lambda _: None)
    readers.add(await connect(tmp_path / "app.db", busy_timeout_s=1.0, pragmas={"query_only": 1}))
    yield readers
    await readers.close()


async def test_statements_of_one_moment(readers: Readers, writer: sqlite3.Connection) -> None:
    """They see the same, whatever is written in between; the next ones see that."""

    def read(execute: Execute) -> list[int]:
        seen = []
        for _ in range(3):
            seen += execute("SELECT value FROM number", {})
            writer.execute("UPDATE number SET value = value + 1")
        return seen

    for seen in ([1, 1, 1], [4, 4, 4]):
        assert await readers.at_one_moment(read) == seen
    assert await readers.row("SELECT value FROM number", {}) == (7,)


async def test_a_moment_ends_with_an_error(readers: Readers) -> None:
    """Nobody is held up by it, and the next one begins as ever."""
    for sql in ("SELECT value FROM nowhere", "SELECT :missing"):
        with pytest.raises(StoreUnavailableError):
            await readers.at_one_moment(lambda execute, sql=sql: execute(sql, {}))
    assert readers.are_still
    assert await readers.at_one_moment(lambda execute: execute("SELECT 1", {})) == (1,)
