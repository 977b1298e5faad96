"""A store in which things go wrong: a wrapper around a real one, and around the steps beside it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from beamflow.errors import StoreUnavailableError
from beamflow.stores.base import LIMIT_MAX
from beamflow.stores.transactions import begin
from supervision.faults import ChaosError
from supervision.virtual import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from random import Random

    from beamflow.authoring.running_step import StepInfo
    from beamflow.errors import TransactionError
    from beamflow.model.events import Event, Recorded
    from beamflow.model.status import WorkflowState
    from beamflow.policies.retry import Retry
    from beamflow.stores.base import (
        DeadLetterPage,
        DeadLetterQuery,
        Kept,
        Lease,
        Page,
        Place,
        Sleep,
        Store,
        Summary,
        WorkflowQuery,
    )
    from beamflow.stores.removal import Removable, RemovablePage, RemovableQuery
    from beamflow.stores.transactions import OpenTransaction
    from supervision.faults import FaultPlan
    from supervision.virtual import VirtualClock

__all__ = ["EngineFault", "FaultyStore"]

T = TypeVar("T")

LATENCY_S: Final = (0.05, 0.5)
HANG_S: Final = (10.0, 60.0)
JUMP_S: Final = 3600.0


class EngineFault(StrEnum):
    """What can happen to an engine; opportunities are each append, each read, each attempt of a step."""

    CRASH_BEFORE_APPEND = "crash_before_append"
    """The actor crashes; nothing is written."""
    CRASH_AFTER_APPEND = "crash_after_append"
    """All is durable; the actor crashes before it hears of it."""
    STORE_ERROR = "store_error"
    """The store cannot be reached this once; nothing is written."""
    LOST_COMMIT = "lost_commit"
    """The connection is lost with the commit done."""
    STORE_FAILED = "store_failed"
    """The store can be trusted no more until it is opened again; the write may be there or not."""
    SLOW_STORE = "slow_store"
    """It takes 50-500 ms longer."""
    CLOCK_JUMP = "clock_jump"
    """The wall clock is set up to an hour forward or back."""
    POWER_LOSS = "power_loss"
    """All of the engine is gone in an instant, before or after the write, or the step's effect."""
    STEP_ERROR = "step_error"
    """`ChaosError` comes out of a step, before or after its effect; where a retry is declared."""
    STEP_LATENCY = "step_latency"
    """A step takes 50-500 ms longer."""
    STEP_HANG = "step_hang"
    """A step takes 10-60 s longer."""


_APPENDING: Final = (
    EngineFault.CRASH_BEFORE_APPEND,
    EngineFault.CRASH_AFTER_APPEND,
    EngineFault.STORE_ERROR,
    EngineFault.LOST_COMMIT,
    EngineFault.STORE_FAILED,
    EngineFault.SLOW_STORE,
    EngineFault.CLOCK_JUMP,
    EngineFault.POWER_LOSS,
)
_READING: Final = (EngineFault.STORE_ERROR, EngineFault.SLOW_STORE)
_STEPPING: Final = (EngineFault.STEP_LATENCY, EngineFault.STEP_HANG, EngineFault.POWER_LOSS)
_RETRIED: Final = (EngineFault.STEP_ERROR, *_STEPPING)


