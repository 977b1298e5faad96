"""The writer of a file, lent to a step: its rows and the event that records it are one commit."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

from beamflow.errors import StoreUnavailableError, TransactionError
from beamflow.stores.base import encoded
from beamflow.stores.sqlite.batch import Append, Batch
from beamflow.stores.sqlite.problems import code_of, unavailable
from beamflow.stores.transactions import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    import aiosqlite

    from beamflow.model.events import Event
    from beamflow.stores.base import Sleep

__all__ = ["SQLiteTransaction"]

_DEFERRED = (
    "This constraint is deferred, and so is checked only when the step's transaction is committed, after "
    "the step has returned. Nothing of the transaction was written."
)
_OURS = "beamflow_"
_LOOK_AFTER = 10_000
"""Instructions of SQLite's machine between two looks whether a statement is to go on; about a ms."""
_OF_TABLES = frozenset(
    {sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
)
_FORBIDDEN = {
    sqlite3.SQLITE_TRANSACTION: "begins or ends a transaction; beamflow does, with the step",
    sqlite3.SQLITE_ATTACH: "attaches a database",
    sqlite3.SQLITE_DETACH: "detaches a database",
    sqlite3.SQLITE_PRAGMA: "is a PRAGMA; set it on a connection of your own",
}
_FATAL = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
    }
)


