"""The policy book: which policies are reserved, in an SQLite file of its own.

Unlike the other services this one is a library, called in the engine's process and killed with it;
what it has written is safe because each change is one transaction.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from threading import Lock
from typing import TYPE_CHECKING

from services.ledger import Entry, Outcome, now

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PolicyBook"]

SCHEMA = """
    CREATE TABLE IF NOT EXISTS policies (
        number INTEGER PRIMARY KEY,
        application TEXT NOT NULL,
        plan TEXT NOT NULL,
        cents INTEGER NOT NULL,
        cancelled INTEGER NOT NULL DEFAULT 0,
        key TEXT NOT NULL UNIQUE
    );
    CREATE TABLE IF NOT EXISTS requests (
        id INTEGER PRIMARY KEY,
        time INTEGER NOT NULL,
        key TEXT NOT NULL,
        application TEXT NOT NULL,
        action TEXT NOT NULL,
        outcome TEXT NOT NULL
    );
"""


class PolicyBook:
    """Reserves and cancels policies; safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        """Open the book, or begin it."""
        self._lock = Lock()
        self._book = sqlite3.connect(
            path, timeout=30, isolation_level=None, check_same_thread=False
        )
        self._book.executescript(SCHEMA)

    def reserve(self, key: str, application: str, plan: str, cents: int) -> str:
        """Reserve a policy and return its number; the same one for the same key."""
        with self._lock, self._book:
            self._book.execute("BEGIN IMMEDIATE")
            row = self._book.execute("SELECT number FROM policies WHERE key = ?", [key]).fetchone()
            self._record(key, application, "reserve_policy", known=row is not None)
            if row is None:
                row = self._book.execute(
                    "INSERT INTO policies (application, plan, cents, key) VALUES (?, ?, ?, ?)"
                    " RETURNING number",
                    [application, plan, cents, key],
                ).fetchone()
            return f"POL-{row[0]:05}"

    def cancel(self, key: str, number: str) -> None:
        """Cancel a reservation; to cancel it again changes nothing."""
        with self._lock, self._book:
            self._book.execute("BEGIN IMMEDIATE")
            application, cancelled = self._book.execute(
                "SELECT application, cancelled FROM policies WHERE number = ?",
                [int(number.removeprefix("POL-"))],
            ).fetchone()
            self._record(key, application, "cancel_policy", known=bool(cancelled))
            self._book.execute(
                "UPDATE policies SET cancelled = 1 WHERE number = ?",
                [int(number.removeprefix("POL-"))],
            )

    def _record(self, key: str, application: str, action: str, *, known: bool) -> None:
        outcome = Outcome.DUPLICATE if known else Outcome.DONE
        self._book.execute(
            "INSERT INTO requests (time, key, application, action, outcome) VALUES (?, ?, ?, ?, ?)",
            [now(), key, application, action, outcome.value],
        )


def read_book(path: Path, after: int = 0) -> list[Entry]:
    """Read the requests that the book has had, without those up to number ``after``."""
    with closing(sqlite3.connect(path, timeout=30)) as book:
        rows = book.execute(
            "SELECT time, key, application, action, outcome FROM requests WHERE id > ? ORDER BY id",
            [after],
        )
        return [
            Entry(time=time, key=key, application=application, action=action, outcome=Outcome(word))
            for time, key, application, action, word in rows
        ]
