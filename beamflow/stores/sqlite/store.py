"""The store in one SQLite file.

One connection writes, what stands in line before it (`Commits`); others read (`Readers`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from beamflow.errors import (
    ConflictError,
    FencedError,
    StoreLockedError,
    StoreUnavailableError,
)
from beamflow.stores.base import Lease, encoded
from beamflow.stores.sql import statement
from beamflow.stores.sqlite.batch import Append
from beamflow.stores.sqlite.commits import QUEUE_BYTES_MAX, Commits
from beamflow.stores.sqlite.file import check_schema, connect, create, enter_wal, identity, migrate
from beamflow.stores.sqlite.lock import OwnerLock
from beamflow.stores.sqlite.problems import code_of, unavailable
from beamflow.stores.sqlite.readers import Readers
from beamflow.stores.sqlite.reading import Reading
from beamflow.stores.sqlite.rebuild import rebuild
from beamflow.stores.sqlite.transaction import SQLiteTransaction
from beamflow.stores.sqlite.wal import CHECKPOINT_PAGES, WAL_BYTES_MAX, Wal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import aiosqlite

    from beamflow.model.events import Event
    from beamflow.stores.base import Sleep
    from beamflow.stores.removal import Removable

__all__ = ["SQLiteStore"]

_READERS = 2
_PIECE = 500
"""How many events of a removed workflow go in one commit."""

_CLAIM = statement("sqlite", "claim")
_OWNER = statement("sqlite", "owner")
_RENEW = statement("sqlite", "renew")
_RELEASE = statement("sqlite", "release")


class SQLiteStore(Reading):
    """A store in one SQLite file, which it may share with the tables of others.

    Beside the file, SQLite keeps ``-wal`` and ``-shm``, and the store ``-owner``, which the process
    that holds the lease keeps locked. All four belong together; the file must be on a local disk.

    Args:
        path: the database file; created when missing, its directory is not.
        clock: the time now, in microseconds since the Unix epoch; only leases look at it.
        durability: ``"full"``: what was acknowledged survives a power loss; ``"relaxed"``: it
            survives the death of the process, a power loss may take the last moments.
        busy_timeout_s: how long to wait for another process that writes to the file.
        queue_bytes_max: how many bytes of events may wait to be committed; whoever appends more waits.
        wal_bytes_max: how large the write-ahead log may get before readers wait for it to begin anew.
    """

    shared: ClassVar[bool] = True

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Callable[[], int],
        durability: Literal["full", "relaxed"] = "full",
        busy_timeout_s: float = 5.0,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        wal_bytes_max: int = WAL_BYTES_MAX,
    ) -> None:
        self._path = Path(path)
        self._clock = clock
        self._durability = durability
        self._busy_timeout_s = busy_timeout_s
        self._is_open = False
        self._queue_bytes_max = queue_bytes_max
        self._wal_bytes_max = wal_bytes_max
        self._writer: aiosqlite.Connection | None = None
        self._lock: OwnerLock | None = None
        self._identity: tuple[int, int] | None = None
        self._begin_anew()

    def __repr__(self) -> str:
        return f"sqlite:///{self._path}"

    async def open(self) -> None:
        """Open or create the file. The port tells the contract."""
        if self._is_open:
            raise StoreLockedError(repr(self), "another engine that was given this very object")
        self._is_open = True
        self._begin_anew()
        try:
            await self._open(create(repr(self), self._path))
        except BaseException as error:
            await self.close()
            if isinstance(error, sqlite3.Error):
                raise unavailable(repr(self), error) from error
            raise

    async def serve(self) -> None:
        """Commit what `append` is handed, until cancelled. The port tells the contract."""
        self._check_usable()
        await self._commits.serve()

    async def rebuild(self) -> None:
        """Derive all indexes from the events again. The port tells the contract."""
        self._check_usable()
        assert self._writer is not None
        try:
            await rebuild(self._writer)
        except sqlite3.Error as error:
            raise unavailable(repr(self), error) from error

    async def close(self) -> None:
        """Close the file; the lease is free from here on. The port tells the contract."""
        self._commits.fail(self._commits.unusable("the store was closed"))
        try:
            await self._readers.close()
            writer, self._writer = self._writer, None
            if writer is not None:
                await writer.close()
        finally:
            if self._lock is not None:
                self._lock.release()
            self._is_open = False

    async def append(
        self,
        stream: str,
        expected: int,
        events: Sequence[Event],
        *,
        time: int,
        epoch: int,
        sleep: Sleep | None = None,
    ) -> None:
        """Add events, all or none. The port tells the contract."""
        commits = self._commits
        if commits.failure is not None or self._writer is None:
            raise commits.refusal()
        if commits.is_full:
            await commits.room()
        try:
            data = encoded(stream, expected, events)
        except BaseException:
            commits.let_in()  # whoever stands behind: the room is not taken
            raise
        waiter = asyncio.get_running_loop().create_future()
        commits.put(Append(stream, expected, time, epoch, waiter), events, data, sleep)
        del data  # whoever waits holds as little as can be
        try:
            await waiter
        except ConflictError:
            left = None if expected else await self._left_of(stream)
            if left is None:
                raise
            await self._clear(stream, left, epoch)
            await self.append(stream, expected, events, time=time, epoch=epoch, sleep=sleep)

    async def sleep(self, workflow_id: str, sleep: Sleep, *, epoch: int) -> None:
        """Note that a workflow sleeps, or is awake again. The port tells the contract."""
        waiter = asyncio.get_running_loop().create_future()
        (await self._room()).put(Append(workflow_id, 0, 0, epoch, waiter), (), (), sleep)
        await waiter

    async def remove(self, items: Sequence[Removable], *, now: int, epoch: int) -> tuple[str, ...]:
        """Remove workflows that have ended. The port tells the contract."""
        removals: list[tuple[Removable, asyncio.Future[None]]] = []
        for item in items:
            if not item.begun:
                waiter = asyncio.get_running_loop().create_future()
                append = Append(item.id, item.seq, now, epoch, waiter)
                (await self._room()).put_removal(append, _PIECE)
                removals.append((item, waiter))
        removed = await _settled(removals)
        for item in items:
            if item.begun or (item.seq > _PIECE and item.id in removed):
                await self._clear(item.id, item.seq, epoch)
        return removed

    async def begin(self) -> SQLiteTransaction:
        """Wait for the writer and begin a transaction. The port tells the contract."""
        commits = self._commits
        if commits.failure is not None or self._writer is None:
            raise commits.refusal()
        transaction = SQLiteTransaction(repr(self), self._writer, commits.commit)
        commits.lend(transaction)
        try:
            await transaction.begun
        except BaseException:
            transaction.abandon()
            raise
        return transaction

    async def claim(self, owner: str, ttl_s: float) -> Lease:
        """Take the lease. The port tells the contract."""
        self._check_usable()
        was_held = self._owns_lock()
        os_locked = self._take_lock()
        (before,) = await self._read(_OWNER, {})
        now = self._clock()
        expires_at = now + round(ttl_s * 1_000_000)
        row = await self._write(
            _CLAIM,
            {
                "owner": owner,
                "now": now,
                "expires_at": expires_at,
                "os_locked": os_locked,
                "owner_is_dead": os_locked and not was_held,
            },
        )
        if row is None:
            if self._lock is not None and not was_held:
                self._lock.release()
            (holder,) = await self._read(_OWNER, {})
            raise StoreLockedError(repr(self), holder or "an engine that is just stopping")
        return Lease(owner=owner, epoch=row[0], expires_at=expires_at, inherited=before is not None)

    async def renew(self, lease: Lease, ttl_s: float) -> Lease:
        """Extend the lease. The port tells the contract."""
        self._check_usable()
        self._check_place()
        expires_at = self._clock() + round(ttl_s * 1_000_000)
        row = await self._write(
            _RENEW,
            {"epoch": lease.epoch, "expires_at": expires_at, "os_locked": self._take_lock()},
        )
        if row is None:
            raise FencedError(lease.epoch)
        return msgspec.structs.replace(lease, expires_at=expires_at)

    async def release(self, lease: Lease) -> None:
        """Give the lease back. The port tells the contract."""
        # A commit that nobody waits for any more is carried out first, on the same connection.
        if not self._commits.interrupted:
            self._check_usable()
        row = await self._write(_RELEASE, {"epoch": lease.epoch})
        if row is not None and self._lock is not None:
            self._lock.release()

    # opening

    def _begin_anew(self) -> None:
        """Forget what an earlier life of the store has left."""
        name, path = repr(self), self._path.resolve()
        self._readers = Readers(name, self._refusal, self._fail)
        wal = Wal(
            name,
            path.with_name(f"{path.name}-wal"),
            self._execute,
            self._readers,
            busy_timeout_s=self._busy_timeout_s,
            bytes_max=self._wal_bytes_max,
        )
        self._commits = Commits(name, self._execute, wal, self._queue_bytes_max)
        wal.look_again = self._commits.look_again

    async def _open(self, path: Path) -> None:
        self._identity = identity(path)
        self._lock = OwnerLock(path.with_name(f"{path.name}-owner"))
        writer = self._writer = await connect(
            path,
            busy_timeout_s=self._busy_timeout_s,
            pragmas={"mmap_size": 0, "foreign_keys": 1},
        )
        await check_schema(repr(self), writer)
        await enter_wal(repr(self), writer)
        synchronous = "FULL" if self._durability == "full" else "NORMAL"
        await writer.execute_fetchall(f"PRAGMA synchronous = {synchronous}")
        await writer.execute_fetchall(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        await writer.execute_fetchall(f"PRAGMA journal_size_limit = {self._wal_bytes_max}")
        await migrate(repr(self), writer)
        for _ in range(_READERS):
            pragmas = {"mmap_size": 0, "query_only": 1, "wal_autocheckpoint": 0}
            reader = await connect(path, busy_timeout_s=self._busy_timeout_s, pragmas=pragmas)
            self._readers.add(reader)

    # removing

    async def _clear(self, workflow_id: str, last: int, epoch: int) -> None:
        """Give back what is left of a workflow that is there no more, a piece a commit."""
        for end in range(_PIECE, last + _PIECE, _PIECE):
            waiter = asyncio.get_running_loop().create_future()
            append = Append(workflow_id, min(end, last), 0, epoch, waiter)
            (await self._room()).put_clearing(append)
            await waiter

    # calling

    async def _room(self) -> Commits:
        """Return the line, once there is room in it."""
        commits = self._commits
        if commits.failure is not None or self._writer is None:
            raise commits.refusal()
        if commits.is_full:
            await commits.room()
        return commits

    async def _execute(self, sql: str, parameters: dict[str, object]) -> Any:
        if self._writer is None:
            raise self._refusal()
        return next(iter(await self._writer.execute_fetchall(sql, parameters)), None)

    async def _write(self, sql: str, parameters: dict[str, object]) -> Any:
        try:
            async with self._commits.turn:  # never in the transaction of a step
                return await self._execute(sql, parameters)
        except (sqlite3.Error, ValueError) as error:
            failure = unavailable(repr(self), error)
            if code_of(error) != sqlite3.SQLITE_BUSY:
                self._fail(failure)
            raise failure from error

    def _check_usable(self) -> None:
        if self._commits.failure is not None or self._writer is None:
            raise self._refusal()

    def _check_place(self) -> None:
        """Stop the store when its file was moved away: what is written to it would be lost."""
        try:
            moved = identity(self._path) != self._identity
        except OSError:
            moved = True
        if moved:
            self._commits.fail(self._commits.unusable("the file was moved, deleted or replaced"))
            raise self._refusal()

    def _refusal(self) -> StoreUnavailableError:
        return self._commits.refusal()

    def _fail(self, failure: StoreUnavailableError) -> None:
        self._commits.fail(failure)

    def _owns_lock(self) -> bool:
        return self._lock is not None and self._lock.is_held

    def _take_lock(self) -> bool:
        try:
            return self._lock is not None and self._lock.acquire()
        except OSError as error:
            raise StoreUnavailableError(
                repr(self),
                f"its lock file cannot be locked ({error.strerror})",
                "Let this user write the directory; network file systems are not supported",
            ) from error


async def _settled(removals: Sequence[tuple[Removable, asyncio.Future[None]]]) -> tuple[str, ...]:
    """Return which were removed; raises the first error that is no plain refusal."""
    waiters = [waiter for _, waiter in removals]
    if not waiters:
        return ()
    try:
        await asyncio.wait(waiters)
    except asyncio.CancelledError:
        for waiter in waiters:
            waiter.cancel()
        raise
    for error in [waiter.exception() for waiter in waiters]:
        if error is not None and not isinstance(error, ConflictError):
            raise error
    return tuple(item.id for item, waiter in removals if waiter.exception() is None)
