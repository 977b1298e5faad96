"""Child workflows: one for each call, whatever crashes when, and none that nobody waits for."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from beamflow import (
    ChildWorkflowError,
    DefinitionError,
    Engine,
    Retry,
    StoreUnavailableError,
    WorkflowCancelledError,
    WorkflowClosedError,
    WorkflowFailedError,
    WorkflowParkedError,
    WorkflowState,
    receive,
    start_child,
    step,
    workflow,
)
from beamflow.engine.children import Children
from beamflow.events import (
    CancelRequested,
    ChildCompleted,
    ChildFailed,
    ChildStarted,
    SignalReceived,
    StepCompleted,
    WorkflowCancelled,
    WorkflowStarted,
)
from beamflow.stores.memory import MemoryStore
from supervision.testing import ManualClock, settle
from tests.beamflow.engine.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from beamflow.engine.child_call import ChildCall
    from beamflow.events import Event
    from beamflow.stores.base import Page, Store, WorkflowQuery

    Reached = Callable[..., Awaitable[None]]


class Note(msgspec.Struct):
    text: str


@step
async def double(number: int) -> int:
    return number * 2


@step(retry=Retry(max_attempts=2, initial=1, jitter=0))
async def refuse(why: str) -> None:
    raise ConnectionError(why)


@workflow
async def leaf(number: int) -> int:
    return await double(number)


@workflow
async def branch(number: int) -> int:
    one, other = await asyncio.gather(leaf(number), leaf(number + 1))
    return one + other


@workflow
async def rotten(why: str) -> None:
    await refuse(why)


@workflow
async def patient() -> str:
    return await receive("word", str)


@workflow
async def stubborn() -> str:
    """Takes its time to end when it is told to."""
    try:
        return await receive("word", str)
    finally:
        await double(1)


@workflow
async def tree() -> list[Any]:
    """Calls, nested and side by side; children held by a handle, and one that fails."""
    sums = await asyncio.gather(branch(1), branch(10))
    held = await start_child(leaf, 100, on_close="wait")
    try:
        await rotten("no")
    except ChildWorkflowError as error:
        sums.append(0 if error.error_type == "builtins.ConnectionError" else -1)
    lost = await start_child(patient, id="given up")
    try:
        async with asyncio.timeout(5):
            await stubborn()
    except TimeoutError:
        sums.append(7)
    alone = await start_child(leaf, 7, id="alone", on_close="abandon")
    return [*sums, await held.result(), lost.id, alone.id]


ALL = [leaf, branch, rotten, patient, stubborn, tree]
TREE_RESULT = [6, 42, 0, 7, 200, "given up", "alone"]
TREE_IDS = [
    "alone",
    "given up",
    "one",
    *(f"one/{op}" for op in (1, "1/1", "1/2", 2, "2/1", "2/2", 3, 4, 7)),
]


async def finished(engine: Engine, clock: ManualClock) -> Any:
    result = asyncio.create_task(engine.handle("one").result())
    for _ in range(100):
        await settle()
        if result.done():
            break
        await clock.advance(1)
    await settle()
    return await result


async def events_of(engine: Engine, workflow_id: str, kind: type) -> list[Any]:
    history = await engine.handle(workflow_id).history()
    return [one.event for one in history if isinstance(one.event, kind)]


async def ids(engine: Engine, **query: Any) -> list[str]:
    return sorted([summary.id async for summary in engine.find(**query)])


# Results and errors


async def test_a_workflow_called_in_a_workflow_is_a_child(place: str | Store) -> None:
    """It has a log of its own, an id made of its parent's, and its result comes back once."""
    async with Engine(place, workflows=ALL) as engine:
        handle = await engine.start(branch, 3, id="one")
        assert await handle.result() == 14
        assert await ids(engine) == ["one", "one/1", "one/2"]
        (started,) = await events_of(engine, "one/1", WorkflowStarted)
        assert (started.workflow, started.parent) == ("leaf", "one")
        kinds = Counter(type(one.event) for one in await handle.history())
        assert (kinds[ChildStarted], kinds[ChildCompleted]) == (2, 2)
        assert await engine.handle("one/1").result() == 6


