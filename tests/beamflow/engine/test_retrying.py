"""A failed workflow goes on in place: what had happened before stays, what made it fail is made again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DeadLetterState,
    Engine,
    Retry,
    UnknownWorkflowError,
    WorkflowFailedError,
    WorkflowHandle,
    WorkflowNotFoundError,
    WorkflowState,
    WorkflowStateError,
    continue_as_new,
    current_step,
    receive,
    saga,
    step,
    workflow,
)
from beamflow.engine.retrying import Retrial
from beamflow.events import StepCompleted, StepFailed, WorkflowFailed, WorkflowRetried
from supervision.testing import ManualClock, settle
from tests.beamflow.engine.journal import Journal
from tests.beamflow.engine.test_workflow_actor import GatedStore

if TYPE_CHECKING:
    from beamflow.stores.base import Store, Summary
    from beamflow.stores.memory import MemoryStore

ran: list[str] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ran.clear()
    broken.clear()


@step
async def work(what: str) -> str:
    ran.append(f"{what} {current_step().idempotency_key}")
    if what in broken:
        raise LookupError(what)
    return what.upper()


@step(retry=Retry(max_attempts=2, initial=1, jitter=0), deadline=60)
async def stubborn(what: str) -> str:
    ran.append(f"{what} {current_step().attempt}")
    if what in broken:
        raise LookupError(what)
    return what.upper()


@step
async def book(what: str) -> str:
    return what


@book.compensation
async def unbook(booked: str, what: str) -> None:
    ran.append(f"undone {what}")


@workflow
async def steps() -> list[str]:
    return [await work("a"), await work("b"), await work("c")]


@workflow
async def side_by_side() -> list[str]:
    """One branch fails when the other has something to show already, and a signal has come."""
    slow = asyncio.create_task(work("slow"))
    word = asyncio.create_task(receive("word", str))
    done = await work("b")
    return [done, await slow, await word]


async def failed(handle: WorkflowHandle[Any], clock: ManualClock | None = None) -> None:
    result = asyncio.create_task(handle.result())
    for _ in range(10):
        await settle()
        if clock is not None and not result.done():
            await clock.advance(1)
    with pytest.raises(WorkflowFailedError):
        await result


async def kinds(handle: WorkflowHandle[Any]) -> list[str]:
    return [type(one.event).__name__ for one in await handle.history()]


async def test_it_goes_on_from_the_step_that_failed(place: str | Store) -> None:
    """Same id, same key, nothing done twice; the dead letter is closed."""
    async with Engine(place, workflows=[steps]) as engine:
        broken.add("b")
        handle = await engine.start(steps, id="one")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        broken.clear()
        await handle.retry_from(note="mended")
        assert await handle.result() == ["A", "B", "C"]
        assert ran == ["a one/1", "b one/2", "b one/2", "c one/3"]
        (letter,) = await engine.dead_letters.list(state=None)
        assert letter.state is DeadLetterState.RETRIED
        assert (await handle.status()).state is WorkflowState.COMPLETED
        assert await kinds(handle) == [
            "WorkflowStarted",
            "StepCompleted",
            "StepFailed",
            "WorkflowFailed",
            "WorkflowRetried",
            "StepCompleted",
            "StepCompleted",
            "WorkflowCompleted",
        ]


async def test_it_may_fail_and_be_sent_round_again_any_number_of_times(place: str | Store) -> None:
    """Each failure is a dead letter; whoever waits meanwhile hears of the end that comes."""
    async with Engine(place, workflows=[steps]) as engine:
        broken.update("bc")
        handle = await engine.start(steps, id="one")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        for still in ({"b", "c"}, {"c"}, {"c"}):
            broken.clear()
            broken.update(still)
            await handle.retry_from()
            with pytest.raises(WorkflowFailedError):
                await handle.result()
        broken.clear()
        await handle.retry_from()
        assert await handle.result() == ["A", "B", "C"]
        assert [line[0] for line in ran] == list("abbbccc")
        states = [letter.state for letter in await engine.dead_letters.list(state=None)]
        assert set(states) == {DeadLetterState.RETRIED}


async def test_attempts_begin_anew(clock: ManualClock) -> None:
    """All of them, and with all the time that the step may take."""

    @workflow
    async def one_step() -> str:
        return await stubborn("b")

    async with Engine("memory://", workflows=[one_step], clock=clock) as engine:
        broken.add("b")
        handle = await engine.start(one_step, id="one")
        await failed(handle, clock)
        await clock.advance(1_000)
        await handle.retry_from()
        await failed(handle, clock)
        broken.clear()
        await handle.retry_from()
        assert await handle.result() == "B"
        assert ran == ["b 1", "b 2", "b 1", "b 2", "b 1"]


async def test_its_deadline_counts_anew(clock: ManualClock, memory: MemoryStore) -> None:
    """A step that is made again has all of its time, however long ago it was called first."""

    @workflow
    async def once() -> str:
        return await stubborn("b")

    async with Engine(memory, workflows=[once], clock=clock) as engine:
        broken.add("b")
        handle = await engine.start(once, id="one")
        await failed(handle, clock)
        await clock.advance(3600)
        await handle.retry_from()
        await settle()
        assert ran == ["b 1", "b 2", "b 1"]
    async with Engine(memory, workflows=[once], clock=clock) as engine:
        broken.clear()
        await clock.advance(2)
        assert await engine.handle("one").result() == "B"
    assert ran == ["b 1", "b 2", "b 1", "b 2"]


@pytest.mark.parametrize("step_", ["work", 1])
async def test_it_may_go_on_from_an_earlier_step(step_: str | int) -> None:
    """By name, the first of it, or by op: what had followed from it is made again."""
    async with Engine("memory://", workflows=[steps]) as engine:
        broken.add("c")
        handle = await engine.start(steps, id="one")
        await failed(handle)
        broken.clear()
        await handle.retry_from(step_)
        assert await handle.result() == ["A", "B", "C"]
        assert ran == ["a one/1", "b one/2", "c one/3", "a one/1", "b one/2", "c one/3"]


async def test_what_came_from_outside_or_had_begun_before_stays(clock: ManualClock) -> None:
    """A signal and a step that ended after the failing one are facts, and are not asked for again."""
    async with Engine("memory://", workflows=[side_by_side], clock=clock) as engine:
        handle = await engine.start(side_by_side, id="one")
        await handle.signal("word", "early")
        assert await handle.result() == ["B", "SLOW", "early"]
        ran.clear()
        broken.add("b")
        other = await engine.start(side_by_side, id="two")
        await other.signal("word", "kept")
        await failed(other)
        before = len(ran)
        broken.clear()
        await other.retry_from()
        assert await other.result() == ["B", "SLOW", "kept"]
        slow = [line for line in ran if line.startswith("slow")]
        completed = [
            one.event.op for one in await other.history() if isinstance(one.event, StepCompleted)
        ]
        assert len(completed) == len(set(completed))
        assert len(slow) <= 2
        assert before >= 1


async def test_own_code_that_raised_goes_on_from_its_end() -> None:
    """With the code as it is by then."""
    mended: list[bool] = []

    @workflow
    async def fragile() -> str:
        done = await work("a")
        if not mended:
            raise ValueError(done)
        return done

    async with Engine("memory://", workflows=[fragile]) as engine:
        handle = await engine.start(fragile, id="one")
        await failed(handle)
        await handle.retry_from()
        await failed(handle)
        mended.append(True)
        await handle.retry_from()
        assert await handle.result() == "A"
        assert ran == ["a one/1"]


async def test_a_child_that_failed_is_sent_round_again_first() -> None:
    """Down to the step that failed; the parent has its result then."""

    @workflow
    async def parent() -> list[str]:
        return await steps()

    @workflow
    async def grandparent() -> list[str]:
        return await parent()

    async with Engine("memory://", workflows=[steps, parent, grandparent]) as engine:
        broken.add("b")
        handle = await engine.start(grandparent, id="one")
        await failed(handle)
        broken.clear()
        await handle.retry_from()
        assert await handle.result() == ["A", "B", "C"]
        assert [line[0] for line in ran] == list("abbc")
        assert await engine.dead_letters.list() == []


async def test_the_last_run_is_what_is_retried() -> None:
    """Of a workflow that has begun anew."""

    @workflow
    async def runs(run: int) -> list[str]:
        done = await work(f"{run}")
        return [done] if run == 2 else continue_as_new(run + 1)

    async with Engine("memory://", workflows=[runs]) as engine:
        broken.add("2")
        handle = await engine.start(runs, 0, id="one")
        await failed(handle)
        broken.clear()
        await handle.retry_from()
        assert await handle.result() == ["2"]
        assert ran == ["0 one/1", "1 one/1.1", "2 one/2.1", "2 one/2.1"]


async def test_an_actor_that_is_started_again_does_not_retry_again(clock: ManualClock) -> None:
    """The request is of the life before: another failure is not taken back by it."""
    gated = GatedStore(clock)
    async with Engine(gated, workflows=[steps], clock=clock) as engine:
        broken.add("b")
        handle = await engine.start(steps, id="one")
        await failed(handle)
        gated.after = WorkflowFailed
        await handle.retry_from()
        await gated.held.wait()
        gated.after = None
        engine._services.actors["one"].kill()
        await settle()
        assert (await handle.status()).state is WorkflowState.FAILED
        assert [line[0] for line in ran] == list("abb")


class SlowToLook(GatedStore):
    """Lets one task wait for what the index shows, from a moment on."""

    gate: asyncio.Event | None = None

    async def summary(self, workflow_id: str) -> Summary | None:
        task = asyncio.current_task()
        if self.gate is not None and task is not None and task.get_name() == "asks":
            await self.gate.wait()
        return await super().summary(workflow_id)


async def test_a_retry_that_is_not_acknowledged_is_known_by_the_log(clock: ManualClock) -> None:
    """Its actor dies right after the append, and the workflow ends before anybody looks again."""
    gated = SlowToLook(clock)
    async with Engine(gated, workflows=[steps], clock=clock) as engine:
        broken.add("b")
        handle = await engine.start(steps, id="one")
        await failed(handle)
        broken.clear()
        gated.after = WorkflowRetried
        retrying = asyncio.create_task(handle.retry_from(), name="asks")
        await gated.held.wait()
        gated.after, gated.gate = None, asyncio.Event()
        engine._services.actors["one"].kill()
        assert await handle.result() == ["A", "B", "C"]
        gated.gate.set()
        await retrying
        assert (await kinds(handle)).count("WorkflowRetried") == 1


async def test_a_retry_that_comes_after_another_is_the_same(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The workflow goes on already, and has left memory by now."""

    @workflow
    async def waits() -> str:
        await work("a")
        return await receive("word", str)

    async with Engine(memory, workflows=[waits], clock=clock, idle_after=0) as engine:
        broken.add("a")
        handle = await engine.start(waits, id="one")
        await failed(handle)
        broken.clear()
        await handle.retry_from()
        await settle()
        assert engine._services.actors == {}
        assert await engine._workflows.retry("one", Retrial(None, ""))
        assert (await kinds(handle)).count("WorkflowRetried") == 1


