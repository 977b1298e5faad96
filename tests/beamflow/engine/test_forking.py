"""Forks: copies that go on from a place in another workflow's log, and leave that one alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    ChildWorkflowError,
    DefinitionError,
    Engine,
    NondeterminismError,
    PayloadError,
    Retry,
    WorkflowExistsError,
    WorkflowFailedError,
    WorkflowHandle,
    WorkflowState,
    WorkflowStateError,
    continue_as_new,
    current_step,
    now,
    publish,
    random,
    receive,
    snapshot,
    start_child,
    step,
    uuid4,
    workflow,
)
from beamflow.engine.execution import new_execution
from beamflow.events import (
    ChildStarted,
    CompensationStarted,
    SignalReceived,
    StatePublished,
    StepCompleted,
    WorkflowForked,
    WorkflowStarted,
)
from supervision.testing import ManualClock, settle
from tests.beamflow.engine.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from beamflow.events import Event, Recorded
    from beamflow.stores.base import Store

    Reached = Callable[..., Awaitable[None]]

ran: list[str] = []
undone: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ran.clear()
    undone.clear()


@step
async def fetch(what: str) -> str:
    ran.append(f"{what} {current_step().idempotency_key}")
    if what == "bad":
        raise LookupError(what)
    return what.upper()


@fetch.compensation
async def give_back(fetched: str, what: str) -> None:
    undone.append(what)


@workflow
async def errand(first: str, second: str) -> list[Any]:
    """Chance and time are among what a fork has to see as the source did."""
    seen: list[Any] = [now().timestamp(), random().random(), await fetch(first)]
    publish("at", first)
    snapshot("half")
    seen.append(await receive("go on", str))
    seen += [str(uuid4()), await fetch(second)]
    return seen


@workflow
async def nested(first: str) -> list[str]:
    """Holds a child that is open at the fork, and calls another one."""
    held = await start_child(errand, first, "b")
    word = await receive("word", str)
    return [word, held.id, str(await held.result())]


@workflow
async def rolling(run: int, words: list[str]) -> list[str]:
    words.append(await receive("word", str))
    if run < 2:
        continue_as_new(run + 1, words)
    words.append(f"{random().random()}")
    words.append(await receive("last", str))
    return words


ALL = [errand, nested, rolling]


def of(history: Sequence[Recorded], *kinds: type[Event]) -> list[Any]:
    return [one.event for one in history if isinstance(one.event, kinds)]


async def at_half(engine: Engine, clock: ManualClock) -> WorkflowHandle[list[Any]]:
    """Start an errand that has come to its snapshot."""
    handle = await engine.start(errand, "a", "b", id="source")
    await settle()
    await clock.advance(1_000)
    return handle


async def test_a_fork_goes_on_from_where_its_source_is(
    place: str | Store, clock: ManualClock, reached: Reached
) -> None:
    """With the same past, and a future and keys of its own; each ends by itself."""
    async with Engine(place, workflows=ALL, clock=clock) as engine:
        source = await at_half(engine, clock)
        await reached(source, StatePublished)
        fork = await source.fork("copy")
        third = await source.fork("third")
        await source.signal("go on", "here")
        await fork.signal("go on", "there")
        await third.signal("go on", "there")
        one, other = await source.result(), await fork.result()
        assert one[:3] == other[:3]
        assert (one[3], other[3]) == ("here", "there")
        assert len({one[4], other[4], (await third.result())[4]}) == 3
        assert ran[0] == "a source/1"
        assert sorted(ran[1:]) == ["b copy/2", "b source/2", "b third/2"]
        assert await fork.published("at") == "a"


async def test_a_fork_needs_nothing_but_its_own_log(clock: ManualClock) -> None:
    """After any crash it is there as a whole or not at all, and replays as it was."""
    journal = Journal(clock)
    async with Engine(journal, workflows=ALL, clock=clock) as engine:
        source = await at_half(engine, clock)
        fork = await source.fork("copy", at="half")
        await fork.signal("go on", "there")
        expected = await fork.result()
        (started,) = of((await fork.history())[:1], WorkflowStarted)
        assert started.forked_from.startswith("source@")
    own = [each for each in journal.appends if each[0] == "copy"]
    for appends in range(1, len(own) + 1):
        alone = Journal(clock)
        alone.appends = own
        store = await alone.cut(appends, clock)
        async with Engine(store, workflows=ALL, clock=clock) as engine:
            handle = engine.handle("copy")
            await settle()
            if not of(await handle.history(), SignalReceived):
                await handle.signal("go on", "there")
            assert await handle.result() == expected


async def test_history_shows_what_was_taken_over(clock: ManualClock) -> None:
    """Behind the event that brought it, with its time, and the source as its stream."""
    async with Engine("memory://", workflows=ALL, clock=clock) as engine:
        source = await at_half(engine, clock)
        fork = await source.fork("copy")
        history = await fork.history()
        there = await source.history()
        assert [type(one.event) for one in history[:2]] == [WorkflowStarted, WorkflowForked]
        taken = history[2:]
        assert [one.time for one in taken] == [one.time for one in there]
        assert {(one.stream, one.seq) for one in taken} == {("source", 2)}
        assert of(taken, StepCompleted) == of(there, StepCompleted)


async def test_a_snapshot_is_a_place_to_begin_from(clock: ManualClock) -> None:
    """Also when the source has ended since, and in a fork of a fork."""
    async with Engine("memory://", workflows=ALL, clock=clock) as engine:
        source = await at_half(engine, clock)
        await source.signal("go on", "here")
        await source.result()
        (half,) = await source.snapshots()
        assert half.name == "half"
        fork = await source.fork("copy", at="half")
        await fork.signal("go on", "there")
        assert (await fork.result())[3] == "there"
        assert [each.name for each in await fork.snapshots()] == ["half"]
        second = await fork.fork("copy of copy", at="half")
        await second.signal("go on", "again")
        result = await second.result()
        assert (result[:3], result[3]) == ((await source.result())[:3], "again")
        assert ran == ["a source/1", "b source/2", "b copy/2", "b copy of copy/2"]


async def test_a_fork_of_a_fork_sees_the_chance_of_both(clock: ManualClock) -> None:
    """What was drawn before each fork is drawn again, whatever id it was drawn under."""
    async with Engine("memory://", workflows=ALL, clock=clock) as engine:
        source = await at_half(engine, clock)
        fork = await source.fork("copy")
        await fork.signal("go on", "there")
        drawn = await fork.result()
        at = (await fork.history())[-1].seq - 1
        second = await fork.fork("copy of copy", at=at)
        assert await second.result() == drawn


async def test_results_can_be_other_ones(clock: ManualClock) -> None:
    """By name or op; checked by the step's annotation; also of a step that has none yet."""
    async with Engine("memory://", workflows=ALL, clock=clock) as engine:
        source = await at_half(engine, clock)
        edited = await source.fork("by name", results={"fetch": "EDITED"})
        await edited.signal("go on", "x")
        assert (await edited.result())[2] == "EDITED"
        await source.signal("go on", "y")
        await source.result()
        with pytest.raises(DefinitionError, match="2 steps of that name"):
            await source.fork(results={"fetch": "which?"})
        by_op = await source.fork("by op", results={2: "LATER"})
        assert (await by_op.result())[5] == "LATER"
        with pytest.raises(PayloadError, match="result of step 'fetch'"):
            await source.fork(results={1: 17})
        with pytest.raises(DefinitionError, match="'nothing'"):
            await source.fork(results={"nothing": 1})


