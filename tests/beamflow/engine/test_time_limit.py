"""Time limits: ``asyncio.timeout`` by another clock."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from beamflow.engine.time_limit import TimeLimit
from supervision.testing import settle

if TYPE_CHECKING:
    from supervision.testing import ManualClock


async def test_a_block_that_takes_too_long_times_out(clock: ManualClock) -> None:
    """It is cancelled by the clock that was handed in, and TimeoutError comes out."""

    async def wait() -> None:
        with TimeLimit(clock, 10):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await clock.advance(9.9)
    assert not task.done()
    await clock.advance(0.2)
    with pytest.raises(TimeoutError):
        await task


async def test_a_block_in_time_leaves_no_timer(clock: ManualClock) -> None:
    """Nor does one without a limit set any."""
    with TimeLimit(clock, 10) as limit:
        assert clock.pending == 1
    with TimeLimit(clock, None):
        assert clock.pending == 0
    assert clock.pending == 0
    assert not limit.expired


async def test_what_the_block_comes_to_by_itself_counts(clock: ManualClock) -> None:
    """A result and an error of its own stay what they are, and no cancellation is left behind."""

    async def swallow() -> int:
        with TimeLimit(clock, 10) as limit, suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        assert limit.expired
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    async def fail() -> None:
        with TimeLimit(clock, 10):
            try:
                await asyncio.Event().wait()
            finally:
                raise LookupError("its own")

    swallowing, failing = asyncio.create_task(swallow()), asyncio.create_task(fail())
    await clock.advance(10)
    assert await swallowing == 0
    with pytest.raises(LookupError, match="its own"):
        await failing


async def test_a_cancellation_from_outside_stays_one(clock: ManualClock) -> None:
    """Also when the time is up as well."""

    async def wait() -> None:
        with TimeLimit(clock, 10):
            try:
                await asyncio.Event().wait()
            finally:
                await clock.sleep(1)

    early, both = asyncio.create_task(wait()), asyncio.create_task(wait())
    await settle()
    early.cancel()
    await clock.advance(1)
    assert early.cancelled()
    await clock.advance(9.5)
    both.cancel()
    await settle()
    assert both.cancelled()


async def test_whoever_waits_hears_that_a_block_goes_on(clock: ManualClock) -> None:
    """`give_up` is called once the grace is over, and only then."""
    told: list[float] = []
    let_go = asyncio.Event()

    async def deaf() -> None:
        with TimeLimit(clock, 10, grace_s=5, give_up=lambda: told.append(clock.monotonic())):
            while not let_go.is_set():
                with suppress(asyncio.CancelledError):
                    await let_go.wait()

    task = asyncio.create_task(deaf())
    await clock.advance(14.9)
    assert told == []
    await clock.advance(100)
    assert told == [15]
    let_go.set()
    await task
    assert clock.pending == 0
