"""Delayed starts and deadlines of workflows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    Engine,
    WorkflowCancelledError,
    WorkflowState,
    WorkflowTimeoutError,
    receive,
    workflow,
)
from beamflow.events import SignalReceived, WorkflowBegan, WorkflowStarted
from supervision.testing import settle
from tests.beamflow.engine.ways import events_of, ran, trip, two_steps

if TYPE_CHECKING:
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@pytest.fixture(autouse=True)
def _fresh_ledger() -> None:
    ran.clear()


async def test_a_delayed_start_is_pending(clock: ManualClock, memory: MemoryStore) -> None:
    """Its code begins when its time has come, also after a restart; signals are kept."""
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip, "signal", id="t", delay=100)
        await handle.signal("go", "early")
        assert (await handle.status()).state is WorkflowState.PENDING
        await clock.advance(50)
        assert ran == []
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        await clock.advance(49)
        assert ran == []
        await clock.advance(2)
        assert await engine.handle("t").result() == "early"
        history = await engine.handle("t").history()
    assert events_of(history, WorkflowStarted, SignalReceived, WorkflowBegan) == [
        "WorkflowStarted",
        "SignalReceived",
        "WorkflowBegan",
    ]


async def test_a_pending_workflow_is_cancelled_without_beginning(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """No code of it ever runs."""
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip, "signal", delay=100)
        await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        await clock.advance(200)
    assert ran == []


async def test_a_pending_workflow_can_be_paused_past_its_time(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """It begins when it is resumed."""
    async with Engine(memory, workflows=[two_steps], clock=clock) as engine:
        handle = await engine.start(two_steps, delay=100)
        await handle.pause()
        await clock.advance(200)
        assert ran == []
        await handle.resume()
        assert await handle.result() == "two"


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_deadline(clock: ManualClock, memory: MemoryStore, *, restarted: bool) -> None:
    """It is told to end, its work undone, and it has failed with a timeout."""
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip, "signal", id="t", deadline=60)
        await settle()
        if not restarted:
            await clock.advance(61)
            with pytest.raises(WorkflowTimeoutError, match="had not ended by its deadline"):
                await handle.result()
    if restarted:
        await clock.advance(61)
        async with Engine(memory, workflows=[trip], clock=clock) as engine:
            await settle()
            await clock.advance(0.1)
            with pytest.raises(TimeoutError):
                await engine.handle("t").result()
            assert (await engine.handle("t").status()).state is WorkflowState.FAILED
            (letter,) = await engine.dead_letters.list()
            assert letter.workflow_id == "t"
    assert ran == ["book flight", "tidy signal", "unbook flight"]


@workflow(deadline=30)
async def hurried() -> None:
    await receive("never")


async def test_a_workflow_has_a_deadline_of_its_own(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """Unless its start says otherwise."""
    async with Engine(memory, workflows=[hurried], clock=clock) as engine:
        one = await engine.start(hurried)
        moment = datetime.fromtimestamp(clock.now() + 100, UTC)
        other = await engine.start(hurried, deadline=moment)
        await clock.advance(31)
        with pytest.raises(WorkflowTimeoutError):
            await one.result()
        assert (await other.status()).state is WorkflowState.RUNNING
        await clock.advance(70)
        with pytest.raises(WorkflowTimeoutError):
            await other.result()


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"delay": float("nan")},
        {"deadline": -1.0},
        {"deadline": float("inf")},
        {"deadline": datetime(2030, 1, 1)},  # noqa: DTZ001 - naive on purpose
    ],
)
async def test_a_time_that_makes_no_sense(options: dict[str, Any]) -> None:
    """It is refused with the value, and nothing is started."""
    async with Engine("memory://", workflows=[two_steps]) as engine:
        with pytest.raises(ValueError, match="must be seconds|time zone"):
            await engine.start(two_steps, **options)
        assert [one async for one in engine.find()] == []
