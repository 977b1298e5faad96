"""The part of the port that a store may have or not: a transaction that a step shares.

A store that keeps its events in a database which its users have tables in too can lend its writer to
a step, so that the step's rows and the event that records the step are one commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from beamflow.errors import TransactionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from beamflow.model.events import Event
    from beamflow.stores.base import Sleep

__all__ = ["OpenTransaction", "RefusedError", "Transactional", "begin"]


class RefusedError(TransactionError):
    """What was written breaks a constraint that the database checks only at the commit.

    Attributes:
        reason: the database's own error.
    """

    def __init__(self, reason: Exception) -> None:
        """Say so; nothing was written."""
        super().__init__(f"the commit of a step's transaction was refused: {reason}")
        self.reason = reason


class OpenTransaction(Protocol):
    """The store's writer in the hands of one step; nobody else writes until it is over."""

    async def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Execute one statement of the user's and return its rows.

        Raises:
            TransactionError: the statement is about the store's own tables, ends the transaction, or
                the transaction is over.
        """

    async def executemany(
        self, sql: str, rows: Iterable[Sequence[Any] | Mapping[str, Any]]
    ) -> None:
        """Execute one statement for each of the rows; raises what `execute` does."""

    def seal(self) -> None:
        """Take no more statements; what was written waits for `commit`. Harmless when it is over."""

    def abandon(self) -> None:
        """Roll back, interrupting a statement if need be; harmless when it is over."""

    @property
    def problem(self) -> TransactionError | None:
        """Why it cannot be committed though nobody has abandoned it; None if it can."""

    @property
    def is_sealed(self) -> bool:
        """Whether it waits for `commit`."""

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
        """Append events and commit all that was written; returns when both are durable.

        Raises what `Log.append` does, and `RefusedError` where what the user has written cannot be
        committed; nothing was written then, by the user neither, and the store goes on.
        """


class Transactional(Protocol):
    """A store that can lend its writer."""

    async def begin(self) -> OpenTransaction:
        """Wait for the writer and begin a transaction.

        What waits to be appended meanwhile goes into later commits. Whoever is cancelled in here gets
        none.

        Raises:
            TransactionError: this store has none to lend.
            StoreUnavailableError: the database is locked by another process, or the store has failed.
        """


async def begin(store: object) -> OpenTransaction:
    """Begin a transaction of any store; raises `TransactionError` for one that has none."""
    if not hasattr(store, "begin"):
        raise TransactionError(
            f"{store!r} keeps no tables of yours, so a step cannot have a transaction in it. Use "
            f"Engine('sqlite:///app.db', ...); in tests, a file in a temporary directory"
        )
    return await cast("Transactional", store).begin()
