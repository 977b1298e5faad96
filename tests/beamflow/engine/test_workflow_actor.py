"""Workflow actors: append before depend, crashes, the worst moments."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    ConflictError,
    Engine,
    EngineStoppedError,
    Retry,
    StoreUnavailableError,
    WorkflowExistsError,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowParkedError,
    current_step,
    receive,
    step,
    workflow,
)
from beamflow.events import (
    SignalReceived,
    StepCompleted,
    TimerStarted,
    WorkflowCompleted,
    WorkflowForked,
    WorkflowStarted,
)
from beamflow.stores.memory import MemoryStore
from supervision.testing import settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from beamflow.events import Event, Recorded
    from beamflow.stores.base import Sleep, Store, Summary
    from supervision import ActorRef
    from supervision.testing import ManualClock

    Reached = Callable[..., Awaitable[None]]


class GatedStore(MemoryStore):
    """Holds appends up, before or after they are durable, until it is told to let them pass."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=lambda: int(clock.now() * 1_000_000))
        self.before: type | None = None
        self.after: type | None = None
        self.held = asyncio.Event()
        self._passes = asyncio.Event()

    async def append(
        self,
        stream: str,
        expected: int,
        events: Sequence[Event],
        *,
        time: int,
        epoch: int,
        sleep: Sleep | None = None,
    ) -> None:
        await self._held_up(self.before, events)
        await super().append(stream, expected, events, time=time, epoch=epoch, sleep=sleep)
        await self._held_up(self.after, events)

    async def _held_up(self, kind: type | None, events: Sequence[Event]) -> None:
        if kind is not None and any(isinstance(event, kind) for event in events):
            self.held.set()
            await self._passes.wait()

    def let_pass(self) -> None:
        """Let go of what is held up now."""
        self.held.clear()
        passing, self._passes = self._passes, asyncio.Event()
        passing.set()


@pytest.fixture
def gated(clock: ManualClock) -> GatedStore:
    return GatedStore(clock)


ran: list[str] = []
"""Keys of the bodies that ran, outside the engine's knowledge."""


@pytest.fixture(autouse=True)
def _fresh_ledger() -> None:
    ran.clear()


@step
async def note(what: str) -> str:
    ran.append(f"{what} {current_step().idempotency_key}")
    return what


@workflow
async def two_steps() -> list[str]:
    return [await note("first"), await note("second")]


@workflow
async def collect(count: int) -> list[str]:
    return [await receive("word", str) for _ in range(count)]


def actor(engine: Engine, workflow_id: str) -> ActorRef:
    return engine._services.actors[workflow_id]


async def types_of(store: Store, workflow_id: str) -> list[type]:
    return [type(recorded.event) for recorded in await store.read(workflow_id)]


# append before depend


async def test_nothing_follows_an_event_before_it_is_durable(
    gated: GatedStore, clock: ManualClock
) -> None:
    """Neither the next step nor the answer to whoever waits."""
    async with Engine(gated, workflows=[two_steps], clock=clock) as engine:
        gated.before = WorkflowStarted
        starting = asyncio.create_task(engine.start(two_steps, id="one"))
        await gated.held.wait()
        await settle()
        assert not starting.done()
        assert ran == []
        gated.before, gated.after = None, StepCompleted
        gated.let_pass()
        handle = await starting
        await gated.held.wait()
        await settle()
        assert ran == ["first one/1"]
        gated.after = None
        gated.let_pass()
        assert await handle.result() == ["first", "second"]
        assert ran == ["first one/1", "second one/2"]


@pytest.mark.invariant("I1")
async def test_a_signal_is_acknowledged_when_it_is_durable(
    gated: GatedStore, clock: ManualClock
) -> None:
    """And not before; a result is there when the last event is."""
    async with Engine(gated, workflows=[collect], clock=clock) as engine:
        handle = await engine.start(collect, 1)
        gated.before = SignalReceived
        sending = asyncio.create_task(handle.signal("word", "go"))
        waiting = asyncio.create_task(handle.result())
        await gated.held.wait()
        gated.before = None
        await settle()
        assert not sending.done()
        assert not waiting.done()
        gated.let_pass()
        await sending
        assert await waiting == ["go"]


async def test_what_came_meanwhile_goes_into_one_append(
    gated: GatedStore, clock: ManualClock
) -> None:
    """A hundred signals that wait for the same commit share the next."""
    appends: list[int] = []
    original = gated.append

    async def counted(stream: str, expected: int, events: Sequence[Event], **options: Any) -> None:
        appends.append(len(events))
        await original(stream, expected, events, **options)

    gated.append = counted  # type: ignore[method-assign]
    async with Engine(gated, workflows=[collect], clock=clock) as engine:
        handle = await engine.start(collect, 101)
        gated.before = SignalReceived
        sending = [asyncio.create_task(handle.signal("word", f"{n}")) for n in range(101)]
        await gated.held.wait()
        await settle()
        gated.before = None
        gated.let_pass()
        await asyncio.gather(*sending)
        assert await handle.result() == [f"{n}" for n in range(101)]
    assert len(appends) <= 4
    assert max(appends) >= 100


