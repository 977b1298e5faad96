"""Heartbeats: signs of life of long steps, and how far they were."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    Engine,
    PayloadError,
    Retry,
    StepTimeoutError,
    continue_as_new,
    current_step,
    heartbeat,
    step,
    workflow,
)
from beamflow.events import (
    StepCompleted,
    StepFailed,
    StepHeartbeat,
    WorkflowContinued,
    WorkflowStarted,
)
from supervision.testing import settle
from tests.beamflow.engine.cuts import cut_store

if TYPE_CHECKING:
    from pathlib import Path

    from beamflow import WorkflowHandle
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


async def events_of(handle: WorkflowHandle[Any]) -> list[Any]:
    return [recorded.event for recorded in await handle.history()]


async def test_an_attempt_without_a_heartbeat_is_cut_off_and_made_again(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The time begins again with each one; without a retry the failure names the limit."""
    beats: list[int] = []

    @step(heartbeat_timeout=10, retry=Retry(max_attempts=2, initial=1, jitter=0))
    async def long() -> None:
        for _ in range(3):
            await clock.sleep(8)
            heartbeat()
            beats.append(round(clock.monotonic()))
        await asyncio.Event().wait()

    @workflow
    async def patient() -> str:
        try:
            await long()
        except StepTimeoutError as error:
            return f"{error.limit} {error.timeout_s:g}"
        return "done"

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient)
        await clock.advance(33.9)
        assert beats == [8, 16, 24]
        assert await events_of(handle) == [(await handle.history())[0].event]
        await clock.advance(0.2)
        (_, failure) = await events_of(handle)
        assert failure.error.type == "beamflow.errors.StepTimeoutError"
        assert "no heartbeat for 10 s" in failure.error.message
        await clock.advance(40)
        assert beats == [8, 16, 24, 43, 51, 59]
        assert await handle.result() == "heartbeat_timeout 10"


async def test_the_next_attempt_is_handed_the_last_details(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Also what was not recorded yet when the attempt failed; a heartbeat without details keeps them."""
    begun_at: list[Any] = []

    @step(heartbeat_timeout=100, retry=Retry(max_attempts=3, initial=1, jitter=0))
    async def copy_rows() -> int:
        row = current_step().last_heartbeat or 0
        begun_at.append(row)
        for _ in range(3):
            row += 1
            heartbeat(row)
        heartbeat()
        if row < 9:
            raise ConnectionError
        return row

    @workflow
    async def copy() -> int:
        return await copy_rows()

    async with Engine(memory, workflows=[copy], clock=clock) as engine:
        handle = await engine.start(copy)
        await clock.advance(4)
        assert await handle.result() == 9
        assert begun_at == [0, 3, 6]
        told = [bytes(e.details) for e in await events_of(handle) if isinstance(e, StepHeartbeat)]
        assert told[:2] == [b"3", b"6"]


async def test_details_are_recorded_twice_in_a_timeout_at_most(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The first at once, then the latest: a thousand heartbeats are no thousand events."""

    @step(heartbeat_timeout=10)
    async def long() -> None:
        for number in range(1000):
            heartbeat(number)
            await clock.sleep(0.02)

    @workflow
    async def patient() -> None:
        await long()

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient)
        await clock.advance(21)
        await handle.result()
        told = [e for e in await events_of(handle) if isinstance(e, StepHeartbeat)]
        assert [bytes(event.details) for event in told] == [b"0", b"250", b"500", b"750"]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_details_survive_a_restart_at_any_event(
    kind: str, memory: MemoryStore, clock: ManualClock, tmp_path: Path
) -> None:
    """Wherever the log was cut off, the attempt that follows knows what the log knows."""
    seen: list[Any] = []

    @step(heartbeat_timeout=10, retry=Retry(max_attempts=2, initial=0))
    async def long() -> str:
        seen.append(current_step().last_heartbeat)
        if current_step().attempt == 1:
            for number in range(3):
                heartbeat({"row": number})
                await clock.sleep(6)
            raise ConnectionError
        return "done"

    @workflow
    async def patient() -> str:
        return await long()

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient, id="one")
        await clock.advance(20)
        assert await handle.result() == "done"
        history = await handle.history()
    kinds = [type(one.event) for one in history]
    beats = [StepHeartbeat] * 3
    assert kinds[:-1] == [WorkflowStarted, *beats, StepFailed, StepCompleted]
    assert seen == [None, {"row": 2}]
    for cut in range(1, 6):
        seen.clear()
        file = None if kind == "memory" else tmp_path / f"{cut}.db"
        async with Engine(
            await cut_store(history, cut, file), workflows=[patient], clock=clock
        ) as engine:
            handle = engine.handle("one")
            while not seen:
                await clock.sleep(0) if kind == "never" else await asyncio.sleep(0)
            expected = [None, {"row": 0}, {"row": 1}, {"row": 2}, {"row": 2}]
            assert seen[0] == expected[cut - 1], cut
            result = asyncio.ensure_future(handle.result())
            while not result.done():
                await clock.advance(1)
                await asyncio.sleep(0)
            assert await result == "done"