async def test_a_childs_exception_reaches_the_parent_as_an_error_of_its_own(
    clock: ManualClock,
) -> None:
    """With id, type and text; the child's failure is one dead letter, that of the parent another."""

    @workflow
    async def parent() -> None:
        await rotten("out of order")

    async with Engine("memory://", workflows=[parent, rotten], clock=clock) as engine:
        await engine.start(parent, id="one")
        with pytest.raises(WorkflowFailedError, match="ChildWorkflowError.*'one/1'") as failed:
            await finished(engine, clock)
        assert "ConnectionError: out of order" in failed.value.error_message
        letters = [letter.workflow_id for letter in await engine.dead_letters.list()]
        assert sorted(letters) == ["one", "one/1"]


async def test_an_id_that_is_taken_by_something_else_is_an_error_in_the_parent() -> None:
    """Not even a workflow of the same name and input is mistaken for the child."""

    @workflow
    async def parent() -> str:
        try:
            await start_child(leaf, 1, id="taken")
        except ChildWorkflowError as error:
            return error.error_type
        return "started"

    async with Engine("memory://", workflows=[parent, leaf]) as engine:
        await (await engine.start(leaf, 1, id="taken")).result()
        result = await (await engine.start(parent)).result()
        assert result == "beamflow.errors.WorkflowExistsError"


async def test_what_makes_no_sense_is_refused_at_once() -> None:
    """With the value in the message, before anything is issued."""

    @workflow
    async def parent() -> list[str]:
        problems = []
        for start in (
            lambda: start_child(leaf, 1, on_close="forget"),  # type: ignore[arg-type]
            lambda: start_child(leaf.function, 1),
            lambda: start_child(leaf, 1, id="$dead-letters"),
        ):
            try:
                await start()
            except DefinitionError as error:
                problems.append(str(error))
        return problems

    async with Engine("memory://", workflows=[parent, leaf]) as engine:
        policy, function, id_ = await (await engine.start(parent)).result()
        assert "'forget'" in policy
        assert "@workflow" in function
        assert "'$dead-letters'" in id_
    with pytest.raises(DefinitionError, match="only inside a workflow"):
        await start_child(leaf, 1)


async def test_the_code_of_a_child_that_is_not_there_parks_its_parent(memory: MemoryStore) -> None:
    """Nothing is begun; with the code it goes on."""

    @workflow
    async def parent() -> int:
        return await leaf(4)

    async with Engine(memory, workflows=[parent]) as engine:
        with pytest.raises(WorkflowParkedError, match="not given a workflow 'leaf'"):
            await (await engine.start(parent, id="one")).result()
        assert await ids(engine) == ["one"]
    async with Engine(memory, workflows=[parent, leaf]) as engine:
        await settle()
        assert await engine.handle("one").result() == 8


async def test_a_child_that_is_parked_is_waited_for(memory: MemoryStore) -> None:
    """The parent shows what it waits for, and has the result once the child goes on."""

    @workflow
    async def parent() -> int:
        return await branch(4)

    async with Engine(memory, workflows=[parent, branch]) as engine:
        handle = await engine.start(parent, id="one")
        await settle()
        with pytest.raises(WorkflowParkedError):
            await engine.handle("one/1").result()
        status = await handle.status()
        assert (status.state, status.waiting_for) == (WorkflowState.RUNNING, ("child one/1",))
    async with Engine(memory, workflows=[parent, branch, leaf]) as engine:
        assert await engine.handle("one").result() == 18


# The end of the parent


@pytest.mark.parametrize("fails", [False, True])
async def test_a_parent_ends_after_the_children_it_waits_for(*, fails: bool) -> None:
    """Whether it returns or raises."""

    @workflow
    async def parent() -> None:
        await start_child(patient, id="slow", on_close="wait")
        if fails:
            raise LookupError

    async with Engine("memory://", workflows=[parent, patient]) as engine:
        handle = await engine.start(parent, id="one")
        await settle()
        assert (await handle.status()).state is WorkflowState.RUNNING
        await engine.handle("slow").signal("word", "go")
        if fails:
            with pytest.raises(WorkflowFailedError, match="LookupError"):
                await handle.result()
        else:
            await handle.result()
        assert await events_of(engine, "one", ChildCompleted)


