"""Parking: what stands still, why, and how it goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    BeamflowError,
    DeadLetterReason,
    Engine,
    PayloadError,
    WorkflowParkedError,
    WorkflowState,
    on_signal,
    on_update,
    receive,
    step,
    until,
    workflow,
)
from beamflow.engine import workflow_loop
from beamflow.engine.letterboxes import Letterboxes
from beamflow.events import (
    DeadLettered,
    DeadLetterRetried,
    Recorded,
    StepCompleted,
)
from beamflow.model.codec import encode_event
from beamflow.stores.memory import MemoryStore
from supervision.testing import settle
from tests.beamflow.engine.outage import fails, healthy, letters_log, parks, reserve, sell, undo_me

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from beamflow import Workflow
    from beamflow.model.events import Event
    from beamflow.stores.base import Store, Summary
    from supervision.testing import ManualClock


@pytest.fixture(autouse=True)
def _nothing_works() -> None:
    healthy.clear()


def versions() -> dict[str, tuple[Workflow[..., Any], Workflow[..., Any] | None, DeadLetterReason]]:
    """Give, for each cause, the code that began, the code that cannot go on, and the reason."""

    @step
    async def first(what: str) -> str:
        return what

    @step(name="first")
    async def first_with_a_number(what: str) -> int:
        return len(what)

    @workflow(name="w")
    async def good(what: str) -> str:
        said = await first(what)
        word: str = await receive("word", str)
        return f"{said} {word}"

    @workflow(name="w")
    async def other_arguments(what: str) -> str:
        return await first(what + "!")

    @workflow(name="w")
    async def other_type(what: str) -> str:
        return str(await first_with_a_number(what))

    @workflow(name="w")
    async def other_input(what: int) -> str:
        return str(what)

    @workflow(name="w")
    async def misuse(what: str) -> str:
        await first(what)
        return await asyncio.to_thread(str, what)

    @workflow(name="w")
    async def misuse_in_a_group(what: str) -> str:
        await first(what)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1000))
            group.create_task(asyncio.to_thread(str, what))
        return "never"

    @workflow(name="w")
    async def spins(what: str) -> str:
        await first(what)
        while True:  # noqa: ASYNC110 - wrong on purpose
            await asyncio.sleep(0)

    @workflow(name="w")
    async def odd_result(what: str) -> Any:
        await first(what)
        return object()

    @workflow(name="w")
    async def other_result(what: str) -> int:
        said: Any = await first(what)
        return said  # type: ignore[no-any-return]

    return {
        "nondeterminism": (good, other_arguments, DeadLetterReason.NONDETERMINISM),
        "code gone": (good, None, DeadLetterReason.CODE_GONE),
        "undecodable step": (good, other_type, DeadLetterReason.UNDECODABLE),
        "undecodable input": (good, other_input, DeadLetterReason.UNDECODABLE),
        "host loop": (good, misuse, DeadLetterReason.HOST_LOOP),
        "host loop in a group": (good, misuse_in_a_group, DeadLetterReason.HOST_LOOP),
        "spinning": (good, spins, DeadLetterReason.HOST_LOOP),
        "result no JSON": (good, odd_result, DeadLetterReason.UNDECODABLE),
        "result of another type": (good, other_result, DeadLetterReason.UNDECODABLE),
    }


@pytest.mark.invariant("I27")
@pytest.mark.invariant("I29")
@pytest.mark.parametrize("cause", versions())
async def test_code_that_does_not_fit_its_log_parks_and_goes_on_once_it_does(
    memory: MemoryStore, clock: ManualClock, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is untouched meanwhile, there is one letter, and a mended engine goes on by itself."""
    monkeypatch.setattr(workflow_loop, "_CALLBACKS_MAX", 1_000)
    good, bad, reason = versions()[cause]
    async with Engine(memory, workflows=[good], clock=clock) as engine:
        handle = await engine.start(good, "tea", id="one")
        await settle()
        before: list[Recorded] = await handle.history()
        assert len(before) == 2
    for _ in range(2):
        async with Engine(memory, workflows=[bad] if bad else [], clock=clock) as engine:
            handle = engine.handle("one")
            await parks(handle)
            assert (await handle.status()).state is WorkflowState.PARKED
            assert await handle.history() == before
            (letter,) = await engine.dead_letters.list()
            assert (letter.workflow_id, letter.reason) == ("one", reason)
            assert await engine.dead_letters.list(workflow="w") == [letter]
            with pytest.raises(WorkflowParkedError) as parked:
                await handle.result()
            assert str(parked.value).count("restart the engine") == 1
            assert await engine.dead_letters.retry("one") == "one"
            await settle()
            assert await engine.dead_letters.list() == [letter]
            await parks(handle)
            assert await letters_log(engine) == [DeadLettered]
    async with Engine(memory, workflows=[good], clock=clock) as engine:
        await settle()
        assert await engine.dead_letters.list() == []
        handle = engine.handle("one")
        assert (await handle.status()).state is WorkflowState.RUNNING
        assert await handle.history() == before
        await handle.signal("word", "time")
        assert await handle.result() == "tea time"
        assert await letters_log(engine) == [DeadLettered, DeadLetterRetried]


