"""The way back of a workflow when something cannot be undone, or the code has changed on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from beamflow import DeadLetterReason, Engine, WorkflowParkedError, WorkflowState, receive, workflow
from beamflow.engine.pending import Pending
from beamflow.events import DeadLettered, DeadLetterRetried
from supervision.testing import settle
from tests.beamflow.engine.outage import fails, letters_log, parks
from tests.beamflow.engine.undoings import book, fresh, undoings, undone, unwell

if TYPE_CHECKING:
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


@workflow
async def trip() -> None:
    await book("flight")
    await book("hotel")
    await book("car")
    word: str = await receive("word", str)
    raise ValueError(word)


async def test_a_compensation_is_tried_again(memory: MemoryStore, clock: ManualClock) -> None:
    """By its own policy; the next one waits for it."""
    unwell.add("hotel")
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip)
        await handle.signal("word", "no leave")
        await clock.advance(9)
        assert undone == ["car #1 compensation", "hotel fails 1"]
        await clock.advance(1.1)
        assert undone[-1] == "hotel fails 2"
        unwell.clear()
        await clock.advance(20.1)
        await fails(handle, "no leave")
        assert undone[-2:] == ["hotel #1 compensation", "flight #1 compensation"]
        assert await undoings(handle) == [
            ("CompensationCompleted", 3, 1),
            ("CompensationFailed", 2, 1),
            ("CompensationFailed", 2, 2),
            ("CompensationCompleted", 2, 3),
            ("CompensationCompleted", 1, 1),
        ]


async def test_attempts_of_a_compensation_survive_a_restart(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The counter goes on, and the delay is not shortened."""
    unwell.add("car")
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        await (await engine.start(trip, id="one")).signal("word", "no leave")
        await clock.advance(5)
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        await clock.advance(4)
        assert undone == ["car fails 1"]
        await clock.advance(1.1)
        assert undone == ["car fails 1", "car fails 2"]
        unwell.clear()
        await clock.advance(21)
        await fails(engine.handle("one"), "no leave")
    assert undone[2:] == [
        "car #1 compensation",
        "hotel #1 compensation",
        "flight #1 compensation",
    ]


async def test_one_that_cannot_be_undone_parks_the_workflow_with_the_others_done(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The letter says which; a retry undoes it, and the workflow ends as failed."""
    unwell.update({"hotel", "car"})
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip, id="one")
        await handle.signal("word", "no leave")
        await clock.advance(100)
        with pytest.raises(WorkflowParkedError, match="compensation_failed.*car is unwell"):
            await handle.result()
        assert undone[-1] == "flight #1 compensation"
        assert undone.count("hotel fails 3") == 1
        letter = await engine.dead_letters.show("one")
        assert letter.reason is DeadLetterReason.COMPENSATION_FAILED
        assert (letter.step, letter.attempts, letter.context) == ("book", 3, ["car"])
        assert letter.error.message == "car is unwell"
        assert (await handle.status()).state is WorkflowState.PARKED
    undone.clear()
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        await clock.advance(100)
        assert undone == []
        unwell.remove("car")
        assert await engine.dead_letters.retry("one") == "one"
        await clock.advance(100)
        with pytest.raises(WorkflowParkedError, match="hotel is unwell"):
            await engine.handle("one").result()
        assert undone == [
            "car #1 compensation",
            "hotel fails 1",
            "hotel fails 2",
            "hotel fails 3",
        ]
        unwell.clear()
        await engine.dead_letters.retry("one")
        await fails(engine.handle("one"), "no leave")
        assert undone[-1] == "hotel #1 compensation"
        assert "flight #1 compensation" not in undone
        (letter,) = await engine.dead_letters.list()
        assert letter.reason is DeadLetterReason.WORKFLOW_ERROR


async def test_a_retry_of_what_could_not_be_undone_outlives_a_crash(
    memory: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the log once `retry` has returned; the next engine makes the attempts it granted."""
    unwell.add("car")
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip, id="one")
        await handle.signal("word", "no leave")
        await clock.advance(100)
        await parks(handle)
        unwell.clear()
        undone.clear()
        with monkeypatch.context() as cut:
            cut.setattr(Pending, "compensate", lambda *_: None)  # the power goes before it is made
            assert await engine.dead_letters.retry("one") == "one"
            assert await letters_log(engine) == [DeadLettered, DeadLetterRetried]
    assert undone == []
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        await fails(engine.handle("one"), "no leave")
        assert undone == ["car #1 compensation"]


async def test_code_that_changed_on_the_way_back_is_parked(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Code that no longer fails, or has done other things, cannot go on from there."""
    unwell.add("car")

    @workflow(name="trip")
    async def forgiving() -> None:
        await book("flight")
        await book("hotel")
        await book("car")
        await receive("word", str)

    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        await (await engine.start(trip, id="one")).signal("word", "no leave")
        await settle()
    async with Engine(memory, workflows=[forgiving], clock=clock) as engine:
        await settle()
        with pytest.raises(WorkflowParkedError, match="the code has not failed"):
            await engine.handle("one").result()
    unwell.clear()
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        await clock.advance(11)
        await fails(engine.handle("one"), "no leave")
    assert undone == [
        "car fails 1",
        "car #1 compensation",
        "hotel #1 compensation",
        "flight #1 compensation",
    ]


async def test_signals_on_the_way_back_are_kept(memory: MemoryStore, clock: ManualClock) -> None:
    """They are recorded and change nothing."""
    unwell.add("car")
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip)
        await handle.signal("word", "no leave")
        await settle()
        assert (await handle.status()).state is WorkflowState.COMPENSATING
        await handle.signal("word", "late")
        unwell.clear()
        await clock.advance(11)
        await fails(handle, "no leave")
