"""The keeper of the store: its lease, its failures, files that are no good."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    Engine,
    EngineStoppedError,
    FencedError,
    Retry,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
    WorkflowFailedError,
    WorkflowParkedError,
    WorkflowState,
    current_step,
    receive,
    step,
    workflow,
)
from beamflow.engine.store_keeper import LEASE_TTL_S
from beamflow.events import SignalReceived, StepCompleted, WorkflowStarted
from beamflow.model.status import ACTIVE_STATES
from beamflow.stores.memory import MemoryStore
from supervision import RestartLimitError
from supervision.testing import ManualClock, settle
from tests.beamflow.engine.plain import misuse, other_process, wait, words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from pathlib import Path

    from beamflow.events import Event
    from beamflow.stores.base import Sleep, Store

    Reached = Callable[..., Awaitable[None]]


class FailingStore(MemoryStore):
    """Fails at chosen appends, before or after they are durable; then it has to be opened again.

    Args:
        clock: the time of its leases.
        fails: told the number of an append, from 1, whether it fails.
        durable: whether what fails is in the log all the same.
    """

    def __init__(
        self, clock: ManualClock, fails: Callable[[int], bool], *, durable: bool = False
    ) -> None:
        super().__init__(clock=lambda: int(clock.now() * 1_000_000))
        self.fails = fails
        self.durable = durable
        self.appends = 0
        self.opened = 0
        self._broken = asyncio.Event()

    async def open(self) -> None:
        await super().open()
        self.opened += 1
        self._broken = asyncio.Event()

    async def serve(self) -> None:
        await self._broken.wait()
        raise self._failure()

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
        if self._broken.is_set():
            raise self._failure()
        self.appends += 1
        failing = self.fails(self.appends)
        if not failing or self.durable:
            await super().append(stream, expected, events, time=time, epoch=epoch, sleep=sleep)
        await asyncio.sleep(0)
        if failing:
            self._broken.set()
            raise self._failure()

    @staticmethod
    def _failure() -> StoreUnavailableError:
        return StoreUnavailableError("failing://", "the disk fails", "Mend it")


ran: list[str] = []
"""Keys of the bodies that ran, outside the engine's knowledge."""


def note() -> None:
    ran.append(current_step().idempotency_key)


@step(retry=Retry(max_attempts=2, initial=1, jitter=0))
async def fetch(what: str) -> str:
    note()
    if current_step().attempt == 1:
        raise ConnectionError(what)
    return what.upper()


@step
async def book(what: str) -> None:
    note()


@book.compensation
async def unbook(_none: None, what: str) -> None:
    note()


@workflow
async def chat(count: int) -> list[str]:
    """Steps, a timer, signals."""
    found = await asyncio.gather(fetch("a"), fetch("b"))
    await asyncio.sleep(10)
    return [*found, *[await receive("word", str) for _ in range(count)]]


@workflow
async def trip() -> None:
    """A way back."""
    await book("hotel")
    await book("flight")
    raise ValueError("no leave")


async def insist(call: Callable[[], Coroutine[Any, Any, Any]], clock: ManualClock) -> Any:
    """Call again until the store is well."""
    for _ in range(50):
        try:
            return await call()
        except (StoreError, EngineStoppedError):
            await clock.advance(0.01)
    raise AssertionError("the store is never well")


# failing in the middle


