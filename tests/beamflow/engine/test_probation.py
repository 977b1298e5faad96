"""Whoever kills the process is found, parked, and told from those who were only there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DeadLetterReason,
    Engine,
    WorkflowFailedError,
    WorkflowParkedError,
    WorkflowState,
    step,
    workflow,
)
from beamflow.engine import recovery
from beamflow.engine.quarantine import Quarantine
from beamflow.model.events import ProbationBegan
from beamflow.model.ids import RECOVERIES, recoveries_of
from beamflow.stores.memory import MemoryStore
from beamflow.stores.url import open_store
from supervision.testing import ManualClock, settle

if TYPE_CHECKING:
    from pathlib import Path

    from beamflow.events import Recorded
    from beamflow.stores.base import Lease

died = asyncio.Event()
done = asyncio.Event()
ran: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    global died, done
    died, done = asyncio.Event(), asyncio.Event()
    ran.clear()


class MortalStore(MemoryStore):
    """A store to which each end of an engine is a death: the lease is never given back."""

    async def release(self, lease: Lease) -> None:
        pass


@step
async def kill() -> None:
    """Take the process along, as far as the test goes: it leaves the engine now."""
    ran.append("kill")
    died.set()
    await asyncio.Event().wait()


@step
async def long() -> str:
    await done.wait()
    return "done"


@workflow
async def killer() -> None:
    await kill()


@workflow
async def innocent() -> str:
    return await long()


@workflow
async def sleeper() -> str:
    await asyncio.sleep(1000)
    return "slept"


ALL = [killer, innocent, sleeper]


@pytest.fixture
def store(clock: ManualClock) -> MortalStore:
    return MortalStore(clock=lambda: int(clock.now() * 1_000_000))


async def until_death(clock: ManualClock) -> bool:
    """Let time pass until the killer strikes; False if it does not."""
    for _ in range(400):
        await clock.advance(0.25)
        if died.is_set():
            died.clear()
            return True
    return False


@pytest.mark.invariant("I26")
async def test_one_killer_among_sleepers_and_long_steps_is_parked(
    store: MortalStore, clock: ManualClock
) -> None:
    """After six recoveries without progress; nobody else is touched, and all of them come to their end."""
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        for number in range(50):
            await engine.start(sleeper, id=f"sleeper-{number}")
        for number in range(5):
            await engine.start(innocent, id=f"innocent-{number}")
        await engine.start(killer, id="killer")
        for number in range(5, 10):
            await engine.start(innocent, id=f"innocent-{number}")
        assert await until_death(clock)
    recoveries = 0
    while True:
        async with Engine(store, workflows=ALL, clock=clock) as engine:
            if await until_death(clock):
                recoveries += 1
                continue
            with pytest.raises(
                WorkflowParkedError, match="the process died beside it 7 times in a row"
            ):
                await engine.handle("killer").result()
            (letter,) = await engine.dead_letters.list()
            done.set()
            await clock.advance(1000)
            states = {one.state async for one in engine.find() if one.id != "killer"}
            break
    assert recoveries == 6
    assert (letter.workflow_id, letter.reason) == ("killer", DeadLetterReason.POISON)
    assert states == {WorkflowState.COMPLETED}


async def test_a_killer_that_is_sent_round_again_begins_anew(
    store: MortalStore, clock: ManualClock
) -> None:
    """The way out is that of any dead letter."""
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        await engine.start(killer, id="killer")
        assert await until_death(clock)
    for _ in range(6):
        async with Engine(store, workflows=ALL, clock=clock) as engine:
            assert await until_death(clock)
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        assert not await until_death(clock)
        assert await engine.dead_letters.retry("killer") == "killer"
        assert await until_death(clock)
    assert len(ran) == 8


async def test_a_compensation_that_kills_is_found_too(
    store: MortalStore, clock: ManualClock
) -> None:
    @step
    async def book() -> None:
        pass

    @book.compensation
    async def unbook(_none: None) -> None:
        died.set()
        await asyncio.Event().wait()

    @workflow
    async def trip() -> None:
        await book()
        raise ValueError

    async with Engine(store, workflows=[trip], clock=clock) as engine:
        await engine.start(trip, id="one")
        assert await until_death(clock)
    for _ in range(6):
        async with Engine(store, workflows=[trip], clock=clock) as engine:
            assert await until_death(clock)
    async with Engine(store, workflows=[trip], clock=clock) as engine:
        assert not await until_death(clock)
        with pytest.raises(WorkflowParkedError, match="poison"):
            await engine.handle("one").result()


async def test_who_gets_on_between_deaths_is_no_suspect(
    store: MortalStore, clock: ManualClock
) -> None:
    """Each life of the process records something: the count begins anew."""
    struck: set[int] = set()

    @step
    async def strike(number: int) -> None:
        if number not in struck:
            struck.add(number)
            await kill()

    @workflow
    async def slow_but_sure() -> str:
        for number in range(8):
            await strike(number)
        return "at last"

    async with Engine(store, workflows=[slow_but_sure], clock=clock) as engine:
        await engine.start(slow_but_sure, id="one")
        assert await until_death(clock)
    for _ in range(7):
        async with Engine(store, workflows=[slow_but_sure], clock=clock) as engine:
            assert await until_death(clock)
    async with Engine(store, workflows=[slow_but_sure], clock=clock) as engine:
        assert await engine.handle("one").result() == "at last"


async def test_a_death_holds_nobody_up_who_was_not_there_before(
    store: MortalStore, clock: ManualClock
) -> None:
    """After a first death all go on at once, and new workflows never wait."""
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        await engine.start(innocent, id="first")
        await settle()
    done.set()
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        assert await engine.handle("first").result() == "done"
        assert await (await engine.start(innocent, id="second")).result() == "done"
    assert clock.monotonic() == 0


async def test_suspects_go_on_one_after_the_other(store: MortalStore, clock: ManualClock) -> None:
    """From the second death on, each has its time alone; new ones do not wait."""
    for _ in range(2):
        async with Engine(store, workflows=ALL, clock=clock) as engine:
            for number in range(3):
                await engine.start(innocent, id=f"{number}")
            await settle()
    begun: list[str] = []

    class Order:
        async def __call__(self, info: Any, retry: Any, run: Any) -> Any:
            begun.append(info.workflow_id)
            return await run()

    engine = Engine(store, workflows=ALL, clock=clock)
    engine._services.around_step = Order()
    async with engine:
        await settle()
        assert begun == ["0"]
        await engine.start(innocent, id="new")
        await settle()
        assert begun == ["0", "new"]
        await clock.advance(1.1)
        assert begun == ["0", "new", "1"]
        done.set()
        await settle()
        assert begun == ["0", "new", "1", "2"]
        assert await engine.handle("2").result() == "done"
        assert engine._services.lease is not None
        notes = recoveries_of(engine._services.lease.epoch)
        events = [one.event for one in await store.read(notes)]
    assert [one.workflows for one in events if isinstance(one, ProbationBegan)] == [
        ("0",),
        ("1",),
        ("2",),
        (),
    ]


async def test_an_innocent_that_was_alone_for_a_moment_goes_on_in_moments(
    store: MortalStore, clock: ManualClock
) -> None:
    """However many processes have died before, in no time: in eight windows of a second at the latest."""
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        await engine.start(innocent, id="one")
        await settle()
    for _ in range(5):
        async with Engine(store, workflows=[innocent], clock=clock):
            await settle()
            await clock.advance(40)  # its turn is over
    async with Engine(store, workflows=ALL, clock=clock):
        await settle()
        await clock.advance(0.5)  # its turn is not
    done.set()
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        await clock.advance(8)
        assert await engine.handle("one").result() == "done"


async def test_only_what_the_dead_one_has_noted_is_read(clock: ManualClock) -> None:
    """However many have died before it, and however much they had noted."""
    read: list[str] = []

    class Read(MortalStore):
        async def read(self, stream: str, after: int = 0) -> list[Recorded]:
            read.append(stream)
            return await super().read(stream, after)

    store = Read(clock=lambda: int(clock.now() * 1_000_000))
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        await engine.start(innocent, id="one")
        await settle()
    for epoch in range(2, 6):
        read.clear()
        async with Engine(store, workflows=ALL, clock=clock):
            await settle()
        notes = {stream for stream in read if stream.startswith(RECOVERIES)}
        assert notes == {recoveries_of(epoch - 1), recoveries_of(epoch)}
        assert store._streams[recoveries_of(epoch)]


async def test_an_engine_that_was_left_in_order_has_not_died(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """However often: nobody is held, nothing is noted."""
    for _ in range(6):
        async with Engine(memory, workflows=ALL, clock=clock) as engine:
            await engine.start(killer, id="killer")
            await settle()
            assert died.is_set()
            died.clear()
    assert not any(stream.startswith(RECOVERIES) for stream in memory._streams)


class SlowNotes(MortalStore):
    """A store in which what recoveries note waits until it is let pass, one after the other."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=lambda: int(clock.now() * 1_000_000))
        self.noting = asyncio.Event()
        self._passes = asyncio.Event()

    async def append(self, stream: str, *args: Any, **options: Any) -> None:
        if stream.startswith(RECOVERIES):
            self.noting.set()
            await self._passes.wait()
        await super().append(stream, *args, **options)

    def let_pass(self) -> None:
        passing, self._passes = self._passes, asyncio.Event()
        passing.set()