async def test_the_input_can_be_another_one_where_the_rest_still_follows(
    clock: ManualClock,
) -> None:
    """At the beginning it always does; later the code is asked, and nothing started if not."""
    async with Engine("memory://", workflows=ALL, clock=clock) as engine:
        source = await at_half(engine, clock)
        fresh = await source.fork("fresh", at=1, input=("c", "d"))
        await fresh.signal("go on", "x")
        assert (await fresh.result())[2] == "C"
        later = await source.fork("later", input=("a", "d"))
        await later.signal("go on", "x")
        assert (await later.result())[5] == "D"
        with pytest.raises(NondeterminismError):
            await source.fork("never", input=("c", "d"))
        with pytest.raises(PayloadError):
            await source.fork("never", input=(1,))
        assert "never" not in [summary.id async for summary in engine.find()]


async def test_a_fork_of_a_failed_workflow_goes_on_before_the_failure(clock: ManualClock) -> None:
    """With a result for the step that failed, or another try; what it took over it never undoes."""
    async with Engine("memory://", workflows=ALL, clock=clock) as engine:
        source = await engine.start(errand, "a", "bad", id="source")
        await source.signal("go on", "here")
        with pytest.raises(WorkflowFailedError):
            await source.result()
        assert undone == ["a"]
        helped = await source.fork("helped", results={2: "BY HAND"})
        assert (await helped.result())[5] == "BY HAND"
        again = await source.fork("again")
        with pytest.raises(WorkflowFailedError):
            await again.result()
        assert undone == ["a"]
        assert of(await again.history(), CompensationStarted) == []
        assert ran == ["a source/1", "bad source/2", "bad again/2"]


@pytest.mark.parametrize("at", [0, 99, "nowhere"])
async def test_a_place_that_is_not_there_is_refused(clock: ManualClock, at: int | str) -> None:
    async with Engine("memory://", workflows=ALL, clock=clock) as engine:
        source = await at_half(engine, clock)
        with pytest.raises(WorkflowStateError, match="Nothing was started"):
            await source.fork("copy", at=at)


async def test_a_place_after_the_beginning_of_the_end_is_refused(clock: ManualClock) -> None:
    """A copy would be told to end, or undo what is not its own; by default it begins before."""
    async with Engine("memory://", workflows=ALL, clock=clock) as engine:
        source = await at_half(engine, clock)
        await source.cancel()
        await settle()
        last = (await source.history())[-1].seq
        with pytest.raises(WorkflowStateError, match="began to end"):
            await source.fork("copy", at=last - 1)
        fork = await source.fork("copy")
        await fork.signal("go on", "after all")
        assert (await fork.result())[3] == "after all"


