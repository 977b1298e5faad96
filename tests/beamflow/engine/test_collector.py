"""What is over goes by itself: nothing of a workflow is left to the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    Engine,
    Retry,
    WorkflowCancelledError,
    WorkflowFailedError,
    continue_as_new,
    current_step,
    on_update,
    receive,
    saga,
    signal,
    start_child,
    step,
    until,
    workflow,
)
from supervision.testing import settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamflow.stores.memory import MemoryStore
    from supervision import ActorRef
    from supervision.testing import ManualClock

DAY = 86_400.0
ROUNDS = 5

ran: list[str] = []
"""Keys of the bodies that ran, outside the engine's knowledge."""


@pytest.fixture(autouse=True)
def _fresh_ledger() -> None:
    ran.clear()


@step
async def note(what: str) -> str:
    ran.append(f"{what} {current_step().idempotency_key}")
    return what


@step(timeout=10)
def note_in_thread(what: str) -> str:
    return what


@step(timeout=10, deadline=20)
async def note_in_time(what: str) -> str:
    return what


@workflow
async def collect(count: int) -> list[str]:
    return [await receive("word", str) for _ in range(count)]


def actor(engine: Engine, workflow_id: str) -> ActorRef:
    return engine._services.actors[workflow_id]


@contextmanager
def nothing_is_left() -> Iterator[None]:
    """See that what a block has made was freed by the counts of its references alone."""
    gc.collect()
    gc.disable()
    try:
        yield
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_a_killed_actor_leaves_nothing_to_the_garbage_collector(
    memory: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """No coroutine of the code runs on, no task is destroyed while it waits."""
    closed: list[str] = []

    @workflow
    async def careful() -> None:
        try:
            await asyncio.gather(receive("word"), asyncio.sleep(1000), note("x"))
        finally:
            closed.append("finally")
            await note("y")

    async with Engine(memory, workflows=[careful], clock=clock) as engine:
        await engine.start(careful, id="one")
        await settle()
        for killed in range(1, 4):
            actor(engine, "one").kill()
            await settle()
            assert closed == ["finally"] * killed
            gc.collect()
    gc.collect()
    await settle()
    assert not [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}]
    assert ran == ["x one/2"]
    assert closed == ["finally"] * 4


