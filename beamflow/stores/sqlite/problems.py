"""What SQLite's error codes mean to whoever runs the store."""

from __future__ import annotations

import sqlite3

from beamflow.errors import StoreUnavailableError

__all__ = ["code_of", "unavailable"]

_ADVICE = {
    sqlite3.SQLITE_FULL: (
        "the disk is full",
        "Free some space, then start the engine again; nothing acknowledged is lost",
    ),
    sqlite3.SQLITE_READONLY: (
        "it cannot be written",
        "Let this user write the file and its directory (SQLite keeps files beside it)",
    ),
    sqlite3.SQLITE_PERM: ("access is denied", "Let this user read and write the file"),
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened",
        "Let this user read and write the file and its directory, see the limit of open files",
    ),
    sqlite3.SQLITE_BUSY: (
        "another process keeps it locked",
        "End the other process's transaction, or raise busy_timeout_s",
    ),
    sqlite3.SQLITE_LOCKED: (
        "another connection keeps it locked",
        "End the other connection's transaction, or raise busy_timeout_s",
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk fails",
        "Look at the system's log, mend the disk, then start the engine again",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the file is damaged",
        "Check it with 'PRAGMA integrity_check', restore it from a backup",
    ),
    sqlite3.SQLITE_NOTADB: (
        "the file is damaged",
        "Restore it from a backup",
    ),
    # Extended: SQLite gives this one code to whatever hinders the growth of the file.
    sqlite3.SQLITE_IOERR_SHMSIZE: (
        "the disk is full (or fails): the -shm file beside it cannot grow",
        "Free some space or mend the disk, then start again; nothing acknowledged is lost",
    ),
}


def code_of(error: BaseException | None) -> int:
    """Return SQLite's primary result code of an error, 0 if it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def unavailable(store: str, error: BaseException) -> StoreUnavailableError:
    """Make the error that says what failed and what helps, for anything a database call raised."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    extended = getattr(error, "sqlite_errorcode", 0)
    problem, advice = (
        _ADVICE.get(extended)
        or _ADVICE.get(code_of(error))
        or ("the database call failed", "Mend the cause, then start the engine again")
    )
    return StoreUnavailableError(store, f"{problem} ({name}: {error})", advice)
