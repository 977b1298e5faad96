"""Sagas: the way back of a workflow, also when it is cut off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from beamflow import (
    Engine,
    Retry,
    WorkflowFailedError,
    WorkflowState,
    current_step,
    receive,
    step,
    workflow,
)
from beamflow.events import CompensationStarted, StepCompleted, StepFailed, WorkflowFailed
from supervision.testing import ManualClock, settle
from tests.beamflow.engine.outage import fails
from tests.beamflow.engine.undoings import book, fresh, look, refuse, undone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


@pytest.mark.invariant("I19")
async def test_what_was_done_is_undone_in_reverse(place: str | Store) -> None:
    """With its result and its arguments; a step without a compensation is left alone."""

    @workflow
    async def trip() -> None:
        await book("flight")
        await look("weather")
        await book("hotel")
        await book("car")
        await refuse("no leave")

    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip)
        await fails(handle, "no leave")
        history = await handle.history()
        assert isinstance(history[-1].event, WorkflowFailed)
        (began,) = [one.event for one in history if isinstance(one.event, CompensationStarted)]
    assert undone == ["car #1 compensation", "hotel #1 compensation", "flight #1 compensation"]
    assert began.steps == (4, 3, 1)
    assert began.error.message == "no leave"


async def test_branches_are_undone_in_reverse_of_their_completion(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Whatever order they were asked for in."""

    @step
    async def slow(what: str, seconds: float) -> str:
        await clock.sleep(seconds)
        return what

    @slow.compensation
    async def unslow(result: str, what: str, seconds: float) -> None:
        undone.append(result)

    @workflow
    async def branches() -> None:
        await asyncio.gather(slow("a", 3), slow("b", 1), slow("c", 2))
        raise ValueError("after all")

    async with Engine(memory, workflows=[branches], clock=clock) as engine:
        handle = await engine.start(branches)
        await clock.advance(4)
        await fails(handle, "after all")
    assert undone == ["a", "c", "b"]


@pytest.mark.parametrize("style", ["gather", "group"])
async def test_a_failure_in_a_branch_undoes_the_others(
    memory: MemoryStore, clock: ManualClock, style: str
) -> None:
    """Those that had completed, and those that complete although they were given up."""
    gate = asyncio.Event()
    cut: list[str] = []

    @step
    async def late(what: str) -> str:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            cut.append(what)
            raise
        return what

    @late.compensation
    async def unlate(result: str, what: str) -> None:
        undone.append(result)

    @step
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut.append("hang")
            raise

    @workflow
    async def grouped() -> None:
        await book("flight")
        async with asyncio.TaskGroup() as group:
            group.create_task(late("hotel"))
            group.create_task(hang())
            group.create_task(refuse("no leave"))

    @workflow
    async def gathered() -> None:
        await book("flight")
        await asyncio.gather(late("hotel"), hang(), refuse("no leave"))

    definition = grouped if style == "group" else gathered
    async with Engine(memory, workflows=[definition], clock=clock) as engine:
        handle = await engine.start(definition)
        await settle()
        assert cut == ["hang"]
        assert undone == []
        assert (await handle.status()).state is WorkflowState.RUNNING
        gate.set()
        await fails(handle, "no leave")
        kinds = [type(one.event) for one in await handle.history()]
    assert undone == ["hotel", "flight #1 compensation"]
    assert kinds.index(CompensationStarted) > max(
        place for place, kind in enumerate(kinds) if kind is StepCompleted
    )


@pytest.mark.invariant("I20")
async def test_an_attempt_that_is_due_when_its_step_is_given_up_is_settled_first(
    memory: MemoryStore,
) -> None:
    """It may have begun, as the log tells the time: nothing is undone before it has ended."""

    class Watch(ManualClock):
        ahead_s = 0.0

        def now(self) -> float:
            return super().now() + self.ahead_s

    @step(retry=Retry(max_attempts=3, initial=60, jitter=0))
    async def pay() -> str:
        if current_step().attempt == 1:
            raise ConnectionError
        assert undone == []
        return "receipt"

    @pay.compensation
    async def refund(receipt: str) -> None:
        undone.append(receipt)

    @workflow
    async def buy() -> None:
        await book("flight")
        async with asyncio.TaskGroup() as group:
            group.create_task(pay())
            await receive("stop")
            await refuse("no leave")

    clock = Watch()
    async with Engine(memory, workflows=[buy], clock=clock) as engine:
        handle = await engine.start(buy)
        await settle()
        clock.ahead_s = 60.1  # somebody has set it: no timer knows yet
        await handle.signal("stop")
        await settle()
        assert undone == []
        await clock.advance(61)
        await fails(handle, "no leave")
    assert undone == ["receipt", "flight #1 compensation"]


