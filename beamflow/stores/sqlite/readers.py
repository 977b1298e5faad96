"""The connections that read: each statement is a transaction of its own, over in moments."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from typing import TYPE_CHECKING, Any

from beamflow.stores.sqlite.problems import code_of, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiosqlite

    from beamflow.errors import StoreUnavailableError

__all__ = ["Readers"]


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
        while self._held is not None:
            await self._held.wait()
        if not self._connections:
            raise self._refusal()
        self._connections.rotate()
        self._reading += 1
        try:
            rows = await self._connections[0].execute_fetchall(sql, parameters)
        except (sqlite3.Error, ValueError) as error:
            failure = unavailable(self._store, error)
            if code_of(error) == sqlite3.SQLITE_IOERR:
                self._fail(failure)
            raise failure from error
        finally:
            self._reading -= 1
            if self._when_still is not None and not self._reading:
                self._when_still()
        return next(iter(rows), None)
