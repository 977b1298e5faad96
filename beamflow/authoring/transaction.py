"""The user's own rows in the commit that records the step: `transaction`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from beamflow.authoring.running_step import running_step
from beamflow.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

__all__ = ["Transaction", "transaction"]

HELD_S = 5.0
"""How long a step may hold the transaction where it does not say."""
HELD_S_MAX = 8.0
"""Less than a lease lasts without being renewed, which is a write as well."""


class Transaction(Protocol):
    """The database, in the hands of one step; see `transaction`."""

    async def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Execute one statement and return its rows.

        Raises:
            TransactionError: the statement is refused (it is about a table of beamflow's, or ends the
                transaction), or the transaction is over.
            sqlite3.Error: the statement fails; the transaction goes on unless SQLite says otherwise.
        """

    async def executemany(
        self, sql: str, rows: Iterable[Sequence[Any] | Mapping[str, Any]]
    ) -> None:
        """Execute one statement for each of the rows; raises what `execute` does."""


@asynccontextmanager
async def transaction(*, limit: float = HELD_S) -> AsyncIterator[Transaction]:
    """Write rows of your own in the commit that records this step: both are there, or neither.

    ::

        @step
        async def book(order: str, cents: int) -> None:
            async with transaction() as db:
                await db.execute("INSERT INTO bookings VALUES (?, ?)", (order, cents))

    What is written in the block is committed together with the completion of the step, once the step
    has returned. If the block raises, or the step fails later on, nothing of it is. So its effect on
    these tables happens exactly once, whatever happens to the process.

    Suspends until it is this step's turn. From then until the step has returned nothing else is
    written to the store, so keep it short, and let the block be the last thing that the step does.
    Never wait in it for something that has to be written: a signal, or the start of a workflow.

    Only in an ``async def`` step (or compensation) that runs in an engine on SQLite, once in each.

    Args:
        limit: seconds that the step may hold it, at most 8; then it is rolled back and the attempt has
            failed.

    Raises:
        TransactionError: the store has no tables to share, the step has had its transaction, or has
            held it for too long.
        DefinitionError: this is no such step, or the limit makes no sense.
        StoreUnavailableError: the database is locked by another process, or fails.
    """
    if not 0 < limit <= HELD_S_MAX:
        raise DefinitionError(
            f"transaction(limit={limit!r}) is refused: give seconds above 0, at most {HELD_S_MAX:g}"
        )
    running = running_step.get(None)
    if running is None:
        raise DefinitionError(
            "transaction() works only inside an `async def` step that an engine runs: in a test, run "
            "the step in a workflow of Engine('sqlite:///test.db', ...)"
        )
    loan = await running.borrow(limit)
    try:
        yield loan
    except BaseException:
        loan.abandon()
        raise
    loan.seal()
