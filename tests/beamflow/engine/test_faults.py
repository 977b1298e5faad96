"""What one process may suffer, and what holds all the same: clocks, readers, neighbours, payloads."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DeadLetterReason,
    Engine,
    EngineStoppedError,
    FencedError,
    PayloadError,
    Retry,
    StoreLockedError,
    StoreUnavailableError,
    WorkflowCancelledError,
    WorkflowError,
    WorkflowFailedError,
    WorkflowParkedError,
    WorkflowState,
    receive,
    step,
    workflow,
)
from beamflow.engine import workflow_loop
from beamflow.events import (
    CompensationCompleted,
    StepCompleted,
    TimerFired,
    TimerStarted,
    WorkflowCompleted,
)
from beamflow.model import codec
from beamflow.model.codec import encode_event
from beamflow.stores.memory import MemoryStore
from beamflow.stores.sqlite import SQLiteStore
from supervision.testing import ManualClock, settle
from tests.beamflow.engine.test_store_keeper import FailingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from beamflow import WorkflowHandle
    from beamflow.events import Event, Recorded
    from beamflow.stores.base import Sleep, Store
    from supervision.virtual import VirtualClock


ran: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ran.clear()


@step
async def work(what: str) -> str:
    ran.append(what)
    return what


@work.compensation
async def undo(_done: str, what: str) -> None:
    ran.append(f"un{what}")


@step(retry=Retry(max_attempts=2, initial=1, jitter=0))
async def refuse(what: str) -> str:
    raise ValueError(what)


@workflow
async def tale(name: str) -> str:
    """Steps, a timer, a signal."""
    await work(f"{name} begins")
    await asyncio.sleep(10)
    word: str = await receive("word", str)
    return await work(f"{name} {word}")


@workflow
async def fails(name: str) -> None:
    await work(name)
    await refuse(name)


# one append


class Appends(MemoryStore):
    """Keeps what came in one append together."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 0)
        self.appends: list[list[type]] = []

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
        await super().append(stream, expected, events, time=time, epoch=epoch, sleep=sleep)
        self.appends.append([type(event) for event in events])


@pytest.mark.invariant("I3")
async def test_a_cause_and_what_follows_from_it_are_one_append(clock: ManualClock) -> None:
    """The timer with the step before it, the end with what it came of: all there or none."""
    store = Appends()
    async with Engine(store, workflows=[tale], clock=clock) as engine:
        handle = await engine.start(tale, "one")
        await clock.advance(11)
        await handle.signal("word", "ends")
        assert await handle.result() == "one ends"
    assert [StepCompleted, TimerStarted] in store.appends
    assert [StepCompleted, WorkflowCompleted] in store.appends


@pytest.mark.invariant("I14")
async def test_signals_that_wait_keep_their_order(place: str | Store, clock: ManualClock) -> None:
    """Those that came before the workflow asked for any, over a restart."""

    @workflow
    async def listens() -> list[int]:
        await asyncio.sleep(10)
        return [await receive("word", int) for _ in range(6)]

    async with Engine(place, workflows=[listens], clock=clock) as engine:
        handle = await engine.start(listens, id="one")
        for number in range(3):
            await handle.signal("word", number)
    async with Engine(place, workflows=[listens], clock=clock) as engine:
        for number in range(3, 6):
            await engine.handle("one").signal("word", number)
        await clock.advance(11)
        assert await engine.handle("one").result() == [0, 1, 2, 3, 4, 5]


@pytest.mark.invariant("I7")
async def test_a_step_under_way_is_not_begun_again(place: str | Store) -> None:
    """Neither by a pause and a resume, nor by a cancel that lets it come to its end."""
    gate = asyncio.Event()

    @step
    async def slow() -> str:
        ran.append("slow")
        await gate.wait()
        return "done"

    @slow.compensation
    async def undone(_done: str) -> None:
        ran.append("undone")

    @workflow
    async def waits() -> str:
        return await slow()

    async with Engine(place, workflows=[waits]) as engine:
        handle = await engine.start(waits)
        while not ran:
            await settle()
        await handle.pause()
        await handle.resume()
        await handle.pause()
        await handle.cancel()
        gate.set()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
    assert ran == ["slow", "undone"]


# clocks