@pytest.mark.invariant("I13")
async def test_who_is_woken_while_the_held_are_noted_is_not_held(clock: ManualClock) -> None:
    """By any of the notes, the last one too: nobody would ever let it go on."""
    store = SlowNotes(clock)
    mended: list[str] = []

    @step
    async def fickle() -> str:
        if not mended:
            raise ValueError
        return mended[0]

    @workflow
    async def fails_at_first() -> str:
        return await fickle()

    async with Engine(store, workflows=[innocent, fails_at_first], clock=clock) as engine:
        await engine.start(innocent, id="held")
        for number in range(8):
            with pytest.raises(WorkflowFailedError):
                await (await engine.start(fails_at_first, id=f"woken-{number}")).result()
    mended.append("mended")
    async with Engine(store, workflows=[innocent, fails_at_first], clock=clock) as engine:
        await store.noting.wait()
        woken = [engine.handle(f"woken-{number}") for number in range(8)]
        for handle in woken:
            await handle.retry_from()
            await settle()
            store.let_pass()
            await settle()
        assert [await handle.result(timeout=10) for handle in woken] == mended * 8
        done.set()
        assert await engine.handle("held").result() == "done"


async def test_a_held_attempt_can_be_given_up(store: MortalStore, clock: ManualClock) -> None:
    """By the workflow's own time-out: it does not wait for its turn."""

    @workflow
    async def impatient() -> str:
        try:
            async with asyncio.timeout(1):
                await long()
        except TimeoutError:
            return "without it"
        return "with it"

    definitions = [*ALL, impatient]
    for _ in range(2):
        async with Engine(store, workflows=definitions, clock=clock) as engine:
            await engine.start(innocent, id="a")
            await engine.start(impatient, id="b")
            await settle()
    async with Engine(store, workflows=definitions, clock=clock) as engine:
        await clock.advance(1.1)
        assert await engine.handle("b").result() == "without it"


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_lease_says_whether_the_owner_before_has_died(kind: str, tmp_path: Path) -> None:
    url = "memory://" if kind == "memory" else f"sqlite:///{tmp_path}/app.db"
    store = open_store(url, clock=lambda: 0)
    inherited = []
    for releases in (True, False, False, True, True):
        await store.open()
        lease = await store.claim("the test", 1000)
        inherited.append(lease.inherited)
        if releases:
            await store.release(lease)
        await store.close()
    assert inherited == [False, False, True, True, False]