@pytest.mark.invariant("I22")
async def test_a_parent_ends_after_the_children_it_cancels() -> None:
    """Children first: theirs is the earlier end, with all that they had to do."""

    @workflow
    async def parent() -> str:
        await start_child(stubborn, id="held")
        return "done"

    async with Engine("memory://", workflows=[parent, stubborn]) as engine:
        handle = await engine.start(parent, id="one")
        assert await handle.result() == "done"
        child = await engine.handle("held").status()
        assert child.state is WorkflowState.CANCELLED
        assert await events_of(engine, "held", StepCompleted)
        (failed,) = await events_of(engine, "one", ChildFailed)
        assert failed.cancelled


async def test_an_abandoned_child_goes_on_alone() -> None:
    """Its parent's end is nothing to it."""

    @workflow
    async def parent() -> None:
        await start_child(patient, id="alone", on_close="abandon")

    async with Engine("memory://", workflows=[parent, patient]) as engine:
        await (await engine.start(parent, id="one")).result()
        await engine.handle("alone").signal("word", "still here")
        assert await engine.handle("alone").result() == "still here"


async def test_cancelling_a_workflow_cancels_what_it_calls() -> None:
    """Down to the last; the parent ends after its children."""

    @workflow
    async def middle() -> str:
        return await stubborn()

    @workflow
    async def parent() -> str:
        return await middle()

    async with Engine("memory://", workflows=[parent, middle, stubborn]) as engine:
        handle = await engine.start(parent, id="one")
        await settle()
        await handle.cancel("enough")
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        states = [summary.state async for summary in engine.find()]
        assert states == [WorkflowState.CANCELLED] * 3


async def test_a_parent_that_is_taken_away_waits_for_nothing_that_could_take_for_ever(
    clock: ManualClock,
) -> None:
    """Children it would have waited for are cancelled when its grace is over."""

    @workflow
    async def parent() -> None:
        child = await start_child(patient, id="slow", on_close="wait")
        try:
            await child.result()
        finally:
            await asyncio.sleep(1_000)

    async with Engine("memory://", workflows=[parent, patient], clock=clock) as engine:
        handle = await engine.start(parent, id="one")
        await settle()
        await handle.cancel(grace=10)
        await clock.advance(11)
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        assert (await engine.handle("slow").status()).state is WorkflowState.CANCELLED


async def test_terminating_a_workflow_terminates_its_children() -> None:
    """Down to the last; those that were abandoned go on."""

    @workflow
    async def middle() -> str:
        await start_child(patient, id="alone", on_close="abandon")
        await start_child(patient, id="awaited", on_close="wait")
        return await stubborn()

    @workflow
    async def parent() -> str:
        return await middle()

    definitions = [parent, middle, stubborn, patient]
    async with Engine("memory://", workflows=definitions) as engine:
        handle = await engine.start(parent, id="one")
        await settle()
        await handle.terminate("enough")
        states = {summary.id: summary.state async for summary in engine.find()}
        assert states.pop("alone") is WorkflowState.RUNNING
        assert len(states) == 4
        assert set(states.values()) == {WorkflowState.CANCELLED}
        for workflow_id in states:
            (end,) = await events_of(engine, workflow_id, WorkflowCancelled)
            assert end.terminated
            assert not await events_of(engine, workflow_id, StepCompleted)


async def test_terminating_a_workflow_terminates_more_children_than_a_page_holds() -> None:
    """Whatever the size of a page is."""

    @workflow
    async def child() -> None:
        await receive("never")

    @workflow
    async def parent() -> None:
        for number in range(LIMIT + 5):
            await start_child(child, id=f"{number}", on_close="wait")
        await receive("never")

    async with Engine(PagedStore(clock=lambda: 0), workflows=[parent, child]) as engine:
        handle = await engine.start(parent, id="one")
        while await engine.count(workflow=child) < LIMIT + 5:
            await settle()
        await handle.terminate()
        assert (await engine.counts())[WorkflowState.CANCELLED] == LIMIT + 6


LIMIT = 7


class PagedStore(MemoryStore):
    """A store whose pages are short, as those of a store with other bounds may be."""

    async def find(self, query: WorkflowQuery) -> Page:
        """Return a short page."""
        return await super().find(msgspec.structs.replace(query, limit=min(query.limit, LIMIT)))