# crashes


async def test_an_actor_that_is_killed_comes_back(memory: MemoryStore, clock: ManualClock) -> None:
    """Its supervisor starts another, which goes on from the log; what is recorded is not redone."""
    gate = asyncio.Event()

    @step
    async def wait_here() -> None:
        ran.append(current_step().idempotency_key)
        await gate.wait()

    @workflow
    async def long() -> list[str]:
        first = await note("first")
        await asyncio.gather(wait_here(), asyncio.sleep(100))
        word: str = await receive("word", str)
        return [first, word]

    async with Engine(memory, workflows=[long], clock=clock) as engine:
        handle = await engine.start(long, id="one")
        waiting = asyncio.create_task(handle.result())
        await settle()
        for _ in range(3):
            killed = actor(engine, "one")
            killed.kill()
            await settle()
            assert actor(engine, "one") != killed
        assert ran == ["first one/1"] + ["one/2"] * 4
        gate.set()
        await clock.advance(101)
        killed = actor(engine, "one")
        killed.kill()
        await handle.signal("word", "go")
        assert await waiting == ["first", "go"]
        history = await handle.history()
        assert [one.seq for one in history] == list(range(1, len(history) + 1))
        assert len([one for one in history if isinstance(one.event, TimerStarted)]) == 1


@pytest.mark.parametrize("durable", [False, True], ids=["before", "after"])
async def test_a_signal_is_received_once_although_the_actor_dies_over_it(
    gated: GatedStore,
    clock: ManualClock,
    durable: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Its sender learns from the log whether it is there, and sends it again only if it is not."""
    async with Engine(gated, workflows=[collect], clock=clock) as engine:
        handle = await engine.start(collect, 2, id="one")
        gated.before, gated.after = (None, SignalReceived) if durable else (SignalReceived, None)
        sending = asyncio.create_task(handle.signal("word", "go"))
        await gated.held.wait()
        gated.before = gated.after = None
        actor(engine, "one").kill()
        await sending
        await handle.signal("word", "on")
        assert await handle.result() == ["go", "on"]


class SlowStore(MemoryStore):
    """Commits in the background, like a file: who is cancelled does not know the outcome.

    Args:
        clock: the time of its leases.
        early: number of the read, counted from `hold`, that sees what was before the commit.
    """

    def __init__(self, clock: ManualClock, early: int) -> None:
        super().__init__(clock=lambda: int(clock.now() * 1_000_000))
        self.commits: list[asyncio.Task[None]] = []
        self._early = early
        self._reads = 0
        self._gate: asyncio.Event | None = None
        self._then: Callable[[], Awaitable[None]] = settle

    def hold(self, then: Callable[[], Awaitable[None]]) -> None:
        """Let the next commit wait for that read, and do something after both."""
        self._then = then
        self._gate = asyncio.Event()
        self._reads = 0

    async def append(
        self,
        stream: str,
        expected: int,
        events: Sequence[Event],
        *,
        time: int,
        epoch: int,
        sleep: Sleep | None = None,
    ) -> None:
        before, gate = self.commits[-1:], self._gate

        async def commit() -> None:
            if before:
                await asyncio.wait(before)
            if gate is not None:
                await gate.wait()
            await MemoryStore.append(
                self, stream, expected, events, time=time, epoch=epoch, sleep=sleep
            )

        self.commits.append(asyncio.create_task(commit()))
        await asyncio.shield(self.commits[-1])

    async def read(self, stream: str, after: int = 0) -> list[Recorded]:
        seen = await super().read(stream, after)
        self._reads += 1
        if self._gate is not None and self._reads == self._early:
            self._gate.set()
            self._gate = None
            await asyncio.wait(self.commits)
            await self._then()
        return seen


@pytest.mark.parametrize(("early", "twice"), [(1, False), (2, False), (2, True), (3, False)])
async def test_a_signal_whose_commit_comes_after_all_is_not_received_twice(
    clock: ManualClock,
    early: int,
    twice: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The actor died, its append goes on by itself, and somebody has looked too early."""
    store = SlowStore(clock, early)
    async with Engine(store, workflows=[collect], clock=clock) as engine:
        await engine.start(collect, 2, id="one")
    async with Engine(store, workflows=[collect], clock=clock) as engine:
        handle = engine.handle("one")
        await settle()

        async def kill() -> None:
            actor(engine, "one").kill()
            await settle()

        store.hold(kill if twice else settle)
        sending = asyncio.create_task(handle.signal("word", "go"))
        await settle()
        actor(engine, "one").kill()
        await sending
        await handle.signal("word", "on")
        assert await handle.result() == ["go", "on"]
        errors = [commit.exception() for commit in store.commits]
        assert all(error is None or isinstance(error, ConflictError) for error in errors)


@pytest.mark.invariant("I11")
@pytest.mark.parametrize("durable", [False, True], ids=["before", "after"])
async def test_a_start_is_one_although_the_actor_dies_over_it(
    gated: GatedStore,
    clock: ManualClock,
    durable: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Whoever starts it hears of the life that comes after."""
    async with Engine(gated, workflows=[two_steps], clock=clock) as engine:
        gated.before, gated.after = (None, WorkflowStarted) if durable else (WorkflowStarted, None)
        starting = asyncio.create_task(engine.start(two_steps, id="one"))
        await gated.held.wait()
        actor(engine, "one").kill()
        await settle()
        assert starting.done() == durable
        gated.before = gated.after = None
        gated.let_pass()
        handle = await starting
        assert await handle.result() == ["first", "second"]
        assert (await types_of(gated, "one")).count(WorkflowStarted) == 1


@pytest.mark.invariant("I26")
async def test_a_start_that_breaks_its_actor_is_not_tried_for_ever(clock: ManualClock) -> None:
    """Whoever starts it is told of what went wrong; the next life finds nothing to go on from."""

    class Broken(MemoryStore):
        tried = 0

        async def append(self, stream: str, *args: Any, **options: Any) -> None:
            if stream == "one":
                self.tried += 1
                raise ZeroDivisionError("of the store")
            await super().append(stream, *args, **options)

    store = Broken(clock=lambda: 0)
    async with Engine(store, workflows=[two_steps], clock=clock) as engine:
        with pytest.raises(ZeroDivisionError):
            await engine.start(two_steps, id="one")
        await settle()
        assert store.tried == 3
        with pytest.raises(WorkflowNotFoundError):
            await engine.handle("one").result()
        handle = await engine.start(two_steps, id="two")
        assert await handle.result() == ["first", "second"]


@pytest.mark.parametrize("durable", [False, True], ids=["before", "after"])
async def test_a_fork_is_one_although_the_actor_dies_over_it(
    gated: GatedStore,
    clock: ManualClock,
    durable: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The life that comes after goes on from what is in the log, as with any start."""
    async with Engine(gated, workflows=[two_steps], clock=clock) as engine:
        handle = await engine.start(two_steps, id="one")
        await handle.result()
        gated.before, gated.after = (None, WorkflowForked) if durable else (WorkflowForked, None)
        forking = asyncio.create_task(handle.fork("copy"))
        await gated.held.wait()
        gated.before = gated.after = None
        actor(engine, "copy").kill()
        await settle()
        gated.let_pass()
        assert await (await forking).result(timeout=10) == ["first", "second"]
        assert (await types_of(gated, "copy")).count(WorkflowForked) == 1


async def test_a_start_is_refused_by_the_life_that_comes_after(
    gated: GatedStore, clock: ManualClock
) -> None:
    """When the id turns out to belong to another input."""
    async with Engine(gated, workflows=[collect], clock=clock) as engine:
        gated.after = WorkflowStarted
        first = asyncio.create_task(engine.start(collect, 1, id="one"))
        await gated.held.wait()
        second = asyncio.create_task(engine.start(collect, 2, id="one"))
        await settle()
        gated.after = None
        actor(engine, "one").kill()
        await first
        with pytest.raises(WorkflowExistsError):
            await second


async def test_an_end_is_told_although_the_actor_dies_over_it(
    gated: GatedStore, clock: ManualClock
) -> None:
    """The last event is durable; the next life finds it and runs nothing."""
    async with Engine(gated, workflows=[two_steps], clock=clock) as engine:
        gated.after = WorkflowCompleted
        handle = await engine.start(two_steps, id="one")
        waiting = [asyncio.create_task(handle.result()) for _ in range(2)]
        await gated.held.wait()
        gated.after = None
        actor(engine, "one").kill()
        for waiter in waiting:
            assert await waiter == ["first", "second"]
        assert ran == ["first one/1", "second one/2"]


@pytest.mark.invariant("I4")
async def test_a_conflict_is_settled_by_reading(gated: GatedStore, clock: ManualClock) -> None:
    """An append that was done after all makes the actor start over, and nobody notices."""
    async with Engine(gated, workflows=[collect], clock=clock) as engine:
        handle = await engine.start(collect, 3, id="one")
        await handle.signal("word", "go")
        lease = engine._services.lease
        assert lease is not None
        (_, event) = [one.event for one in await handle.history()]
        await gated.append("one", 2, [event], time=engine._services.now(), epoch=lease.epoch)
        await handle.signal("word", "makes it look")
        assert await handle.result() == ["go", "go", "makes it look"]


async def test_a_bug_of_the_engine_is_told_and_survived(
    memory: MemoryStore,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The actor crashes, the log line names the workflow, and it goes on from the log."""
    from beamflow.engine.workflow_actor import WorkflowActor

    original = WorkflowActor._act
    bugs = [LookupError("a bug of the engine")]

    def act(self: WorkflowActor, *arguments: Any) -> None:
        if bugs:
            raise bugs.pop()
        original(self, *arguments)

    monkeypatch.setattr(WorkflowActor, "_act", act)
    async with Engine(memory, workflows=[two_steps], clock=clock) as engine:
        handle = await engine.start(two_steps, id="one")
        assert await handle.result() == ["first", "second"]
        assert engine._services.crashes == {}
    (line,) = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert "workflow_actor_crashed workflow_id='one' crashes=1" in line


# the code


async def test_ctrl_c_in_the_code_is_no_outcome(memory: MemoryStore, clock: ManualClock) -> None:
    """It ends the engine, not the workflow."""
    once = [KeyboardInterrupt()]

    @workflow
    async def interrupted() -> str:
        if once:
            raise once.pop()
        return "in peace"

    with pytest.raises((KeyboardInterrupt, EngineStoppedError)):
        async with Engine(memory, workflows=[interrupted], clock=clock) as engine:
            handle = await engine.start(interrupted, id="one")
            await handle.result()
    async with Engine(memory, workflows=[interrupted], clock=clock) as engine:
        assert await engine.handle("one").result() == "in peace"


async def test_tasks_that_the_function_leaves_behind_are_ended_with_it(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Their steps are cancelled, their timers given up; then the workflow is over."""
    cancelled: list[str] = []

    @step
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append("hang")

    @workflow
    async def leaves() -> str:
        left = [asyncio.create_task(hang()), asyncio.create_task(asyncio.sleep(1000))]
        await note("something")
        return f"left {len(left)}"

    async with Engine(memory, workflows=[leaves], clock=clock) as engine:
        handle = await engine.start(leaves)
        assert await handle.result() == "left 2"
        assert cancelled == ["hang"]
        assert engine._services.actors == {}
        assert isinstance((await handle.history())[-1].event, WorkflowCompleted)


async def test_an_error_of_the_code_carries_what_it_came_from(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The step is found behind a cause and inside a group."""

    @step(retry=Retry(max_attempts=2, initial=0))
    async def fail(what: str) -> None:
        raise ConnectionError(what)

    @workflow
    async def wraps() -> None:
        try:
            await fail("the bank")
        except ConnectionError as error:
            raise RuntimeError("no money") from error

    @workflow
    async def groups() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail("the post"))

    async with Engine(memory, workflows=[wraps, groups], clock=clock) as engine:
        for definition in (wraps, groups):
            handle = await engine.start(definition, id=definition.name)
            await clock.advance(1)
            with pytest.raises(WorkflowFailedError) as caught:
                await handle.result()
            assert caught.value.step == "fail"
            letter = await engine.dead_letters.show(definition.name)
            assert (letter.step, letter.attempts) == ("fail", 2)


async def test_a_workflow_that_was_never_given_its_place_is_parked_once(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Many who wake it at the same time find one actor, and one letter."""

    @workflow
    async def odd() -> Any:
        return object()

    async with Engine(memory, workflows=[odd], clock=clock) as engine:
        handles = await asyncio.gather(*(engine.start(odd, id="one") for _ in range(10)))
        for handle in handles:
            with pytest.raises(WorkflowParkedError, match="result of workflow 'odd'"):
                await handle.result()
        assert len(await engine.dead_letters.list(state=None)) == 1


async def test_whoever_cannot_be_read_is_tried_again_now_and_then(clock: ManualClock) -> None:
    """Where the store fails in one workflow alone, and goes on: not as fast as it can, for ever."""

    class Torn(MemoryStore):
        looks, is_torn = 0, False

        async def summary(self, workflow_id: str) -> Summary | None:
            if workflow_id == "one" and self.is_torn:
                self.looks += 1
                raise StoreUnavailableError("the test", "its index is damaged", "Restore it")
            return await super().summary(workflow_id)

    @workflow
    async def nap() -> str:
        await asyncio.sleep(10)
        return "rested"

    store = Torn(clock=lambda: int(clock.now() * 1_000_000))
    async with Engine(store, workflows=[nap], clock=clock, idle_after=0) as engine:
        one, other = await engine.start(nap, id="one"), await engine.start(nap, id="other")
        await settle()
        store.is_torn = True
        await clock.advance(10.1)
        assert await other.result() == "rested"
        assert 1 < store.looks < 4
        await clock.advance(60)
        assert store.looks < 20
        store.is_torn = False
        await clock.advance(13)
        assert await one.result() == "rested"
