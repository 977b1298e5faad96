"""Deriving the indexes again, from all events in the order in which they were committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from beamflow.errors import CorruptLogError
from beamflow.model.codec import checksum, decode_event
from beamflow.stores.sql import statement
from beamflow.stores.sqlite.batch import Batch

if TYPE_CHECKING:
    import aiosqlite

__all__ = ["rebuild"]

_AT_A_TIME = 2_000
_EVENTS = statement("sqlite", "all_events")
_COMMIT = statement("sqlite", "commit")
_CLEAR = [
    statement("sqlite", f"clear_{table}") for table in ("workflows", "labels", "letters", "results")
]


async def rebuild(connection: aiosqlite.Connection) -> None:
    """Do it in one transaction of a connection that nobody else writes with meanwhile.

    Raises:
        CorruptLogError: an event is damaged; nothing was changed.
    """
    await connection.execute_fetchall("BEGIN IMMEDIATE")
    try:
        for clear in _CLEAR:
            await connection.execute_fetchall(clear)
        position: int | None = 0
        while position is not None:
            position = await _index(connection, position)
    except BaseException:
        await connection.execute_fetchall("ROLLBACK")
        raise
    await connection.execute_fetchall("COMMIT")


async def _index(connection: aiosqlite.Connection, after: int) -> int | None:
    """Index the events behind a position; return the last one, None when there are no more."""
    rows = list(await connection.execute_fetchall(_EVENTS, {"after": after, "limit": _AT_A_TIME}))
    batch = Batch()
    for _, stream, seq, time, crc, data in rows:
        if checksum(stream, seq, data) != crc:
            raise CorruptLogError(stream, seq, "its checksum does not match")
        try:
            event = decode_event(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptLogError(stream, seq, f"it cannot be decoded: {error}") from error
        batch.index(stream, seq, time, event)
    await connection.execute_fetchall(_COMMIT, batch.parameters())
    return rows[-1][0] if len(rows) == _AT_A_TIME else None