@workflow(name="counts")
async def mended(start: int) -> int:
    """Adds what it is told, by a signal or an update."""
    total = await weigh(start)
    told: list[int] = []
    on_update("add", told.append)
    on_signal("add", told.append)
    await until(lambda: bool(told))
    return total + told[0]


@workflow(name="counts")
async def spoilt(start: int) -> int:
    return await weigh(start + 1)


@step
async def weigh(start: int) -> int:
    return start


async def _starts_it_again(engine: Engine) -> None:
    handle = await engine.start(mended, 4, id="one")
    await handle.signal("add", 3)


async def _sends_a_signal(engine: Engine) -> None:
    await engine.handle("one").signal("add", 3)


async def _asks_for_an_update(engine: Engine) -> None:
    await engine.handle("one").update("add", 3)


async def _pauses_it(engine: Engine) -> None:
    await engine.handle("one").pause()
    await engine.handle("one").resume()
    await engine.handle("one").signal("add", 3)


async def _waits_for_the_result(engine: Engine) -> None:
    """Before anybody else has come."""
    result = asyncio.create_task(engine.handle("one").result())
    await asyncio.sleep(0)
    await engine.handle("one").signal("add", 3)
    assert await result == 7


async def _starts_it_and_waits(engine: Engine) -> None:
    """As a program does that knows nothing of what happened."""
    handle = await engine.start(mended, 4, id="one")
    result = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    await handle.signal("add", 3)
    assert await result == 7


@pytest.mark.invariant("I29")
@pytest.mark.parametrize(
    "comes",
    [
        _starts_it_again,
        _sends_a_signal,
        _asks_for_an_update,
        _pauses_it,
        _waits_for_the_result,
        _starts_it_and_waits,
    ],
)
async def test_whoever_comes_first_to_mended_code_finds_it_mended(
    place: str | Store,
    reached: Callable[..., Awaitable[None]],
    comes: Callable[[Engine], Awaitable[None]],
) -> None:
    """Recovery may have a long way to those that are parked; nobody is told what held before."""
    async with Engine(place, workflows=[mended]) as engine:
        handle = await engine.start(mended, 4, id="one")
        await reached(handle, StepCompleted)
    async with Engine(place, workflows=[spoilt]) as engine:
        await parks(engine.handle("one"))
    async with Engine(place, workflows=[mended]) as engine:
        await comes(engine)
        assert await engine.handle("one").result() == 7
        assert await engine.dead_letters.list() == []
        assert await letters_log(engine) == [DeadLettered, DeadLetterRetried]


class Slow(MemoryStore):
    """Tells how a workflow stood some turns ago."""

    turns = 0

    async def summary(self, workflow_id: str) -> Summary | None:
        found = await super().summary(workflow_id)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return found


@pytest.mark.invariant("I29")
async def test_whoever_comes_beside_recovery_finds_mended_code_mended(clock: ManualClock) -> None:
    """However long it has looked at the index, while recovery came to the workflow and went on."""
    for turns in range(60):
        store = Slow(clock=lambda: int(clock.now() * 1_000_000))
        async with Engine(store, workflows=[mended]) as engine:
            await engine.start(mended, 4, id="one")
        async with Engine(store, workflows=[spoilt]) as engine:
            await parks(engine.handle("one"))
        store.turns = turns
        async with Engine(store, workflows=[mended]) as engine:
            await engine.handle("one").signal("add", 3)
            assert await engine.handle("one").result() == 7