async def test_a_child_whose_parent_was_terminated_ends_when_it_comes_back() -> None:
    """The process died after the parent's end, and before the children's."""

    @workflow
    async def middle() -> str:
        await start_child(patient, id="alone", on_close="abandon")
        return await patient()

    @workflow
    async def parent() -> str:
        return await middle()

    definitions = [parent, middle, patient]
    clock = ManualClock()
    journal = Journal(clock)
    async with Engine(journal, workflows=definitions, clock=clock) as engine:
        handle = await engine.start(parent, id="one")
        await settle()
        before = len(journal.appends)
        await handle.terminate()
    for appends in range(before + 1, len(journal.appends) + 1):
        store = await journal.cut(appends, clock)
        async with Engine(store, workflows=definitions, clock=clock) as engine:
            await settle()
            assert await ids(engine, state=WorkflowState.RUNNING) == ["alone"]


async def test_a_handle_signals_its_child_once() -> None:
    """By name, type or method; a crash between the child's log and the parent's sends nothing twice."""

    @workflow
    async def collector() -> list[str]:
        words = [await receive("word", str), await receive(Note)]
        return [f"{word}" for word in words]

    @workflow
    async def parent() -> list[str]:
        child = await start_child(collector, id="child")
        await child.signal("word", "one")
        await child.signal(Note, Note(text="two"))
        result = await child.result()
        try:
            await child.signal("word", "late")
        except WorkflowClosedError:
            result.append("closed")
        return result

    expected = ["one", "Note(text='two')", "closed"]
    clock = ManualClock()
    journal = Journal(clock)
    async with Engine(journal, workflows=[parent, collector], clock=clock) as engine:
        await engine.start(parent, id="one")
        assert await finished(engine, clock) == expected
    for appends in range(1, len(journal.appends) + 1):
        store = await journal.cut(appends, clock)
        async with Engine(store, workflows=[parent, collector], clock=clock) as engine:
            assert await finished(engine, clock) == expected
            assert len(await events_of(engine, "child", SignalReceived)) == 2


async def test_a_handle_cancels_its_child() -> None:
    """The child's end is then told by an error that says so."""

    @workflow
    async def parent() -> bool:
        child = await start_child(patient)
        await child.cancel("not needed")
        try:
            await child.result()
        except ChildWorkflowError as error:
            return error.cancelled
        return False

    async with Engine("memory://", workflows=[parent, patient]) as engine:
        assert await (await engine.start(parent)).result()


async def test_a_call_that_is_given_up_before_it_is_acted_on_begins_nothing() -> None:
    """Two things happen in one append: the code asks for a child, and gives it up."""

    @workflow
    async def parent() -> None:
        await receive("ask")
        call = asyncio.create_task(patient())
        await receive("give up")
        call.cancel()
        await receive("end")

    async with Engine("memory://", workflows=[parent, patient]) as engine:
        handle = await engine.start(parent, id="one")
        await asyncio.gather(handle.signal("ask"), handle.signal("give up"))
        await settle()
        await handle.signal("end")
        await handle.result()
        assert await ids(engine) == ["one"]


