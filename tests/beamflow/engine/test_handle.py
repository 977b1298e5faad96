"""Handles: results, signals, status, history, events."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from beamflow import (
    DeadLetterReason,
    Engine,
    PayloadError,
    Retry,
    StepTimeoutError,
    WorkflowClosedError,
    WorkflowFailedError,
    WorkflowHandle,
    WorkflowNotFoundError,
    WorkflowParkedError,
    WorkflowState,
    current_step,
    receive,
    step,
    workflow,
)
from beamflow.events import SignalReceived, WorkflowCompleted, WorkflowStarted
from supervision.testing import settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock

    Reached = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Receipt:
    order: str
    at: datetime


NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@workflow
async def buy(order: str) -> Receipt:
    return Receipt(order, NOON)


@workflow
async def collect(count: int) -> list[str]:
    return [await receive("word", str) for _ in range(count)]


@workflow
async def sleepy(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "awake"


@step
async def fail(what: str) -> None:
    raise LookupError(what)


@workflow
async def failing(what: str) -> None:
    await fail(what)


@workflow
async def misuse() -> None:
    await asyncio.to_thread(print)


async def test_a_result_comes_back_as_its_type(place: str | Store) -> None:
    """Live, after the end, and after a restart; a handle by id alone gives plain JSON data."""
    async with Engine(place, workflows=[buy]) as engine:
        handle = await engine.start(buy, "tea", id="one")
        assert await handle.result() == Receipt("tea", NOON)
        assert await handle.result() == Receipt("tea", NOON)
    async with Engine(place, workflows=[buy]) as engine:
        assert await (await engine.start(buy, "tea", id="one")).result() == Receipt("tea", NOON)
        plain = {"order": "tea", "at": "2026-05-01T12:00:00Z"}
        assert await engine.handle("one").result() == plain


async def test_a_failure_tells_its_step(place: str | Store) -> None:
    """Type, text, step and traceback come from the log, before and after a restart."""
    for _ in range(2):
        async with Engine(place, workflows=[failing]) as engine:
            handle = await engine.start(failing, "the key", id="one")
            with pytest.raises(WorkflowFailedError) as caught:
                await handle.result()
            error = caught.value
            assert (error.workflow_id, error.step) == ("one", "fail")
            assert (error.error_type, error.error_message) == (
                "builtins.LookupError",
                "the key",
            )
            assert "raise LookupError(what)" in error.traceback


async def test_a_parked_workflow_has_no_result(place: str | Store) -> None:
    """Whoever waits already, and whoever asks later, hears why."""
    async with Engine(place, workflows=[misuse]) as engine:
        handle = await engine.start(misuse, id="one")
        for _ in range(2):
            with pytest.raises(WorkflowParkedError, match="run_in_executor") as caught:
                await handle.result()
            assert caught.value.reason == DeadLetterReason.HOST_LOOP.value


async def test_a_result_can_be_waited_for_a_while(memory: MemoryStore, clock: ManualClock) -> None:
    """By the engine's clock; the workflow goes on, and its result is there later."""
    async with Engine(memory, workflows=[sleepy], clock=clock) as engine:
        handle = await engine.start(sleepy, 100)
        waiting = asyncio.create_task(handle.result(timeout=30))
        await clock.advance(29)
        assert not waiting.done()
        await clock.advance(2)
        with pytest.raises(TimeoutError) as caught:
            await waiting
        assert not isinstance(caught.value, StepTimeoutError)
        await clock.advance(70)
        assert await handle.result(timeout=30) == "awake"


async def test_many_may_wait_and_some_give_up(place: str | Store) -> None:
    """A cancelled wait does nothing to the workflow, nor to the others who wait."""
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 1)
        waiting = [asyncio.create_task(handle.result()) for _ in range(20)]
        assert (await handle.status()).waiting_for == ("signal word",)
        for waiter in waiting[::2]:
            waiter.cancel()
        await settle()
        await handle.signal("word", "go")
        said = await asyncio.gather(*waiting, return_exceptions=True)
        assert said[1::2] == [["go"]] * 10
        assert all(isinstance(one, asyncio.CancelledError) for one in said[::2])
        await settle()
        assert engine._services.awaited == ()


async def test_an_id_that_nothing_has_is_not_found(place: str | Store) -> None:
    """By any way of asking."""
    async with Engine(place, workflows=[collect]) as engine:
        nobody = engine.handle("nobody")

        async def events() -> None:
            async for _ in nobody.events():
                pass

        for ask in (
            nobody.result(),
            nobody.status(),
            nobody.history(),
            nobody.signal("word"),
            events(),
        ):
            with pytest.raises(WorkflowNotFoundError, match="'nobody'"):
                await ask