async def test_a_thread_learns_that_its_attempt_is_over(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Its next heartbeat raises what a coroutine would get at its await; details were kept before."""
    entered, let_go, told = threading.Event(), threading.Event(), threading.Event()
    raised: list[BaseException] = []

    @step(timeout=10)
    def blocking() -> None:
        heartbeat("alive")
        entered.set()
        let_go.wait(10)
        try:
            heartbeat("still alive")
        except asyncio.CancelledError as error:
            raised.append(error)
            raise
        finally:
            told.set()

    @workflow
    async def patient() -> str:
        try:
            await blocking()
        except StepTimeoutError:
            return "without it"
        return "with it"

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient, id="one")
        await asyncio.to_thread(entered.wait, 10)
        await clock.advance(10)
        assert await handle.result() == "without it"
        let_go.set()
        assert await asyncio.to_thread(told.wait, 10)
        await settle()
    assert "attempt 1 of step 'blocking' of 'one' is over" in str(raised[0])


async def test_a_heartbeat_of_a_thread_keeps_its_attempt_alive(
    memory: MemoryStore, clock: ManualClock
) -> None:
    beaten, go_on = threading.Event(), threading.Event()

    @step(heartbeat_timeout=10)
    def blocking() -> str:
        for _ in range(3):
            heartbeat({"thread": True})
            beaten.set()
            go_on.wait(10)
            go_on.clear()
        return "done"

    @workflow
    async def patient() -> str:
        return await blocking()

    async with Engine(memory, workflows=[patient], clock=clock) as engine:
        handle = await engine.start(patient)
        for _ in range(3):
            await asyncio.to_thread(beaten.wait, 10)
            beaten.clear()
            await settle()
            await clock.advance(9)
            go_on.set()
        assert await handle.result() == "done"
        assert StepHeartbeat in [type(event) for event in await events_of(handle)]


async def test_details_that_cannot_be_written_fail_where_they_are_told(
    memory: MemoryStore,
) -> None:
    @step(heartbeat_timeout=10)
    async def odd() -> None:
        heartbeat(object())

    @workflow
    async def patient() -> str:
        try:
            await odd()
        except PayloadError as error:
            return error.where
        return ""

    async with Engine(memory, workflows=[patient]) as engine:
        assert await (await engine.start(patient)).result() == "details of a heartbeat"


async def test_a_heartbeat_means_nothing_outside_an_engine() -> None:
    @step(heartbeat_timeout=10)
    async def alone() -> Any:
        heartbeat("nobody hears it")
        return current_step().last_heartbeat

    assert await alone() is None


async def test_what_an_attempt_that_was_left_has_told_is_nobody_elses(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Its step may be over by the time at which it is recorded, and its number that of another one."""
    released = asyncio.Event()

    @step(timeout=10, heartbeat_timeout=60, retry=Retry(max_attempts=1))
    async def hang() -> None:
        heartbeat("recorded at once")
        await clock.sleep(1)
        heartbeat("to be recorded later")
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    @step
    async def begin() -> None:
        await asyncio.Event().wait()

    @workflow
    async def renewed(run: int) -> None:
        if run == 0:
            with suppress(StepTimeoutError):
                await hang()
            continue_as_new(1)
        await begin()

    async with Engine(memory, workflows=[renewed], clock=clock) as engine:
        handle = await engine.start(renewed, 0)
        for _ in range(5):
            await clock.advance(10)
        released.set()
        events = await events_of(handle)
    assert [bytes(event.details) for event in events if isinstance(event, StepHeartbeat)] == [
        b'"recorded at once"'
    ]
    assert isinstance(events[-1], WorkflowContinued)
