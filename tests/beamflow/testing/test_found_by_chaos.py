"""What chaos has found in the engine; each failed before it was mended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from beamflow import Engine, WorkflowState, step, workflow

if TYPE_CHECKING:
    from supervision.virtual import VirtualClock

pytestmark = pytest.mark.timeout(10)


@step
async def stubborn() -> None:
    """Takes a second to be cancelled."""
    try:
        await asyncio.sleep(60.0)
    except asyncio.CancelledError:
        await asyncio.sleep(1.0)
        raise


@workflow
async def toil() -> str:
    await stubborn()
    return "done"


async def test_starting_a_workflow_whose_actor_is_ending(virtual_clock: VirtualClock) -> None:
    """The start waits for that end.

    It used to ask an actor that takes no calls again and again, and nothing else in the whole loop
    came to its turn.
    """
    async with Engine("memory://", workflows=[toil], clock=virtual_clock) as engine:
        first = await engine.start(toil, id="one")
        await asyncio.sleep(1.0)
        engine._services.actors["one"].kill()
        await asyncio.sleep(0.1)
        assert engine._services.actors["one"].alive
        again = await engine.start(toil, id="one")
        assert await again.result() == await first.result() == "done"


async def test_retrying_a_parked_workflow_whose_actor_is_ending(
    virtual_clock: VirtualClock,
) -> None:
    """Likewise for a dead letter that is sent round again."""
    async with Engine("memory://", workflows=[toil], clock=virtual_clock) as engine:
        handle = await engine.start(toil, id="one")
        await asyncio.sleep(1.0)
        engine._services.actors["one"].kill()
        await asyncio.sleep(0.1)
        assert engine._services.actors["one"].alive
        await engine._workflows.unpark("one")
        assert (await handle.status()).state is WorkflowState.RUNNING
        assert await handle.result() == "done"