# What is refused


async def test_what_has_compensated_cannot_go_on() -> None:
    """The error says what can be done instead."""

    @workflow
    async def trip() -> None:
        await book("hotel")
        await work("b")

    async with Engine("memory://", workflows=[trip]) as engine:
        broken.add("b")
        handle = await engine.start(trip, id="one")
        await failed(handle)
        with pytest.raises(WorkflowStateError, match=r"dead_letters.retry\('one'\).*fork\(at"):
            await handle.retry_from()
        assert (await handle.status()).state is WorkflowState.FAILED


async def test_a_saga_that_was_undone_before_is_no_hindrance() -> None:
    """It is part of what had happened, as long as nothing of it is taken back."""

    @workflow
    async def trip() -> str:
        try:
            async with saga():
                await book("hotel")
                await work("x")
        except LookupError:
            pass
        return await work("b")

    async with Engine("memory://", workflows=[trip]) as engine:
        broken.update("xb")
        handle = await engine.start(trip, id="one")
        await failed(handle)
        with pytest.raises(WorkflowStateError, match="has undone"):
            await handle.retry_from(1)
        broken.remove("b")
        await handle.retry_from()
        assert await handle.result() == "B"
        assert ran.count("undone hotel") == 1


async def test_only_what_has_failed_is_sent_round_again(clock: ManualClock) -> None:
    """Not what runs, has completed, was cancelled, or is not there."""

    @workflow
    async def waiting() -> str:
        return await receive("word", str)

    async with Engine("memory://", workflows=[waiting, steps], clock=clock) as engine:
        running = await engine.start(waiting, id="running")
        completed = await engine.start(steps, id="completed")
        await completed.result()
        cancelled = await engine.start(waiting, id="cancelled")
        await cancelled.cancel()
        await settle()
        for handle in (running, completed, cancelled):
            before = await handle.history()
            with pytest.raises(WorkflowStateError, match="refused, nothing was done"):
                await handle.retry_from()
            assert await handle.history() == before
        with pytest.raises(WorkflowNotFoundError):
            await engine.handle("nobody").retry_from()
        broken.add("a")
        handle = await engine.start(steps, id="one")
        await failed(handle)
        with pytest.raises(
            WorkflowStateError, match="no outcome of a step 'other'.*'work' \\(1\\)"
        ):
            await handle.retry_from("other")
        overdue = await engine.start(waiting, id="late", deadline=5)
        await clock.advance(6)
        await settle()
        with pytest.raises(WorkflowStateError, match="deadline"):
            await overdue.retry_from()