class SQLiteTransaction:
    """Stands in the line of commits; when it is its turn, `run` lends the writer and waits.

    Args:
        store: how messages name the store.
        writer: the connection that writes.
        write: writes a batch, in the transaction that is open.

    Attributes:
        begun: settled once the writer is lent, or cannot be.
        is_sealed: whether it waits for `commit`.
    """

    def __init__(
        self,
        store: str,
        writer: aiosqlite.Connection,
        write: Callable[[Batch], Awaitable[None]],
    ) -> None:
        """Wait for the turn."""
        self._store = store
        self._writer = writer
        self._write = write
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_sealed = False
        self._lock = asyncio.Lock()
        self._over = asyncio.Event()
        self._batch: Batch | None = None
        self._committed: asyncio.Future[None] | None = None
        self._failure: sqlite3.Error | None = None
        self._sql = ""
        self._refusal = ""

    @property
    def appends(self) -> list[Append]:
        """Who waits for it, for a store that fails."""
        waiter = self.begun if self._committed is None else self._committed
        return [Append("", 0, 0, 0, waiter)]

    # For the store

    async def run(self) -> None:
        """Lend the writer until the transaction is to be committed or abandoned, then do so.

        Raises:
            sqlite3.Error: a write has failed; the store is not to be trusted any more.
        """
        if self._over.is_set():
            return
        if not await self._begin():
            return
        try:
            await self._guard()
            if not self.begun.done():
                self.begun.set_result(None)
                await self._over.wait()
            await self._unguard()
            await self._end()
        except BaseException:
            self._over.set()
            await self._unguard()
            await self._roll_back()
            raise

    async def _guard(self) -> None:
        """Have SQLite ask what a statement may do, and now and then whether it is to go on."""
        await self._writer.set_authorizer(self._judge)
        await self._writer.set_progress_handler(self._over.is_set, _LOOK_AFTER)

    async def _unguard(self) -> None:
        await self._writer.set_progress_handler(None, 0)  # type: ignore[arg-type]
        await self._writer.set_authorizer(None)

    async def _begin(self) -> bool:
        try:
            await self._writer.execute_fetchall("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_BUSY:
                raise
            self._over.set()
            if not self.begun.done():
                self.begun.set_exception(unavailable(self._store, error))
            return False
        return True

    async def _end(self) -> None:
        if self._failure is not None:
            raise self._failure
        batch, committed = self._batch, self._committed
        if batch is None or committed is None:
            await self._roll_back()
            return
        await self._write(batch)
        refusal = batch.appends[0].waiter.exception() or await self._try_to_commit()
        if refusal is not None:
            await self._roll_back()
        if committed.done():
            return
        if refusal is None:
            committed.set_result(None)
        else:
            committed.set_exception(refusal)

    async def _try_to_commit(self) -> RefusedError | None:
        """Commit; return the error of a constraint that is checked only now."""
        try:
            await self._writer.execute_fetchall("COMMIT")
        except sqlite3.IntegrityError as error:
            error.add_note(_DEFERRED)
            return RefusedError(error)
        return None

    async def _roll_back(self) -> None:
        if self._writer.in_transaction:
            await self._writer.execute_fetchall("ROLLBACK")

    # For the step

    async def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Execute one statement and return its rows."""
        return await self._statement(sql, lambda: self._writer.execute_fetchall(sql, parameters))

    async def executemany(
        self, sql: str, rows: Iterable[Sequence[Any] | Mapping[str, Any]]
    ) -> None:
        """Execute one statement for each of the rows."""
        every = list(rows)

        async def execute() -> list[tuple[Any, ...]]:
            await (await self._writer.executemany(sql, every)).close()
            return []

        await self._statement(sql, execute)

    async def _statement(
        self, sql: str, execute: Callable[[], Awaitable[Iterable[Any]]]
    ) -> list[tuple[Any, ...]]:
        async with self._lock:
            self._check_open()
            self._sql, self._refusal = sql.lower(), ""
            try:
                return list(await execute())
            except sqlite3.Error as error:
                raise self._said_of(error) from error

    def _said_of(self, error: sqlite3.Error) -> Exception:
        code = code_of(error)
        if code in _FATAL:
            self._failure = error
            self._over.set()
            return unavailable(self._store, error)
        if self._refusal:
            return TransactionError(f"the statement {self._refusal}. Nothing of it was done")
        if code == sqlite3.SQLITE_INTERRUPT:
            return TransactionError("the statement was cut off: its step's transaction is over")
        return error

    def _check_open(self) -> None:
        if self.is_sealed or self._over.is_set():
            raise TransactionError(
                "the step's transaction is over: use the database inside its block, and in time"
            )
        if self.problem is not None:
            raise self.problem

    @property
    def problem(self) -> TransactionError | None:
        """Why it cannot be committed: a statement, or a trigger of it, has rolled it back."""
        if self._over.is_set() or self._writer.in_transaction:
            return None
        return TransactionError(
            "a statement has rolled the whole transaction back (ON CONFLICT ROLLBACK, RAISE(ROLLBACK) "
            "or a full disk); nothing of it was written"
        )

    def seal(self) -> None:
        """Take no more statements."""
        self.is_sealed = not self._over.is_set()

    def abandon(self) -> None:
        """Roll back; harmless when it is over."""
        if self._batch is None:
            self.is_sealed = False
            self._over.set()

    async def commit(
        self,
        stream: str,
        expected: int,
        events: Sequence[Event],
        *,
        time: int,
        epoch: int,
        sleep: Sleep | None = None,
    ) -> None:
        """Append events and commit all that was written."""
        data = encoded(stream, expected, events)
        if self._over.is_set():
            raise StoreUnavailableError(
                self._store, "its transaction is over", "Open it, then read before writing"
            )
        loop = asyncio.get_running_loop()
        self._committed = loop.create_future()
        self._batch = Batch()
        self._batch.add(
            Append(stream, expected, time, epoch, loop.create_future()), events, data, sleep
        )
        self._over.set()
        await self._committed

    # What a step may do

    def _judge(
        self, action: int, first: str | None, second: str | None, _db: str | None, _by: str | None
    ) -> int:
        """Tell SQLite whether a statement may do something; called while it is prepared."""
        if action in _FORBIDDEN:
            self._refusal = _FORBIDDEN[action]
            return sqlite3.SQLITE_DENY
        names: tuple[str | None, ...] = (first, second)
        if action in _OF_TABLES:
            names = (first,)
        elif action == sqlite3.SQLITE_FUNCTION:
            names = ()
        elif action == sqlite3.SQLITE_ALTER_TABLE and _OURS in self._sql:
            names = (_OURS,)  # the new name is not among them
        for name in names:
            if name is not None and name.lower().startswith(_OURS):
                self._refusal = (
                    f"is about {name!r}: names that begin with 'beamflow_' are beamflow's"
                )
                return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK
