"""The connections that read: each transaction is a statement, or a few, and over in moments."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from beamflow.stores.sqlite.problems import code_of, unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiosqlite

    from beamflow.errors import StoreUnavailableError

    Execute = Callable[[str, dict[str, Any]], Any]

__all__ = ["Readers"]

T = TypeVar("T")


class Readers:
    """A few connections in turn.

    Args:
        store: how messages name the store.
        refusal: makes the error for whoever reads when there is no connection.
        fail: told of a disk that fails.
    """

    def __init__(
        self,
        store: str,
        refusal: Callable[[], StoreUnavailableError],
        fail: Callable[[StoreUnavailableError], object],
    ) -> None:
        """Begin without a connection."""
        self._store = store
        self._refusal = refusal
        self._fail = fail
        self._connections: deque[aiosqlite.Connection] = deque()
        self._reading = 0
        self._held: asyncio.Event | None = None
        self._when_still: Callable[[], object] | None = None

    def __iter__(self) -> Any:
        """Iterate over the connections."""
        return iter(self._connections)

    def add(self, connection: aiosqlite.Connection) -> None:
        """Read with this one too."""
        self._connections.append(connection)

    async def close(self) -> None:
        """Close them all; whoever waits to read is refused."""
        connections, self._connections = self._connections, deque()
        self.let_go()
        for connection in connections:
            await connection.close()

    @property
    def are_still(self) -> bool:
        """Whether nobody reads at the moment."""
        return not self._reading

    def hold(self, when_still: Callable[[], object]) -> None:
        """Let nobody begin to read; call back once those who do have ended."""
        self._held = asyncio.Event()
        self._when_still = when_still
        if not self._reading:
            when_still()

    def let_go(self) -> None:
        """Undo `hold`."""
        held, self._held, self._when_still = self._held, None, None
        if held is not None:
            held.set()

    async def row(self, sql: str, parameters: dict[str, object]) -> Any:
        """Execute a statement and return its first row, or None; raises `StoreUnavailableError`."""
        rows = await self._reading_with(lambda one: one.execute_fetchall(sql, parameters))
        return next(iter(rows), None)

    async def at_one_moment(self, read: Callable[[Execute], T]) -> T:
        """Call a function that executes several statements, all of which see the same moment.

        It is called in the thread of a connection, with what executes a statement and returns its
        first row. Raises `StoreUnavailableError`.
        """

        def begin(one: aiosqlite.Connection) -> Awaitable[T]:
            execute: Callable[..., Awaitable[T]] = one._execute  # noqa: SLF001 - it has no call for a function in its thread
            return execute(_in_transaction, one._conn, read)  # noqa: SLF001 - as above

        return await self._reading_with(begin)

    async def _reading_with(self, call: Callable[[aiosqlite.Connection], Awaitable[T]]) -> T:
        while self._held is not None:
            await self._held.wait()
        if not self._connections:
            raise self._refusal()
        self._connections.rotate()
        self._reading += 1
        try:
            return await call(self._connections[0])
        except (sqlite3.Error, ValueError) as error:
            failure = unavailable(self._store, error)
            if code_of(error) == sqlite3.SQLITE_IOERR:
                self._fail(failure)
            raise failure from error
        finally:
            self._reading -= 1
            if self._when_still is not None and not self._reading:
                self._when_still()


def _in_transaction(connection: sqlite3.Connection, read: Callable[[Execute], T]) -> T:
    def execute(sql: str, parameters: dict[str, Any]) -> Any:
        return connection.execute(sql, parameters).fetchone()

    connection.execute("BEGIN")
    try:
        return read(execute)
    finally:
        if connection.in_transaction:  # an error may have ended it
            connection.execute("ROLLBACK")