async def test_the_gates() -> None:
    quarantine = Quarantine(7)
    first = asyncio.ensure_future(quarantine.passes("a", 5))
    await settle()
    quarantine.hold_no_more()
    again = asyncio.ensure_future(quarantine.passes("a", 5))
    await quarantine.passes("b", 1)
    await settle()
    assert (first.done(), again.done(), quarantine.held) == (False, False, {"a": 5})
    quarantine.open(["a", "b"])
    await asyncio.gather(first, again)


async def test_more_at_work_than_there_are_places(store: MortalStore, clock: ManualClock) -> None:
    """After a death, and after a second one that makes all of them suspects, each goes on."""
    names = {f"innocent-{number}" for number in range(12)}
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        for name in sorted(names):
            await engine.start(innocent, id=name)
    for _ in range(2):
        async with Engine(store, workflows=ALL, clock=clock, awake_max=3) as engine:
            await settle()
            held = len(engine._services.actors)
            assert 3 <= held <= 4, "a quarter more, for others"
    done.set()
    async with Engine(store, workflows=ALL, clock=clock, awake_max=3) as engine:
        await clock.advance(300)
        assert await engine.counts(state=WorkflowState.COMPLETED) == await engine.counts()
        assert await engine.count() == len(names)


async def die(store: MortalStore, clock: ManualClock, times: int) -> None:
    """Have process after process die in which nobody gets on, and none has its turn."""
    for _ in range(times):
        async with Engine(store, workflows=ALL, clock=clock):
            await settle()


@pytest.mark.invariant("I26")
async def test_nobody_waits_for_those_who_wait_for_their_turn(
    store: MortalStore, clock: ManualClock
) -> None:
    """Suspects that have all places, for an hour perhaps, hold up neither recovery nor starts."""
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        for number in range(3):
            await engine.start(killer, id=f"suspect-{number}")
    await die(store, clock, 8)
    await clock.advance(1)  # the oldest come first
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        for number in range(20):
            await engine.start(innocent, id=f"late-{number:02}")
    done.set()
    ran.clear()
    began = clock.monotonic()
    async with Engine(store, workflows=ALL, clock=clock, awake_max=3) as engine:
        await settle()
        new = await engine.start(innocent, id="new")
        assert await new.result() == "done"
        late = [engine.handle(f"late-{number:02}") for number in range(20)]
        assert [await handle.result() for handle in late] == ["done"] * 20
        assert clock.monotonic() == began
        assert ran == ["kill"], "the first of them has its turn, the others are held"
        await clock.advance(3600)
        assert ran == ["kill"] * 3


@pytest.mark.invariant("I26")
async def test_the_first_do_not_wait_for_the_last(
    store: MortalStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the death of a process those who are back are at work while others are still to come."""
    monkeypatch.setattr(recovery, "_AT_A_TIME", 2)
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        for number in range(6):
            await engine.start(innocent, id=f"innocent-{number}")
    done.set()
    awake, pages = store.awake, asyncio.Semaphore(2)

    async def slowly(*args: Any, **options: Any) -> Any:
        await pages.acquire()
        return await awake(*args, **options)

    monkeypatch.setattr(store, "awake", slowly)
    async with Engine(store, workflows=ALL, clock=clock) as engine:
        await settle()
        assert await engine.count(state=WorkflowState.COMPLETED) == 4
        for _ in range(10):
            pages.release()
        await settle()
        assert await engine.count(state=WorkflowState.COMPLETED) == 6
