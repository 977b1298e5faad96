"""From a path to open connections of a database that is ours and of a schema that we know."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Literal

import aiosqlite

from beamflow.errors import StoreFormatError, StoreUnavailableError
from beamflow.stores.sql import migrations, statement
from beamflow.stores.sqlite.problems import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["check_schema", "connect", "create", "enter_wal", "identity", "migrate"]

_VERSION_MIN = (3, 38, 0)
_SWITCHES_MAX = 100
_MIGRATIONS = migrations("sqlite")
_TABLES = statement("sqlite", "tables")
_META = statement("sqlite", "meta")
_MIGRATED = statement("sqlite", "migrated")


def create(store: str, path: Path) -> Path:
    """Make an empty file, which only this user may read, where there is none; return its real path.

    A file that is there is not touched, nor even opened.

    Raises:
        StoreUnavailableError: there can be no database at this path, or SQLite is too old.
    """
    if sqlite3.sqlite_version_info < _VERSION_MIN:
        raise StoreUnavailableError(
            store,
            f"the SQLite library is version {sqlite3.sqlite_version}",
            f"Use a Python that is built with SQLite {'.'.join(map(str, _VERSION_MIN))} or newer",
        )
    path = path.resolve()
    if path.is_dir():
        raise StoreUnavailableError(store, "it is a directory", "Name a file in it")
    if not path.parent.is_dir():
        raise StoreUnavailableError(
            store, f"there is no directory {path.parent}", "Create the directory first"
        )
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreUnavailableError(
            store,
            f"the file cannot be created ({error.strerror})",
            "Let this user write the directory, and look whether the disk is full",
        ) from error
    return path


def identity(path: Path) -> tuple[int, int]:
    """Return what tells a file from another one that takes its name; raises OSError."""
    status = path.stat()
    return status.st_dev, status.st_ino


async def connect(
    path: Path,
    *,
    busy_timeout_s: float,
    pragmas: Mapping[str, int | str],
    mode: Literal["rw", "ro"] = "rw",
) -> aiosqlite.Connection:
    """Open a connection to a file that is there; every statement of it is a transaction."""
    opening = aiosqlite.connect(
        f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=busy_timeout_s
    )
    # A host that dies without closing the store must die, not wait for this thread for ever.
    opening._thread.daemon = True  # noqa: SLF001 - aiosqlite has no option for it
    connection = await opening
    try:
        for name, value in pragmas.items():
            await connection.execute_fetchall(f"PRAGMA {name} = {value}")
    except BaseException:
        await connection.close()
        raise
    return connection


async def check_schema(store: str, connection: aiosqlite.Connection) -> int:
    """Return the schema version of the database, 0 if it has none of our tables; writes nothing.

    Raises:
        StoreFormatError: it is no database, or none that this version can write.
    """
    try:
        tables = {name for (name,) in await connection.execute_fetchall(_TABLES)}
        if not tables:
            await _check_encoding(store, connection)
            return 0
        if "beamflow_meta" not in tables:
            raise StoreFormatError(
                f"{store}: it holds {min(tables)!r}, which this library has not made. "
                f"Give beamflow another file"
            )
        meta = {str(key): str(value) for key, value in await connection.execute_fetchall(_META)}
    except sqlite3.DatabaseError as error:
        if code_of(error) != sqlite3.SQLITE_NOTADB:
            raise
        raise StoreFormatError(
            f"{store}: it is not an SQLite database. Name another file, or move this one away"
        ) from error
    try:
        schema = int(meta["schema"])
    except (KeyError, ValueError) as error:
        raise StoreFormatError(
            f"{store}: it does not tell its schema version. Restore it from a backup"
        ) from error
    if schema > len(_MIGRATIONS):
        raise StoreFormatError(
            f"{store}: its schema is version {schema}, this beamflow knows {len(_MIGRATIONS)}. "
            f"Nothing was written; install the newer beamflow again"
        )
    return schema


async def enter_wal(store: str, connection: aiosqlite.Connection) -> None:
    """Let the database keep its journal as a write-ahead log.

    Raises:
        StoreUnavailableError: it cannot, as on most network file systems.
    """
    for _ in range(_SWITCHES_MAX):
        try:
            ((mode,),) = await connection.execute_fetchall("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_BUSY:
                raise
            # SQLite does not wait for others here, but it does in front of a transaction.
            await connection.execute_fetchall("BEGIN IMMEDIATE")
            await connection.execute_fetchall("COMMIT")
        else:
            break
    else:
        mode = "locked"
    if mode != "wal":
        raise StoreUnavailableError(
            store,
            f"SQLite cannot keep its journal as 'wal' (but {mode!r})",
            "Put the file on a local disk",
        )


async def migrate(store: str, connection: aiosqlite.Connection) -> None:
    """Bring the database to the newest schema; each step is a transaction, so it can be killed."""
    while await check_schema(store, connection) < len(_MIGRATIONS):
        await connection.execute_fetchall("BEGIN IMMEDIATE")
        schema = await check_schema(store, connection)
        for text in _statements(_MIGRATIONS[schema] if schema < len(_MIGRATIONS) else ""):
            await connection.execute_fetchall(text)
        await connection.execute_fetchall(
            _MIGRATED, {"schema": str(min(schema + 1, len(_MIGRATIONS)))}
        )
        await connection.execute_fetchall("COMMIT")


async def _check_encoding(store: str, connection: aiosqlite.Connection) -> None:
    ((encoding,),) = await connection.execute_fetchall("PRAGMA encoding")
    if encoding != "UTF-8":
        raise StoreFormatError(
            f"{store}: it keeps text as {encoding}, beamflow needs UTF-8. Give it a file of its own"
        )


def _statements(script: str) -> Iterator[str]:
    text = ""
    for line in script.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            yield text
            text = ""
