"""What a workflow has pending: bodies that never end are abandoned, and disturb nobody."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    Engine,
    Retry,
    StepTimeoutError,
    WorkflowFailedError,
    current_step,
    step,
    workflow,
)
from beamflow.engine.attempt import GRACE_S
from beamflow.events import (
    StepFailed,
    TimerFired,
    TimerStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from supervision.testing import settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow import WorkflowHandle
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock

    Reached = Callable[..., Awaitable[None]]


async def types_of(handle: WorkflowHandle[Any]) -> list[type]:
    return [type(recorded.event) for recorded in await handle.history()]


async def test_a_body_that_swallows_its_cancellation_is_abandoned(
    memory: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """After the grace the workflow goes on without it; what it returns later is ignored."""
    let_go = asyncio.Event()
    ended: list[str] = []

    @step(timeout=10)
    async def deaf() -> str:
        while not let_go.is_set():
            with suppress(asyncio.CancelledError):
                await let_go.wait()
        ended.append(current_step().workflow_id)
        return "late"

    @workflow
    async def patient() -> str:
        try:
            return await deaf()
        except StepTimeoutError:
            await asyncio.sleep(100)
            return "without it"

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient, id="one")
        await clock.advance(10 + GRACE_S - 0.1)
        assert (await handle.status()).waiting_for == ("step deaf",)
        await clock.advance(0.2)
        assert (await handle.status()).waiting_for == ("timer",)
        assert ended == []
        let_go.set()
        await clock.advance(101)
        assert ended == ["one"]
        assert await handle.result() == "without it"
        assert await types_of(handle) == [
            WorkflowStarted,
            StepFailed,
            TimerStarted,
            TimerFired,
            WorkflowCompleted,
        ]
    (warning,) = [record for record in caplog.records if "step_abandoned" in record.getMessage()]
    assert "workflow_id='one' step='deaf' op=1 attempt=1" in warning.getMessage()


async def test_an_abandoned_body_does_not_disturb_the_next_attempt(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """However it ends: its cancellation is not taken for that of its successor."""
    let_go = asyncio.Event()
    running = asyncio.Event()

    @step(timeout=10, retry=Retry(max_attempts=2, initial=1, jitter=0))
    async def deaf_once() -> str:
        if current_step().attempt == 2:
            running.set()
            await clock.sleep(8)
            return "second"
        while not let_go.is_set():
            with suppress(asyncio.CancelledError):
                await let_go.wait()
        raise asyncio.CancelledError

    @workflow
    async def patient() -> str:
        return await deaf_once()

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient)
        await clock.advance(10 + GRACE_S + 1.1)
        await running.wait()
        let_go.set()
        await clock.advance(7)
        assert (await handle.status()).waiting_for == ("step deaf_once",)
        await clock.advance(1)
        assert await handle.result() == "second"


async def test_an_engine_is_left_without_waiting_for_an_abandoned_body(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Nor does its late end disturb anybody."""
    let_go = asyncio.Event()
    bodies: list[asyncio.Task[Any]] = []

    @step(timeout=10)
    async def deaf() -> None:
        task = asyncio.current_task()
        assert task is not None
        bodies.append(task)
        while not let_go.is_set():
            with suppress(asyncio.CancelledError):
                await let_go.wait()

    @workflow
    async def patient() -> None:
        with suppress(StepTimeoutError):
            await deaf()
        await asyncio.sleep(3600)

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        await engine.start(patient)
        await clock.advance(10 + GRACE_S)
    assert not bodies[0].done()
    let_go.set()
    await settle()
    assert bodies[0].done()


async def test_a_compensation_that_hangs_is_abandoned_too(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Its next attempt follows, and the rest of the way back."""
    let_go = asyncio.Event()
    undone: list[str] = []

    @step
    async def book(what: str) -> str:
        return what

    @book.compensation(timeout=10, retry=Retry(max_attempts=2, initial=1, jitter=0))
    async def cancel(_booked: str, what: str) -> None:
        while what == "hotel" and current_step().attempt == 1 and not let_go.is_set():
            with suppress(asyncio.CancelledError):
                await let_go.wait()
        undone.append(f"{what} {current_step().attempt}")

    @workflow
    async def trip() -> None:
        await book("flight")
        await book("hotel")
        raise ValueError("no leave")

    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip)
        await clock.advance(10 + GRACE_S + 1.1)
        with pytest.raises(WorkflowFailedError, match="no leave"):
            await handle.result()
        assert undone == ["hotel 2", "flight 1"]
        let_go.set()


async def test_a_thread_runs_on_after_its_timeout(memory: MemoryStore, clock: ManualClock) -> None:
    """The attempt has timed out at once; the thread finishes alone and its result is ignored."""
    entered, let_go, left = threading.Event(), threading.Event(), threading.Event()

    @step(timeout=10)
    def blocking() -> str:
        entered.set()
        let_go.wait(10)
        left.set()
        return "late"

    @workflow
    async def patient() -> str:
        try:
            return await blocking()
        except StepTimeoutError:
            return "without it"

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient)
        await asyncio.to_thread(entered.wait, 10)
        await clock.advance(10)
        assert await handle.result() == "without it"
        assert not left.is_set()
        let_go.set()
        assert await asyncio.to_thread(left.wait, 10)
        await settle()
        assert await types_of(handle) == [WorkflowStarted, StepFailed, WorkflowCompleted]