async def test_an_actor_that_has_ended_is_not_left_to_the_garbage_collector(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Whether its workflow was completed or it was killed: no cycle holds it.

    Nor the code of one that was completed.
    """
    async with Engine(memory, workflows=[collect], clock=clock) as engine:
        handle = await engine.start(collect, 1, id="one")
        gc.disable()
        try:
            lives = [weakref.ref(actor(engine, "one")._cell.actor)]
            actor(engine, "one").kill()
            await settle()
            lives.append(weakref.ref(actor(engine, "one")._cell.actor))
            code = weakref.ref(lives[1]()._execution)
            await handle.signal("word", "go")
            assert await handle.result() == ["go"]
            await settle()
            assert [life() for life in lives] == [None, None]
            assert code() is None
        finally:
            gc.enable()


@pytest.mark.invariant("I37")
async def test_what_has_ended_leaves_nothing_to_the_collector(memory: MemoryStore) -> None:
    """No cycle holds a workflow, its steps or their attempts: the collector is a quarter of the cost."""

    @step
    async def count(number: int) -> int:
        return number + 1

    @workflow
    async def counts(number: int) -> int:
        for _ in range(3):
            number = await count(number)
        return number

    async with Engine(memory, workflows=[counts]) as engine:
        await (await engine.start(counts, 1)).result()
        await settle()
        with nothing_is_left():
            for number in range(ROUNDS):
                await (await engine.start(counts, number)).result()
            await settle()


# Those who leave memory


@workflow
async def sleeps() -> None:
    await asyncio.sleep(DAY)


@workflow
async def bounded() -> None:
    async with asyncio.timeout(DAY):
        await receive("word")


@workflow
async def gathers() -> None:
    await asyncio.gather(receive("word"), asyncio.sleep(DAY), note("x"))


@workflow
async def groups() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(receive("word"))
        group.create_task(note("x"))


@workflow
async def awaits_a_task() -> None:
    await note("x")
    await asyncio.create_task(receive("word", str))


@workflow
async def takes_updates() -> None:
    total = 0

    def add(amount: int) -> int:
        nonlocal total
        total += amount
        return total

    on_update("add", add)
    await until(lambda: total)


@workflow
async def has_children() -> None:
    child = await start_child(sleeps)
    await asyncio.gather(sleeps(), child.result())


@workflow
async def in_a_saga() -> None:
    async with saga():
        await note("x")
        await receive("word")


@workflow
class Box:
    def __init__(self) -> None:
        self.words: list[str] = []

    async def run(self) -> None:
        await until(lambda: self.words)

    @signal
    def word(self, word: str) -> None:
        self.words.append(word)


LEAVING: list[Any] = [
    sleeps,
    bounded,
    gathers,
    groups,
    awaits_a_task,
    takes_updates,
    has_children,
    in_a_saga,
    Box,
]


@pytest.mark.invariant("I37")
@pytest.mark.parametrize("definition", LEAVING)
async def test_who_leaves_memory_takes_everything_along(
    memory: MemoryStore, clock: ManualClock, definition: Any
) -> None:
    """Whatever it waits for, the first time and each time after it was woken."""
    async with Engine(memory, workflows=LEAVING, clock=clock, idle_after=0) as engine:

        async def leaves_again_and_again(workflow_id: str) -> None:
            handle = await engine.start(definition, id=workflow_id)
            await left()
            await handle.pause()
            await left()
            await handle.resume()
            await left()

        async def left() -> None:
            async with asyncio.timeout(10):
                await settle()
                while engine._services.actors:
                    await settle()

        await leaves_again_and_again("the first, which fills caches")
        with nothing_is_left():
            for number in range(ROUNDS):
                await leaves_again_and_again(f"{number}")


# Those who end


@workflow
async def raises() -> None:
    await note("x")
    raise LookupError("nothing")


@workflow
async def renews(run: int) -> int:
    await note("x")
    if run < 3:
        continue_as_new(run + 1)
    return run


@workflow
async def in_limits() -> list[str]:
    return list(await asyncio.gather(note_in_thread("x"), note_in_time("x")))


@workflow
async def is_too_late() -> str:
    try:
        async with asyncio.timeout(5):
            await receive("word")
    except TimeoutError:
        return "too late"
    return "in time"


@step(retry=Retry(max_attempts=2, initial=1, jitter=0))
async def refuse(what: str) -> None:
    raise LookupError(what)


@workflow
async def has_a_step_that_fails() -> None:
    with suppress(LookupError):
        await refuse("once")
    await refuse("again")


ENDING: list[Any] = [raises, renews, in_limits, is_too_late, sleeps, has_a_step_that_fails]


@pytest.mark.parametrize(
    ("definition", "arguments"),
    [(raises, ()), (renews, (0,)), (in_limits, ()), (is_too_late, ()), (has_a_step_that_fails, ())],
    ids=["raises", "renews", "in_limits", "is_too_late", "has_a_step_that_fails"],
)
@pytest.mark.invariant("I37")
async def test_however_it_ends(
    memory: MemoryStore, clock: ManualClock, definition: Any, arguments: tuple[Any, ...]
) -> None:
    """By an error, in a new run, after steps in threads and within limits, that time out, or fail."""
    async with Engine(memory, workflows=ENDING, clock=clock) as engine:

        async def end(workflow_id: str) -> None:
            handle = await engine.start(definition, *arguments, id=workflow_id)
            await clock.advance(6)
            with suppress(WorkflowFailedError):
                await handle.result()
            await settle()

        await end("the first, which fills caches")
        with nothing_is_left():
            for number in range(ROUNDS):
                await end(f"{number}")


async def test_who_is_told_to_end(memory: MemoryStore, clock: ManualClock) -> None:
    """In the middle of its sleep."""
    async with Engine(memory, workflows=ENDING, clock=clock) as engine:

        async def end(workflow_id: str) -> None:
            handle = await engine.start(sleeps, id=workflow_id)
            await handle.cancel()
            with suppress(WorkflowCancelledError):
                await handle.result()
            await settle()

        await end("the first, which fills caches")
        with nothing_is_left():
            for number in range(ROUNDS):
                await end(f"{number}")
