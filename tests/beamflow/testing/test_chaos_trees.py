"""Trees of workflows under chaos: every child once, every outcome once, nobody left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from beamflow import (
    DeadLetterReason,
    Retry,
    WorkflowFailedError,
    WorkflowParkedError,
    WorkflowState,
    continue_as_new,
    current_step,
    receive,
    start_child,
    step,
    workflow,
)
from beamflow.model.events import (
    ChildCompleted,
    ChildFailed,
    ChildStarted,
    StepCompleted,
    WorkflowContinued,
)
from beamflow.testing.chaos_engine import ChaosEngine, Ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from beamflow import Engine
    from supervision.chaos import Chaos

PATIENT = Retry(max_attempts=30, initial=0.1, max=1.0)


@step(retry=PATIENT)
async def add(total: int, more: int) -> int:
    await asyncio.sleep(0.3)
    return total + more


@workflow
async def rounds(total: int, left: int) -> int:
    """Begins anew until nothing is left."""
    total = await add(total, left)
    return total if left == 1 else continue_as_new(total, left - 1)


@workflow
async def endless() -> None:
    await receive("never")


@workflow
async def family(number: int) -> int:
    """Calls two, gives one up, and waits for one at its end."""
    one, other = await asyncio.gather(rounds(0, 3), rounds(number, 2))
    try:
        async with asyncio.timeout(2):
            await endless()
    except TimeoutError:
        await start_child(rounds, 0, 2, on_close="wait")
    return one + other


@step
async def refuse(number: int) -> int:
    if current_step().workflow_id in healed:
        return number
    raise LookupError(number)


healed: set[str] = set()


@workflow
async def fragile(number: int) -> int:
    total = await rounds(0, 2)
    return total + await refuse(number)


@contextlib.asynccontextmanager
async def caretaker(engine: ChaosEngine) -> AsyncIterator[None]:
    """Let go on, now and then, what chaos has struck so often that it was parked."""

    async def care() -> None:
        while True:
            await asyncio.sleep(5)
            await engine.ask(
                lambda engine: engine.dead_letters.retry_all(reason=DeadLetterReason.POISON)
            )

    caring = asyncio.create_task(care())
    try:
        yield
    finally:
        caring.cancel()
        await asyncio.wait({caring})


async def result_of(engine: ChaosEngine, workflow_id: str) -> int:
    """Wait for the result, however often the workflow is parked meanwhile."""
    while True:
        try:
            return int(await engine.handle(workflow_id).result())
        except WorkflowParkedError:
            await asyncio.sleep(1)


@pytest.mark.chaos(profile="moderate", seeds=12)
async def test_trees_come_to_their_end(chaos: Chaos) -> None:
    """With what each of them had to do, done once."""
    async with (
        ChaosEngine(chaos, workflows=[family, rounds, endless]) as engine,
        caretaker(engine),
    ):
        for number in range(4):
            await engine.start(family, number, id=f"{number}")
        results = [await result_of(engine, f"{number}") for number in range(4)]
        chaos.calm()
        endings = await engine.endings(within=86_400.0)
        assert results == [6 + number + 3 for number in range(4)]
        given_up = {f"{number}/4": endings.pop(f"{number}/4", None) for number in range(4)}
        assert endings == {
            f"{number}{child}": Ending.COMPLETED
            for number in range(4)
            for child in ("", "/1", "/2", "/5")
        }
        for workflow_id in endings:
            await assert_once(engine, workflow_id)
        for workflow_id, ending in given_up.items():
            await assert_given_up(engine, workflow_id, ending)


async def assert_given_up(engine: ChaosEngine, workflow_id: str, ending: Ending | None) -> None:
    """See that a child was cancelled, or that it had not begun when it was given up."""
    if ending is None:
        history = await engine.handle(workflow_id.partition("/")[0]).history()
        assert not [one for one in history if getattr(one.event, "id", "") == workflow_id]
    else:
        assert ending is Ending.CANCELLED
        await assert_once(engine, workflow_id)


async def assert_once(engine: ChaosEngine, workflow_id: str) -> None:
    """See that the log has each start and each outcome once in each run."""
    run = 0
    seen: Counter[tuple[int, int, type]] = Counter()
    for one in await engine.handle(workflow_id).history():
        event = one.event
        if isinstance(event, WorkflowContinued):
            run += 1
            assert event.run == run
        if isinstance(event, ChildStarted | StepCompleted):
            seen[run, event.op, type(event)] += 1
        if isinstance(event, ChildCompleted | ChildFailed):
            seen[run, event.op, ChildCompleted] += 1
    assert set(seen.values()) <= {1}


@pytest.mark.chaos(profile="moderate", seeds=12)
async def test_what_failed_is_sent_round_again(chaos: Chaos) -> None:
    """And its fork goes on beside it; what had completed is not done again."""
    healed.clear()
    async with (
        ChaosEngine(chaos, workflows=[fragile, rounds]) as engine,
        caretaker(engine),
    ):
        for number in range(3):
            await engine.start(fragile, number, id=f"{number}")
            with pytest.raises(WorkflowFailedError):
                await result_of(engine, f"{number}")
        healed.update(["0", "1", "2", "copy of 0"])

        async def fork(engine: Engine) -> None:
            await engine.handle("0").fork("copy of 0")

        async def retry(engine: Engine, number: int) -> None:
            handle = engine.handle(f"{number}")
            if (await handle.status()).state is WorkflowState.FAILED:
                await handle.retry_from()

        await engine.ask(fork)
        for number in range(3):
            await engine.ask(lambda engine, number=number: retry(engine, number))
        results = [await result_of(engine, f"{number}") for number in range(3)]
        assert results == [3 + number for number in range(3)]
        assert await result_of(engine, "copy of 0") == 3
        chaos.calm()
        endings = await engine.endings(within=86_400.0)
        assert set(endings) == {"0", "1", "2", "copy of 0", "0/1", "1/1", "2/1"}
        assert set(endings.values()) == {Ending.COMPLETED}
        for workflow_id in endings:
            await assert_once(engine, workflow_id)
