"""Leaving memory and coming back: who rests, who leaves, and what comes meanwhile."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import Raw

from beamflow import (
    Engine,
    Retry,
    StoreUnavailableError,
    WorkflowCancelledError,
    WorkflowState,
    continue_as_new,
    on_signal,
    on_update,
    receive,
    step,
    until,
    workflow,
)
from beamflow.engine.awake import Awake
from beamflow.model.events import (
    ChildCompleted,
    StepCompleted,
    StepFailed,
    TimerFired,
    WorkflowCompleted,
)
from beamflow.stores.memory import MemoryStore
from supervision.testing import settle
from tests.beamflow.engine.idlers import (
    ALL,
    DAY,
    GATES,
    awake,
    counter,
    parent,
    patient_parent,
    sleep,
    wait,
    work,
    working,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamflow.stores.base import Sleep
    from supervision.testing import ManualClock


@pytest.fixture(autouse=True)
def _gates() -> None:
    GATES.clear()
    for name in "abcdefgh":
        GATES[name] = asyncio.Event()


@pytest.mark.invariant("I37")
async def test_who_rests_leaves_after_a_while(memory: MemoryStore, clock: ManualClock) -> None:
    """Not before; and comes back for a signal, which it gets."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=60) as engine:
        handle = await engine.start(wait, id="one")
        await clock.advance(59)
        assert awake(engine) == {"one"}
        await clock.advance(2)
        assert awake(engine) == set()
        await handle.signal("word", "hello")
        assert await handle.result() == "hello"


async def test_who_works_stays(memory: MemoryStore, clock: ManualClock) -> None:
    """A step under way holds its workflow in memory, however long it takes."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=60) as engine:
        handle = await engine.start(working, "a")
        await clock.advance(600)
        assert awake(engine) == {handle.id}
        GATES["a"].set()
        assert await handle.result() == "a"


async def test_news_begin_the_rest_anew(memory: MemoryStore, clock: ManualClock) -> None:
    """Whoever is talked to stays awake for as long again."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=60) as engine:
        handle = await engine.start(counter, id="one")
        await clock.advance(40)
        assert await handle.update("add", 1) == 1
        await clock.advance(40)
        assert awake(engine) == {"one"}
        await clock.advance(21)
        assert awake(engine) == set()


async def test_whoever_looks_for_the_first_does_not_go_through_the_others(
    clock: ManualClock,
) -> None:
    """However many rest, each of them is looked at a few times until it is asked to leave."""
    looked_at = 0

    class Resting(OrderedDict[str, Any]):
        def __iter__(self) -> Iterator[str]:
            nonlocal looked_at
            for one in super().__iter__():
                looked_at += 1
                yield one

        def items(self) -> Any:
            return [(one, self[one]) for one in self]

    class Asked:
        left = 0

        def cast(self, _message: object) -> None:
            self.left += 1

    places, ref = Awake(clock, {}, 1_000, 60.0), cast("Any", Asked())
    places._resting = Resting()
    for number in range(100):
        places.rests(f"{number}", ref)
        await clock.advance(0.1)
    await clock.advance(61)
    assert ref.left == 100
    assert looked_at <= 300


