"""Attempts: time-outs, retries, what a step can know of itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DefinitionError,
    Engine,
    Retry,
    StepTimeoutError,
    WorkflowFailedError,
    current_step,
    step,
    workflow,
)
from beamflow.engine.attempt import GRACE_S
from beamflow.events import (
    StepCompleted,
    StepFailed,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow import WorkflowHandle
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock

    Reached = Callable[..., Awaitable[None]]


async def failures_of(handle: WorkflowHandle[Any]) -> list[StepFailed]:
    events = [recorded.event for recorded in await handle.history()]
    return [event for event in events if isinstance(event, StepFailed)]


# time-outs


async def test_an_attempt_takes_no_longer_than_its_timeout(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """It is cancelled by the engine's clock and has failed with `StepTimeoutError`."""
    cancelled: list[float] = []

    @step(timeout=10)
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(clock.monotonic())

    @workflow
    async def patient() -> str:
        try:
            await hang()
        except StepTimeoutError as error:
            return f"{error.step} {error.timeout_s:g}"
        return "in time"

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient)
        await clock.advance(9.9)
        assert cancelled == []
        await clock.advance(0.2)
        assert await handle.result() == "hang 10"
        assert cancelled == [10]


async def test_a_timeout_bounds_each_attempt_and_is_retried(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The second attempt has the whole time again."""

    @step(timeout=10, retry=Retry(max_attempts=2, initial=1, jitter=0))
    async def slow_at_first() -> int:
        await clock.sleep(11 if current_step().attempt == 1 else 9)
        return current_step().attempt

    @workflow
    async def patient() -> int:
        return await slow_at_first()

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient)
        await clock.advance(10 + 1 + 8.9)
        (failure,) = await failures_of(handle)
        assert failure.error.type == "beamflow.errors.StepTimeoutError"
        await clock.advance(0.2)
        assert await handle.result() == 2


async def test_a_timeout_error_of_the_bodys_own_is_no_timeout_of_the_step(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """It reaches the workflow as what it is."""

    @step(timeout=10)
    async def gives_up() -> None:
        raise TimeoutError("the bank does not answer")

    @workflow
    async def patient() -> str:
        try:
            await gives_up()
        except TimeoutError as error:
            return f"{type(error).__name__}: {error}"
        return "in time"

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient)
        assert await handle.result() == "TimeoutError: the bank does not answer"


async def test_a_body_that_ends_by_itself_after_its_timeout_counts(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """What it did is known: a result, or an error of its own."""

    @step(timeout=10)
    async def finishes() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await clock.sleep(GRACE_S - 1)
        return "done after all"

    @step(timeout=10)
    async def breaks() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("in the clean-up")

    @workflow
    async def patient() -> list[str]:
        said = await asyncio.gather(finishes(), breaks(), return_exceptions=True)
        return [str(one) for one in said]

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient)
        await clock.advance(10 + GRACE_S)
        assert await handle.result() == ["done after all", "in the clean-up"]


# retries


@pytest.mark.invariant("I18")
async def test_attempts_and_the_time_of_the_next_survive_a_restart(
    memory: MemoryStore, clock: ManualClock, reached: Reached
) -> None:
    """The counter goes on, the delay is not shortened, and the key of the effect stays the same."""
    attempts: list[tuple[int, str, float]] = []

    @step(retry=Retry(max_attempts=3, initial=100, factor=2, max=1000, jitter=0))
    async def flaky() -> int:
        info = current_step()
        attempts.append((info.attempt, info.idempotency_key, clock.monotonic()))
        if info.attempt < 3:
            raise ConnectionError("away")
        return info.attempt

    @workflow
    async def patient() -> int:
        return await flaky()

    for _ in range(3):
        async with Engine(memory, workflows=[patient], clock=clock) as engine:
            handle = await engine.start(patient, id="one")
            await reached(handle, StepFailed)
            await clock.advance(40)
    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient, id="one")
        await clock.advance(179)
        assert len(attempts) == 2
        await clock.advance(2)
        assert await handle.result() == 3
        (first, second) = await failures_of(handle)
    assert first.retry_at == 1_700_000_100_000_000
    assert second.retry_at == second.started_at + 200_000_000
    assert [(number, key, round(at)) for number, key, at in attempts] == [
        (1, "one/1", 0),
        (2, "one/1", 100),
        (3, "one/1", 300),
    ]


async def test_a_retry_that_was_due_while_nobody_ran_is_made_at_once(
    memory: MemoryStore, clock: ManualClock, reached: Reached
) -> None:
    """Downtime counts as waiting."""

    @step(retry=Retry(max_attempts=2, initial=100, jitter=0))
    async def flaky() -> int:
        if current_step().attempt == 1:
            raise ConnectionError("away")
        return current_step().attempt

    @workflow
    async def patient() -> int:
        return await flaky()

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        await reached(await engine.start(patient, id="one"), StepFailed)
    await clock.advance(1000)
    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        assert await engine.handle("one").result() == 2


@pytest.mark.invariant("I18")
async def test_an_error_to_give_up_on_is_final(place: str | Store) -> None:
    """The other attempts are not made, and the arguments are kept with the failure."""
    calls: list[int] = []

    @step(retry=Retry(max_attempts=5, initial=0, give_up_on=(PermissionError,)))
    async def refused(cents: int) -> None:
        calls.append(cents)
        raise PermissionError("card stolen")

    @workflow
    async def pay() -> str:
        try:
            await refused(500)
        except PermissionError as error:
            return str(error)
        return "paid"

    async with Engine(place, workflows=[pay]) as engine:
        handle = await engine.start(pay)
        assert await handle.result() == "card stolen"
        (failure,) = await failures_of(handle)
    assert calls == [500]
    assert (failure.retry_at, bytes(failure.input)) == (None, b"[500]")


async def test_what_cannot_be_encoded_is_not_tried_again(place: str | Store) -> None:
    """The next result would be no better."""
    calls: list[int] = []

    @step(retry=Retry(max_attempts=5, initial=0))
    async def wrong() -> Any:
        calls.append(1)
        return object()

    @workflow
    async def try_it() -> None:
        await wrong()

    async with Engine(place, workflows=[try_it]) as engine:
        with pytest.raises(WorkflowFailedError, match="PayloadError") as caught:
            await (await engine.start(try_it)).result()
    assert caught.value.step == "wrong"
    assert calls == [1]


@pytest.mark.invariant("I18")
async def test_attempts_that_are_used_up_fail_for_good(place: str | Store) -> None:
    """With the last error, and the number of attempts in the dead letter."""

    @step(retry=Retry(max_attempts=3, initial=0))
    async def broken() -> None:
        raise ConnectionError(f"attempt {current_step().attempt}")

    @workflow
    async def try_it() -> None:
        await broken()

    async with Engine(place, workflows=[try_it]) as engine:
        handle = await engine.start(try_it, id="one")
        with pytest.raises(WorkflowFailedError, match="attempt 3"):
            await handle.result()
        assert [event.attempt for event in await failures_of(handle)] == [1, 2, 3]
        letter = await engine.dead_letters.show("one")
    assert (letter.step, letter.attempts) == ("broken", 3)


async def test_jitter_comes_from_the_random_that_was_handed_in(
    memory: MemoryStore, clock: ManualClock, reached: Reached
) -> None:
    """So a test can know it."""
    expected, given = Random(7), Random(7)

    @step(retry=Retry(max_attempts=2, initial=10, jitter=0.5))
    async def broken() -> None:
        raise ConnectionError

    @workflow
    async def try_it() -> None:
        await broken()

    async with Engine(memory, workflows=[try_it], clock=clock, random=given) as engine:
        handle = await engine.start(try_it, id="one")
        await reached(handle, StepFailed)
        (failure,) = await failures_of(handle)
    assert failure.retry_at is not None
    delay_us = failure.retry_at - 1_700_000_000_000_000
    assert delay_us == round(10e6 * (1 + 0.5 * expected.random()))


# what a step knows


async def test_a_step_knows_itself(place: str | Store) -> None:
    """Each call of one step has a key of its own; a compensation's differs from its step's."""
    seen: list[tuple[str, str, int, int, str]] = []

    def note() -> None:
        info = current_step()
        seen.append((info.workflow_id, info.step, info.op, info.attempt, info.idempotency_key))

    @step
    async def book(what: str) -> None:
        note()

    @book.compensation
    def unbook(_none: None, what: str) -> None:
        note()

    @workflow
    async def trip() -> None:
        await book("flight")
        await book("flight")
        raise ValueError

    async with Engine(place, workflows=[trip]) as engine:
        with pytest.raises(WorkflowFailedError):
            await (await engine.start(trip, id="w")).result()
    assert seen == [
        ("w", "book", 1, 1, "w/1"),
        ("w", "book", 2, 1, "w/2"),
        ("w", "unbook", 2, 1, "w/2/compensation"),
        ("w", "unbook", 1, 1, "w/1/compensation"),
    ]


async def test_a_cancellation_of_the_steps_own_is_a_failure(place: str | Store) -> None:
    """Nobody has cancelled the step: a body that raises CancelledError has failed."""

    @step
    async def odd() -> None:
        raise asyncio.CancelledError("mine")

    @workflow
    async def try_it() -> None:
        await odd()

    async with Engine(place, workflows=[try_it]) as engine:
        with pytest.raises(WorkflowFailedError, match="CancelledError") as caught:
            await (await engine.start(try_it)).result()
    assert caught.value.step == "odd"


async def test_a_step_started_in_time_is_recorded_with_its_times(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """When the attempt began stands in the event; when it ended is when it was recorded."""

    @step
    async def slow() -> None:
        await clock.sleep(3)

    @workflow
    async def try_it() -> None:
        await slow()

    async with Engine(memory, workflows=[try_it], clock=clock) as engine:
        handle = await engine.start(try_it)
        await clock.advance(3)
        await handle.result()
        (recorded,) = [
            one for one in await handle.history() if isinstance(one.event, StepCompleted)
        ]
    assert isinstance(recorded.event, StepCompleted)
    assert recorded.time - recorded.event.started_at == 3_000_000


# deadlines


async def test_a_deadline_bounds_all_attempts_together(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The attempt under way is cut off at it; the error says which limit it was."""
    began: list[float] = []

    @step(deadline=30, timeout=12, retry=Retry(max_attempts=9, initial=1, factor=1, jitter=0))
    async def slow() -> None:
        began.append(clock.monotonic())
        await asyncio.Event().wait()

    @workflow
    async def patient() -> str:
        await asyncio.sleep(100)
        try:
            await slow()
        except StepTimeoutError as error:
            return f"{error.limit} {error.timeout_s:g}: {error}"
        return "in time"

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient)
        await clock.advance(129.9)
        assert [round(at) for at in began] == [100, 113, 126]
        assert len(await failures_of(handle)) == 2
        await clock.advance(0.2)
        assert (await handle.result()).startswith(
            "deadline 30: step 'slow' was not done 30 s after it was asked for"
        )
        assert (await failures_of(handle))[-1].retry_at is None


