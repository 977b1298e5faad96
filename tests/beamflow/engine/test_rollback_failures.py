"""Blocks with something in them that cannot be undone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from beamflow import (
    DeadLetterError,
    DeadLetterReason,
    Engine,
    WorkflowParkedError,
    WorkflowState,
    receive,
    saga,
    workflow,
)
from beamflow.events import CompensationCompleted
from tests.beamflow.engine.bookings import book, fresh, gates, ledger, refuse, trip, undone, unwell
from tests.beamflow.engine.outage import fails

if TYPE_CHECKING:
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


async def test_what_cannot_be_undone_leaves_a_letter_and_a_note(
    place: str | Store, clock: ManualClock
) -> None:
    """The others are undone, and the workflow goes on with the exception."""
    unwell.add("hotel")

    @workflow
    async def unlucky() -> list[str]:
        try:
            async with saga():
                await book("flight")
                await book("hotel")
                await refuse("full")
        except ValueError as error:
            return error.__notes__[1:]
        return []

    async with Engine(place, workflows=[unlucky], clock=clock) as engine:
        handle = await engine.start(unlucky, id="one")
        await ledger.until("unhotel?")
        assert (await handle.status()).waiting_for == ("compensation of step book",)
        await clock.advance(10.1)
        assert await handle.result() == [
            "step 'book' (op 2) could not be undone: builtins.ConnectionError: hotel is unwell"
        ]
        assert undone() == ["unflight"]
        letter = await engine.dead_letters.show("one")
        assert letter.reason is DeadLetterReason.COMPENSATION_FAILED
        assert (letter.workflow, letter.step, letter.attempts) == ("unlucky", "book", 2)
        assert letter.context == ["hotel"]
        assert letter.error.message == "hotel is unwell"
        assert (await handle.status()).state is WorkflowState.COMPLETED
        with pytest.raises(DeadLetterError, match="has gone on without"):
            await engine.dead_letters.retry("one")
        await engine.dead_letters.resolve("one", "cancelled by phone")
        assert await engine.dead_letters.list() == []


async def test_what_was_given_up_is_not_undone_again(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """It has its letter; the workflow's own way back leaves it alone."""
    unwell.add("hotel")

    @workflow
    async def unlucky() -> None:
        await book("flight")
        async with saga():
            await book("hotel")
            await refuse("full")

    async with Engine(memory, workflows=[unlucky], clock=clock) as engine:
        handle = await engine.start(unlucky)
        await clock.advance(11)
        await fails(handle, "full")
        failed = (await handle.history())[-1].event
    assert ledger == ["flight", "hotel", "unhotel?", "unhotel?", "unflight?", "unflight"]
    assert "could not be undone" not in failed.error.message  # type: ignore[union-attr]


async def test_a_compensation_that_hangs_is_bounded(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """By a minute for each attempt, unless it says otherwise."""
    gates["unflight"] = asyncio.Event()
    async with Engine(memory, workflows=[hangs], clock=clock) as engine:
        handle = await engine.start(hangs)
        await clock.advance(59)
        assert ledger == ["flight", "unflight?"]
        await clock.advance(12)
        assert ledger == ["flight", "unflight?", "unflight?"]
        await clock.advance(61)
        assert "StepTimeoutError" in await handle.result()


@workflow
async def hangs() -> str:
    try:
        async with saga():
            await book("flight")
            await refuse("full")
    except ValueError as error:
        return error.__notes__[-1]
    return ""


async def test_code_that_no_longer_undoes_what_the_log_says_is_parked(memory: MemoryStore) -> None:
    """The recorded compensation is one that the code has not asked for."""

    @workflow(name="trip")
    async def changed() -> str:
        await book("visa")
        await book("flight")
        await book("hotel")
        try:
            await refuse("full")
        except ValueError:
            return await receive("word", str)
        return ""

    gates["unflight"] = asyncio.Event()
    async with Engine(memory, workflows=[trip]) as engine:
        handle = await engine.start(trip, id="one")
        await ledger.until("unflight?")
        assert CompensationCompleted in {type(one.event) for one in await handle.history()}
    async with Engine(memory, workflows=[changed]) as engine:
        with pytest.raises(WorkflowParkedError, match=r"compensation 'unbook' of op 3"):
            await engine.handle("one").result()
