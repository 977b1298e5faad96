"""Recovery: wherever a run was cut off, the next engine takes it to the same end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    Engine,
    Retry,
    WorkflowFailedError,
    WorkflowState,
    current_step,
    random,
    receive,
    step,
    uuid4,
    workflow,
)
from beamflow.events import (
    CompensationCompleted,
    CompensationFailed,
    CompensationStarted,
    Recorded,
    SignalReceived,
    StepCompleted,
    StepFailed,
    TimerCancelled,
    TimerFired,
    TimerStarted,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowStarted,
)
from beamflow.stores.memory import MemoryStore
from supervision.testing import ManualClock, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow import Workflow, WorkflowHandle

ran: list[str] = []
"""Keys of the bodies that ran, outside the engine's knowledge."""


def note() -> None:
    ran.append(current_step().idempotency_key)


@step
async def look_up(what: str) -> str:
    note()
    return what.upper()


@step
def weigh(what: str) -> int:
    note()
    return len(what)


@step(retry=Retry(max_attempts=3, initial=5, jitter=0))
async def flaky(what: str) -> str:
    note()
    if current_step().attempt < 3:
        raise ConnectionError(what)
    return f"{what} at last"


@step
async def endless() -> None:
    note()
    await asyncio.Event().wait()


@step
async def refuse(why: str) -> None:
    note()
    raise ValueError(why)


@step
async def book(what: str) -> str:
    note()
    return f"{what} booked"


@book.compensation(retry=Retry(max_attempts=3, initial=5, jitter=0))
async def unbook(booked: str, what: str) -> None:
    note()
    if what == "hotel" and current_step().attempt == 1:
        raise ConnectionError("nobody answers")


@workflow
async def journey(what: str) -> list[Any]:
    """A bit of everything: branches, retries, timers, signals, a step that is given up."""
    found, weight = await asyncio.gather(look_up(what), weigh(what))
    await asyncio.sleep(10)
    async with asyncio.TaskGroup() as group:
        late = group.create_task(flaky(found))
        word = group.create_task(receive("word", str))
    done, pending = await asyncio.wait(
        [asyncio.create_task(endless()), asyncio.create_task(asyncio.sleep(3))],
        return_when=asyncio.FIRST_COMPLETED,
    )
    for task in pending:
        task.cancel()
    async with asyncio.timeout(100):
        again: str = await receive("word", str)
    try:
        async with asyncio.timeout(7):
            await endless()
    except TimeoutError:
        again += " in time"
    return [weight, late.result(), word.result(), again, len(done), random().random(), uuid4()]


@workflow
async def trip(where: str) -> None:
    """Books in branches, fails in one of them, and goes all the way back."""
    await book("insurance")
    await asyncio.sleep(1)
    async with asyncio.TaskGroup() as group:
        group.create_task(book("hotel"))
        group.create_task(book("flight"))
    await refuse(where)


async def prefix_of(history: Sequence[Recorded], clock: ManualClock) -> MemoryStore:
    """Make a store that holds these events of one stream, as a crash would have left it."""
    store = MemoryStore(clock=lambda: int(clock.now() * 1_000_000))
    await store.open()
    lease = await store.claim("whoever was killed", 1)
    for recorded in history:
        await store.append(
            recorded.stream,
            recorded.seq - 1,
            [recorded.event],
            time=recorded.time,
            epoch=lease.epoch,
        )
    await store.close()
    return store


async def stored(store: MemoryStore) -> list[Recorded]:
    """Read what is durable, with no engine at work."""
    await store.open()
    history = await store.read("one")
    await store.close()
    return history


async def finish(handle: WorkflowHandle[Any], clock: ManualClock) -> Any:
    """Let time pass, send each word once it is waited for, and give what came of it."""
    result = asyncio.create_task(handle.result())
    for _ in range(200):
        await clock.advance(5)
        await _threads()
        if result.done():
            break
        if "signal word" in (await handle.status()).waiting_for:
            words = outcomes(await handle.history(), SignalReceived)
            await handle.signal("word", ("open", "sesame")[len(words)])
    try:
        return await result
    except WorkflowFailedError as error:
        return str(error)