async def test_no_time_makes_anybody_leave_where_that_is_asked_for(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """``idle_after=None`` keeps all in memory while there is room."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=None) as engine:
        await engine.start(wait, id="one")
        await clock.advance(DAY)
        assert awake(engine) == {"one"}


@pytest.mark.parametrize("idle_after", [0, 60])
async def test_whatever_is_asked_of_a_sleeping_workflow(
    memory: MemoryStore, clock: ManualClock, idle_after: float
) -> None:
    """Status, query, update, events, pause, resume, cancel: as if it had been awake."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=idle_after) as engine:

        async def rested() -> None:
            await clock.advance(idle_after + 1)
            assert awake(engine) == set()

        handle = await engine.start(counter, id="one")
        await rested()
        assert (await handle.status()).waiting_for == ("condition",)
        assert await handle.query("total") == 0
        assert awake(engine) == set()
        assert await handle.update("add", 4, id="four") == 4
        await rested()
        assert await handle.update("add", 4, id="four") == 4
        await rested()
        await handle.pause("for a while")
        await rested()
        assert (await handle.status()).state is WorkflowState.PAUSED
        await handle.resume()
        await rested()
        assert await handle.query("total") == 4
        await handle.cancel("enough")
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        events = [recorded.seq async for recorded in handle.events()]
        assert events == list(range(1, len(events) + 1))


@workflow
async def slow_to_answer() -> None:
    words: list[str] = []

    async def next_word() -> str:
        await until(lambda: bool(words))
        return words[0]

    def say(word: str) -> None:
        words.append(word)

    on_update("next", next_word)
    on_signal("word", say)
    await receive("end")


@pytest.mark.invariant("I37")
@pytest.mark.parametrize("askers", [1, 3])
async def test_who_owes_a_reply_to_nobody_any_more_leaves(
    memory: MemoryStore, clock: ManualClock, askers: int
) -> None:
    """It stays for as long as somebody waits; whoever asks again wakes it, and hears."""
    async with Engine(memory, workflows=[slow_to_answer], clock=clock, idle_after=60) as engine:
        handle = await engine.start(slow_to_answer, id="one")
        asked = [
            asyncio.create_task(handle.update("next", id="first", type=str)) for _ in range(askers)
        ]
        await clock.advance(61)
        for asker in asked:
            assert awake(engine) == {"one"}
            asker.cancel()
            await settle()
        assert awake(engine) == {"one"}
        await clock.advance(61)
        assert awake(engine) == set()
        asker = asyncio.create_task(handle.update("next", id="first", type=str))
        await settle()
        assert awake(engine) == {"one"}
        await handle.signal("word", "hello")
        assert await asker == "hello"


@pytest.mark.invariant("I16")
async def test_time_wakes_who_sleeps(memory: MemoryStore, clock: ManualClock) -> None:
    """In time, whether that is soon or far away, in the order of their times."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=0) as engine:
        seconds = (40 * DAY, 10.0, 3 * 3600.0, 3599.0, DAY)
        began = clock.now()
        handles = [await engine.start(sleep, one) for one in seconds]
        await settle()
        assert awake(engine) == set()
        ends: list[float] = []

        async def end(number: int) -> None:
            assert await handles[number].result() == "rested"
            ends.append(round(clock.now() - began, 3))

        async with asyncio.TaskGroup() as group:
            for number in range(len(seconds)):
                group.create_task(end(number))
            await clock.advance(41 * DAY)
        assert ends == sorted(seconds)


async def test_a_retry_is_made_in_time(memory: MemoryStore, clock: ManualClock) -> None:
    """Between two attempts there is rest, and nothing else."""
    tries: list[float] = []

    @step(retry=Retry(max_attempts=2, initial=50, jitter=0))
    async def flaky() -> str:
        tries.append(clock.now())
        if len(tries) == 1:
            raise OSError("not now")
        return "done"

    @workflow
    async def stubborn() -> str:
        return await flaky()

    async with Engine(memory, workflows=[stubborn], clock=clock, idle_after=0) as engine:
        handle = await engine.start(stubborn)
        await settle()
        assert awake(engine) == set()
        assert (await handle.status()).waiting_for == ("retry of step flaky",)
        await clock.advance(49)
        assert len(tries) == 1
        await clock.advance(2)
        assert await handle.result() == "done"
        kinds = [type(one.event) for one in await handle.history()]
        assert kinds.count(StepFailed) == kinds.count(StepCompleted) == 1


async def test_delays_and_deadlines_hold_for_who_sleeps(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """A delayed start sleeps until it begins, a deadline ends who sleeps."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=0) as engine:
        late = await engine.start(sleep, 1.0, delay=2 * DAY)
        doomed = await engine.start(wait, deadline=3 * DAY)
        await settle()
        assert awake(engine) == set()
        await clock.advance(2 * DAY + 2)
        assert await late.result() == "rested"
        await clock.advance(DAY + 60)
        with pytest.raises(TimeoutError):
            await doomed.result()


# Children


@pytest.mark.invariant("I13")
@pytest.mark.parametrize("idle_after", [0, 60])
async def test_parents_and_children_sleep(
    memory: MemoryStore, clock: ManualClock, idle_after: float
) -> None:
    """The end of a child wakes its parent."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=idle_after) as engine:
        handle = await engine.start(parent, DAY, id="parent")
        await clock.advance(idle_after + 1)
        assert awake(engine) == set()
        await clock.advance(DAY)
        assert await handle.result() == "child rested"


async def test_a_parent_goes_back_to_sleep_and_wakes_nobody(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """At a restart a parent looks after its child, which sleeps on."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=0) as engine:
        await engine.start(patient_parent, id="parent")
        await settle()
        assert awake(engine) == set()
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=None) as engine:
        await settle()
        assert awake(engine) == {"parent"}
        await engine.handle("the child").signal("word", "hi")
        assert await engine.handle("parent").result() == "child said hi"