@pytest.mark.parametrize(
    "cause", ["host loop", "host loop in a group", "spinning", "result no JSON"]
)
async def test_code_at_fault_is_parked_and_not_compensated(
    memory: MemoryStore, clock: ManualClock, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its first life, too: what the steps did stays done, and mended code goes on from there."""
    monkeypatch.setattr(workflow_loop, "_CALLBACKS_MAX", 1_000)
    good, bad, reason = versions()[cause]
    assert bad is not None
    async with Engine(memory, workflows=[bad], clock=clock) as engine:
        handle = await engine.start(bad, "tea", id="one")
        await parks(handle)
        assert (await engine.dead_letters.show("one")).reason is reason
        before = await handle.history()
        assert len(before) == 2
    async with Engine(memory, workflows=[good], clock=clock) as engine:
        await settle()
        await engine.handle("one").signal("word", "time")
        assert await engine.handle("one").result() == "tea time"
        assert (await engine.handle("one").history())[:2] == before


async def test_a_timer_survives_code_that_misuses_its_loop(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The other branches were cut off, but nothing of that is in the log: mended code has them."""
    bad = True

    @workflow
    async def branches() -> str:
        async def wrong() -> None:
            word: str = await receive("word", str)
            if bad:
                await asyncio.to_thread(str, word)

        await asyncio.gather(asyncio.sleep(1000), reserve("room"), wrong())
        return "all done"

    async with Engine(memory, workflows=[branches], clock=clock) as engine:
        handle = await engine.start(branches, id="one")
        await settle()
        before = await handle.history()
        await handle.signal("word", "go")
        await parks(handle)
        assert len(await handle.history()) == len(before) + 1
    bad = False
    async with Engine(memory, workflows=[branches], clock=clock, idle_after=None) as engine:
        await clock.advance(999)
        handle = engine.handle("one")
        assert (await handle.status()).waiting_for == ("timer",)
        await clock.advance(1.1)
        assert await handle.result() == "all done"


async def test_code_that_keeps_a_timer_its_log_gave_up_is_parked(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """It would wait for ever otherwise."""
    gives_up = True

    @workflow
    async def alarm() -> None:
        timer = asyncio.create_task(asyncio.sleep(1000))
        await receive("word", str)
        if gives_up:
            timer.cancel()
        await receive("end", str)

    async with Engine(memory, workflows=[alarm], clock=clock) as engine:
        handle = await engine.start(alarm, id="one")
        await handle.signal("word", "go")
        await settle()
    gives_up = False
    async with Engine(memory, workflows=[alarm], clock=clock) as engine:
        await parks(engine.handle("one"))
        letter = await engine.dead_letters.show("one")
        assert letter.reason is DeadLetterReason.NONDETERMINISM


async def test_a_payload_error_of_an_argument_is_the_codes_to_handle(place: str | Store) -> None:
    """It could be caught; unhandled, the workflow fails like by any error of its own."""
    unwritable: Any = object()

    @workflow
    async def careless() -> None:
        await reserve(unwritable)

    @workflow
    async def careful() -> str:
        try:
            await reserve(unwritable)
        except BeamflowError as error:
            return type(error).__name__
        return "written"

    async with Engine(place, workflows=[careless, careful]) as engine:
        assert await (await engine.start(careful)).result() == "PayloadError"
        await fails(await engine.start(careless, id="one"))
        letter = await engine.dead_letters.show("one")
        assert letter.reason is DeadLetterReason.WORKFLOW_ERROR


async def test_a_host_loop_error_that_is_handled_is_no_matter(place: str | Store) -> None:
    """The code has dealt with it."""

    @workflow
    async def careful() -> str:
        try:
            await asyncio.to_thread(int)
        except RuntimeError as error:
            return type(error).__name__
        return "done"

    async with Engine(place, workflows=[careful]) as engine:
        assert await (await engine.start(careful)).result() == "HostLoopError"


async def test_a_parked_workflow_stands_still_whoever_comes(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Timers pass, signals are refused, the same start again gives a handle and wakes nothing."""

    @workflow
    async def slow(what: str) -> None:
        await asyncio.gather(asyncio.sleep(10), undo_me.function(what))

    async with Engine(memory, workflows=[slow], clock=clock) as engine:
        handle = await engine.start(slow, "room", id="one")
        await clock.advance(1)
        await parks(handle)
        before = await handle.history()
        healthy.add("room")
        again = await engine.start(slow, "room", id="one")
        await clock.advance(100)
        with pytest.raises(WorkflowParkedError):
            await again.signal("word")
        await parks(again)
        assert await again.history() == before
        assert (await again.status()).state is WorkflowState.PARKED
    async with Engine(memory, workflows=[slow], clock=clock) as engine:
        again = await engine.start(slow, "room", id="one")
        await clock.advance(100)
        await parks(again)
        assert await again.history() == before
        assert await engine.dead_letters.retry("one") == "one"
        await fails(again)


async def test_a_letter_can_be_retried_as_soon_as_it_can_be_seen(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Although the actor that is being parked has not ended yet."""
    for turns in range(12):
        healthy.clear()
        name = f"room {turns}"
        async with Engine(memory, workflows=[undo_me], clock=clock) as engine:
            handle = await engine.start(undo_me, name, id=name)
            queue = engine.dead_letters
            while len(await queue.list()) == turns:  # noqa: ASYNC110 - turn by turn
                await asyncio.sleep(0)
            healthy.add(name)
            for _ in range(turns):
                await asyncio.sleep(0)
            assert await engine.dead_letters.retry(name) == name
            await settle()
            assert (await handle.status()).state is WorkflowState.FAILED


async def test_a_workflow_that_crashes_its_actor_again_and_again_is_parked(
    memory: MemoryStore, clock: ManualClock, crashing: Callable[[str, int], None]
) -> None:
    """As poison, without hurting others; a retry gives it new chances, a restart alone does not."""
    async with Engine(memory, workflows=[sell, undo_me], clock=clock) as engine:
        healthy.update({"tea", "room"})
        crashing("one", 3)
        await parks(await engine.start(sell, "tea", 1, id="one"))
        letter = await engine.dead_letters.show("one")
        assert letter.reason is DeadLetterReason.POISON
        assert "crashed 3 times in a row" in letter.error.message
        assert await (await engine.start(sell, "tea", 2, id="two")).result() == "2 shipped"
    async with Engine(memory, workflows=[sell], clock=clock) as engine:
        before = await engine.handle("one").history()
        await parks(engine.handle("one"))
        await parks(await engine.start(sell, "tea", 1, id="one"))
        await settle()
        assert await engine.handle("one").history() == before
        assert (await engine.handle("one").status()).state is WorkflowState.PARKED
        assert await engine.dead_letters.retry("one") == "one"
        assert await engine.handle("one").result() == "1 shipped"
        assert await engine.dead_letters.list() == []


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Have the actor of a workflow crash so many times when it acts."""
    from beamflow.engine.workflow_actor import WorkflowActor

    left: dict[str, int] = {}
    original = WorkflowActor._act

    def act(self: WorkflowActor, *arguments: Any) -> None:
        if left.get(self.workflow_id, 0) > 0:
            left[self.workflow_id] -= 1
            raise LookupError("a bug of the engine")
        original(self, *arguments)

    monkeypatch.setattr(WorkflowActor, "_act", act)

    def crash(workflow_id: str, times: int) -> None:
        left[workflow_id] = times

    return crash


async def test_a_message_that_has_waited_moves_nobody_who_was_parked_meanwhile(
    clock: ManualClock,
) -> None:
    """It stood in line behind the one by which the workflow was parked; its sender is told."""

    class Small(MemoryStore):
        async def append(
            self, stream: str, expected: int, events: Sequence[Event], **options: Any
        ) -> None:
            if any(len(encode_event(event)) > 1_000 for event in events):
                raise PayloadError("a signal", "it is too large for this store")
            await super().append(stream, expected, events, **options)

    @workflow
    async def hears() -> str:
        return await receive("word", str)

    async with Engine(Small(clock=lambda: 0), workflows=[hears], clock=clock) as engine:
        engine._services.letterboxes = Letterboxes(1)
        handle = await engine.start(hears, id="one")
        said = [handle.signal("word", "x" * 2_000), handle.signal("word", "fine")]
        told = await asyncio.gather(*said, return_exceptions=True)
        assert [type(each) for each in told] == [WorkflowParkedError, WorkflowParkedError]
        assert len(await engine.dead_letters.list()) == 1
        assert (await handle.status()).state is WorkflowState.PARKED
        await engine.dead_letters.retry("one")
        await handle.signal("word", "fine")
        assert await handle.result() == "fine"
        assert await engine.dead_letters.list() == []