async def test_an_attempt_that_would_begin_after_the_deadline_is_not_waited_for(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The step has failed at once, with what the last attempt failed with."""

    @step(deadline=30, retry=Retry(max_attempts=9, initial=40, jitter=0))
    async def refused() -> None:
        raise ConnectionError("away")

    @workflow
    async def patient() -> None:
        await refused()

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        with pytest.raises(WorkflowFailedError, match="last attempt failed with builtins.Conn"):
            await (await engine.start(patient)).result()
    assert clock.monotonic() == 0


async def test_an_error_that_is_final_anyway_stays_itself(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """A deadline does not hide why a step has failed for good."""

    @step(deadline=30)
    async def refused() -> None:
        raise ConnectionError("away")

    @workflow
    async def patient() -> str:
        try:
            await refused()
        except ConnectionError as error:
            return str(error)
        return ""

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        assert await (await engine.start(patient)).result() == "away"


async def test_a_deadline_survives_restarts(
    memory: MemoryStore, clock: ManualClock, reached: Reached
) -> None:
    """Downtime counts: what is late when the process comes back is not begun again."""
    began: list[float] = []

    @step(deadline=30, retry=Retry(max_attempts=9, initial=1, jitter=0))
    async def slow() -> None:
        began.append(clock.monotonic())
        if len(began) == 1:
            raise ConnectionError
        await asyncio.Event().wait()

    @workflow
    async def patient() -> str:
        try:
            await slow()
        except StepTimeoutError as error:
            return error.limit
        return "in time"

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        await reached(await engine.start(patient, id="one"), StepFailed)
    await clock.advance(20)
    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        await clock.advance(1)
    assert [round(at) for at in began] == [0, 20]
    await clock.advance(10)
    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = engine.handle("one")
        assert await handle.result() == "deadline"
        history = await handle.history()
    assert len(began) == 2
    assert history[-1].time == 1_700_000_031_000_000


@pytest.mark.parametrize("limit", ["timeout", "deadline", "heartbeat_timeout"])
def test_a_time_limit_that_makes_no_sense_is_refused(limit: str) -> None:
    with pytest.raises(DefinitionError, match=f"{limit}=-1 is refused"):
        step(**{limit: -1})(test_a_time_limit_that_makes_no_sense_is_refused)


# errors that are no Exception


class Own(BaseException):
    """An author's own."""


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), Own("own")])
@pytest.mark.parametrize("place", ["loop", "thread"])
async def test_a_base_exception_of_a_step_is_its_failure(
    memory: MemoryStore, error: BaseException, place: str
) -> None:
    """It is not retried unless `retry_on` says so, and no other workflow hears of it."""
    calls: list[int] = []

    def act() -> None:
        calls.append(1)
        raise error

    async def act_on_loop() -> None:
        act()

    bad = step(name="bad", retry=Retry(max_attempts=5, initial=0))(
        act if place == "thread" else act_on_loop
    )

    @workflow
    async def try_it() -> None:
        await bad()

    @workflow
    async def other() -> str:
        await asyncio.sleep(0.01)
        return "well"

    async with Engine(memory, workflows=[try_it, other]) as engine:
        well = await engine.start(other)
        with pytest.raises(WorkflowFailedError, match=type(error).__name__) as caught:
            await (await engine.start(try_it)).result()
        assert await well.result() == "well"
    assert (caught.value.step, calls) == ("bad", [1])


async def test_a_keyboard_interrupt_in_a_thread_is_the_steps_own(memory: MemoryStore) -> None:
    """Ctrl-C is raised in the main thread only."""

    @step
    def bad() -> None:
        raise KeyboardInterrupt

    @workflow
    async def try_it() -> None:
        await bad()

    async with Engine(memory, workflows=[try_it]) as engine:
        with pytest.raises(WorkflowFailedError, match="KeyboardInterrupt"):
            await (await engine.start(try_it)).result()
