"""Talking to workflows: what becomes of a signal, whatever the workflow's state when it is sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw

from beamflow import (
    DefinitionError,
    Engine,
    PayloadError,
    WorkflowCancelledError,
    WorkflowClosedError,
    WorkflowNotFoundError,
    WorkflowParkedError,
    WorkflowState,
    continue_as_new,
    on_signal,
    query,
    receive,
    signal,
    step,
    until,
    update,
    workflow,
)
from beamflow.events import SignalReceived, WorkflowCompleted
from supervision.testing import settle
from tests.beamflow.engine.cuts import cut_store
from tests.beamflow.engine.driver import Driver
from tests.beamflow.engine.test_workflow_actor import GatedStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from beamflow import WorkflowHandle
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@dataclass
class Approval:
    by: str


@dataclass
class Renamed:
    __signal_name__ = "approval"

    by: str


@workflow
async def collect(count: int) -> list[Any]:
    return [await receive("word") for _ in range(count)]


@step
async def count_up(number: int) -> int:
    return number


@workflow
class Box:
    def __init__(self) -> None:
        self.inside: list[int] = []

    async def run(self, count: int) -> list[int]:
        await until(lambda: len(self.inside) >= count)
        return self.inside

    @signal
    async def put(self, number: int) -> None:
        self.inside.append(await count_up(number))

    @query
    def size(self) -> int:
        return len(self.inside)


async def test_signals_are_sent_by_name_by_method_and_by_type(place: str | Store) -> None:
    """A type's signals are called like it, or as it says."""

    @workflow
    async def wait() -> list[Any]:
        return [
            await receive(Approval),
            await receive("Approval", Approval),
            await receive("approval", Approval),
            await receive(Renamed),
        ]

    async with Engine(place, workflows=[wait, Box]) as engine:
        handle = await engine.start(wait)
        await handle.signal("Approval", {"by": "name"})
        await handle.signal(Approval, Approval("type"))
        await handle.signal(Renamed, Renamed("declared"))
        await handle.signal("approval", Renamed("name"))
        assert await handle.result() == [
            {"by": "name"},
            {"by": "type"},
            {"by": "declared"},
            {"by": "name"},
        ]
        box = await engine.start(Box, 2)
        await box.signal(Box.put, 1)
        await box.signal("put", 2)
        assert await box.result() == [1, 2]


@pytest.mark.parametrize(
    ("to", "payload", "said"),
    [
        (Box.put, "one", PayloadError),
        (Approval, {"to": "x"}, PayloadError),
        ("word", object(), PayloadError),
        (Box.size, None, DefinitionError),
        (3, None, DefinitionError),
    ],
)
async def test_what_cannot_be_received_is_refused_before_it_is_sent(
    memory: MemoryStore, to: Any, payload: Any, said: type[Exception]
) -> None:
    """Nothing of it is in the log."""
    async with Engine(memory, workflows=[Box]) as engine:
        handle = await engine.start(Box, 1)
        with pytest.raises(said):
            await handle.signal(to, payload)
        assert len(await handle.history()) == 1


async def test_a_payload_that_the_handler_cannot_read_is_refused(memory: MemoryStore) -> None:
    """Also when it was sent by name: the workflow goes on, the sender hears of it."""
    async with Engine(memory, workflows=[Box]) as engine:
        handle = await engine.start(Box, 1)
        with pytest.raises(PayloadError, match="signal 'put'"):
            await handle.signal("put", "one")
        assert len(await handle.history()) == 1
        await handle.signal("put", 1)
        assert await handle.result() == [1]


# Keys


@pytest.mark.invariant("I14")
async def test_a_second_signal_with_the_same_key_is_acknowledged_and_not_taken(
    place: str | Store,
) -> None:
    """Whatever it carries; after a restart as well; another name or key is another signal."""
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 3, id="one")
        for payload in "abc":
            await handle.signal("word", payload, key="first")
        await handle.signal("other", "x", key="first")
    async with Engine(place, workflows=[collect]) as engine:
        handle = engine.handle("one")
        await handle.signal("word", "d", key="first")
        await handle.signal("word", "e", key="second")
        await handle.signal("word", "f")
        assert await handle.result() == ["a", "e", "f"]