# status


async def test_status_tells_what_a_workflow_waits_for(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Steps, timers and signals that are open at the moment."""
    gate = asyncio.Event()

    @step
    async def slow() -> None:
        await gate.wait()

    @workflow
    async def busy() -> None:
        async with asyncio.timeout(100):
            await asyncio.gather(slow(), receive("word"))

    async with Engine(memory, workflows=[busy], clock=clock) as engine:
        handle = await engine.start(busy, id="one")
        await settle()
        status = await handle.status()
        assert (status.id, status.workflow, status.version) == ("one", "busy", 1)
        assert status.state is WorkflowState.RUNNING
        assert sorted(status.waiting_for) == ["signal word", "step slow", "timer"]
        assert (status.started_at, status.closed_at) == (1_700_000_000_000_000, None)
        await clock.advance(5)
        gate.set()
        await handle.signal("word")
        await handle.result()
        status = await handle.status()
        assert (status.state, status.waiting_for) == (WorkflowState.COMPLETED, ())
        assert status.closed_at == 1_700_000_005_000_000


async def test_status_tells_of_a_wait_between_attempts(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The step is not under way then: its next attempt is waited for."""

    @step(retry=Retry(max_attempts=2, initial=60))
    async def unsteady() -> int:
        if current_step().attempt == 1:
            raise ConnectionError("not yet")
        return 2

    @workflow
    async def patient() -> int:
        return await unsteady()

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient)
        await settle()
        assert (await handle.status()).waiting_for == ("retry of step unsteady",)
        await clock.advance(100)
        assert await handle.result() == 2


async def test_status_tells_of_the_way_back(memory: MemoryStore, clock: ManualClock) -> None:
    """Which compensation is at work, and the error that it is for."""
    gate = asyncio.Event()

    @step
    async def book() -> None:
        pass

    @book.compensation
    async def unbook(_none: None) -> None:
        await gate.wait()

    @workflow
    async def trip() -> None:
        await book()
        raise ValueError("no leave")

    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip, id="one")
        await settle()
        status = await handle.status()
        assert status.state is WorkflowState.COMPENSATING
        assert status.waiting_for == ("compensation of step book",)
        assert status.error == "builtins.ValueError: no leave"
        gate.set()
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        assert (await handle.status()).error == "builtins.ValueError: no leave"


async def test_status_can_be_pickled_and_written_as_json(place: str | Store) -> None:
    """It is plain data for a dashboard."""
    async with Engine(place, workflows=[buy]) as engine:
        handle = await engine.start(buy, "tea", id="one")
        await handle.result()
        written = msgspec.json.decode(msgspec.json.encode(await handle.status()))
        assert (written["id"], written["state"]) == ("one", "completed")
        assert repr(handle) == "<WorkflowHandle 'one'>"


# signals


@pytest.mark.invariant("I13")
async def test_a_signal_before_it_is_asked_for_is_kept(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Until the workflow asks; those it never asks for do no harm."""

    @workflow
    async def late() -> str:
        await asyncio.sleep(10)
        word: str = await receive("word", str)
        return word

    async with Engine(memory, workflows=[late], clock=clock) as engine:
        handle = await engine.start(late)
        await handle.signal("word", "early")
        await handle.signal("other", "for nobody")
        await clock.advance(10.1)
        assert await handle.result() == "early"


@pytest.mark.invariant("I14")
async def test_signals_of_one_sender_keep_their_order(place: str | Store) -> None:
    """Also across a restart in between, which loses none of them."""
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 100, id="one")
        for number in range(50):
            await handle.signal("word", f"{number}")
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 100, id="one")
        for number in range(50, 100):
            await handle.signal("word", f"{number}")
        assert await handle.result() == [f"{number}" for number in range(100)]


async def test_signals_of_many_senders_all_arrive(place: str | Store) -> None:
    """Sent at the same time, each is received once, each sender's in order."""
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 100)

        async def send(sender: int) -> None:
            for number in range(10):
                await handle.signal("word", f"{sender} {number}")

        await asyncio.gather(*(send(sender) for sender in range(10)))
        received = await handle.result()
    for sender in range(10):
        mine = [word for word in received if word.startswith(f"{sender} ")]
        assert mine == [f"{sender} {number}" for number in range(10)]