class SlowStarts(MemoryStore):
    """Begins no child before it is let, and fails to record what a parent hears meanwhile."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=lambda: int(clock.now() * 1_000_000))
        self.let = asyncio.Event()
        self.failed = asyncio.Event()

    async def append(
        self, stream: str, expected: int, events: Sequence[Event], **options: Any
    ) -> None:
        if "/" in stream and not expected:
            await self.let.wait()
        elif not self.let.is_set() and isinstance(events[0], SignalReceived):
            self.let.set()
            await settle()
            self.failed.set()
            raise StoreUnavailableError("memory://", "down", "Try again")
        await super().append(stream, expected, events, **options)


@pytest.mark.invariant("I22")
async def test_a_child_is_told_of_nothing_that_its_parents_log_does_not_say(
    clock: ManualClock,
) -> None:
    """The code gives up a child that is being begun, and that is not recorded: it never was so."""

    @workflow
    async def parent() -> str:
        call = asyncio.create_task(patient())
        if await receive("go on") == "without":
            call.cancel()
        return await call

    store = SlowStarts(clock)
    async with Engine(store, workflows=[parent, patient], clock=clock) as engine:
        handle = await engine.start(parent, id="one")
        with pytest.raises(StoreUnavailableError):
            await handle.signal("go on", "without")
        await store.failed.wait()
        await handle.signal("go on", "with it")
        await settle()
        assert not await events_of(engine, "one/1", CancelRequested)
        await engine.handle("one/1").signal("word", "here")
        assert await handle.result() == "here"


async def test_a_paused_parent_begins_no_child(memory: MemoryStore) -> None:
    """What its code asks for waits until it is resumed, also over a restart."""

    @workflow
    async def parent() -> int:
        await receive("word")
        return await leaf(1)

    async with Engine(memory, workflows=[parent, leaf]) as engine:
        handle = await engine.start(parent, id="one")
        await handle.pause()
        await handle.signal("word")
        await settle()
        assert await ids(engine) == ["one"]
    async with Engine(memory, workflows=[parent, leaf]) as engine:
        await settle()
        assert await ids(engine) == ["one"]
        await engine.handle("one").resume()
        assert await engine.handle("one").result() == 2


# Crashes


async def lived(clock: ManualClock) -> Journal:
    journal = Journal(clock)
    async with Engine(journal, workflows=ALL, clock=clock) as engine:
        await engine.start(tree, id="one")
        assert await finished(engine, clock) == TREE_RESULT
        await assert_whole(engine)
    return journal


async def assert_whole(engine: Engine) -> None:
    """Every child once, every outcome once, nobody left behind."""
    assert await ids(engine) == TREE_IDS
    assert await ids(engine, state=[WorkflowState.RUNNING, WorkflowState.PARKED]) == []
    for workflow_id in TREE_IDS:
        history = await engine.handle(workflow_id).history()
        children = Counter(
            (type(one.event), one.event.id)
            for one in history
            if isinstance(one.event, ChildStarted | ChildCompleted | ChildFailed)
        )
        steps = Counter(one.event.op for one in history if isinstance(one.event, StepCompleted))
        assert set(children.values()) | set(steps.values()) <= {1}
        assert sum(isinstance(one.event, WorkflowStarted) for one in history) == 1
    assert [letter.workflow_id for letter in await engine.dead_letters.list()] == ["one/4"]


@pytest.mark.invariant("I22")
async def test_a_crash_after_any_append_leaves_no_orphan_and_no_second_child() -> None:
    """The next engine takes the tree to the same end."""
    journal = await lived(ManualClock())
    for appends in range(1, len(journal.appends) + 1):
        clock = ManualClock()
        await clock.advance((journal.appends[-1][3] / 1e6) - clock.now())
        store = await journal.cut(appends, clock)
        async with Engine(store, workflows=ALL, clock=clock) as engine:
            assert await finished(engine, clock) == TREE_RESULT
            await assert_whole(engine)


async def test_an_engine_that_ends_after_any_append_takes_nothing_along(clock: ManualClock) -> None:
    """Also when each engine lives for one append more than the one before."""
    journal = Journal(clock)
    async with Engine(journal, workflows=ALL, clock=clock) as engine:
        await engine.start(tree, id="one")
    for _ in range(200):
        async with Engine(journal, workflows=ALL, clock=clock) as engine:
            before = len(journal.appends)
            for _ in range(30):
                if len(journal.appends) > before:
                    break
                await asyncio.sleep(0)
            else:
                await clock.advance(1)
            summary = await journal.summary("one")
            if summary is not None and not summary.state.is_open:
                assert await finished(engine, clock) == TREE_RESULT
                await assert_whole(engine)
                return
    pytest.fail("it never came to its end")


async def test_of_many_children_each_is_looked_at_when_it_is_its_turn(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has become of one is no reason to go through all of the others."""
    begun = 0
    start = Children.start

    def counted(children: Children, call: ChildCall) -> None:
        nonlocal begun
        begun += 1
        start(children, call)

    monkeypatch.setattr(Children, "start", counted)

    @workflow
    async def child(number: int) -> int:
        return number

    @workflow
    async def parent() -> int:
        return sum(await asyncio.gather(*[child(number) for number in range(50)]))

    async with Engine(memory, workflows=[parent, child]) as engine:
        assert await (await engine.start(parent)).result() == 1225
    assert begun == 50