async def test_the_same_key_twice_at_once_is_one_signal(memory: MemoryStore) -> None:
    """Both are acknowledged by the one append."""
    async with Engine(memory, workflows=[collect]) as engine:
        handle = await engine.start(collect, 2)
        await asyncio.gather(*(handle.signal("word", n, key="k") for n in range(5)))
        await handle.signal("word", "last")
        assert await handle.result() == [0, "last"]


async def test_a_key_that_no_log_can_hold_is_refused(memory: MemoryStore) -> None:
    """At once."""
    async with Engine(memory, workflows=[collect]) as engine:
        handle = await engine.start(collect, 1)
        for key in ("x" * 513, "\n", 3):
            with pytest.raises(DefinitionError, match="is refused"):
                await handle.signal("word", 1, key=key)  # type: ignore[arg-type]


# Whatever the state


async def running(engine: Engine, _clock: ManualClock) -> WorkflowHandle[Any]:
    return await engine.start(collect, 2, id="one")


async def pending(engine: Engine, clock: ManualClock) -> WorkflowHandle[Any]:
    handle = await engine.start(collect, 2, id="one", delay=1000)
    assert (await handle.status()).state is WorkflowState.PENDING
    return handle


async def paused(engine: Engine, _clock: ManualClock) -> WorkflowHandle[Any]:
    handle = await engine.start(collect, 2, id="one")
    await handle.pause()
    return handle


async def told_to_end(engine: Engine, _clock: ManualClock) -> WorkflowHandle[Any]:
    handle = await engine.start(stubborn, 2, id="one")
    await handle.cancel()
    return handle


@workflow
async def stubborn(count: int) -> list[Any]:
    try:
        await receive("never")
    finally:
        words = [await receive("word") for _ in range(count)]
    return words


async def goes_on(handle: WorkflowHandle[Any], clock: ManualClock) -> None:
    state = (await handle.status()).state
    if state is WorkflowState.PAUSED:
        await handle.resume()
    if state is WorkflowState.PENDING:
        await clock.advance(1001)


PHASES = [running, pending, paused, told_to_end]


@pytest.mark.invariant("I14")
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("moment", ["before", "after", "whole"])
async def test_a_signal_is_received_once_whatever_the_state_and_the_moment_of_a_crash(
    clock: ManualClock,
    phase: Callable[[Engine, ManualClock], Awaitable[WorkflowHandle[Any]]],
    moment: str,
) -> None:
    """The actor dies before the commit, after it, or not at all; the sender need not know."""
    store = GatedStore(clock)
    async with Engine(store, workflows=[collect, stubborn], clock=clock) as engine:
        handle = await phase(engine, clock)
        if moment == "before":
            store.before = SignalReceived
        elif moment == "after":
            store.after = SignalReceived
        sending = asyncio.create_task(handle.signal("word", "go", key="1"))
        if moment != "whole":
            await store.held.wait()
            store.before = store.after = None
            engine._services.actors["one"].kill()
        await sending
        await handle.signal("word", "again", key="1")
        await handle.signal("word", "on", key="2")
        await goes_on(handle, clock)
        try:
            words = await handle.result()
        except WorkflowCancelledError:
            words = None
        received = [
            bytes(each.event.payload)
            for each in await handle.history()
            if isinstance(each.event, SignalReceived)
        ]
        assert received == [b'"go"', b'"on"']
        assert words == (None if phase is told_to_end else ["go", "on"])


@pytest.mark.invariant("I15")
async def test_a_signal_to_nobody_is_refused(place: str | Store) -> None:
    """Before the start there is nobody, after the end nobody any more; keyed or not."""
    async with Engine(place, workflows=[collect]) as engine:
        with pytest.raises(WorkflowNotFoundError):
            await engine.handle("one").signal("word", 1)
        handle = await engine.start(collect, 1, id="one")
        await handle.signal("word", 1, key="k")
        assert await handle.result() == [1]
        for key in ("", "other"):
            with pytest.raises(WorkflowClosedError, match="is completed and takes no signal"):
                await handle.signal("word", 2, key=key)
        await handle.signal("word", 2, key="k")  # which was taken
        assert len(await handle.history()) == 3


