"""Sagas: the way back, also when it is cut off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DeadLetterReason,
    Engine,
    Retry,
    WorkflowFailedError,
    WorkflowParkedError,
    WorkflowState,
    current_step,
    receive,
    step,
    workflow,
)
from beamflow.engine.pending import Pending
from beamflow.engine.saga import Unwinding
from beamflow.engine.step_call import StepCall
from beamflow.events import (
    CompensationCompleted,
    CompensationFailed,
    CompensationStarted,
    DeadLettered,
    DeadLetterRetried,
    Failure,
    StepCompleted,
    StepFailed,
    WorkflowFailed,
)
from supervision.testing import settle
from tests.beamflow.engine.outage import letters_log, parks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow import Saga, WorkflowHandle
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


undone: list[str] = []
"""What was undone, outside the engine's knowledge."""

unwell: set[str] = set()
"""What cannot be undone yet."""


@pytest.fixture(autouse=True)
def _fresh_ledger() -> None:
    undone.clear()
    unwell.clear()


@step
async def book(what: str) -> str:
    return f"{what} #1"


@book.compensation(retry=Retry(max_attempts=3, initial=10, jitter=0))
async def unbook(number: str, what: str) -> None:
    info = current_step()
    if what in unwell:
        undone.append(f"{what} fails {info.attempt}")
        raise ConnectionError(f"{what} is unwell")
    undone.append(f"{number} {info.idempotency_key.rpartition('/')[2]}")


@step
async def refuse(why: str) -> None:
    raise ValueError(why)


@step
async def look(what: str) -> str:
    """Has nothing to undo."""
    return what


async def fails(handle: WorkflowHandle[Any], match: str) -> None:
    with pytest.raises(WorkflowFailedError, match=match):
        await handle.result()


async def undoings(handle: WorkflowHandle[Any]) -> list[tuple[str, int, int]]:
    return [
        (type(one.event).__name__, one.event.op, one.event.attempt)
        for one in await handle.history()
        if isinstance(one.event, CompensationCompleted | CompensationFailed)
    ]


# one after the other


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


# trouble on the way back


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


# the plan, by itself


def unwinding(*ops: int) -> Unwinding:
    """Plan to undo steps of these numbers."""
    return Unwinding([completed(op) for op in ops])


def completed(op: int, saga: Saga | None = None) -> StepCall:
    call = StepCall.__new__(StepCall)
    call.op = op
    call.saga = saga
    return call


def ready(plan: Unwinding) -> list[int]:
    return [undo.call.op for undo in plan.ready()]


def test_a_plan_is_done_one_by_one() -> None:
    """In its order; it is done when nothing is left."""
    plan = unwinding(3, 1)
    assert ready(plan) == [3]
    plan.deliver(CompensationCompleted(op=3, name="undo", started_at=0))
    assert ready(plan) == [1]
    assert not plan.done
    plan.deliver(CompensationCompleted(op=1, name="undo", started_at=0))
    assert ready(plan) == []
    assert plan.done


def test_a_plan_sets_aside_what_failed_for_good() -> None:
    """And gives it new attempts when told to start over."""
    plan = unwinding(3, 1)
    failed = CompensationFailed(
        op=3, name="undo", error=Failure(type="E", message=""), started_at=0, attempt=2
    )
    plan.deliver(failed)
    assert ready(plan) == [1]
    plan.deliver(CompensationCompleted(op=1, name="undo", started_at=0))
    assert ready(plan) == []
    assert [undo.call.op for undo in plan.failed] == [3]
    assert not plan.done
    plan.start_over()
    (undo,) = plan.ready()
    assert (undo.call.op, undo.attempt, undo.retry_at) == (3, 1, 0)


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