async def test_without_its_code_it_stays_as_it_is(place: str | Store) -> None:
    """It is not parked for that: it has ended."""
    async with Engine(place, workflows=[steps]) as engine:
        broken.add("b")
        handle = await engine.start(steps, id="one")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
    async with Engine(place, workflows=[]) as engine:
        with pytest.raises(UnknownWorkflowError):
            await engine.handle("one").retry_from()
        assert (await engine.handle("one").status()).state is WorkflowState.FAILED


# Crashes


async def test_a_crash_after_any_append_goes_on_the_same(clock: ManualClock) -> None:
    """Either it has been sent round again or not; never twice, never half."""
    journal = Journal(clock)
    async with Engine(journal, workflows=[side_by_side], clock=clock) as engine:
        broken.add("b")
        handle = await engine.start(side_by_side, id="one")
        await handle.signal("word", "kept")
        await failed(handle)
        await handle.retry_from()
        await failed(handle)
        broken.clear()
        await handle.retry_from()
        expected = await handle.result()
    for appends in range(1, len(journal.appends) + 1):
        store = await journal.cut(appends, clock)
        async with Engine(store, workflows=[side_by_side], clock=clock) as engine:
            handle = engine.handle("one")
            await settle()
            history = await handle.history()
            if (await handle.status()).state is WorkflowState.FAILED:
                await handle.retry_from()
            elif not any("Signal" in kind for kind in await kinds(handle)):
                await handle.signal("word", "kept")
            assert await handle.result() == expected
            after = await handle.history()
            assert after[: len(history)] == history
            ends = [one for one in after if isinstance(one.event, WorkflowFailed)]
            rounds = [one for one in after if isinstance(one.event, WorkflowRetried)]
            assert len(ends) == len(rounds)
            completed = [one.event.op for one in after if isinstance(one.event, StepCompleted)]
            assert len(completed) == len(set(completed))
            assert all(one.event.op == 1 for one in after if isinstance(one.event, StepFailed))