async def test_a_signal_to_a_parked_workflow_is_refused(memory: MemoryStore) -> None:
    """Its log stays as it is; the sender is told to send it again."""

    @workflow
    async def misuse() -> None:
        await asyncio.to_thread(print)

    async with Engine(memory, workflows=[misuse]) as engine:
        handle = await engine.start(misuse)
        await settle()
        with pytest.raises(WorkflowParkedError, match="signal 'word' was not taken"):
            await handle.signal("word", 1)


@pytest.mark.invariant("I15")
async def test_a_signal_that_meets_the_end_is_kept_and_acknowledged_or_refused(
    clock: ManualClock,
) -> None:
    """Sent while the last append is under way: whoever is acknowledged is in the log."""
    store = GatedStore(clock)
    async with Engine(store, workflows=[collect], clock=clock) as engine:
        handle = await engine.start(collect, 1, id="one")
        store.before = WorkflowCompleted
        sending = [asyncio.create_task(handle.signal("word", n)) for n in range(3)]
        await store.held.wait()
        sending.append(asyncio.create_task(handle.signal("word", 3)))
        await settle()
        store.before = None
        store.let_pass()
        answers = await asyncio.gather(*sending, return_exceptions=True)
        assert answers[:3] == [None, None, None]
        assert isinstance(answers[3], WorkflowClosedError)
        received = sum(isinstance(e.event, SignalReceived) for e in await handle.history())
        assert received == 3


# Order and loss


@pytest.mark.invariant("I14")
async def test_many_senders_keep_their_own_order(place: str | Store) -> None:
    """Each sender's signals arrive as it sent them, however they interleave."""

    @workflow
    async def gather_all(count: int) -> list[list[int]]:
        return [await receive("word") for _ in range(count)]

    async with Engine(place, workflows=[gather_all]) as engine:
        handle = await engine.start(gather_all, 60)

        async def sender(name: int) -> None:
            for number in range(20):
                await handle.signal("word", [name, number])

        await asyncio.gather(*(sender(name) for name in range(3)))
        words = await handle.result()
        for name in range(3):
            assert [number for who, number in words if who == name] == list(range(20))


@workflow
async def several() -> list[Any]:
    """Waits for two signals at once, by plain asyncio, and gives up now and then."""
    got: list[Any] = []
    while len(got) < 6:
        tasks = {asyncio.create_task(receive(name)) for name in ("red", "blue")}
        done, rest = await asyncio.wait(tasks, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        got += sorted(task.result() for task in done)
        try:
            async with asyncio.timeout(1):
                got.append(await receive("green"))
        except TimeoutError:
            pass
    return got


async def test_cancelled_waits_lose_no_signal(memory: MemoryStore, clock: ManualClock) -> None:
    """Several names at once, with time-outs around them, under signals at any moment."""
    async with Engine(memory, workflows=[several], clock=clock) as engine:
        handle = await engine.start(several)
        sent = []
        for number, name in enumerate(["red", "green", "blue", "blue", "red", "green"]):
            await handle.signal(name, number)
            sent.append(number)
            await clock.advance(number % 3)
        for _ in range(20):
            await clock.advance(1)
        assert sorted(await handle.result()) == sent


# The start


async def test_a_start_may_bring_a_signal(place: str | Store) -> None:
    """Both are in the first append; the same call again adds nothing."""
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 2, id="one", signal=("word", "first", "k"))
        assert [type(each.event).__name__ for each in await handle.history()] == [
            "WorkflowStarted",
            "SignalReceived",
        ]
        await engine.start(collect, 2, id="one", signal=("word", "again", "k"))
        await engine.start(collect, 2, id="one", signal=("word", "second"))
        assert await handle.result() == ["first", "second"]
        with pytest.raises(WorkflowClosedError):
            await engine.start(collect, 2, id="one", signal=("word", "late"))


async def test_a_handler_takes_the_signal_of_the_start(place: str | Store) -> None:
    """It is there before the first signal is."""
    async with Engine(place, workflows=[Box]) as engine:
        handle = await engine.start(Box, 1, signal=(Box.put, 7))
        assert await handle.result() == [7]