async def _threads() -> None:
    """Let the steps that run in threads come back."""
    await asyncio.to_thread(int)
    await settle()


async def complete_run(definition: Workflow[..., Any]) -> tuple[list[Recorded], Any]:
    """Run a workflow without any interruption."""
    clock = ManualClock()
    store = MemoryStore(clock=lambda: int(clock.now() * 1_000_000))
    async with Engine(store, workflows=[definition], clock=clock) as engine:
        handle = await engine.start(definition, "tea", id="one")
        outcome = await finish(handle, clock)
        return await handle.history(), outcome


def outcomes(history: Sequence[Recorded], *kinds: type) -> list[Any]:
    return [recorded.event for recorded in history if isinstance(recorded.event, kinds)]


def over(history: Sequence[Recorded]) -> list[str]:
    """Give the keys whose bodies must not run again after these events."""
    steps = outcomes(history, StepCompleted) + [
        event for event in outcomes(history, StepFailed) if event.retry_at is None
    ]
    undone = outcomes(history, CompensationCompleted)
    return [f"one/{event.op}" for event in steps] + [
        f"one/{event.op}/compensation" for event in undone
    ]


def cut_from(history: Sequence[Recorded], again: Sequence[Recorded], cut: int) -> None:
    """Hold a run that went on after a cut to what must be so wherever it was."""
    assert list(again[:cut]) == list(history[:cut])
    assert [one.seq for one in again] == list(range(1, len(again) + 1))
    assert not set(over(history[:cut])) & set(ran), cut


@pytest.mark.invariant("I6")
async def test_a_run_that_is_cut_at_any_event_comes_to_the_same_end() -> None:
    """No outcome that is in the log is made again, and nothing is forgotten."""
    history, expected = await complete_run(journey)
    kinds = {type(one.event) for one in history}
    assert kinds == {
        WorkflowStarted,
        StepCompleted,
        StepFailed,
        TimerStarted,
        TimerFired,
        TimerCancelled,
        SignalReceived,
        WorkflowCompleted,
    }
    for cut in range(1, len(history)):
        ran.clear()
        clock = ManualClock(history[cut - 1].time / 1e6)
        store = await prefix_of(history[:cut], clock)
        async with Engine(store, workflows=[journey], clock=clock) as engine:
            handle = await engine.start(journey, "tea", id="one")
            assert await finish(handle, clock) == expected, cut
            cut_from(history, await handle.history(), cut)


@pytest.mark.invariant("I19")
async def test_a_way_back_that_is_cut_at_any_event_goes_on_there() -> None:
    """Each completed step is undone, in reverse order; what is undone stays so."""
    history, expected = await complete_run(trip)
    assert "ValueError: tea" in expected
    assert {CompensationStarted, CompensationFailed, CompensationCompleted, WorkflowFailed} <= {
        type(one.event) for one in history
    }
    for cut in range(1, len(history)):
        ran.clear()
        clock = ManualClock(history[cut - 1].time / 1e6)
        store = await prefix_of(history[:cut], clock)
        async with Engine(store, workflows=[trip], clock=clock) as engine:
            handle = await engine.start(trip, "tea", id="one")
            assert await finish(handle, clock) == expected, cut
            again = await handle.history()
            cut_from(history, again, cut)
            completed = [event.op for event in outcomes(again, StepCompleted)]
            undone = [event.op for event in outcomes(again, CompensationCompleted)]
            assert undone == completed[::-1]
            assert len(undone) == 3
            (letter,) = await engine.dead_letters.list()
            assert (letter.step, letter.workflow_id) == ("refuse", "one")


