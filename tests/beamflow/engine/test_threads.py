"""Threads of plain steps: bounded, with the caller's context, and no capacity lost to what hangs."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from beamflow import DefinitionError, Engine, StepTimeoutError, current_step, step, workflow
from beamflow.engine.threads import Threads
from supervision.testing import eventually, settle

if TYPE_CHECKING:
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


async def test_no_more_steps_run_at_once_than_there_are_threads(memory: MemoryStore) -> None:
    """The others wait for their turn; an engine's threads are its own."""
    lock, running, most = threading.Lock(), 0, 0
    together = threading.Barrier(3)

    @step
    def busy() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(10)
        with lock:
            running -= 1
        return current_step().idempotency_key

    @workflow
    async def many() -> list[str]:
        return await asyncio.gather(*(busy() for _ in range(9)))

    async with Engine(memory, workflows=[many], threads=3) as engine:
        keys = await (await engine.start(many, id="w")).result()
    assert keys == [f"w/{number}" for number in range(1, 10)]
    assert most == 3


async def test_a_thread_that_hangs_uses_up_no_capacity(
    memory: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left alone, counted and told of; the next step has its room. When it ends it is no more."""
    entered, let_go = threading.Event(), threading.Event()

    @step(timeout=10)
    def hangs() -> None:
        entered.set()
        let_go.wait(10)

    @step(timeout=10)
    def quick() -> str:
        return "done"

    @workflow
    async def patient() -> str:
        try:
            await hangs()
        except StepTimeoutError:
            return await quick()
        return "in time"

    async with Engine(memory, workflows=[patient], clock=clock, threads=1) as engine:
        handle = await engine.start(patient, id="one")
        await asyncio.to_thread(entered.wait, 10)
        await clock.advance(10)
        assert await handle.result() == "done"
        threads = engine._services.threads
        assert (threads.left, threads.room.borrowed_tokens) == (1, 0)
        let_go.set()
        await eventually(lambda: threads.left == 0)
    (warning,) = [record for record in caplog.records if "thread_left" in record.getMessage()]
    assert "workflow_id='one' step='hangs' op=1 attempt=1 threads_left=1" in warning.getMessage()


async def test_the_wait_for_a_thread_is_no_part_of_the_timeout(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """A step that has waited long for its turn has its whole time; a deadline counts the wait."""
    entered, let_go = threading.Event(), threading.Event()

    @step
    def slow() -> None:
        entered.set()
        let_go.wait(10)

    @step(timeout=10)
    def quick() -> str:
        return "done"

    @step(deadline=15)
    def urgent() -> None:
        pass

    @workflow
    async def crowd() -> list[str]:
        first = asyncio.create_task(slow())
        results = await asyncio.gather(quick(), urgent(), return_exceptions=True)
        await first
        return [str(result) for result in results]

    async with Engine(memory, workflows=[crowd], clock=clock, threads=1) as engine:
        handle = await engine.start(crowd)
        await asyncio.to_thread(entered.wait, 10)
        await clock.advance(30)
        let_go.set()
        done, late = await handle.result()
    assert done == "done"
    assert "step 'urgent' was not done 15 s after it was asked for" in late


async def test_the_context_goes_along() -> None:
    """What is set around the call is seen in the thread; what the thread sets stays there."""
    threads, word = Threads(1), ContextVar("word", default="none")
    word.set("given")

    def look() -> str:
        seen = word.get()
        word.set("changed")
        return seen

    async with threads.room:
        assert await threads.run(look, lambda left: left) == "given"
    assert word.get() == "given"


async def test_a_job_that_was_given_up_before_its_thread_came_to_it_does_not_run() -> None:
    ran: list[int] = []
    threads = Threads(1)
    task = asyncio.ensure_future(threads.run(lambda: ran.append(1), ran.append))
    task.cancel()
    await asyncio.wait({task})
    await settle()
    assert ran == []
    assert threads.left == 0


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "many"])
def test_a_number_of_threads_that_makes_no_sense_is_refused(threads: object) -> None:
    with pytest.raises(DefinitionError, match=f"Engine\\(threads={threads!r}\\) is refused"):
        Engine("memory://", workflows=[], threads=threads)
