"""The store in one SQLite file.

One connection writes, what stands in line before it (`Commits`); others read (`Readers`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import msgspec

from beamflow.errors import (
    CorruptLogError,
    FencedError,
    StoreLockedError,
    StoreUnavailableError,
)
from beamflow.model.codec import checksum, decode_event
from beamflow.model.events import Recorded
from beamflow.model.status import ACTIVE_STATES, WorkflowState
from beamflow.stores.base import (
    LIMIT_MAX,
    DeadLetter,
    DeadLetterPage,
    DeadLetterQuery,
    DeadLetterState,
    Kept,
    Lease,
    Page,
    Place,
    Sleep,
    Summary,
    WorkflowQuery,
    checked_limit,
    cursor_at,
    encoded,
    letter_cursor_at,
    letter_place_of,
    place_of,
)
from beamflow.stores.sql import statement
from beamflow.stores.sqlite.batch import Append
from beamflow.stores.sqlite.commits import QUEUE_BYTES_MAX, Commits
from beamflow.stores.sqlite.file import check_schema, connect, create, enter_wal, identity, migrate
from beamflow.stores.sqlite.finding import Finding
from beamflow.stores.sqlite.lock import OwnerLock
from beamflow.stores.sqlite.problems import code_of, unavailable
from beamflow.stores.sqlite.readers import Readers
from beamflow.stores.sqlite.rebuild import rebuild
from beamflow.stores.sqlite.transaction import SQLiteTransaction
from beamflow.stores.sqlite.wal import CHECKPOINT_PAGES, WAL_BYTES_MAX, Wal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import aiosqlite

    from beamflow.model.events import Event

__all__ = ["SQLiteStore", "events_of"]

T = TypeVar("T")

_READERS = 2
_READ_EVENTS = 2_000

_READ = statement("sqlite", "read")
_KEPT = statement("sqlite", "kept")
_SLEEPERS = statement("sqlite", "sleepers")
_AWAKE = statement("sqlite", "awake")
_SUMMARY = statement("sqlite", "summary")
_DEAD_LETTERS = statement("sqlite", "dead_letters")
_DEAD_LETTERS_OF = statement("sqlite", "dead_letters_of")
_CLAIM = statement("sqlite", "claim")
_OWNER = statement("sqlite", "owner")
_RENEW = statement("sqlite", "renew")
_RELEASE = statement("sqlite", "release")

_places = msgspec.json.Decoder(list[tuple[int, int, int, int, int]])
_summary = msgspec.json.Decoder(Summary)
_summaries = msgspec.json.Decoder(list[Summary])
_counts = msgspec.json.Decoder(dict[WorkflowState, int])
_wakings = msgspec.json.Decoder(tuple[Place, ...])
_kept = msgspec.json.Decoder(Kept)
_letter = msgspec.json.Decoder(DeadLetter)
_letters = msgspec.json.Decoder(
    list[tuple[str, int, WorkflowState, DeadLetterState, int | None, str, str]]
)


class SQLiteStore:
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
        data = encoded(stream, expected, events)
        waiter = asyncio.get_running_loop().create_future()
        commits.put(Append(stream, expected, time, epoch, waiter), events, data, sleep)
        del data  # whoever waits holds as little as can be
        await waiter

    async def sleep(self, workflow_id: str, sleep: Sleep, *, epoch: int) -> None:
        """Note that a workflow sleeps, or is awake again. The port tells the contract."""
        commits = self._commits
        if commits.failure is not None or self._writer is None:
            raise commits.refusal()
        if commits.is_full:
            await commits.room()
        waiter = asyncio.get_running_loop().create_future()
        commits.put(Append(workflow_id, 0, 0, epoch, waiter), (), (), sleep)
        await waiter

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

    async def read(self, stream: str, after: int = 0) -> list[Recorded]:
        """Return the events after a sequence number. The port tells the contract."""
        records: list[Recorded] = []
        while True:
            last = after + len(records)
            try:
                row = await self._read(
                    _READ, {"stream": stream, "after": last, "limit": _READ_EVENTS}
                )
            except StoreUnavailableError as error:
                if code_of(error.__cause__) != sqlite3.SQLITE_CORRUPT:
                    raise
                raise CorruptLogError(stream, last + 1, f"{error.__cause__}") from error
            found = events_of(stream, last, row)
            records += found
            if len(found) < _READ_EVENTS:
                return records

    async def find(self, query: WorkflowQuery) -> Page:
        """Return one page of summaries. The port tells the contract."""
        limit = checked_limit(query.limit)
        sql, parameters = (await self._finding(query)).find(limit + 1)
        (text,) = await self._read(sql, parameters)
        return self._page(text, limit)

    async def count(self, query: WorkflowQuery) -> dict[WorkflowState, int]:
        """Return how many workflows match, by state. The port tells the contract."""
        whole = msgspec.structs.replace(query, after=None)
        row = await self._read(*(await self._finding(whole)).count())
        return self._decoded(_counts, row[0])

    async def summary(self, workflow_id: str) -> Summary | None:
        """Return the summary of one workflow, or None."""
        row = await self._read(_SUMMARY, {"id": workflow_id})
        return _in_order(self._decoded(_summary, row[0])) if row else None

    async def sleepers(
        self, after: Place, before: int, *, limit: int = LIMIT_MAX
    ) -> tuple[Place, ...]:
        """Return whom time wakes, soonest first. The port tells the contract."""
        time, workflow_id = after
        parameters: dict[str, object] = {
            "after_time": time,
            "after_id": workflow_id,
            "before": before,
            "states": _names(ACTIVE_STATES),
            "limit": limit,
        }
        (text,) = await self._read(_SLEEPERS, parameters)
        return self._decoded(_wakings, text)

    async def awake(
        self, state: WorkflowState, now: int, *, after: str | None = None, limit: int = LIMIT_MAX
    ) -> Page:
        """Return those of a state that do not sleep, a page of them. The port tells the contract."""
        time, workflow_id = place_of(after)
        parameters: dict[str, object] = {
            "state": state.value,
            "now": now,
            "after_time": time,
            "after_id": workflow_id,
            "limit": checked_limit(limit) + 1,
        }
        (text,) = await self._read(_AWAKE, parameters)
        return self._page(text, limit)

    async def kept(self, step: str, key: str, now: int) -> Kept | None:
        """Return the result that is shared under a key. The port tells the contract."""
        row = await self._read(_KEPT, {"step": step, "key": key, "now": now})
        return self._decoded(_kept, row[0]) if row else None

    async def dead_letters(self, query: DeadLetterQuery) -> DeadLetterPage:
        """Return one page of dead letters. The port tells the contract."""
        limit = checked_limit(query.limit)
        time, workflow_id, number = letter_place_of(query.after)
        row = await self._read(
            _DEAD_LETTERS if query.workflow_id is None else _DEAD_LETTERS_OF,
            {
                "states": _names(DeadLetterState if query.states is None else query.states),
                "workflow": query.workflow,
                "workflow_id": query.workflow_id,
                "after_time": time,
                "after_id": workflow_id,
                "after_number": number,
                "limit": limit + 1,
            },
        )
        letters = [
            msgspec.structs.replace(
                self._decoded(_letter, letter),
                number=number,
                outcome=outcome,
                state=state,
                closed_at=closed_at,
                note=note,
                retried_as=retried_as,
            )
            for letter, number, outcome, state, closed_at, note, retried_as in self._decoded(
                _letters, row[0]
            )
        ]
        cursor = letter_cursor_at(letters[limit - 1]) if len(letters) > limit else None
        return DeadLetterPage(items=tuple(letters[:limit]), cursor=cursor)

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
            path, busy_timeout_s=self._busy_timeout_s, pragmas={"mmap_size": 0}
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

    async def _finding(self, query: WorkflowQuery) -> Finding:
        finding = Finding(query)
        if finding.probe is not None:
            (answer,) = await self._read(*finding.probe)
            finding.probed(answer)
        return finding

    def _page(self, text: str, limit: int) -> Page:
        """Return the page that ends before a summary too many, if there is one."""
        items = [_in_order(summary) for summary in self._decoded(_summaries, text)]
        last = items[limit - 1] if len(items) > limit else None
        cursor = cursor_at(last.started_at, last.id) if last else None
        return Page(items=tuple(items[:limit]), cursor=cursor)

    # calling

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

    async def _read(self, sql: str, parameters: dict[str, object]) -> Any:
        return await self._readers.row(sql, parameters)

    def _decoded(self, decoder: msgspec.json.Decoder[T], text: str) -> T:
        try:
            return decoder.decode(text)
        except msgspec.MsgspecError as error:
            raise StoreUnavailableError(
                repr(self), f"its index is damaged ({error})", "Restore it from a backup"
            ) from error

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


def events_of(stream: str, after: int, row: tuple[str, bytes | None]) -> list[Recorded]:
    """Build the events of one read, each of them checked."""
    try:
        places = _places.decode(row[0])
    except msgspec.MsgspecError as error:
        raise CorruptLogError(stream, after + 1, f"its columns are damaged: {error}") from error
    data, start, records = row[1] or b"", 0, []
    for place, (seq, time, epoch, crc, size) in enumerate(places, after + 1):
        if seq != place:
            raise CorruptLogError(stream, place, f"it is missing, the next one is {seq}")
        item = data[start : start + size]
        start += size
        if checksum(stream, seq, item) != crc:
            raise CorruptLogError(stream, seq, "its checksum does not match")
        try:
            event = decode_event(item)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptLogError(stream, seq, f"it cannot be decoded: {error}") from error
        records.append(Recorded(stream=stream, seq=seq, time=time, epoch=epoch, event=event))
    return records


def _in_order(summary: Summary) -> Summary:
    """Sort the tags as text: the index has them sorted as JSON."""
    if len(summary.tags) < 2:  # noqa: PLR2004 - there is nothing to sort
        return summary
    return msgspec.structs.replace(summary, tags=tuple(sorted(summary.tags)))


def _names(states: Any) -> str:
    return msgspec.json.encode([state.value for state in states]).decode()
