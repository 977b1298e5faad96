"""Dead letters: what lands there, and the ways back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    BeamflowError,
    DeadLetterError,
    DeadLetterReason,
    DeadLetterState,
    Engine,
    Retry,
    UnknownWorkflowError,
    WorkflowExistsError,
    WorkflowFailedError,
    WorkflowParkedError,
    WorkflowState,
    receive,
    step,
    workflow,
)
from beamflow.engine import workflow_loop
from beamflow.events import (
    DeadLettered,
    DeadLetterResolved,
    DeadLetterRetried,
    Recorded,
    WorkflowStarted,
)
from beamflow.model.ids import DEAD_LETTERS
from supervision.testing import settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from beamflow import Workflow, WorkflowHandle
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


healthy: set[str] = set()
"""What works by now."""


@pytest.fixture(autouse=True)
def _nothing_works() -> None:
    healthy.clear()


@step(retry=Retry(max_attempts=2, initial=0))
async def ship(order: str, pieces: int) -> str:
    if order not in healthy:
        raise ConnectionError(f"no way for {order}")
    return f"{pieces} shipped"


@workflow
async def sell(order: str, pieces: int) -> str:
    return await ship(order, pieces)


@workflow
async def broken(what: str) -> None:
    raise KeyError(what)


@step
async def reserve(what: str) -> None:
    pass


@reserve.compensation(retry=Retry(max_attempts=2, initial=0))
async def release(_none: None, what: str) -> None:
    if what not in healthy:
        raise ConnectionError(f"cannot release {what}")


@workflow
async def undo_me(what: str) -> None:
    await reserve(what)
    raise ValueError("changed my mind")


async def fails(handle: WorkflowHandle[Any]) -> None:
    with pytest.raises(WorkflowFailedError):
        await handle.result()


async def parks(handle: WorkflowHandle[Any]) -> None:
    with pytest.raises(WorkflowParkedError):
        await handle.result()


async def letters_log(engine: Engine) -> list[type]:
    return [type(one.event) for one in await engine._services.store.read(DEAD_LETTERS)]


# what has failed


async def test_a_failed_step_leaves_all_that_is_known_of_it(place: str | Store) -> None:
    """Reason, step, error, attempts, arguments; the same after a restart."""
    for _ in range(2):
        async with Engine(place, workflows=[sell]) as engine:
            await fails(await engine.start(sell, "tea", 3, id="one"))
            letter = await engine.dead_letters.show("one")
            assert [letter] == await engine.dead_letters.list()
            assert (letter.workflow_id, letter.workflow) == ("one", "sell")
            assert (letter.reason, letter.step) == (DeadLetterReason.STEP_FAILED, "ship")
            assert letter.error.type == "builtins.ConnectionError"
            assert letter.error.message == "no way for tea"
            assert (letter.attempts, letter.context) == (2, ["tea", 3])
            assert letter.state is DeadLetterState.OPEN


async def test_an_error_of_the_code_leaves_the_workflows_arguments(place: str | Store) -> None:
    """There is no step to blame."""
    async with Engine(place, workflows=[broken]) as engine:
        await fails(await engine.start(broken, "wheel", id="one"))
        letter = await engine.dead_letters.show("one")
    assert (letter.reason, letter.step) == (DeadLetterReason.WORKFLOW_ERROR, None)
    assert letter.context == ["wheel"]


async def test_letters_are_listed_by_state_and_workflow(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Oldest first, over as many pages as there are."""
    async with Engine(memory, workflows=[sell, broken], clock=clock) as engine:
        for number in range(120):
            await fails(await engine.start(broken, "wheel", id=f"{number:03}"))
            await clock.advance(1)
        await fails(await engine.start(sell, "tea", 1, id="sold"))
        queue = engine.dead_letters
        await queue.resolve("007", "done by hand")
        listed = [letter.workflow_id for letter in await queue.list()]
        assert listed == [f"{number:03}" for number in range(120) if number != 7] + ["sold"]
        assert [one.workflow_id for one in await queue.list(workflow="sell")] == ["sold"]
        (resolved,) = await queue.list(state=DeadLetterState.RESOLVED)
        assert (resolved.workflow_id, resolved.note) == ("007", "done by hand")
        assert len(await queue.list(state=None)) == 121
        assert await queue.list(state=DeadLetterState.RETRIED) == []


async def test_what_has_no_letter_is_a_typed_error(place: str | Store) -> None:
    """For one that works, one that is closed, and one that is nothing."""
    async with Engine(place, workflows=[sell]) as engine:
        healthy.add("tea")
        await (await engine.start(sell, "tea", 1, id="fine")).result()
        for name in ("fine", "nobody"):
            for call in (
                engine.dead_letters.show(name),
                engine.dead_letters.retry(name),
                engine.dead_letters.resolve(name, "?"),
            ):
                with pytest.raises(DeadLetterError, match=f"'{name}' has no"):
                    await call


async def test_a_failed_workflow_is_retried_as_a_new_one(place: str | Store) -> None:
    """With the same input, as ``~1``, then ``~2``; the failed one stays as it is."""
    async with Engine(place, workflows=[sell]) as engine:
        handle = await engine.start(sell, "tea", 3, id="one")
        await fails(handle)
        before = await handle.history()
        assert await engine.dead_letters.retry("one") == "one~1"
        await fails(engine.handle("one~1"))
        healthy.add("tea")
        assert await engine.dead_letters.retry("one~1") == "one~2"
        assert await engine.handle("one~2").result() == "3 shipped"
        assert await handle.history() == before
        started = (await engine.handle("one~2").history())[0].event
        assert isinstance(started, WorkflowStarted)
        assert started.retry_of == "one~1"
        assert await engine.dead_letters.list() == []
        assert (await engine.dead_letters.show("one")).retried_as == "one~1"
        assert (await engine.dead_letters.show("one")).state is DeadLetterState.RETRIED
        with pytest.raises(DeadLetterError):
            await engine.dead_letters.retry("one")


