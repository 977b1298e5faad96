"""The line in front of the writer: what waits to be committed, so much at a time and no more.

One connection writes: all appends that came while the last commit was in flight are one statement,
thus one transaction, one hop to its thread and one fsync. Whatever a write fails with that is not a
plain refusal stops the store, because after a failed fsync SQLite would go on as if nothing had been
lost.
"""

from __future__ import annotations

import asyncio
import copy
import sqlite3
from collections import deque
from typing import TYPE_CHECKING, Any

from beamflow.errors import ConflictError, FencedError, PayloadError, StoreUnavailableError
from beamflow.stores.base import went_back
from beamflow.stores.sql import statement
from beamflow.stores.sqlite.batch import Batch
from beamflow.stores.sqlite.problems import unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from beamflow.model.events import Event
    from beamflow.stores.base import Sleep
    from beamflow.stores.sqlite.batch import Append
    from beamflow.stores.sqlite.transaction import SQLiteTransaction
    from beamflow.stores.sqlite.wal import Wal

__all__ = ["QUEUE_BYTES_MAX", "Commits"]

QUEUE_BYTES_MAX = 32 * 1024 * 1024
"""What may wait beside the commit in flight: more than a disk that works ever lets come together."""

_COMMIT = statement("sqlite", "commit")


class Commits:
    """Appends and transactions in the order in which they came.

    Args:
        store: how messages name the store.
        execute: has the writer execute a statement, and returns the first row.
        wal: looked after between two commits.
        bytes_max: how much may wait here; whoever comes then waits for room first.

    Attributes:
        turn: held by whoever writes outside of the line, and by a transaction of a step.
        failure: why nothing is committed any more.
        in_flight: what is being committed.
        interrupted: whether the writer was stopped in the middle of a commit.
    """

    def __init__(
        self,
        store: str,
        execute: Callable[[str, dict[str, object]], Awaitable[Any]],
        wal: Wal,
        bytes_max: int,
    ) -> None:
        """Begin with nothing in line."""
        self._store = store
        self._execute = execute
        self._wal = wal
        self._bytes_max = bytes_max
        self._line: deque[Batch | SQLiteTransaction] = deque()
        self._bytes = 0
        self._outside: deque[asyncio.Future[None]] = deque()
        self._work = asyncio.Event()
        self.turn = asyncio.Lock()
        self.failure: StoreUnavailableError | None = None
        self.in_flight: Batch | SQLiteTransaction | None = None
        self.interrupted = False

    @property
    def waiting_bytes(self) -> int:
        """How much waits here, not counting the commit in flight."""
        return self._bytes

    @property
    def is_full(self) -> bool:
        """Whether whoever wants to `put` something has to wait for `room` first."""
        return self._bytes >= self._bytes_max or bool(self._outside)

    async def room(self) -> None:
        """Wait until there is room, in the order of coming; raises `StoreUnavailableError`."""
        waiter = asyncio.get_running_loop().create_future()
        self._outside.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.let_in()
            raise
        if self.failure is not None:  # after it was let in, and before it got here
            raise self.refusal()

    def let_in(self) -> None:
        """Wake the first of those who wait for room, if there is some."""
        while self._outside and self._bytes < self._bytes_max:
            waiter = self._outside.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def put(
        self,
        append: Append,
        events: Sequence[Event],
        data: Sequence[bytes],
        sleep: Sleep | None = None,
    ) -> None:
        """Put an append into the last batch, or a new one."""
        batch = self._open_batch()
        before = batch.weight
        batch.add(append, events, data, sleep)
        self._added(batch.weight - before)

    def put_removal(self, append: Append, events_max: int) -> None:
        """Put the removal of a workflow in line; ``expected`` is where its log ends."""
        batch = self._open_batch()
        before = batch.weight
        batch.remove(append, events_max)
        self._added(batch.weight - before)

    def put_clearing(self, append: Append) -> None:
        """Put in line that events of a removed workflow go, up to ``expected``."""
        batch = self._open_batch()
        before = batch.weight
        batch.clear(append)
        self._added(batch.weight - before)

    def lend(self, transaction: SQLiteTransaction) -> None:
        """Put a transaction in line, which gets the writer to itself."""
        self._line.append(transaction)
        self._work.set()

    def look_again(self) -> None:
        """Have `serve` look what there is to do."""
        self._work.set()

    async def serve(self) -> None:
        """Commit what comes, until cancelled; raises `StoreUnavailableError`."""
        try:
            while self.failure is None:
                if self._wal.is_due:
                    async with self.turn:
                        await self._wal.shorten()
                if self._line and not self._wal.is_overdue:
                    await self._next(self._line.popleft())
                else:
                    self._work.clear()
                    await self._work.wait()
        except Exception as error:
            self.fail(unavailable(self._store, error))
            raise self.refusal() from error
        finally:
            if self.in_flight is not None:
                self.interrupted = True
                self.fail(self.unusable("its writer was stopped in the middle of a commit"))
        raise self.refusal()

    def fail(self, failure: StoreUnavailableError) -> None:
        """Refuse everything from here on, and answer whoever waits."""
        if self.failure is None:
            self.failure = failure
        line = [*([] if self.in_flight is None else [self.in_flight]), *self._line]
        waiting = [append.waiter for one in line for append in one.appends]
        for waiter in [*waiting, *self._outside]:
            if not waiter.done():
                waiter.set_exception(self.refusal())
                waiter.exception()  # who has gone away in the meantime is no reason for a report
        self.in_flight = None
        self._line.clear()
        self._outside.clear()
        self._bytes = 0
        self._wal.give_up()
        self._work.set()

    def refusal(self) -> StoreUnavailableError:
        """Make the error for whoever comes now; each gets one of its own."""
        return copy.copy(self.failure) or self.unusable("the store is not open")

    def unusable(self, problem: str) -> StoreUnavailableError:
        """Make the error for a store that has to be opened again."""
        return StoreUnavailableError(self._store, problem, "Open it, then read before writing")

    async def commit(self, batch: Batch) -> None:
        """Write a batch: all of it, or what is left without those appends that are refused."""
        try:
            await self._execute(_COMMIT, batch.parameters())
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
            if len(batch.appends) == 1:
                _reject(batch.appends[0], error)
                return
            for half in batch.halves():
                await self.commit(half)
            return
        for append in batch.appends:
            if not append.waiter.done():
                append.waiter.set_result(None)

    async def _next(self, one: Batch | SQLiteTransaction) -> None:
        self.in_flight = one
        if isinstance(one, Batch):
            self._bytes -= one.weight
            if self._outside:
                self.let_in()
            await self.commit(one)
            self._wal.written(one.weight)
        else:
            self._wal.give_up()  # whoever has the transaction may have to read before it is over
            async with self.turn:
                await one.run()
        self.in_flight = None

    def _added(self, weight: int) -> None:
        self._bytes += weight
        self._work.set()
        if self._outside:
            self.let_in()

    def _open_batch(self) -> Batch:
        """Return the batch that takes what is to be written next."""
        batch = self._line[-1] if self._line else None
        if not isinstance(batch, Batch) or batch.is_full:
            batch = Batch()
            self._line.append(batch)
        return batch


def _reject(append: Append, error: Exception) -> None:
    """Tell the one append that cannot be written why; raises what is no plain refusal."""
    refusal: Exception
    reason = str(error)
    if reason == "fenced":
        refusal = FencedError(append.epoch)
    elif reason == "time":
        refusal = went_back(append.stream, append.time)
    elif reason == "conflict" or "beamflow_events.stream" in reason:
        refusal = ConflictError(append.stream, append.expected)
    elif not isinstance(error, sqlite3.IntegrityError):
        refusal = PayloadError(
            f"event for {append.stream!r}",
            "it is larger than SQLite can store. Keep it elsewhere and pass an id",
        )
    else:
        raise error
    if not append.waiter.done():
        append.waiter.set_exception(refusal)