async def test_an_engine_that_is_left_at_any_event_is_no_different() -> None:
    """Stopped in order instead of cut off; again and again, a little further each time."""
    for definition in (journey, trip):
        history, expected = await complete_run(definition)
        clock = ManualClock(history[0].time / 1e6)
        store = await prefix_of(history[:1], clock)
        before = await stored(store)
        while not isinstance(before[-1].event, WorkflowCompleted | WorkflowFailed):
            ran.clear()
            async with Engine(store, workflows=[definition], clock=clock) as engine:
                handle = await engine.start(definition, "tea", id="one")
                while len(await handle.history()) == len(before):
                    await clock.advance(0.5)
                    await _threads()
                    if "signal word" in (await handle.status()).waiting_for:
                        words = outcomes(before, SignalReceived)
                        await handle.signal("word", ("open", "sesame")[len(words)])
            assert not set(over(before)) & set(ran)
            before = await stored(store)
        async with Engine(store, workflows=[definition], clock=clock) as engine:
            handle = await engine.start(definition, "tea", id="one")
            assert await finish(handle, clock) == expected


async def test_all_that_is_unfinished_is_woken(clock: ManualClock, memory: MemoryStore) -> None:
    """More than one page of it, without anybody asking; what has ended stays where it is."""

    @workflow
    async def wait(number: int) -> int:
        await asyncio.sleep(number)
        return number

    async with Engine(memory, workflows=[wait], clock=clock) as engine:
        await asyncio.gather(
            *(engine.start(wait, number % 2 * 1000, id=f"{number}") for number in range(1200))
        )
        await settle()
    async with Engine(memory, workflows=[wait], clock=clock) as engine:
        await settle()
        assert len(engine._services.actors) == 600
        await clock.advance(1001)
        assert [one.id async for one in engine.find(state=WorkflowState.RUNNING)] == []


@pytest.mark.invariant("I7")
async def test_a_workflow_that_is_woken_twice_runs_once(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """Recovery, a start and signals at the same moment find one actor."""
    ran.clear()
    gate = asyncio.Event()

    @step
    async def once() -> None:
        note()
        await gate.wait()

    @workflow
    async def waits() -> str:
        await once()
        word: str = await receive("word", str)
        return word

    async with Engine(memory, workflows=[waits], clock=clock) as engine:
        await engine.start(waits, id="one")
        await settle()
    ran.clear()
    async with Engine(memory, workflows=[waits], clock=clock) as engine:
        handle = engine.handle("one")
        await asyncio.gather(
            engine.start(waits, id="one"),
            handle.signal("word", "go"),
            handle.status(),
            engine.start(waits, id="one"),
        )
        gate.set()
        assert await handle.result() == "go"
    assert ran == ["one/1"]


@pytest.mark.invariant("I16")
async def test_timers_that_were_due_while_nobody_ran_fire_at_once(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """In the order in which they were due, none early, each once."""

    @workflow
    async def alarms() -> list[int]:
        rung: list[int] = []

        async def ring(after: int) -> None:
            await asyncio.sleep(after)
            rung.append(after)

        await asyncio.gather(*(ring(after) for after in (30, 10, 20, 4000)))
        return rung

    async with Engine(memory, workflows=[alarms], clock=clock) as engine:
        handle = await engine.start(alarms, id="one")
        await settle()
        assert (await handle.status()).waiting_for == ("timer",) * 4
    await clock.advance(3600)
    async with Engine(memory, workflows=[alarms], clock=clock) as engine:
        handle = engine.handle("one")
        await clock.advance(0.1)
        assert (await handle.status()).waiting_for == ("timer",)
        await clock.advance(401)
        assert await handle.result() == [10, 20, 30, 4000]
        history = await handle.history()
    due = {event.op: event.due for event in outcomes(history, TimerStarted)}
    fired = [(one.event.op, one.time) for one in history if isinstance(one.event, TimerFired)]
    assert sorted(op for op, _ in fired) == sorted(due)
    assert all(time >= due[op] for op, time in fired)


@pytest.mark.invariant("I12")
@pytest.mark.parametrize("definition", [journey, trip], ids=["journey", "trip"])
async def test_a_recovered_end_is_no_start(definition: Workflow[..., Any]) -> None:
    """A log that has its last event is never run again."""
    history, _ = await complete_run(definition)
    clock = ManualClock(history[-1].time / 1e6)
    store = await prefix_of(history, clock)
    ran.clear()
    async with Engine(store, workflows=[definition], clock=clock) as engine:
        await engine.start(definition, "tea", id="one")
        await clock.advance(100_000)
        assert ran == []
        assert await engine.handle("one").history() == history