async def test_retries_at_the_same_time_are_one(place: str | Store) -> None:
    """All come to the same new workflow, or hear that the letter is closed."""
    async with Engine(place, workflows=[sell]) as engine:
        await fails(await engine.start(sell, "tea", 3, id="one"))
        healthy.add("tea")
        said = await asyncio.gather(
            *(engine.dead_letters.retry("one") for _ in range(5)), return_exceptions=True
        )
        assert {one for one in said if isinstance(one, str)} == {"one~1"}
        assert all(isinstance(one, str | DeadLetterError) for one in said)
        assert await engine.handle("one~1").result() == "3 shipped"
        assert [one.id async for one in engine.find()] == ["one", "one~1"]
        assert (await letters_log(engine)) == [DeadLetterRetried]


async def test_a_retry_that_was_cut_off_is_done_by_the_next(place: str | Store) -> None:
    """The new workflow was there already; the letter is closed, nothing runs twice."""
    async with Engine(place, workflows=[sell]) as engine:
        await fails(await engine.start(sell, "tea", 3, id="one"))
        healthy.add("tea")
        await (await engine.start(sell, "tea", 3, id="one~1")).result()
        assert await engine.dead_letters.retry("one") == "one~1"
        assert await engine.dead_letters.list() == []


async def test_a_retry_finds_its_id_taken(place: str | Store) -> None:
    """By something else: the letter stays open."""
    async with Engine(place, workflows=[sell]) as engine:
        healthy.add("coffee")
        await (await engine.start(sell, "coffee", 1, id="one~1")).result()
        await fails(await engine.start(sell, "tea", 3, id="one"))
        with pytest.raises(WorkflowExistsError):
            await engine.dead_letters.retry("one")
        assert [one.workflow_id for one in await engine.dead_letters.list()] == ["one"]


async def test_a_failed_workflow_whose_code_is_gone_cannot_be_retried(place: str | Store) -> None:
    """Until the code is back."""
    async with Engine(place, workflows=[sell]) as engine:
        await fails(await engine.start(sell, "tea", 3, id="one"))
    healthy.add("tea")
    async with Engine(place, workflows=[]) as engine:
        with pytest.raises(UnknownWorkflowError):
            await engine.dead_letters.retry("one")
        assert await engine.dead_letters.retry_all() == []
    async with Engine(place, workflows=[sell]) as engine:
        assert await engine.dead_letters.retry("one") == "one~1"


async def test_resolving_closes_a_letter_and_nothing_else(place: str | Store) -> None:
    """With a note; the workflow stays failed, and the letter stays closed after a restart."""
    async with Engine(place, workflows=[sell]) as engine:
        await fails(await engine.start(sell, "tea", 3, id="one"))
        await engine.dead_letters.resolve("one", "told the customer")
        with pytest.raises(DeadLetterError):
            await engine.dead_letters.resolve("one", "again")
    async with Engine(place, workflows=[sell]) as engine:
        letter = await engine.dead_letters.show("one")
        assert (letter.state, letter.note) == (DeadLetterState.RESOLVED, "told the customer")
        assert letter.closed_at is not None
        assert await letters_log(engine) == [DeadLetterResolved]
        assert (await engine.handle("one").status()).state is WorkflowState.FAILED


# many at once


async def test_all_can_be_retried_at_once(place: str | Store) -> None:
    """Or those of one workflow, or of one reason; the ids say under which they go on."""
    async with Engine(place, workflows=[sell, broken, undo_me]) as engine:
        queue = engine.dead_letters
        await fails(await engine.start(sell, "tea", 1, id="tea"))
        await fails(await engine.start(sell, "milk", 2, id="milk"))
        await fails(await engine.start(broken, "wheel", id="wheel"))
        await parks(await engine.start(undo_me, "room", id="room"))
        healthy.update({"tea", "milk", "room"})
        assert await queue.retry_all(reason=DeadLetterReason.COMPENSATION_FAILED) == ["room"]
        await fails(engine.handle("room"))
        assert await queue.retry_all(workflow="sell") == ["tea~1", "milk~1"]
        assert await engine.handle("tea~1").result() == "1 shipped"
        assert await engine.handle("milk~1").result() == "2 shipped"
        assert await queue.retry_all(workflow="sell") == []
        assert sorted(await queue.retry_all()) == ["room~1", "wheel~1"]
        await fails(engine.handle("room~1"))
        await fails(engine.handle("wheel~1"))


async def test_one_that_cannot_be_retried_stops_no_other(place: str | Store) -> None:
    """It keeps its letter."""
    async with Engine(place, workflows=[sell, broken]) as engine:
        await fails(await engine.start(broken, "wheel", id="wheel"))
        await fails(await engine.start(sell, "tea", 1, id="tea"))
    healthy.add("tea")
    async with Engine(place, workflows=[sell]) as engine:
        assert await engine.dead_letters.retry_all() == ["tea~1"]
        assert await engine.handle("tea~1").result() == "1 shipped"
        assert [one.workflow_id for one in await engine.dead_letters.list()] == ["wheel"]


# what stands still


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
    async with Engine(memory, workflows=[branches], clock=clock) as engine:
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
        await settle()
        before = await engine.handle("one").history()
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
            raise AssertionError("a bug of the engine")
        original(self, *arguments)

    monkeypatch.setattr(WorkflowActor, "_act", act)

    def crash(workflow_id: str, times: int) -> None:
        left[workflow_id] = times

    return crash