async def test_an_ended_workflow_takes_no_signal(place: str | Store) -> None:
    """Its log does not grow any more."""
    async with Engine(place, workflows=[buy]) as engine:
        handle = await engine.start(buy, "tea", id="one")
        await handle.result()
        before = await handle.history()
        with pytest.raises(WorkflowClosedError, match="is completed and takes no signal 'word'"):
            await handle.signal("word", "late")
        assert await handle.history() == before


async def test_a_parked_workflow_takes_no_signal(place: str | Store) -> None:
    """Its log stays as it is; the sender hears why."""
    async with Engine(place, workflows=[misuse]) as engine:
        handle = await engine.start(misuse, id="one")
        with pytest.raises(WorkflowParkedError):
            await handle.result()
        before = await handle.history()
        with pytest.raises(WorkflowParkedError, match="signal 'word' was not taken"):
            await handle.signal("word", "late")
        assert await handle.history() == before


async def test_a_signal_that_cannot_be_written_is_refused(place: str | Store) -> None:
    """Its payload or its name; the workflow does not notice."""
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 1)
        for name, payload in (("word", object()), ("word", "\ud800"), ("\ud800", "word")):
            with pytest.raises(PayloadError):
                await handle.signal(name, payload)
        await handle.signal("word", "fine")
        assert await handle.result() == ["fine"]


async def test_a_signal_of_another_type_is_an_error_in_the_workflow(place: str | Store) -> None:
    """The sender could not know; the code may catch it, with the path to the field."""

    @workflow
    async def picky() -> str:
        try:
            await receive("order", Receipt)
        except PayloadError as error:
            return f"{error.where}: {error.problem}"
        return "fine"

    async with Engine(place, workflows=[picky]) as engine:
        handle = await engine.start(picky)
        await handle.signal("order", {"order": 7})
        assert "signal 'order'" in await handle.result()
        assert "$.order" in await handle.result()


async def test_a_sender_that_is_cancelled_disturbs_nobody(place: str | Store) -> None:
    """Its signal may arrive or not; the workflow goes on with the next."""
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 1)
        for turns in range(6):
            sender = asyncio.create_task(handle.signal("other", "word"))
            for _ in range(turns):
                await asyncio.sleep(0)
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        await handle.signal("word", "fine")
        assert await handle.result() == ["fine"]


# history and events


@pytest.mark.invariant("I4")
async def test_history_is_what_has_happened(place: str | Store) -> None:
    """Numbered from 1 without a gap, each under the id of its workflow."""
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 1, id="one")
        await handle.signal("word", "go")
        await handle.result()
        history = await handle.history()
    assert [type(one.event) for one in history] == [
        WorkflowStarted,
        SignalReceived,
        WorkflowCompleted,
    ]
    assert [one.seq for one in history] == [1, 2, 3]
    assert {one.stream for one in history} == {"one"}


async def test_events_are_followed_to_the_last(place: str | Store) -> None:
    """By several at once, from the beginning or from a place in the middle, none left out."""

    async def follow(handle: WorkflowHandle[Any], after: int) -> list[int]:
        return [recorded.seq async for recorded in handle.events(after)]

    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 20)
        followers = [asyncio.create_task(follow(handle, after)) for after in (0, 0, 5, 21)]
        for number in range(20):
            await handle.signal("word", f"{number}")
        for follower, after in zip(followers, (0, 0, 5, 21), strict=True):
            assert await follower == list(range(after + 1, 23))
        assert await follow(handle, 0) == list(range(1, 23))
        assert await follow(handle, 22) == []


async def test_following_ends_with_the_engine(place: str | Store, reached: Reached) -> None:
    """The next engine's handle goes on after what was seen."""
    seen: list[int] = []
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 2, id="one")
        first_two = asyncio.Event()

        async def follow() -> None:
            async for recorded in handle.events():
                seen.append(recorded.seq)
                if len(seen) == 2:
                    first_two.set()

        following = asyncio.create_task(follow())
        await handle.signal("word", "a")
        await first_two.wait()
    await following
    assert seen == [1, 2]
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 2, id="one")
        await handle.signal("word", "b")
        seen += [recorded.seq async for recorded in handle.events(after=seen[-1])]
    assert seen == [1, 2, 3, 4]


async def test_a_follower_may_leave_at_any_time(place: str | Store) -> None:
    """Nothing of it is kept."""
    async with Engine(place, workflows=[collect]) as engine:
        handle = await engine.start(collect, 1)
        events = handle.events()
        async for _ in events:
            break
        await events.aclose()  # type: ignore[attr-defined]
        assert engine._services._followers == {}