class FaultyStore:
    """Does what another store does, unless the plan says otherwise.

    Args:
        store: the real one; opened and closed through this one.
        plan: decides what goes wrong.
        clock: the clock to set.
        cut: cuts the power; the caller never comes back.
    """

    def __init__(
        self, store: Store, plan: FaultPlan, clock: VirtualClock, cut: Callable[[], object]
    ) -> None:
        """Stand before a store that is not open."""
        self._store = store
        self._plan = plan
        self._clock = clock
        self._cut = cut
        self._is_dead = False
        self._failed = False
        self._serving: asyncio.Timeout | None = None
        self._holds: set[ExitStack] = set()
        self._lent = asyncio.Lock()

    def __repr__(self) -> str:
        """Show the real one."""
        return repr(self._store)

    @property
    def shared(self) -> bool:
        """As the real one."""
        return self._store.shared

    def die(self) -> None:
        """The power is gone: nothing reaches the real store from here any more."""
        self._is_dead = True
        for held in self._holds:
            held.close()

    async def bury(self) -> None:
        """Close the real one as the system does whose process is gone."""
        await self._held(self._store.close)

    # The port

    async def open(self) -> None:
        """Open the real one."""
        self._failed = False
        await self._real(self._store.open)

    async def serve(self) -> None:
        """Serve as the real one does, until it is said to have failed."""
        try:
            async with asyncio.timeout(None) as self._serving:
                await self._store.serve()
        except TimeoutError:
            self._refuse("it failed on purpose, and was not opened again")

    async def close(self) -> None:
        """Close the real one."""
        self._failed = False
        await self._real(self._store.close)

    async def rebuild(self) -> None:
        """Rebuild the real one."""
        await self._real(self._store.rebuild)

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
        """Append, or have something go wrong before or after."""

        def append() -> Awaitable[None]:
            return self._store.append(stream, expected, events, time=time, epoch=epoch, sleep=sleep)

        await self._appending(stream, append)

    async def sleep(self, workflow_id: str, sleep: Sleep, *, epoch: int) -> None:
        """Note, or have something go wrong before or after."""
        await self._appending(
            workflow_id, lambda: self._store.sleep(workflow_id, sleep, epoch=epoch)
        )

    async def _appending(self, stream: str, append: Callable[[], Awaitable[None]]) -> None:
        self._check_alive()
        drawn = self._plan.draw(f"append {stream}", _APPENDING)
        if drawn is None:
            await self._real(append)
            return
        fault, details = drawn
        match EngineFault(fault):
            case EngineFault.CRASH_BEFORE_APPEND:
                raise ChaosError(f"crash before an append to {stream!r}, on purpose")
            case EngineFault.CRASH_AFTER_APPEND:
                await self._real(append)
                raise ChaosError(f"crash after an append to {stream!r}, on purpose")
            case EngineFault.STORE_ERROR:
                self._refuse("it cannot be reached, on purpose")
            case EngineFault.LOST_COMMIT:
                await self._real(append)
                self._refuse("the connection was lost, on purpose")
            case EngineFault.STORE_FAILED:
                await self._fail(append, details)
            case EngineFault.POWER_LOSS:
                await self._lose_power(lambda: self._real(append), details)
            case EngineFault.CLOCK_JUMP:
                self._clock.jump(details.uniform(-JUMP_S, JUMP_S))
            case _:
                await self._clock.sleep(details.uniform(*LATENCY_S))
        await self._real(append)

    async def begin(self) -> OpenTransaction:
        """Lend the real one's writer; something may go wrong when the transaction is committed."""
        await self._lent.acquire()  # without holding time: whoever has it may need some
        try:
            transaction = await self._real(lambda: begin(self._store))
            return _FaultyTransaction(transaction, self._real, self._appending, self._lent.release)
        except BaseException:
            self._lent.release()
            raise

    async def read(self, stream: str, after: int = 0) -> list[Recorded]:
        """Read, or fail to."""
        return await self._reading(f"read {stream}", lambda: self._store.read(stream, after))

    async def end(self, stream: str) -> int:
        """Look where a stream ends, or fail to."""
        return await self._reading(f"end {stream}", lambda: self._store.end(stream))

    async def find(self, query: WorkflowQuery) -> Page:
        """Find, or fail to."""
        return await self._reading("find", lambda: self._store.find(query))

    async def count(self, query: WorkflowQuery) -> dict[WorkflowState, int]:
        """Count, or fail to."""
        return await self._reading("count", lambda: self._store.count(query))

    async def summary(self, workflow_id: str) -> Summary | None:
        """Summarise, or fail to."""
        return await self._reading(
            f"summary {workflow_id}", lambda: self._store.summary(workflow_id)
        )

    async def sleepers(
        self, after: Place, before: int, *, limit: int = LIMIT_MAX
    ) -> tuple[Place, ...]:
        """List, or fail to."""
        return await self._reading(
            "sleepers", lambda: self._store.sleepers(after, before, limit=limit)
        )

    async def awake(
        self, state: WorkflowState, now: int, *, after: str | None = None, limit: int = LIMIT_MAX
    ) -> Page:
        """List, or fail to."""
        return await self._reading(
            "awake", lambda: self._store.awake(state, now, after=after, limit=limit)
        )

    async def kept(self, step: str, key: str, now: int) -> Kept | None:
        """Look up, or fail to."""
        return await self._reading(f"kept {key}", lambda: self._store.kept(step, key, now))

    async def dead_letters(self, query: DeadLetterQuery) -> DeadLetterPage:
        """List, or fail to."""
        return await self._reading("dead letters", lambda: self._store.dead_letters(query))

    async def removable(self, query: RemovableQuery) -> RemovablePage:
        """Look what may be removed, or fail to."""
        return await self._reading("removable", lambda: self._store.removable(query))

    async def remove(self, items: Sequence[Removable], *, now: int, epoch: int) -> tuple[str, ...]:
        """Remove, or have something go wrong before or after."""
        removed: tuple[str, ...] = ()

        async def remove() -> None:
            nonlocal removed
            removed = await self._store.remove(items, now=now, epoch=epoch)

        await self._appending(f"removal of {len(items)}", remove)
        return removed

    async def claim(self, owner: str, ttl_s: float) -> Lease:
        """Claim as the real one does."""
        return await self._real(lambda: self._store.claim(owner, ttl_s))

    async def renew(self, lease: Lease, ttl_s: float) -> Lease:
        """Renew as the real one does."""
        return await self._real(lambda: self._store.renew(lease, ttl_s))

    async def release(self, lease: Lease) -> None:
        """Release as the real one does."""
        await self._real(lambda: self._store.release(lease))

    # Steps

    async def around_step(
        self, info: StepInfo, retry: Retry, run: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Make an attempt of a step, or have something go wrong before or after its effect."""
        among = _STEPPING if retry.max_attempts == 1 else _RETRIED
        drawn = self._plan.draw(f"step {info.workflow_id} {info.step}", among)
        if drawn is None:
            return await run()
        fault, details = drawn
        match EngineFault(fault):
            case EngineFault.STEP_ERROR:
                if details.random() < 0.5:  # noqa: PLR2004 - heads or tails
                    await run()
                raise ChaosError(f"step {info.step!r} fails on purpose")
            case EngineFault.POWER_LOSS:
                await self._lose_power(run, details)
            case EngineFault.STEP_HANG:
                await self._clock.sleep(details.uniform(*HANG_S))
            case _:
                await self._clock.sleep(details.uniform(*LATENCY_S))
        return await run()

    # Behind it

    async def _real(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the real store; virtual time stands still while its threads work."""
        self._check_alive()
        return await self._held(ask)

    async def _held(self, ask: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        if not (self.shared and isinstance(loop, VirtualLoop)):
            return await ask()
        with ExitStack() as held:
            held.enter_context(loop.hold())
            self._holds.add(held)
            try:
                return await ask()
            finally:
                self._holds.discard(held)

    def _check_alive(self) -> None:
        if self._is_dead or self._failed:
            self._refuse("it is not there any more")

    async def _reading(self, site: str, ask: Callable[[], Awaitable[T]]) -> T:
        drawn = self._plan.draw(site, _READING)
        if drawn is not None:
            fault, details = drawn
            if fault == EngineFault.STORE_ERROR:
                self._refuse("it cannot be reached, on purpose")
            await self._clock.sleep(details.uniform(*LATENCY_S))
        return await self._real(ask)

    async def _fail(self, append: Callable[[], Awaitable[None]], details: Random) -> NoReturn:
        if details.random() < 0.5:  # noqa: PLR2004 - heads or tails
            await self._real(append)
        self._failed = True
        if self._serving is not None:
            self._serving.reschedule(asyncio.get_running_loop().time())
        self._refuse("it failed, on purpose")

    async def _lose_power(self, do: Callable[[], Awaitable[object]], details: Random) -> NoReturn:
        if details.random() < 0.5:  # noqa: PLR2004 - heads or tails
            with suppress(Exception):  # refused or not, nobody hears of it
                await do()
        self._cut()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("there is power after all")

    def _refuse(self, problem: str) -> NoReturn:
        raise StoreUnavailableError(repr(self._store), problem, "Try again")


class _FaultyTransaction:
    """A transaction of the real store, whose commit is an append like any other."""

    def __init__(
        self,
        transaction: OpenTransaction,
        real: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]],
        appending: Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]],
        over: Callable[[], None],
    ) -> None:
        self._transaction = transaction
        self._real = real
        self._appending = appending
        self._over = over
        self._is_over = False

    @property
    def problem(self) -> TransactionError | None:
        return self._transaction.problem

    @property
    def is_sealed(self) -> bool:
        return self._transaction.is_sealed

    async def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await self._real(
            lambda: self._transaction.execute(sql, parameters)
        )
        return rows

    async def executemany(
        self, sql: str, rows: Iterable[Sequence[Any] | Mapping[str, Any]]
    ) -> None:
        await self._real(lambda: self._transaction.executemany(sql, rows))

    def seal(self) -> None:
        self._transaction.seal()

    def abandon(self) -> None:
        self._transaction.abandon()
        if not self._is_over:
            self._is_over = True
            self._over()

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
        await self._appending(
            stream,
            lambda: self._transaction.commit(
                stream, expected, events, time=time, epoch=epoch, sleep=sleep
            ),
        )