async def test_the_id_of_a_fork_is_its_own(clock: ManualClock) -> None:
    """The same fork twice is one; another workflow is never mistaken for it."""
    async with Engine("memory://", workflows=ALL, clock=clock) as engine:
        source = await at_half(engine, clock)
        await source.fork("copy", at="half")
        await source.fork("copy", at="half")
        with pytest.raises(WorkflowExistsError, match="a fork of source@"):
            await engine.start(errand, "a", "b", id="copy")
        with pytest.raises(WorkflowExistsError):
            await source.fork("source", at="half")
        assert (await source.status()).state is WorkflowState.RUNNING


def test_tasks_have_the_order_of_the_source() -> None:
    """In sets, which hash by the id under which they began."""
    codes = [
        new_execution(errand, "source"),
        new_execution(errand, "copy", "source"),
        new_execution(errand, "copy"),
    ]
    seeds = [code.seed for code in codes]
    assert seeds[0] == seeds[1] != seeds[2]
    for code in codes:
        code.close()


async def test_sets_of_tasks_are_walked_in_the_order_of_the_source(clock: ManualClock) -> None:
    """Their order follows from an id, and the code may act by it."""

    @workflow
    async def by_sets() -> list[str]:
        tasks = [asyncio.create_task(receive(f"word {number}", str)) for number in range(8)]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        order = [str(tasks.index(task)) for task in (*done, *pending)]
        fetched = [await fetch(number) for number in order]
        await receive("end")
        for task in pending:
            task.cancel()
        return fetched

    async with Engine("memory://", workflows=[by_sets], clock=clock) as engine:
        source = await engine.start(by_sets, id="source")
        await source.signal("word 3", "now")
        await settle()
        for number in range(5):
            fork = await source.fork(f"copy {number}")
            await fork.signal("end")
            result = await fork.result()
        await source.signal("end")
        assert await source.result() == result
        assert len(ran) == 8


async def test_what_is_made_anew_has_all_its_attempts(clock: ManualClock) -> None:
    """Those that have failed in the source are not counted against the fork."""

    @step(retry=Retry(max_attempts=2, initial=100, jitter=0))
    async def told() -> int:
        ran.append(f"{current_step().idempotency_key} {current_step().attempt}")
        if current_step().workflow_id == "source":
            raise ConnectionError
        return current_step().attempt

    @workflow
    async def trying() -> int:
        return await told()

    async with Engine("memory://", workflows=[trying], clock=clock) as engine:
        source = await engine.start(trying, id="source")
        await settle()
        fork = await source.fork("copy")
        assert await fork.result() == 1
        assert ran == ["source/1 1", "copy/1 1"]
        await source.terminate()


async def test_an_open_child_is_begun_anew_for_the_fork(clock: ManualClock) -> None:
    """It has a child of its own; the source's knows nothing of it."""
    async with Engine("memory://", workflows=ALL, clock=clock) as engine:
        source = await engine.start(nested, "a", id="source")
        await settle()
        fork = await source.fork("copy")
        await settle()
        for handle in (source, fork):
            await handle.signal("word", handle.id)
            await engine.handle(f"{handle.id}/1").signal("go on", handle.id)
        one, other = await source.result(), await fork.result()
        assert one[:2] == ["source", "source/1"]
        assert other[:2] == ["copy", "copy/1"]
        (started,) = of(await fork.history(), ChildStarted)
        assert started.id == "copy/1"


async def test_a_child_with_an_id_of_its_own_cannot_be_had_twice(clock: ManualClock) -> None:
    """The fork is told so where it waits for it."""

    @workflow
    async def holder() -> str:
        held = await start_child(errand, "a", "b", id="only one")
        try:
            await held.result()
        except ChildWorkflowError as error:
            return error.error_type
        return "had"

    async with Engine("memory://", workflows=[*ALL, holder], clock=clock) as engine:
        source = await engine.start(holder, id="source")
        await settle()
        fork = await source.fork("copy")
        assert await fork.result() == "beamflow.errors.WorkflowExistsError"
        await engine.handle("only one").signal("go on", "x")
        assert await source.result() == "had"


async def test_a_later_run_can_be_forked_and_an_earlier_one(clock: ManualClock) -> None:
    """From where the run began, with the signals that were carried over to it."""
    async with Engine("memory://", workflows=ALL, clock=clock) as engine:
        source = await engine.start(rolling, 0, [], id="source")
        for word in ("one", "two", "three"):
            await source.signal("word", word)
        await settle()
        fork = await source.fork("copy")
        early = await source.fork("early", at=2)
        for handle in (source, fork):
            await handle.signal("last", handle.id)
        one, other = await source.result(), await fork.result()
        assert one[:4] == other[:4]
        assert (one[4], other[4]) == ("source", "copy")
        for word in ("2", "3"):
            await early.signal("word", word)
        await early.signal("last", "early")
        result = await early.result()
        assert [*result[:3], result[4]] == ["one", "2", "3", "early"]
