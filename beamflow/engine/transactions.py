"""Transactions of steps: the workflow's actor borrows the store's writer for an attempt.

While an attempt holds it, its actor waits for the attempt's end and does nothing else, so nothing
that the actor itself has to append can stand in line behind the transaction. What comes meanwhile
waits in its mailbox.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from beamflow.errors import StoreError, TransactionError
from beamflow.stores.transactions import RefusedError, begin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence

    from beamflow.engine.services import Services
    from beamflow.model.events import Event
    from beamflow.stores.transactions import OpenTransaction

__all__ = ["Borrower", "Loan", "Record", "Take", "lend"]


class Borrower(Protocol):
    """The attempt that holds a transaction."""

    def cut(self, error: TransactionError) -> None:
        """End it: it has failed with this error."""

    def refused(self, error: Exception) -> Event:
        """Return what is recorded of it when its commit is refused with this error."""


class Take(Protocol):
    """How an actor takes messages: `WorkflowActor._take`."""

    def __call__(
        self, messages: list[object], events: list[Any], transaction: OpenTransaction | None, /
    ) -> Awaitable[None]:
        """Record what has happened, in the transaction if one is given."""


class Record(Protocol):
    """How an event is appended beside the code: `Stream.record`."""

    def __call__(self, event: Event, /) -> Awaitable[None]:
        """Append it."""


class Loan:
    """One attempt's transaction: the request for it, what the body works with, and the way it ends.

    Args:
        borrower: the attempt.
        limit_s: how long it may be held.

    Attributes:
        granted: settled once the attempt has the transaction, or cannot have it.
    """

    __slots__ = ("_borrower", "_ended", "_limit_s", "_transaction", "granted")

    def __init__(self, borrower: Borrower, limit_s: float) -> None:
        """Ask; nobody has heard yet."""
        self._borrower = borrower
        self._limit_s = limit_s
        self._transaction: OpenTransaction | None = None
        self._ended: asyncio.Future[tuple[object, bool] | None] | None = None
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # For the attempt

    @property
    def _lent(self) -> OpenTransaction:
        assert self._transaction is not None
        return self._transaction

    async def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Execute one statement and return its rows."""
        return await self._lent.execute(sql, parameters)

    async def executemany(
        self, sql: str, rows: Iterable[Sequence[Any] | Mapping[str, Any]]
    ) -> None:
        """Execute one statement for each of the rows."""
        await self._lent.executemany(sql, rows)

    def seal(self) -> None:
        """The block has ended: what was written is to be committed with the step."""
        self._lent.seal()

    def abandon(self) -> None:
        """The block has raised: roll back."""
        self._lent.abandon()

    def check(self) -> None:
        """See that what was written in the block can be kept; raises `TransactionError`."""
        transaction = self._transaction
        if transaction is not None and transaction.problem is not None:
            raise transaction.problem

    def end(self, outcome: object, *, keep: bool) -> bool:
        """Hand over what the attempt came to; False when nobody waits for it here.

        Args:
            outcome: the message for the actor.
            keep: whether the attempt has completed.
        """
        if self._ended is None or self._ended.done():
            return False
        self._ended.set_result((outcome, keep))
        return True

    # For the actor

    def refused(self, error: RefusedError) -> Event:
        """Return what is recorded of an attempt whose commit was refused."""
        return self._borrower.refused(error.reason)

    async def begin(self, services: Services) -> OpenTransaction | None:
        """Get the transaction; None when there is none, or the attempt does not wait any more."""
        if self.granted.done():
            return None
        try:
            transaction = await begin(services.store)
        except (TransactionError, StoreError) as error:
            if not self.granted.done():
                self.granted.set_exception(error)
            return None
        if self.granted.done():
            transaction.abandon()
            return None
        self._transaction = transaction
        self._ended = asyncio.get_running_loop().create_future()
        self.granted.set_result(None)
        return transaction

    async def ended(self, services: Services) -> tuple[object, bool] | None:
        """Return what the attempt came to, and whether it has completed; None if it was cut off."""
        assert self._ended is not None
        timer = services.clock.call_later(self._limit_s, self._expire)
        try:
            return await self._ended
        finally:
            timer.cancel()
            self._ended.cancel()

    def _expire(self) -> None:
        assert self._ended is not None
        if not self._ended.done():
            self._ended.set_result(None)
            self._lent.abandon()
            self._borrower.cut(
                TransactionError(
                    f"the step has held its transaction for {self._limit_s:g} s and more; nothing of "
                    f"it was written. Do in its block only what belongs to the database, wait for "
                    f"nothing that beamflow has to write, or raise transaction(limit=...)"
                )
            )


async def lend(services: Services, loan: Loan, take: Take, record: Record) -> None:
    """Lend an attempt the transaction, and record in it what the attempt comes to.

    Args:
        services: what the engine's actors share.
        loan: what the attempt has asked for.
        take: records what has happened.
        record: appends an event that the code has not been told of.

    Raises:
        RefusedError: the commit was refused, and the attempt is recorded as failed. The code has run
            on with its success by then: this life of the workflow is over, the next one goes on
            from the log.
    """
    transaction = await loan.begin(services)
    if transaction is None:
        return
    try:
        ended = await loan.ended(services)
        if ended is None:
            return
        outcome, keep = ended
        if keep and transaction.is_sealed:
            try:
                await take([outcome], [], transaction)
            except RefusedError as error:
                await record(loan.refused(error))
                raise
        else:
            transaction.abandon()
            await take([outcome], [], None)
    finally:
        transaction.abandon()