@pytest.mark.invariant("I37")
@pytest.mark.parametrize("idle_after", [0, 60])
async def test_a_parent_that_was_woken_leaves_again(
    memory: MemoryStore, clock: ManualClock, idle_after: float
) -> None:
    """By a restart or by a message: that it looks after its child does not keep it in memory."""

    async def rested(engine: Engine) -> None:
        await settle()
        await clock.advance(idle_after + 1)
        assert awake(engine) == set()

    async with Engine(memory, workflows=ALL, clock=clock, idle_after=idle_after) as engine:
        await engine.start(patient_parent, id="parent")
        await rested(engine)
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=idle_after) as engine:
        await rested(engine)
        handle = engine.handle("parent")
        await handle.pause()
        await rested(engine)
        await handle.resume()
        await rested(engine)
        await engine.handle("the child").signal("word", "hi")
        assert await handle.result() == "child said hi"


async def test_a_parent_leaves_once_its_child_is_told_to_end(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """A child that takes a day to end, and tells nothing meanwhile, keeps nobody in memory."""
    tries: list[float] = []

    @step
    async def book() -> None:
        pass

    @book.compensation(retry=Retry(max_attempts=2, initial=DAY, jitter=0))
    async def unbook(_none: None) -> None:
        tries.append(clock.now())
        if len(tries) == 1:
            raise OSError("tomorrow")

    @workflow
    async def trip() -> None:
        await book()
        await receive("never")

    @workflow
    async def impatient() -> str:
        try:
            async with asyncio.timeout(10):
                await trip()
        except TimeoutError:
            return "without it"
        return "with it"

    async with Engine(memory, workflows=[trip, impatient], clock=clock, idle_after=0) as engine:
        handle = await engine.start(impatient)
        await clock.advance(11)
        assert len(tries) == 1
        assert awake(engine) == set()
        await clock.advance(DAY + 1)
        assert await handle.result() == "without it"


@pytest.mark.invariant("I13")
async def test_a_child_that_ended_in_the_moment_of_a_crash(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Its parent sleeps, and hears of it at the next start."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=0) as engine:
        await engine.start(patient_parent, id="parent")
        await settle()
        engine._services.sleepers.wake = lambda _: None  # type: ignore[method-assign] # nobody is told
        await engine.handle("the child").signal("word", "hi")
        assert await engine.handle("the child").result() == "hi"
        await settle()
        assert awake(engine) == set()
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=0) as engine:
        assert await engine.handle("parent").result() == "child said hi"


@pytest.mark.invariant("I13")
async def test_a_child_whose_end_is_in_the_log_and_was_not_acknowledged(
    clock: ManualClock,
) -> None:
    """Its next life finds that it has ended, and wakes the parent that sleeps."""

    class Breaks(MemoryStore):
        async def append(self, stream: str, *args: Any, **options: Any) -> None:
            await super().append(stream, *args, **options)
            if stream == "the child" and isinstance(args[1][-1], WorkflowCompleted):
                raise StoreUnavailableError("memory://", "the line broke behind the commit", "Look")

    store = Breaks(clock=lambda: int(clock.now() * 1_000_000))
    async with Engine(store, workflows=ALL, clock=clock, idle_after=0) as engine:
        handle = await engine.start(patient_parent, id="parent")
        await settle()
        assert awake(engine) == set()
        with pytest.raises(StoreUnavailableError):
            await engine.handle("the child").signal("word", "hi")
        assert await handle.result() == "child said hi"


async def test_a_child_that_is_terminated_while_it_is_parked(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Its sleeping parent is woken by that too."""

    @workflow
    async def clumsy() -> None:
        await receive("word")
        await asyncio.to_thread(str)

    @workflow
    async def holds() -> None:
        await clumsy()

    async with Engine(memory, workflows=[clumsy, holds], clock=clock, idle_after=0) as engine:
        handle = await engine.start(holds)
        await settle()
        (child,) = [one.id async for one in engine.find(parent=handle.id)]
        await engine.handle(child).signal("word")
        await settle()
        assert (await engine.handle(child).status()).state is WorkflowState.PARKED
        assert awake(engine) == set()
        await engine.handle(child).terminate("it is of no use")
        await settle()
        assert (await handle.status()).state is WorkflowState.FAILED


async def test_many_children_of_one_parent(memory: MemoryStore, clock: ManualClock) -> None:
    """All of them sleep, whenever each of them ends."""

    @workflow
    async def family() -> list[str]:
        return list(await asyncio.gather(*(sleep(float(n % 7) * 1000 + n) for n in range(50))))

    async with Engine(
        memory, workflows=[family, sleep], clock=clock, idle_after=0, awake_max=2
    ) as engine:
        handle = await engine.start(family)
        await clock.advance(10_000)
        assert await handle.result() == ["rested"] * 50
        ends = [one for one in await handle.history() if isinstance(one.event, ChildCompleted)]
        assert len(ends) == 50


# Messages that come while one leaves


class Slow(MemoryStore):
    """Notes who sleeps only when the test lets it."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=lambda: int(clock.now() * 1_000_000))
        self.noting = asyncio.Event()
        self.go_on = asyncio.Event()

    async def sleep(self, workflow_id: str, sleep: Sleep, *, epoch: int) -> None:
        self.noting.set()
        await self.go_on.wait()
        await super().sleep(workflow_id, sleep, epoch=epoch)


@pytest.mark.invariant("I13")
@pytest.mark.invariant("I14")
async def test_a_message_that_comes_while_one_leaves(clock: ManualClock) -> None:
    """It is taken by the one who was about to leave, who stays for it."""
    store = Slow(clock)
    async with Engine(store, workflows=ALL, clock=clock, idle_after=60) as engine:
        handle = await engine.start(wait, id="one")
        await clock.advance(61)
        await store.noting.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(handle.signal("word", "just in time"))
            await settle()
            store.go_on.set()
        assert await handle.result() == "just in time"


@pytest.mark.invariant("I13")
async def test_a_child_that_ends_while_its_parent_leaves(clock: ManualClock) -> None:
    """Its parent stays for it, though the news are not in its mailbox yet."""
    store = Slow(clock)
    async with Engine(store, workflows=ALL, clock=clock, idle_after=60) as engine:
        handle = await engine.start(patient_parent, id="parent")
        await clock.advance(30)
        await engine.handle("the child").pause()  # it stays for a while longer
        await clock.advance(31)
        await store.noting.wait()
        store.go_on.set()
        engine._services.ended("the child", WorkflowCompleted(result=Raw(b'"hi"')))
        await clock.advance(1)
        assert await handle.result() == "child said hi"


@pytest.mark.invariant("I13")
async def test_a_new_run_that_is_about_to_begin(memory: MemoryStore, clock: ManualClock) -> None:
    """Nobody sleeps between two runs: what the new one is at is gone on with after a restart."""

    @workflow
    async def anew(run: int) -> str:
        if not run:
            continue_as_new(1)
        return await work("a")

    async with Engine(memory, workflows=[anew], clock=clock, idle_after=0) as engine:
        await engine.start(anew, 0, id="one")
        await settle()
    GATES["a"].set()
    async with Engine(memory, workflows=[anew], clock=clock, idle_after=0) as engine:
        assert await engine.handle("one").result() == "a"


@pytest.mark.invariant("I14")
async def test_messages_at_any_moment_of_leaving(memory: MemoryStore, clock: ManualClock) -> None:
    """However many turns of the loop lie between them: each arrives, once, in its order."""

    @workflow
    async def many() -> list[int]:
        return [await receive("number", int) for _ in range(200)]

    async with Engine(memory, workflows=[many], clock=clock, idle_after=0) as engine:
        handle = await engine.start(many)
        for number in range(200):
            for _ in range(number % 40):
                await asyncio.sleep(0)
            await handle.signal("number", number)
        assert await handle.result() == list(range(200))


@pytest.mark.invariant("I13")
async def test_who_waits_for_the_end_of_a_sleeper_hears_of_it(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Whether they began to wait before it slept, or while it does."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=60) as engine:
        handle = await engine.start(sleep, DAY)
        async with asyncio.TaskGroup() as group:
            early = group.create_task(handle.result())
            await clock.advance(100)
            assert awake(engine) == set()
            late = group.create_task(engine.handle(handle.id).result())
            await clock.advance(DAY)
        assert early.result() == late.result() == "rested"


# Restarts


async def test_sleepers_are_let_sleep_at_a_start(memory: MemoryStore, clock: ManualClock) -> None:
    """Only what is awake comes back into memory; time wakes the others as before."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=0) as engine:
        for number in range(20):
            await engine.start(sleep, DAY + number, id=f"{number}")
        await engine.start(sleep, 10.0, id="soon")
        await settle()
        assert awake(engine) == set()
    async with Engine(memory, workflows=ALL, clock=clock) as engine:
        await settle()
        assert awake(engine) == set()
        await clock.advance(11)
        assert await engine.handle("soon").result() == "rested"
        await clock.advance(DAY)
        for number in range(10):
            assert await engine.handle(f"{number}").result() == "rested"


@pytest.mark.invariant("I16")
async def test_who_should_have_been_woken_while_nobody_ran(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Is woken at the start."""
    async with Engine(memory, workflows=ALL, clock=clock, idle_after=0) as engine:
        await engine.start(sleep, 100.0, id="one")
        await settle()
        assert awake(engine) == set()
    await clock.advance(1000)
    async with Engine(memory, workflows=ALL, clock=clock) as engine:
        handle = engine.handle("one")
        await clock.advance(0.1)
        assert await handle.result() == "rested"
        (fired,) = [r for r in await handle.history() if isinstance(r.event, TimerFired)]
        assert fired.time >= int((clock.now() - 1) * 1_000_000)


@pytest.mark.invariant("I13")
async def test_who_was_woken_goes_on_after_a_crash(memory: MemoryStore, clock: ManualClock) -> None:
    """What the store had noted of its sleep counts no more once something has happened."""

    @workflow
    async def woken() -> str:
        await receive("go")
        return await work("a")

    async with Engine(memory, workflows=[woken], clock=clock, idle_after=0) as engine:
        handle = await engine.start(woken, id="one")
        await settle()
        assert awake(engine) == set()
        await handle.signal("go")
        await settle()
        assert awake(engine) == {"one"}
    async with Engine(memory, workflows=[woken], clock=clock, idle_after=0) as engine:
        GATES["a"].set()
        assert await engine.handle("one").result() == "a"
