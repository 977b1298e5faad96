"""Pause and resume: what is kept, what does not begin, what goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from beamflow import (
    Engine,
    WorkflowCancelledError,
    WorkflowClosedError,
    WorkflowFailedError,
    WorkflowState,
    WorkflowStateError,
    receive,
    workflow,
)
from beamflow.engine.steering import UNSTEERED
from beamflow.events import (
    CancelRequested,
    SignalReceived,
    StepCompleted,
    WorkflowPaused,
    WorkflowResumed,
)
from beamflow.model.status import Control
from supervision.testing import settle
from tests.beamflow.engine.ways import compensates_for_long, events_of, ran, trip

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@pytest.fixture(autouse=True)
def _fresh_ledger() -> None:
    ran.clear()


async def test_pause_keeps_what_happens_and_begins_nothing(
    place: str | Store, reached: Callable[..., Awaitable[None]]
) -> None:
    """The signal reaches the code; the step that it asks for then waits for the resume."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip, "signal", id="t")
        await reached(handle, StepCompleted)
        await handle.pause("maintenance")
        assert (await handle.status()).state is WorkflowState.PAUSED
        await handle.signal("go", "gone")
        await settle()
        assert ran == ["book flight"]
        assert (await handle.status()).waiting_for == ("step tidy",)
    async with Engine(place, workflows=[trip]) as engine:
        handle = engine.handle("t")
        await settle()
        assert (await handle.status()).state is WorkflowState.PAUSED
        assert ran == ["book flight"]
        with pytest.raises(WorkflowStateError, match=r"is paused: pause\(\) is refused"):
            await handle.pause()
        await handle.resume()
        assert await handle.result(timeout=5) == "gone"
        history = await handle.history()
        with pytest.raises(WorkflowClosedError):
            await handle.resume()
    assert ran == ["book flight", "tidy signal"]
    assert events_of(history, WorkflowPaused, SignalReceived, WorkflowResumed) == [
        "WorkflowPaused",
        "SignalReceived",
        "WorkflowResumed",
    ]


async def test_the_end_waits_for_the_resume(place: str | Store) -> None:
    """A paused workflow does not complete."""
    async with Engine(place, workflows=[ends_on_signal]) as engine:
        handle = await engine.start(ends_on_signal)
        await handle.pause()
        await handle.signal("go", "x")
        await settle()
        assert (await handle.status()).state is WorkflowState.PAUSED
        await handle.resume()
        assert await handle.result(timeout=5) == "x"


@workflow
async def ends_on_signal() -> str:
    return str(await receive("go"))


async def test_resume_of_what_is_not_paused(place: str | Store) -> None:
    """Every wrong transition is a typed error that says what is allowed."""
    async with Engine(place, workflows=[ends_on_signal]) as engine:
        handle = await engine.start(ends_on_signal)
        with pytest.raises(WorkflowStateError, match=r"is running: .*pause, cancel, terminate"):
            await handle.resume()


async def test_cancel_of_a_paused_workflow(
    place: str | Store, reached: Callable[..., Awaitable[None]]
) -> None:
    """It is not paused any more: its ``finally`` and compensations run."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip, "signal")
        await reached(handle, StepCompleted)
        await handle.pause()
        await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await handle.result(timeout=5)
    assert ran == ["book flight", "tidy signal", "unbook flight"]


async def test_what_is_told_to_end_cannot_be_paused(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """It ends within its bound, whoever asks for what: while its code runs, and on its way back."""
    refused = (
        r"is (running|compensating), and told to end: pause\(\) is refused.*: cancel, terminate\)"
    )
    async with Engine(memory, workflows=[trip, compensates_for_long], clock=clock) as engine:
        swallows = await engine.start(trip, "swallow")
        undoes = await engine.start(compensates_for_long)
        await settle()
        for handle in (swallows, undoes):
            await handle.cancel(grace=5)
            with pytest.raises(WorkflowStateError, match=refused):
                await handle.pause()
        ran.append("open")
        await clock.advance(100)
        await clock.advance(100)
        for handle in (swallows, undoes):
            with pytest.raises(WorkflowCancelledError):
                await handle.result(timeout=5)


def test_one_that_was_paused_on_its_way_out_goes_on_when_it_is_cancelled_once_more() -> None:
    """In a log of 0.1, which allowed the pause."""
    told = UNSTEERED.after(CancelRequested(reason="", deadline=9)).after(WorkflowPaused())
    (resumed,) = told.asked("x", Control.CANCEL, 5, reason="", grace_s=1, compensating=True)
    assert isinstance(resumed, WorkflowResumed)
    assert resumed.state == "compensating"
    assert not told.after(resumed).paused


async def test_a_paused_way_back(clock: ManualClock, memory: MemoryStore) -> None:
    """Pausing a workflow that compensates stops it between two compensations."""
    async with Engine(memory, workflows=[compensates_for_long], clock=clock) as engine:
        handle = await engine.start(compensates_for_long)
        await settle()
        await handle.pause()
        ran.append("open")
        await clock.advance(1_000)
        assert ran == ["open"]
        await handle.resume()
        assert (await handle.status()).state in {WorkflowState.COMPENSATING, WorkflowState.FAILED}
        with pytest.raises(WorkflowFailedError):
            await handle.result()
    assert ran == ["open", "undone"]