@pytest.mark.invariant("I20")
async def test_a_step_with_a_compensation_that_was_given_up_is_settled_first(
    memory: MemoryStore, clock: ManualClock, reached: Callable[..., Awaitable[None]]
) -> None:
    """Also when the engine was restarted in between: it runs again, then it is undone."""
    gate = asyncio.Event()
    runs: list[int] = []

    @step
    async def pay() -> str:
        runs.append(current_step().attempt)
        await gate.wait()
        return "receipt"

    @pay.compensation
    async def refund(receipt: str) -> None:
        undone.append(receipt)

    @workflow
    async def buy() -> None:
        async with asyncio.timeout(10):
            await pay()

    async with Engine(memory, workflows=[buy], clock=clock) as engine:
        handle = await engine.start(buy, id="one")
        await clock.advance(10.1)
        assert (await handle.status()).state is WorkflowState.RUNNING
    async with Engine(memory, workflows=[buy], clock=clock) as engine:
        handle = engine.handle("one")
        await settle()
        gate.set()
        await fails(handle, "TimeoutError")
    assert runs == [1, 1]
    assert undone == ["receipt"]


async def test_a_given_up_step_that_fails_has_nothing_to_undo(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """It is not tried again either, for nobody waits for it."""
    gate = asyncio.Event()
    runs: list[int] = []

    @step(retry=Retry(max_attempts=3, initial=0))
    async def pay() -> None:
        runs.append(current_step().attempt)
        await gate.wait()
        raise ConnectionError

    @pay.compensation
    async def refund(_none: None) -> None:
        undone.append("refund")

    @workflow
    async def buy() -> str:
        try:
            async with asyncio.timeout(10):
                await pay()
        except TimeoutError:
            return "too slow"
        return "bought"

    async with Engine(memory, workflows=[buy], clock=clock) as engine:
        handle = await engine.start(buy, id="one")
        await clock.advance(10.1)
        gate.set()
        assert await handle.result() == "too slow"
    assert runs == [1]
    assert undone == []


async def test_a_given_up_step_that_has_failed_is_not_tried_again_by_a_restart(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Though another one that was given up with it still runs, and is run again."""
    failing, gate = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    @step(retry=Retry(max_attempts=3, initial=0))
    async def pay() -> None:
        runs.append(f"pay {current_step().attempt}")
        await failing.wait()
        raise ConnectionError

    @pay.compensation
    async def refund(_none: None) -> None:
        undone.append("refund")

    @step
    async def ship() -> None:
        runs.append("ship")
        await gate.wait()

    @ship.compensation
    async def take_back(_none: None) -> None:
        undone.append("take_back")

    @workflow
    async def buy() -> None:
        async with asyncio.timeout(10):
            await asyncio.gather(pay(), ship())

    async with Engine(memory, workflows=[buy], clock=clock) as engine:
        handle = await engine.start(buy, id="one")
        await clock.advance(10.1)
        failing.set()
        await settle()
        assert any(isinstance(one.event, StepFailed) for one in await handle.history())
        await clock.advance(5)
        assert runs == ["pay 1", "ship"]
    async with Engine(memory, workflows=[buy], clock=clock) as engine:
        handle = engine.handle("one")
        await settle()
        assert runs == ["pay 1", "ship", "ship"]
        gate.set()
        await fails(handle, "TimeoutError")
    assert undone == ["take_back"]


async def test_a_failure_that_is_handled_undoes_nothing(place: str | Store) -> None:
    """The workflow has completed; what it did stands."""

    @workflow
    async def copes() -> str:
        await book("flight")
        try:
            await refuse("no leave")
        except ValueError as error:
            return f"staying: {error}"
        return "going"

    async with Engine(place, workflows=[copes]) as engine:
        assert await (await engine.start(copes)).result() == "staying: no leave"
    assert undone == []


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