async def test_a_signal_of_a_start_that_no_log_can_hold_starts_nothing(
    memory: MemoryStore,
) -> None:
    """It is looked at first."""
    async with Engine(memory, workflows=[collect]) as engine:
        for bad in [("word", object()), ("word",), ("word", 1, "\n"), "word", (3, 4)]:
            with pytest.raises((PayloadError, DefinitionError)):
                await engine.start(collect, 1, id="one", signal=bad)  # type: ignore[arg-type]
        with pytest.raises(WorkflowNotFoundError):
            await engine.handle("one").status()


# Crashes


@workflow
async def busy() -> list[int]:
    there: list[int] = []

    async def put(number: int) -> None:
        there.append(await count_up(number))

    on_signal("put", put)
    await until(lambda: len(there) == 3)
    return there


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_handlers_go_on_after_a_kill_at_any_event(tmp_path: Path, kind: str) -> None:
    """Each signal has one effect."""
    async with Engine("memory://", workflows=[busy]) as engine:
        handle = await engine.start(busy, id="wf")
        for number in range(3):
            await handle.signal("put", number)
        assert sorted(await handle.result()) == [0, 1, 2]
        history = await handle.history()
    for cut in range(1, len(history)):
        file = None if kind == "memory" else tmp_path / f"{cut}.db"
        async with Engine(await cut_store(history, cut, file), workflows=[busy]) as engine:
            handle = engine.handle("wf")
            there = sum(isinstance(each.event, SignalReceived) for each in history[:cut])
            for number in range(there, 3):
                await handle.signal("put", number)
            assert sorted(await handle.result()) == [0, 1, 2]


# New runs


@workflow
class Endless:
    """Takes what its handler is sent in runs of a few, and hands it on."""

    def __init__(self) -> None:
        self.inside: list[int] = []
        self.stopped = False

    async def run(self, before: list[int], runs: int) -> list[int]:
        await until(lambda: len(self.inside) >= 3 or self.stopped)
        inside = before + self.inside
        if not self.stopped:
            continue_as_new(inside, runs + 1)
        return inside

    @signal
    def put(self, number: int) -> None:
        self.inside.append(number)

    @signal
    def stop(self) -> None:
        self.stopped = True

    @query
    def here(self) -> list[int]:
        return self.inside

    @update
    def add(self, number: int) -> int:
        self.inside.append(number)
        return number


async def test_a_storm_over_new_runs_loses_nothing_and_keeps_its_order(place: str | Store) -> None:
    """Signals to handlers, keyed ones sent twice; what one run has not taken the next one does."""
    async with Engine(place, workflows=[Endless]) as engine:
        handle = await engine.start(Endless, [], 0)

        async def sender(name: int) -> None:
            for number in range(20):
                for _ in range(2):
                    await handle.signal(Endless.put, name + number, key=f"{name + number}")

        await asyncio.gather(*(sender(name) for name in (100, 200, 300)))
        assert set(await handle.query(Endless.here)) <= {*range(100, 320)}
        await handle.signal(Endless.stop)
        numbers = await handle.result()
        for name in (100, 200, 300):
            own = [number for number in numbers if name <= number < name + 100]
            assert own == list(range(name, name + 20))
        assert len(numbers) == 60


async def test_requests_over_new_runs_have_one_effect_each(place: str | Store) -> None:
    """Those that come while a run is ending go to the next one; each id is known there."""
    async with Engine(place, workflows=[Endless]) as engine:
        handle = await engine.start(Endless, [], 0)
        replies = await asyncio.gather(
            *(handle.update(Endless.add, n // 2, id=f"{n // 2}") for n in range(40))
        )
        assert replies == [n // 2 for n in range(40)]
        assert await handle.update(Endless.add, 0, id="0") == 0
        await handle.signal(Endless.stop)
        assert sorted(await handle.result()) == list(range(20))


@step
async def rest(number: int) -> int:
    return number


def test_a_signal_between_two_runs_is_for_the_next_one() -> None:
    """The function has ended, the step that it has left is not over: a handler would lose it."""
    handled: list[int] = []

    @workflow
    async def code() -> None:
        on_signal("put", handled.append)
        task = asyncio.create_task(rest(1))
        await receive("next")
        assert not task.done()
        continue_as_new()

    driver = Driver.start(code)
    driver.signal("next")
    assert driver.execution.ending
    assert len(driver.calls) == 1
    driver.signal("put", b"4")
    assert (driver.execution.unreceived, handled) == ((("put", Raw(b"4")),), [])