@pytest.mark.invariant("I16")
@pytest.mark.invariant("I39")
@pytest.mark.parametrize("jump", [-3600, -9, 5, 3600])
async def test_a_wall_clock_that_is_set(virtual_clock: VirtualClock, jump: float) -> None:
    """No timer fires before its time by that clock, each fires once, and times never go back."""
    async with Engine("memory://", workflows=[tale], clock=virtual_clock) as engine:
        handle = await engine.start(tale, "one")
        await virtual_clock.sleep(1)
        virtual_clock.jump(jump)
        await handle.signal("word", "ends")
        assert await handle.result() == "one ends"
        history = await handle.history()
    (due,) = [one.event.due for one in history if isinstance(one.event, TimerStarted)]
    (fired,) = [one.time for one in history if isinstance(one.event, TimerFired)]
    assert due <= fired
    assert [one.time for one in history] == sorted(one.time for one in history)


@pytest.mark.invariant("I38")
@pytest.mark.invariant("I39")
@pytest.mark.parametrize("ahead", [3600, -3600])
async def test_two_engines_whose_clocks_differ(tmp_path: Path, ahead: float) -> None:
    """The one that is ahead may take the store over early; there is one writer all the same."""
    url = f"sqlite:///{tmp_path}/app.db"
    one, other = ManualClock(), ManualClock(1_700_000_000.0 + ahead)
    if ahead < 0:
        one, other = other, one
    first = Engine(url, workflows=[tale], clock=one)
    await first.__aenter__()
    await first.start(tale, "one", id="one")
    behind = Engine(url, workflows=[tale], clock=ManualClock(one.now() - 5))
    with pytest.raises(StoreLockedError):
        await behind.__aenter__()
    async with Engine(url, workflows=[tale], clock=other) as second:
        waiting = asyncio.create_task(first.handle("one").result())
        with pytest.raises(FencedError):
            await first.handle("one").signal("word", "from the past")
        with pytest.raises(EngineStoppedError, match="has given up"):
            await waiting
        with pytest.raises(EngineStoppedError, match="has given up"):
            await first.handle("one").status()
        await second.handle("one").signal("word", "ends")
        await other.advance(11)
        assert await second.handle("one").result() == "one ends"
        history = await second.handle("one").history()
    assert [record.epoch for record in history] == sorted(record.epoch for record in history)
    assert {record.epoch for record in history} == {1, 2}
    with pytest.raises(EngineStoppedError, match="had given up"):
        await first.__aexit__(None, None, None)


# neighbours


def bad_workflows() -> list[Any]:
    """Workflows that cannot come to a good end, one of each kind."""

    @workflow
    async def refused(_name: str) -> None:
        await refuse("no")

    @workflow
    async def raises(_name: str) -> None:
        raise LookupError

    @workflow
    async def touches(_name: str) -> None:
        await asyncio.to_thread(print)

    @workflow
    async def spins(_name: str) -> None:
        while True:  # noqa: ASYNC110 - on purpose
            await asyncio.sleep(0)

    @workflow
    async def odd(_name: str) -> int:
        return "forty-two"  # type: ignore[return-value]

    @workflow
    async def cannot_undo(_name: str) -> None:
        await stuck()
        raise LookupError

    return [refused, raises, touches, odd, cannot_undo, spins]


@step
async def stuck() -> None: ...


@stuck.compensation(retry=Retry(max_attempts=1))
async def unstuck(_none: None) -> None:
    raise ConnectionError


_REASONS = {
    "refused": DeadLetterReason.STEP_FAILED,
    "raises": DeadLetterReason.WORKFLOW_ERROR,
    "touches": DeadLetterReason.HOST_LOOP,
    "spins": DeadLetterReason.HOST_LOOP,
    "odd": DeadLetterReason.UNDECODABLE,
    "cannot_undo": DeadLetterReason.COMPENSATION_FAILED,
}


