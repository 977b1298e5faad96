"""Sagas: the way back, also when it is cut off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from beamflow import Engine, Retry, WorkflowFailedError, step, workflow
from beamflow.events import CompensationStarted, StepFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


async def test_no_step_runs_again_on_the_way_back(
    memory: MemoryStore, clock: ManualClock, reached: Callable[..., Awaitable[None]]
) -> None:
    """A step that failed after the code had given it up is not tried again by a restart."""
    calls: list[str] = []
    begun, failing, undoing = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @step
    async def keep() -> None:
        calls.append("keep")

    @keep.compensation
    async def drop(_result: None) -> None:
        await undoing.wait()
        calls.append("drop")

    @step(retry=Retry(max_attempts=2, initial=0))
    async def give_up() -> None:
        calls.append("give_up")
        begun.set()
        await failing.wait()
        raise ConnectionError

    @give_up.compensation
    async def undo(_result: None) -> None:
        calls.append("undo")

    @step
    async def refuse() -> None:
        await begun.wait()
        raise ValueError

    @workflow
    async def saga() -> None:
        await keep()
        async with asyncio.TaskGroup() as group:
            group.create_task(give_up())
            group.create_task(refuse())

    async with Engine(memory, workflows=[saga], clock=clock) as engine:
        handle = await engine.start(saga, id="saga")
        await reached(handle, StepFailed)
        failing.set()
        await reached(handle, CompensationStarted)
    undoing.set()
    async with Engine(memory, workflows=[saga], clock=clock) as engine:
        with pytest.raises(WorkflowFailedError):
            await engine.handle("saga").result(timeout=10)
    assert calls == ["keep", "give_up", "drop"]