@pytest.mark.parametrize("durable", [False, True], ids=["before", "after"])
async def test_a_store_that_fails_once_loses_nothing(durable: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Whichever append it is: all is read again and goes on; what was acknowledged is there."""
    total = 10**9
    number = 0
    while number < total:
        number += 1
        total = await _run_with_a_failure_at(number, durable=durable)
    assert number > 10


async def _run_with_a_failure_at(number: int, *, durable: bool) -> int:
    clock = ManualClock()
    store = FailingStore(clock, lambda append: append == number, durable=durable)
    ran.clear()
    acknowledged: list[str] = []
    async with Engine(store, workflows=[chat, trip, misuse], clock=clock) as engine:
        talking = await insist(lambda: engine.start(chat, 3, id="chat"), clock)
        failing = await insist(lambda: engine.start(trip, id="trip"), clock)
        parked = await insist(lambda: engine.start(misuse, id="misuse"), clock)
        waiting = [
            asyncio.create_task(insist(handle.result, clock))
            for handle in (talking, failing, parked)
        ]
        for word in ("one", "two", "three"):
            try:
                await talking.signal("word", word)
            except (StoreError, EngineStoppedError):
                await clock.advance(0.01)
                if word not in await words(talking):
                    await talking.signal("word", word)
            acknowledged.append(word)
            await clock.advance(5)
        await clock.advance(20)
        result, failed, stuck = await asyncio.gather(*waiting, return_exceptions=True)
        assert result == ["A", "B", *acknowledged], number
        assert isinstance(failed, WorkflowFailedError), number
        assert isinstance(stuck, WorkflowParkedError), number
        for handle in (talking, failing):
            history = await handle.history()
            assert [one.seq for one in history] == list(range(1, len(history) + 1))
            steps = [one.event.op for one in history if isinstance(one.event, StepCompleted)]
            assert len(steps) == len(set(steps)) == 2
        assert {"trip/1/compensation", "trip/2/compensation"} <= set(ran)
        letters = [letter.workflow_id for letter in await engine.dead_letters.list()]
        assert sorted(letters) == ["misuse", "trip"]
        assert store.opened == (2 if store.appends >= number else 1)
        return store.appends


@pytest.mark.invariant("I13")
async def test_those_who_wait_are_told_of_an_end_that_nobody_saw(clock: ManualClock) -> None:
    """The last event was durable, its append failed: results and followers still end."""
    store = FailingStore(clock, lambda append: append == 2, durable=True)
    async with Engine(store, workflows=[wait], clock=clock) as engine:
        handle = await engine.start(wait, id="one")

        async def follow() -> list[int]:
            return [recorded.seq async for recorded in handle.events()]

        waiting, following = asyncio.create_task(handle.result()), asyncio.create_task(follow())
        await settle()
        with pytest.raises(StoreUnavailableError, match="the disk fails"):
            await handle.signal("word", "go")
        await settle()
        assert await waiting == "go"
        assert await following == [1, 2, 3]


async def test_a_start_that_failed_is_settled_by_the_same_call(clock: ManualClock) -> None:
    """Whether it was durable or not, there is one workflow in the end."""
    for durable in (False, True):
        store = FailingStore(clock, lambda append: append == 1, durable=durable)
        async with Engine(store, workflows=[wait], clock=clock) as engine:
            with pytest.raises(StoreUnavailableError):
                await engine.start(wait, id="one")
            handle = await insist(lambda: engine.start(wait, id="one"), clock)
            history = await handle.history()
            assert [type(one.event) for one in history] == [WorkflowStarted]


async def test_a_store_that_keeps_failing_is_given_up(clock: ManualClock) -> None:
    """Those who wait hear the cause, every call says so, and leaving the block raises."""
    store = FailingStore(clock, lambda append: append >= 2)
    with pytest.raises(EngineStoppedError, match="had given up") as caught:
        async with Engine(store, workflows=[wait], clock=clock) as engine:
            handle = await engine.start(wait, id="one")
            waiting = asyncio.create_task(handle.result())
            for _ in range(10):
                with contextlib.suppress(StoreError, EngineStoppedError):
                    await handle.signal("word", "go")
                await settle()
            with pytest.raises(EngineStoppedError, match="has given up") as told:
                await waiting
            assert isinstance(told.value.__cause__, RestartLimitError)
            for call in (
                engine.start(wait, id="two"),
                handle.result(),
                handle.status(),
                handle.signal("word", "go"),
                engine.dead_letters.list(),
            ):
                with pytest.raises(EngineStoppedError):
                    await call
    assert isinstance(caught.value.__cause__, RestartLimitError)
    store.fails = lambda _: False
    async with Engine(store, workflows=[wait], clock=clock) as engine:
        assert (await engine.handle("one").status()).state is WorkflowState.RUNNING


async def test_an_error_of_the_block_goes_over_that_of_an_engine_that_gave_up(
    clock: ManualClock,
) -> None:
    """Whoever looks sees what happened first."""
    store = FailingStore(clock, lambda append: append >= 2)
    with pytest.raises(LookupError, match="mine"):
        async with Engine(store, workflows=[wait], clock=clock) as engine:
            handle = await engine.start(wait, id="one")
            for _ in range(10):
                with contextlib.suppress(StoreError, EngineStoppedError):
                    await handle.signal("word", "go")
                await settle()
            raise LookupError("mine")


# the lease


async def test_a_second_engine_is_refused(tmp_path: Path) -> None:
    """It names the owner, and hurts nothing; when the first has left it may come in."""
    url = f"sqlite:///{tmp_path}/app.db"
    async with Engine(url, workflows=[wait]) as first:
        handle = await first.start(wait, id="one")
        second = Engine(url, workflows=[wait])
        with pytest.raises(StoreLockedError, match=f"process {os.getpid()} on ") as caught:
            await second.__aenter__()
        assert f"process {os.getpid()}" in caught.value.owner
        await handle.signal("word", "go")
        assert await handle.result() == "go"
    async with second:
        assert (await second.handle("one").status()).state is WorkflowState.COMPLETED


async def test_one_store_object_serves_one_engine(place: str | Store, memory: MemoryStore) -> None:
    """At a time; the second one is refused, and the first goes on."""
    async with Engine(memory, workflows=[wait]) as first:
        with pytest.raises(StoreLockedError):
            await Engine(memory, workflows=[wait]).__aenter__()
        handle = await first.start(wait)
        await handle.signal("word", "go")
        assert await handle.result() == "go"


class SharedStore(MemoryStore):
    """What two engines have in common: each opens it as if it were a file."""

    shared = True

    async def open(self) -> None:
        self._is_open = True

    async def close(self) -> None:
        pass


async def test_an_engine_may_wait_for_the_lease(clock: ManualClock) -> None:
    """As long as it was told to; it is in as soon as the other has left."""
    store = SharedStore(clock=lambda: int(clock.now() * 1_000_000))
    first = Engine(store, workflows=[wait], clock=clock)
    await first.__aenter__()
    await first.start(wait, id="one")
    impatient = asyncio.create_task(
        Engine(store, workflows=[wait], clock=clock, lease_wait=3).__aenter__()
    )
    patient = Engine(store, workflows=[wait], clock=clock, lease_wait=60)
    waiting = asyncio.create_task(patient.__aenter__())
    await clock.advance(2.5)
    assert not impatient.done()
    await clock.advance(1)
    with pytest.raises(StoreLockedError):
        await impatient
    await clock.advance(30)
    assert not waiting.done()
    await first.__aexit__(None, None, None)
    await clock.advance(1)
    assert waiting.done()
    await patient.handle("one").signal("word", "taken over")
    assert await patient.handle("one").result() == "taken over"
    await patient.__aexit__(None, None, None)


async def test_the_lease_is_renewed_for_as_long_as_the_engine_lives(clock: ManualClock) -> None:
    """Nobody else gets it in between."""
    store = SharedStore(clock=lambda: int(clock.now() * 1_000_000))
    async with Engine(store, workflows=[wait], clock=clock):
        for _ in range(5):
            await clock.advance(LEASE_TTL_S - 1)
            with pytest.raises(StoreLockedError):
                await store.claim("another", 1)


async def test_an_engine_that_is_asleep_for_too_long_notices_by_itself(clock: ManualClock) -> None:
    """The renewal of its lease is refused, and it stops although it had nothing to write."""
    store = SharedStore(clock=lambda: int(clock.now() * 1_000_000))
    first = Engine(store, workflows=[wait], clock=clock)
    await first.__aenter__()
    waiting = asyncio.create_task((await first.start(wait, id="one")).result())
    await settle()
    store._owner_lives = False  # as if it had slept for longer than its lease
    async with Engine(store, workflows=[wait], clock=clock):
        await clock.advance(LEASE_TTL_S)
        with pytest.raises(EngineStoppedError, match="has given up"):
            await waiting
        with pytest.raises(EngineStoppedError, match="had given up"):
            await first.__aexit__(None, None, None)


@pytest.mark.invariant("I7")
@pytest.mark.parametrize("lost", [False, True])
async def test_after_a_long_stall_no_step_begins_before_the_lease_is_known(
    clock: ManualClock, *, lost: bool
) -> None:
    """One that is ours still lets it begin; one that somebody has taken meanwhile ends it before."""
    begun: list[str] = []

    @step
    async def effect() -> str:
        begun.append("effect")
        return "done"

    @workflow
    async def acts() -> str:
        await receive("go")
        return await effect()

    class Stalling(SharedStore):
        async def append(
            self, stream: str, expected: int, events: Sequence[Event], **options: Any
        ) -> None:
            await super().append(stream, expected, events, **options)
            if isinstance(events[0], SignalReceived):
                clock._passed += LEASE_TTL_S  # and here the loop is blocked for so long

    store = Stalling(clock=lambda: int(clock.now() * 1_000_000))
    engine = Engine(store, workflows=[acts], clock=clock)
    await engine.__aenter__()
    handle = await engine.start(acts, id="one")
    waiting = asyncio.create_task(handle.result())
    await settle()
    await handle.signal("go")
    await settle()
    assert begun == []
    if not lost:
        await clock.advance(0.1)
        assert await waiting == "done"
        await engine.__aexit__(None, None, None)
        return
    store._owner_lives = False
    second = Engine(store, workflows=[acts], clock=clock)
    await second.__aenter__()
    await clock.advance(0.1)
    with pytest.raises(EngineStoppedError, match="has given up"):
        await waiting
    assert await second.handle("one").result() == "done"
    assert begun == ["effect"]
    with pytest.raises(EngineStoppedError, match="had given up"):
        await engine.__aexit__(None, None, None)
    await second.__aexit__(None, None, None)


@pytest.mark.invariant("I38")
async def test_an_engine_that_lost_its_lease_stops_writing(clock: ManualClock) -> None:
    """Fenced off, it runs nothing any more; the new owner goes on from the log."""
    store = SharedStore(clock=lambda: int(clock.now() * 1_000_000))
    first = Engine(store, workflows=[wait], clock=clock)
    await first.__aenter__()
    handle = await first.start(wait, id="one")
    waiting = asyncio.create_task(handle.result())
    await settle()
    store._owner_lives = False  # as if it had slept for longer than its lease
    second = Engine(store, workflows=[wait], clock=clock)
    await second.__aenter__()
    with pytest.raises(FencedError):
        await handle.signal("word", "from the past")
    with pytest.raises(EngineStoppedError, match="has given up"):
        await waiting
    await second.handle("one").signal("word", "from the owner")
    assert await second.handle("one").result() == "from the owner"
    with pytest.raises(EngineStoppedError, match="had given up"):
        await first.__aexit__(None, None, None)
    await second.__aexit__(None, None, None)


async def test_a_process_that_is_killed_leaves_no_lease(tmp_path: Path) -> None:
    """The next engine is in at once, not after the lease has expired."""
    url = f"sqlite:///{tmp_path}/app.db"
    async with other_process(_OWNER, url) as owner:
        with pytest.raises(StoreLockedError, match=f"process {owner.pid} on "):
            await Engine(url, workflows=[wait]).__aenter__()
        owner.kill()
        owner.wait()
        async with Engine(url, workflows=[wait]) as engine:
            assert await engine.dead_letters.list() == []


_OWNER = """
import asyncio, sys
from beamflow import Engine, receive, workflow

@workflow
async def wait() -> str:
    return await receive("word", str)

async def main() -> None:
    async with Engine(sys.argv[1], workflows=[wait]):
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_duty_that_fails_while_the_store_is_closed_costs_the_store_no_restart(
    clock: ManualClock,
) -> None:
    """It waits for the end of that, and is started again with the store."""

    class Closing(MemoryStore):
        """Is read from while it is closed; refuses that, and takes its time."""

        lives, reads = 0, 0
        is_broken, is_closing, is_back = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def open(self) -> None:
            await super().open()
            self.lives += 1
            if self.lives == 2:
                self.is_back.set()

        async def close(self) -> None:
            self.is_closing.set()
            for _ in range(100):
                await asyncio.sleep(0)
            await super().close()

        async def serve(self) -> None:
            if self.lives == 1:
                await self.is_broken.wait()
                raise StoreUnavailableError("closing://", "the disk fails", "Mend it")
            await asyncio.get_running_loop().create_future()

        async def awake(self, *args: Any, **options: Any) -> Any:
            self.reads += 1
            if self.lives == 1:
                await self.is_closing.wait()
                raise StoreUnavailableError("closing://", "it was closed", "Open it")
            return await super().awake(*args, **options)

    store = Closing(clock=lambda: int(clock.now() * 1_000_000))
    async with Engine(store, workflows=[wait], clock=clock) as engine:
        store.is_broken.set()
        await store.is_back.wait()
        await settle()
        assert store.reads <= 1 + len(ACTIVE_STATES)
        handle = await engine.start(wait)
        await handle.signal("word", "hi")
        assert await handle.result() == "hi"
