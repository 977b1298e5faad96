"""A look into the file: of whatever schema, whoever writes to it, without a trace."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from beamflow.errors import CorruptLogError, StoreFormatError, StoreUnavailableError
from beamflow.model.status import OPEN_STATES
from beamflow.stores.base import LIMIT_MAX, Summary
from beamflow.stores.sql import statement
from beamflow.stores.sqlite.file import check_schema, connect
from beamflow.stores.sqlite.problems import code_of, unavailable
from beamflow.stores.sqlite.reading import events_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    import aiosqlite

    from beamflow.model.events import Recorded

__all__ = ["SQLiteReader"]

_UNFINISHED = statement("sqlite", "unfinished")
_READ = statement("sqlite", "read")
_BUSY_TIMEOUT_S = 5.0
_STATES = msgspec.json.encode(sorted(state.value for state in OPEN_STATES)).decode()

_summaries = msgspec.json.Decoder(list[Summary])


class SQLiteReader:
    """A connection that SQLite itself refuses to write on; each question is a transaction of its own.

    One for all of them would hold up the write-ahead log of whoever writes meanwhile.

    Args:
        path: the database file.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._connection: aiosqlite.Connection | None = None

    def __repr__(self) -> str:
        return f"sqlite:///{self._path}"

    async def __aenter__(self) -> Self:
        """Begin to look. The port tells the contract."""
        if not self._path.is_file():
            raise StoreUnavailableError(
                repr(self), "there is no such file", "Name the file that the engine uses"
            )
        try:
            self._connection = await connect(
                self._path.resolve(),
                busy_timeout_s=_BUSY_TIMEOUT_S,
                pragmas={"mmap_size": 0, "query_only": 1},
                mode="ro",
            )
            await self._check(self._connection)
        except BaseException as error:
            await self._close()
            if isinstance(error, sqlite3.Error):
                raise unavailable(repr(self), error) from error
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of it. The port tells the contract."""
        await self._close()

    async def unfinished(self) -> AsyncIterator[Summary]:
        """Iterate over all workflows that can still go on. The port tells the contract."""
        after = (-(2**63), "")
        while True:
            parameters: dict[str, object] = {
                "states": _STATES,
                "after_time": after[0],
                "after_id": after[1],
                "limit": LIMIT_MAX,
            }
            summaries = _summaries.decode((await self._row(_UNFINISHED, parameters))[0])
            for summary in summaries:
                yield summary
            if len(summaries) < LIMIT_MAX:
                return
            after = (summaries[-1].started_at, summaries[-1].id)

    async def read(self, stream: str) -> list[Recorded]:
        """Return all events of a stream. The port tells the contract."""
        parameters = {"stream": stream, "after": 0, "limit": -1}
        try:
            return events_of(stream, 0, await self._row(_READ, parameters))
        except StoreUnavailableError as error:
            if code_of(error.__cause__) != sqlite3.SQLITE_CORRUPT:
                raise
            raise CorruptLogError(stream, 1, f"{error.__cause__}") from error

    async def _row(self, sql: str, parameters: dict[str, object]) -> Any:
        if self._connection is None:
            raise StoreUnavailableError(repr(self), "it is not open", "Use it in an `async with`")
        try:
            (row,) = await self._connection.execute_fetchall(sql, parameters)
        except (sqlite3.Error, ValueError) as error:
            raise unavailable(repr(self), error) from error
        return row

    async def _check(self, connection: aiosqlite.Connection) -> None:
        if not await check_schema(repr(self), connection):
            raise StoreFormatError(f"{self!r}: no engine has used it yet; there is nothing in it")

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
