"""Workflows without end: each run begins anew, with nothing of the one before but what was sent to it."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DefinitionError,
    Engine,
    PayloadError,
    WorkflowCancelledError,
    WorkflowExistsError,
    WorkflowFailedError,
    WorkflowState,
    continue_as_new,
    current_step,
    random,
    receive,
    saga,
    start_child,
    step,
    workflow,
)
from beamflow.events import (
    CompensationStarted,
    SignalReceived,
    TimerFired,
    WorkflowContinued,
    WorkflowStarted,
)
from supervision.testing import ManualClock, settle
from tests.beamflow.engine.journal import Journal
from tests.beamflow.engine.test_workflow_actor import GatedStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow import WorkflowHandle
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore

    Reached = Callable[..., Awaitable[None]]


@step
async def key_of(number: int) -> str:
    return current_step().idempotency_key


@workflow
async def patient() -> str:
    return await receive("word", str)


@workflow
async def countdown(left: int, seen: list[Any]) -> list[Any]:
    seen.append([await key_of(left), random().randrange(10**9)])
    if left:
        continue_as_new(left - 1, seen)
    return seen


async def kinds(handle: WorkflowHandle[Any]) -> list[str]:
    return [type(one.event).__name__ for one in await handle.history()]


async def test_each_run_is_a_new_one_of_the_same_workflow(place: str | Store) -> None:
    """One id, one log, one result; keys and chance of each run are its own."""
    async with Engine(place, workflows=[countdown]) as engine:
        handle = await engine.start(countdown, 2, [], id="one")
        seen = await handle.result()
        assert [key for key, _ in seen] == ["one/1", "one/1.1", "one/2.1"]
        assert len({chance for _, chance in seen}) == 3
        assert await kinds(handle) == [
            "WorkflowStarted",
            "StepCompleted",
            "WorkflowContinued",
            "StepCompleted",
            "WorkflowContinued",
            "StepCompleted",
            "WorkflowCompleted",
        ]
        again = await engine.start(countdown, 2, [], id="one")
        assert await again.result() == seen
        with pytest.raises(WorkflowExistsError):
            await engine.start(countdown, 1, [], id="one")


async def test_a_replay_begins_at_the_last_run(place: str | Store) -> None:
    """Code that would not fit the runs before it is not asked to."""

    @workflow(name="keeper")
    async def old(run: int) -> None:
        if run == 0:
            await key_of(0)
            continue_as_new(1)
        await receive("go")

    @workflow(name="keeper")
    async def new(run: int) -> int:
        await receive("go")
        return run

    async with Engine(place, workflows=[old]) as engine:
        handle = await engine.start(old, 0, id="one")
        await settle()
        assert (await handle.status()).waiting_for == ("signal go",)
        with pytest.raises(WorkflowExistsError):
            await engine.start(old, 1, id="one")
        await engine.start(old, 0, id="one")
    async with Engine(place, workflows=[new]) as engine:
        await engine.start(new, 0, id="one")
        handle = engine.handle("one")
        await handle.signal("go")
        assert await handle.result() == 1


async def test_nothing_of_the_authors_stands_in_its_way() -> None:
    """Neither ``except Exception`` nor a task group nor a saga, whose steps are final then."""
    undone: list[int] = []

    @step
    async def book(number: int) -> int:
        return number

    @book.compensation
    async def unbook(booked: int, number: int) -> None:
        undone.append(number)

    @workflow
    async def stubborn(run: int) -> str:
        if run == 2:
            raise LookupError("in the end")
        try:
            async with saga(), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(1_000))
                await book(run)
                continue_as_new(run + 1)
        except Exception:  # noqa: BLE001 - that is what authors write
            return "caught"

    async with Engine("memory://", workflows=[stubborn]) as engine:
        handle = await engine.start(stubborn, 0, id="one")
        with pytest.raises(WorkflowFailedError, match="in the end"):
            await handle.result()
        assert undone == []
        assert CompensationStarted.__name__ not in await kinds(handle)


async def test_what_makes_no_sense_is_refused_where_it_is_asked() -> None:
    """In another task, with other arguments, outside."""

    @workflow
    async def odd(run: int) -> list[str]:
        async def elsewhere() -> None:
            continue_as_new(run + 1)

        problems = []
        for attempt in (asyncio.create_task(elsewhere()), wrong()):
            try:
                await attempt
            except (DefinitionError, PayloadError) as error:
                problems.append(f"{type(error).__name__}: {error}")
        return problems

    async def wrong() -> None:
        continue_as_new("one")

    async with Engine("memory://", workflows=[odd]) as engine:
        task, arguments = await (await engine.start(odd, 0)).result()
        assert task.startswith("DefinitionError: continue_as_new() was called in a task")
        assert arguments.startswith("PayloadError: arguments of workflow 'odd'")
    with pytest.raises(DefinitionError, match="only inside a workflow"):
        continue_as_new()


async def test_a_timer_of_the_run_before_fires_in_no_other(clock: ManualClock) -> None:
    """Though the two have one number, and its time had come when the run was over."""

    @workflow
    async def sleeper(run: int) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        sleeping = asyncio.create_task(asyncio.sleep(5 if run == 0 else 100))
        if run == 0:
            await receive("next")
            continue_as_new(1)
        await sleeping
        return loop.time() - began

    gated = GatedStore(clock)
    gated.before = WorkflowContinued
    async with Engine(gated, workflows=[sleeper], clock=clock) as engine:
        handle = await engine.start(sleeper, 0, id="one")
        await settle()
        sending = asyncio.create_task(handle.signal("next"))
        await gated.held.wait()
        await clock.advance(6)
        gated.let_pass()
        await sending
        await clock.advance(50)
        assert TimerFired.__name__ not in await kinds(handle)
        await clock.advance(60)
        assert await handle.result() == pytest.approx(100)


async def test_children_are_treated_as_at_the_end() -> None:
    """Waited for, cancelled first, or left alone; those of the next run have ids of their own."""

    @workflow
    async def parent(run: int) -> list[str]:
        if run == 0:
            await start_child(patient, id="alone", on_close="abandon")
        child = await start_child(patient, on_close="cancel")
        if run == 0:
            await start_child(patient, id="awaited", on_close="wait")
            continue_as_new(1)
        return [child.id]

    async with Engine("memory://", workflows=[parent, patient]) as engine:
        handle = await engine.start(parent, 0, id="one")
        await settle()
        assert WorkflowContinued.__name__ not in await kinds(handle)
        await engine.handle("awaited").signal("word", "done")
        assert await handle.result() == ["one/1.1"]
        states = {one.id: one.state async for one in engine.find(workflow="patient")}
        assert states == {
            "one/2": WorkflowState.CANCELLED,
            "alone": WorkflowState.RUNNING,
            "awaited": WorkflowState.COMPLETED,
            "one/1.1": WorkflowState.CANCELLED,
        }


async def test_a_workflow_that_was_told_to_end_begins_no_other_run() -> None:
    """Not even out of a ``finally``."""

    @workflow
    async def undying(run: int) -> None:
        try:
            await receive("never")
        finally:
            continue_as_new(run + 1)

    async with Engine("memory://", workflows=[undying]) as engine:
        handle = await engine.start(undying, 0, id="one")
        await settle()
        await handle.cancel("enough")
        with pytest.raises(WorkflowCancelledError):
            await handle.result()


async def test_a_deadline_goes_on_over_runs_and_restarts(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """It is the workflow's, not the run's."""

    @workflow
    async def patient_one(run: int) -> None:
        if run == 0:
            continue_as_new(1)
        await receive("never")

    async with Engine(memory, workflows=[patient_one], clock=clock) as engine:
        await engine.start(patient_one, 0, id="one", deadline=60)
        await settle()
    async with Engine(memory, workflows=[patient_one], clock=clock) as engine:
        await settle()
        await clock.advance(61)
        with pytest.raises(WorkflowFailedError, match="deadline"):
            await engine.handle("one").result()


# Signals


@workflow
async def collector(taken: list[str], rest: int) -> list[str]:
    """Takes a few signals in each run, of two names in turn, and never waits for the rest."""
    for _ in range(min(3, rest)):
        taken.append(await receive("left" if rest % 2 else "right", str))
        rest -= 1
    return taken if not rest else continue_as_new(taken, rest)


@pytest.mark.invariant("I15")
@pytest.mark.parametrize("seed", range(20))
async def test_a_storm_of_signals_goes_on_from_run_to_run(clock: ManualClock, seed: int) -> None:
    """None is lost, none comes twice, those of one sender stay in order; engines may end meanwhile."""
    draw = Random(seed)
    journal = Journal(clock)
    async with Engine(journal, workflows=[collector], clock=clock) as engine:
        await engine.start(collector, [], 40, id="one")
    unsent = {name: [f"{name} {number}" for number in range(20)] for name in ("left", "right")}

    async def send(engine: Engine, name: str) -> None:
        while unsent[name]:
            await engine.handle("one").signal(name, unsent[name][0])
            unsent[name].pop(0)
            if draw.random() < 0.3:
                await asyncio.sleep(0)

    for _ in range(200):
        async with Engine(journal, workflows=[collector], clock=clock) as engine:
            senders = [asyncio.create_task(send(engine, name)) for name in ("left", "right")]
            for _ in range(draw.randrange(60)):
                await asyncio.sleep(0)
        settled = await asyncio.gather(*senders, return_exceptions=True)
        for name, error in zip(("left", "right"), settled, strict=True):
            if error is not None:  # nobody knows whether the last one arrived: the sender looks
                arrived = sum(
                    isinstance(event, SignalReceived) and event.name == name
                    for _, _, events, _ in journal.appends
                    for event in events
                )
                unsent[name] = [f"{name} {number}" for number in range(arrived, 20)]
        if not any(unsent.values()):
            break
    async with Engine(journal, workflows=[collector], clock=clock) as engine:
        taken = await engine.handle("one").result()
        assert [word for word in taken if word.startswith("left")] == [
            f"left {number}" for number in range(20)
        ]
        assert [word for word in taken if word.startswith("right")] == [
            f"right {number}" for number in range(20)
        ]


# Crashes


@workflow
async def forever(run: int, seen: list[str]) -> list[str]:
    """A bit of everything in each run."""
    sleeping = asyncio.create_task(asyncio.sleep(100))
    one, other = await asyncio.gather(key_of(run), countdown(0, []))
    await asyncio.sleep(1)
    seen += [one, str(other[0][0])]
    if run < 2:
        continue_as_new(run + 1, seen)
    sleeping.cancel()
    return seen


async def finished(engine: Engine, clock: ManualClock) -> Any:
    result = asyncio.create_task(engine.handle("one").result())
    for _ in range(50):
        await settle()
        if result.done():
            break
        await clock.advance(1)
    return await result


async def test_a_crash_after_any_append_continues_the_same() -> None:
    """No run is begun twice, none is left out."""
    journal = Journal(ManualClock())
    clock = ManualClock()
    async with Engine(journal, workflows=[forever, countdown], clock=clock) as engine:
        await engine.start(forever, 0, [], id="one")
        expected = await finished(engine, clock)
    assert expected[0::2] == ["one/2", "one/1.2", "one/2.2"]
    assert expected[1::2] == ["one/3/1", "one/1.3/1", "one/2.3/1"]
    for appends in range(1, len(journal.appends) + 1):
        clock = ManualClock()
        store = await journal.cut(appends, clock)
        async with Engine(store, workflows=[forever, countdown], clock=clock) as engine:
            assert await finished(engine, clock) == expected
            history = await engine.handle("one").history()
            runs = [one.event.run for one in history if isinstance(one.event, WorkflowContinued)]
            assert runs == [1, 2]
            assert sum(isinstance(one.event, WorkflowStarted) for one in history) == 1