@pytest.mark.invariant("I26")
@pytest.mark.invariant("I27")
async def test_the_bad_ones_among_a_hundred(
    place: str | Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The good ones end well; each bad one leaves one letter, also after restarts."""
    monkeypatch.setattr(workflow_loop, "_CALLBACKS_MAX", 10_000)
    bad = bad_workflows()
    async with Engine(place, workflows=[tale, *bad], clock=clock) as engine:
        good = [await engine.start(tale, f"{n}", id=f"good-{n}") for n in range(50)]
        for each in bad:
            await engine.start(each, "x", id=each.name)
        good += [await engine.start(tale, f"{n}", id=f"good-{n}") for n in range(50, 100)]
        for handle in good:
            await handle.signal("word", "ends")
        await clock.advance(11)
        results = await asyncio.gather(*(handle.result() for handle in good))
        assert results == [f"{n} ends" for n in range(100)]
        for each in bad:
            with pytest.raises((WorkflowFailedError, WorkflowParkedError)):
                await engine.handle(each.name).result()
        assert await letters(engine) == _REASONS
    for _ in range(2):
        async with Engine(place, workflows=[tale, *bad], clock=clock) as engine:
            await clock.advance(1)
            for each in bad:
                with pytest.raises((WorkflowFailedError, WorkflowParkedError)):
                    await engine.handle(each.name).result()
            assert await letters(engine) == _REASONS


async def letters(engine: Engine) -> dict[str, DeadLetterReason]:
    found = await engine.dead_letters.list(state=None)
    assert len({letter.workflow_id for letter in found}) == len(found)
    return {letter.workflow_id: letter.reason for letter in found}


@pytest.mark.invariant("I28")
async def test_each_workflow_is_counted_once_at_every_moment(
    place: str | Store, clock: ManualClock
) -> None:
    """Started are those that are open, have ended or stand still, whatever happens meanwhile."""
    bad = bad_workflows()[:5]
    started = 0
    async with Engine(place, workflows=[tale, *bad], clock=clock) as engine:
        for kind in [tale, *bad] * 4:
            _ = await engine.start(kind, "x", id=f"{started}")
            started += 1
            assert sum((await engine.counts()).values()) == started
        for turn in range(0, started, 6):
            handle = engine.handle(f"{turn}")
            await (handle.signal("word", "ends") if turn % 12 else handle.cancel())
            for _ in range(4):
                await asyncio.gather(clock.advance(3), counted(engine, started))
        for turn in range(started):
            with suppress(WorkflowError):
                await engine.handle(f"{turn}").result()
        counts = await engine.counts()
    assert counts[WorkflowState.COMPLETED] == counts[WorkflowState.CANCELLED] == 2
    assert counts[WorkflowState.FAILED] == 8
    assert counts[WorkflowState.PARKED] == 12


async def counted(engine: Engine, started: int) -> None:
    for _ in range(5):
        assert sum((await engine.counts()).values()) == started


# readers


async def lived(*, read: bool) -> list[list[bytes]]:
    """Run some workflows to their end, with readers all the time or without; return the logs."""
    clock = ManualClock()
    store = MemoryStore(clock=lambda: 0)
    async with Engine(
        store, workflows=[tale, fails], clock=clock, random=random.Random(1)
    ) as engine:
        handles: list[WorkflowHandle[Any]] = [
            await engine.start(tale, "one", id="one"),
            await engine.start(fails, "two", id="two"),
        ]

        async def goes_on(seconds: float) -> None:
            readers = [read_all(engine, each) for each in handles * 5 if read]
            await asyncio.gather(*readers, clock.advance(seconds))

        for _ in range(8):
            await goes_on(0.5)
        signal = handles[0].signal("word", "ends")
        await asyncio.gather(signal, *(read_all(engine, each) for each in handles if read))
        await goes_on(10)
        assert await handles[0].result() == "one ends"
        with pytest.raises(WorkflowFailedError):
            await handles[1].result()
        await goes_on(1)
        return [[encode_event(one.event) for one in await each.history()] for each in handles]


async def read_all(engine: Engine, handle: WorkflowHandle[Any]) -> None:
    for _ in range(5):
        await handle.status()
        await handle.history()
        await engine.dead_letters.list()
        async for _ in engine.find():
            pass
        async for recorded in handle.events():
            if recorded.seq > 1:
                break


@pytest.mark.invariant("I36")
async def test_reading_changes_nothing() -> None:
    """The logs are those of a life without readers, byte for byte, and nothing ran twice."""
    alone = await lived(read=False)
    without = list(ran)
    ran.clear()
    assert await lived(read=True) == alone
    assert ran == without


_ORDER = [
    WorkflowState.RUNNING,
    WorkflowState.COMPENSATING,
    WorkflowState.COMPLETED,
    WorkflowState.FAILED,
]


@pytest.mark.invariant("I35")
async def test_what_is_read_never_goes_back(clock: ManualClock) -> None:
    """Over a store that fails again and again: no state, no event, no id is taken back."""
    store = FailingStore(clock, lambda append: append % 3 == 0)
    async with Engine(store, workflows=[tale, fails], clock=clock) as engine:
        seen: dict[str, tuple[int, list[Recorded]]] = {}

        async def look(handle: WorkflowHandle[Any]) -> None:
            place, events = seen.get(handle.id, (0, []))
            try:
                state = (await handle.status()).state
                history = await handle.history()
            except (EngineStoppedError, StoreUnavailableError):
                return
            assert _ORDER.index(state) >= place
            assert history[: len(events)] == events
            before = seen.get(handle.id, (0, []))
            seen[handle.id] = max(
                (_ORDER.index(state), history), before, key=lambda one: len(one[1])
            )

        async def goes_on(call: Any) -> Any:
            while True:
                try:
                    return await call()
                except (StoreUnavailableError, EngineStoppedError):
                    await clock.advance(0.1)

        handles = [
            await goes_on(lambda: engine.start(tale, "one", id="one")),
            await goes_on(lambda: engine.start(fails, "two", id="two")),
        ]
        for turn in range(60):
            if turn == 30:
                await goes_on(lambda: handles[0].signal("word", "ends"))
            await asyncio.gather(clock.advance(1), *(look(each) for each in handles * 3))
        assert [_ORDER[seen[each.id][0]] for each in handles] == _ORDER[2:]
    assert store.opened > 2


# the store


@pytest.mark.invariant("I34")
async def test_a_file_that_somebody_else_locks_for_too_long(
    tmp_path: Path, reached: Callable[..., Any]
) -> None:
    """Nothing is acknowledged meanwhile; it goes on by itself when the file is free again."""
    path = tmp_path / "app.db"
    store = SQLiteStore(path, clock=lambda: 0, busy_timeout_s=0.01)
    async with Engine(store, workflows=[tale, fails]) as engine:
        handle = await engine.start(fails, "one", id="one")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="locked|busy"):
                await engine.start(fails, "two", id="two")
            other.execute("ROLLBACK")
        again = await started_at_last(engine, fails, "two")
        with pytest.raises(WorkflowFailedError):
            await again.result()
        assert isinstance((await again.history())[-2].event, CompensationCompleted)
    assert ran == ["one", "unone", "two", "untwo"]


async def started_at_last(engine: Engine, kind: Any, name: str) -> WorkflowHandle[Any]:
    async with asyncio.timeout(10):
        while True:
            try:
                return await engine.start(kind, name, id=name)
            except (EngineStoppedError, StoreUnavailableError):
                await settle()


@pytest.mark.invariant("I27")
async def test_a_result_that_is_larger_than_the_store_takes(tmp_path: Path) -> None:
    """It is the workflow that stands still, with one letter that says why; others go on."""

    @step
    async def dump(size: int) -> str:
        ran.append("dump")
        return "x" * size

    @workflow
    async def big(size: int) -> int:
        return len(await dump(size))

    store = SQLiteStore(tmp_path / "app.db", clock=lambda: 0)
    async with Engine(store, workflows=[big]) as engine:
        assert store._writer is not None
        await store._writer._execute(
            store._writer._conn.setlimit, sqlite3.SQLITE_LIMIT_LENGTH, 100_000
        )
        small = await engine.start(big, 10)
        large = await engine.start(big, 200_000, id="large")
        assert await small.result() == 10
        with pytest.raises(WorkflowParkedError, match="larger than SQLite can store"):
            await large.result()
        (letter,) = await engine.dead_letters.list()
        assert (letter.workflow_id, letter.reason) == ("large", DeadLetterReason.UNDECODABLE)
        assert await (await engine.start(big, 11)).result() == 11


@pytest.mark.invariant("I27")
async def test_a_payload_beyond_the_bound(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    """It is refused where it comes from: a start, a signal, a step; nobody else hears of it."""
    monkeypatch.setattr(codec, "PAYLOAD_BYTES_MAX", 1_000)

    @step
    async def dump(size: int) -> str:
        return "x" * size

    @workflow
    async def big(size: int, text: str) -> str:
        try:
            return await dump(size)
        except PayloadError as error:
            return f"{error}"[:80] + await receive("word", str)

    async with Engine("memory://", workflows=[big], clock=clock) as engine:
        with pytest.raises(PayloadError, match="1,0.. bytes as JSON, of 1,000 at most"):
            await engine.start(big, 1, "x" * 1000)
        handle = await engine.start(big, 2000, "")
        with pytest.raises(PayloadError, match="signal 'word': .* of 1,000 at most"):
            await handle.signal("word", "x" * 1000)
        await handle.signal("word", "!")
        assert "result of step 'dump': it takes 2,002 bytes as JSON" in await handle.result()
        assert await engine.dead_letters.list() == []
