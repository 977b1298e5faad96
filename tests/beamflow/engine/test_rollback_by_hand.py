"""Blocks that are undone by hand, and what is no use of a block."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from beamflow import DefinitionError, Engine, saga, step, workflow
from tests.beamflow.engine.bookings import book, fresh, gates, ledger, refuse, undone, unwell
from tests.beamflow.engine.outage import fails

if TYPE_CHECKING:
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


# by hand


async def test_a_block_can_be_undone_by_hand(place: str | Store) -> None:
    """What was done so far, once; the block goes on, and counts anew."""

    @workflow
    async def changes() -> list[str]:
        async with saga() as plan:
            await book("flight")
            await book("hotel")
            assert await plan.compensate() == ()
            so_far = undone()
            await book("train")
        await refuse("ill")
        return so_far

    async with Engine(place, workflows=[changes]) as engine:
        await fails(await engine.start(changes), "ill")
    assert undone() == ["unhotel", "unflight", "untrain"]


async def test_by_hand_tells_what_could_not_be_undone(
    memory: MemoryStore, clock: ManualClock
) -> None:
    unwell.add("flight")

    @workflow
    async def changes() -> list[str]:
        async with saga() as plan:
            await book("flight")
            return list(await plan.compensate())

    async with Engine(memory, workflows=[changes], clock=clock) as engine:
        handle = await engine.start(changes)
        await clock.advance(11)
        assert await handle.result() == ["book"]


async def test_by_hand_from_two_tasks_undoes_once(memory: MemoryStore) -> None:
    """The second waits for the first, and finds nothing left."""
    gates["unflight"] = asyncio.Event()

    @workflow
    async def changes() -> list[str]:
        async with saga() as plan:
            await book("flight")
            await asyncio.gather(plan.compensate(), plan.compensate())
            return undone()

    async with Engine(memory, workflows=[changes]) as engine:
        handle = await engine.start(changes)
        await ledger.until("unflight?")
        gates["unflight"].set()
        assert await handle.result() == ["unflight"]
    assert ledger.count("unflight?") == 1


# words


async def test_one_saga_is_one_block() -> None:
    @workflow
    async def twice() -> None:
        plan = saga()
        async with plan:
            pass
        async with plan:
            pass

    async with Engine("memory://", workflows=[twice]) as engine:
        await fails(await engine.start(twice), "a saga is one block")


async def test_a_step_has_no_saga() -> None:
    """It would undo nothing, and says so."""

    @step
    async def inner() -> None:
        async with saga():
            pass

    @workflow
    async def outer() -> None:
        await inner()

    async with Engine("memory://", workflows=[outer]) as engine:
        await fails(await engine.start(outer), r"saga\(\) was entered in step 'inner'")


async def test_by_hand_belongs_into_the_block() -> None:
    with pytest.raises(DefinitionError, match="belongs into the block"):
        await saga().compensate()


async def test_without_an_engine_a_block_is_plain() -> None:
    """As steps are: nothing is undone, the exception goes on."""
    with pytest.raises(ValueError, match="full"):
        async with saga() as plan:
            await book("flight")
            assert await plan.compensate() == ()
            await refuse("full")
    assert ledger == ["flight"]
