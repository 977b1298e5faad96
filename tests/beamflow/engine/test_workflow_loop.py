"""Plain asyncio, and anyio, on a loop that is a queue of callbacks and nothing else."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
from contextlib import aclosing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from beamflow import now, step
from beamflow.errors import HostLoopError
from beamflow.model.commands import CancelStep, RunStep, StartTimer
from tests.beamflow.engine.driver import SECOND, START, Driver, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@step
async def fetch(key: str) -> Any:
    return key


@step
async def other(key: str) -> Any:
    return key


def names(driver: Driver) -> list[str]:
    """Return the steps asked for, in order."""
    return [command.name for command in driver.commands if isinstance(command, RunStep)]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What a test leaves behind is its own, and no warning of the next one."""
    yield
    gc.collect()


# Together


def test_gather_takes_results_in_the_order_of_the_calls() -> None:
    """Whoever ends first, each result stands where its call stood."""

    async def code() -> Any:
        return await asyncio.gather(fetch("a"), other("b"))

    driver = running(code)
    assert names(driver) == ["fetch", "other"]
    driver.complete("other", "B")
    driver.complete("fetch", "A")
    assert driver.result == ["A", "B"]


def test_a_task_group_cancels_the_rest() -> None:
    """A failing branch takes the others with it, and the step of one is given up."""

    async def code() -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fetch("a"))
                group.create_task(other("b"))
        except* ValueError as caught:
            first = str(caught.exceptions[0])
        return first

    driver = running(code)
    driver.fail("other", ValueError("no"))
    assert driver.result == "no"
    assert driver.commands[-1] == CancelStep(op=1)


def test_a_task_group_cancels_what_has_not_begun() -> None:
    """A task that is cancelled before its first turn leaves no coroutine behind."""

    async def code() -> Any:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(fetch("a"))
            task.cancel()
        return task.cancelled()

    driver = running(code)
    assert driver.result is True
    assert driver.commands == []


def test_a_timeout_is_a_durable_timer() -> None:
    """It is recorded, fires, cancels what it bounds and is told from other cancellations."""

    async def code() -> Any:
        try:
            async with asyncio.timeout(60):
                await fetch("a")
        except TimeoutError:
            return now().timestamp()

    driver = running(code)
    assert driver.commands[0] == StartTimer(op=1, due=START + 60 * SECOND)
    driver.fire()
    assert driver.result == START / SECOND + 60
    assert driver.commands[-1] == CancelStep(op=2)


def test_a_timeout_around_what_is_fast_costs_nothing() -> None:
    """A timer that is set and given up within one activation is no command."""

    async def code() -> Any:
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        return await asyncio.wait_for(asyncio.sleep(0, "done"), 60)

    driver = running(code)
    assert driver.result == "done"
    assert driver.commands == []


def test_the_first_of_several_wins() -> None:
    """asyncio.wait returns with one done; the rest is cancelled."""

    async def code() -> Any:
        tasks = [asyncio.create_task(fetch(key)) for key in "abcdef"]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return [tasks.index(task) for task in done], [tasks.index(task) for task in pending]

    driver = running(code)
    driver.take(driver.completed(driver.calls[2], "c"))
    done, pending = driver.result
    assert done == [2]
    assert sorted(pending) == [0, 1, 3, 4, 5]
    cancelled = [each.op - 1 for each in driver.commands if isinstance(each, CancelStep)]
    assert cancelled == pending


def test_as_completed_yields_in_the_order_of_the_log() -> None:
    """Results come as their events do."""

    async def code() -> Any:
        tasks = [asyncio.create_task(fetch(key)) for key in "abc"]
        return [await each for each in asyncio.as_completed(tasks)]

    driver = running(code)
    for call in (driver.calls[2], driver.calls[0], driver.calls[1]):
        driver.take(driver.completed(call, call.op))
    assert driver.result == [3, 1, 2]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_as_completed_refuses_coroutines() -> None:
    """It starts them in the order of their addresses; the error says what to give it."""

    async def code() -> Any:
        return [await each for each in asyncio.as_completed([fetch("a"), fetch("b")])]

    with pytest.raises(HostLoopError, match="create_task"):
        _ = running(code).result
    gc.collect()


def test_queues_locks_and_their_like_join_branches() -> None:
    """Queue, Lock, Semaphore, Event, Condition and Barrier need nothing but futures."""

    async def code() -> Any:
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=1)
        lock, places, gate = asyncio.Lock(), asyncio.Semaphore(1), asyncio.Event()
        changed, barrier = asyncio.Condition(), asyncio.Barrier(2)
        seen: list[str] = []

        async def produce() -> None:
            async with lock, places:
                for key in "abc":
                    await queue.put(await fetch(key))
            gate.set()
            async with changed:
                changed.notify_all()
            await barrier.wait()

        async def consume() -> None:
            async with changed:
                seen.append(await queue.get())
                await changed.wait()
            await gate.wait()
            async with lock, places:
                while not queue.empty():
                    seen.append(await queue.get())
            await barrier.wait()

        taken = asyncio.create_task(consume())
        made = asyncio.create_task(produce())
        drained = asyncio.create_task(asyncio.wait_for(gate.wait(), 100))
        await fetch("z")
        seen.append(await queue.get())
        await asyncio.gather(taken, made, drained)
        return seen

    driver = running(code)
    for key in "zabc":
        call = next(each for each in driver.calls if each.input == f'["{key}"]'.encode())
        driver.take(driver.completed(call, key))
    assert driver.result == ["a", "b", "c"]


def test_shield_keeps_what_it_shields_from_cancellation() -> None:
    """The waiter is cancelled, the step goes on and its result is still there."""

    async def code() -> Any:
        inner = asyncio.create_task(fetch("a"))
        try:
            async with asyncio.timeout(1):
                await asyncio.shield(inner)
        except TimeoutError:
            return f"late {await inner}"

    driver = running(code)
    driver.fire()
    assert [call.cancelled for call in driver.calls] == [False]
    driver.complete("fetch", "A")
    assert driver.result == "late A"


def test_wait_for_gives_up_its_step() -> None:
    """asyncio.wait_for cancels what took too long."""

    async def code() -> Any:
        try:
            return await asyncio.wait_for(fetch("a"), 5)
        except TimeoutError:
            return "too long"

    driver = running(code)
    driver.fire()
    assert driver.result == "too long"
    assert CancelStep(op=2) in driver.commands


def test_context_variables_belong_to_the_workflow() -> None:
    """Branches inherit and do not leak; what the host has set is not there on replay either."""
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    async def branch() -> str:
        inherited = variable.get()
        variable.set("branch")
        await asyncio.sleep(0)
        return inherited

    async def code() -> Any:
        before = variable.get()
        variable.set("main")
        return before, await asyncio.create_task(branch()), variable.get()

    variable.set("host")
    assert running(code).result == ("unset", "main", "main")


def test_a_cancellation_reaches_a_step_that_runs() -> None:
    """The branch is told at once; the step's late outcome changes nothing."""

    async def code() -> Any:
        task = asyncio.create_task(fetch("a"))
        await other("b")
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        return [type(outcome).__name__, await other("c")]

    driver = running(code)
    driver.complete("other", "B")
    driver.complete("fetch", "A")
    driver.complete("other", "C")
    assert driver.result == ["CancelledError", "C"]


# Time


def test_equal_timers_fire_as_the_log_says() -> None:
    """Timers of one due time are different timers; their order is recorded."""

    async def code() -> Any:
        order: list[int] = []

        async def wait(number: int) -> None:
            await asyncio.sleep(5)
            order.append(number)

        await asyncio.gather(wait(1), wait(2), wait(3))
        return order

    driver = running(code)
    for op in (3, 1, 2):
        driver.fire(op)
    assert driver.result == [3, 1, 2]


def test_a_sleep_of_nothing_yields_and_needs_no_log() -> None:
    """sleep(0), a negative sleep and one below a microsecond let others run."""

    async def code() -> Any:
        order: list[str] = []

        async def say(word: str, seconds: float) -> None:
            order.append(word)
            await asyncio.sleep(seconds)
            order.append(word.upper())

        await asyncio.gather(say("a", 0), say("b", -5), say("c", 1e-9))
        return order

    driver = running(code)
    assert driver.result[:3] == ["a", "b", "c"]
    assert sorted(driver.result[3:]) == ["A", "B", "C"]
    assert driver.commands == []


@pytest.mark.parametrize("seconds", [float("inf"), 1e300])
def test_a_timer_beyond_all_time_never_fires(seconds: float) -> None:
    """No log can hold when it is due, and none has to."""

    async def code() -> Any:
        async with asyncio.timeout(seconds):
            return await asyncio.wait_for(fetch("a"), seconds)

    driver = running(code)
    driver.complete("fetch", "A")
    assert driver.result == "A"
    assert len(driver.commands) == 1


def test_a_timer_at_no_time_is_refused() -> None:
    """NaN is a ValueError where it is used."""

    async def code() -> Any:
        await asyncio.sleep(float("nan"))

    with pytest.raises(ValueError, match=r"(?i)nan"):
        _ = running(code).result


def test_a_long_time_is_a_time() -> None:
    """A thousand years fit."""

    async def code() -> Any:
        await asyncio.sleep(1000 * 365 * 86400)
        return "patient"

    driver = running(code)
    driver.fire()
    assert driver.result == "patient"


@pytest.mark.usefixtures("_hasty")
def test_a_loop_that_waits_for_nothing_is_refused() -> None:
    """A workflow that spins is broken off, with its id and what to look for."""

    async def code() -> Any:
        for _ in itertools.repeat(None):
            await asyncio.sleep(0)

    with pytest.raises(HostLoopError, match="sleep"):
        running(code)


# Generators


async def keys() -> AsyncIterator[str]:
    """Yields what steps return; has something to do at its end."""
    try:
        for key in "abc":
            yield await fetch(key)
    finally:
        await other("last")


def test_an_asynchronous_generator_runs_on_the_loop() -> None:
    """Its steps are recorded like any."""

    async def code() -> Any:
        return [key async for key in keys()]

    driver = running(code)
    for key in "abc":
        driver.complete("fetch", key)
    driver.complete("other")
    assert driver.result == ["a", "b", "c"]


def test_an_abandoned_generator_is_closed_when_the_workflow_ends() -> None:
    """Not when memory is collected, which no log knows of; its `finally` may await steps."""

    async def code() -> Any:
        async for key in keys():
            if key == "A":
                break
        return await fetch("after")

    driver = running(code)
    driver.complete("fetch", "A")
    assert names(driver) == ["fetch", "fetch"]
    driver.complete("fetch", "done")
    assert names(driver) == ["fetch", "fetch", "other"]
    assert not driver.execution.ended
    driver.complete("other")
    assert driver.result == "done"


def test_a_generator_closed_in_time_is_closed_there() -> None:
    """contextlib.aclosing works as everywhere."""

    async def code() -> Any:
        async with aclosing(keys()) as generator:
            return await anext(generator)

    driver = running(code)
    driver.complete("fetch", "A")
    driver.complete("other")
    assert driver.result == "A"


# anyio


def test_anyio_runs_on_the_loop() -> None:
    """Task groups, memory streams, events and cancel scopes."""

    async def code() -> Any:
        send, take = anyio.create_memory_object_stream[str](1)
        got: list[str] = []

        async def produce(key: str) -> None:
            await send.send(await fetch(key))

        async def consume() -> None:
            got.extend([item async for item in take])

        with anyio.move_on_after(60) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(consume)
                async with send, anyio.create_task_group() as producers:
                    producers.start_soon(produce, "a")
                    producers.start_soon(produce, "b")
        with anyio.move_on_after(5) as late:
            await anyio.sleep_forever()
        take.close()
        return got, scope.cancelled_caught, late.cancelled_caught

    driver = running(code)
    driver.take(driver.completed(driver.calls[1], "B"))
    driver.complete("fetch", "A")
    driver.fire()
    assert driver.result == (["B", "A"], False, True)


def test_anyio_waits_for_a_shielded_task() -> None:
    """The cancellation that anyio redelivers for as long as one lives does not keep the loop busy."""

    async def code() -> Any:
        with anyio.move_on_after(1):
            try:
                await fetch("a")
            finally:
                with anyio.CancelScope(shield=True):
                    await other("clean up")
        return "clean"

    driver = running(code)
    driver.fire()
    assert names(driver) == ["fetch", "other"]
    driver.complete("other")
    assert driver.result == "clean"


def test_anyio_cancels_whatever_a_cancelled_scope_awaits_next() -> None:
    """Its cancellation is redelivered at once, before anything is asked for."""

    async def code() -> Any:
        with anyio.move_on_after(1):
            try:
                await fetch("a")
            finally:
                try:
                    await other("b")
                finally:
                    await other("c")
        return "moved on"

    driver = running(code)
    driver.fire()
    assert driver.result == "moved on"
    assert names(driver) == ["fetch"]


def test_anyio_may_cancel_what_asyncio_waits_for() -> None:
    """A task group of asyncio's wakes at each redelivery: that ends too, and goes on at an event."""

    async def code() -> Any:
        async def stubborn() -> None:
            try:
                await fetch("a")
            finally:
                await other("clean up")

        with anyio.move_on_after(0):
            async with asyncio.TaskGroup() as group:
                group.create_task(stubborn())
        return "clean"

    driver = running(code)
    assert names(driver) == ["other"]
    driver.complete("other")
    assert driver.result == "clean"


# The host


async def test_the_host_is_back_in_its_place_after_each_drain() -> None:
    """Its loop, its current task, its hooks for generators: whatever the code did."""

    async def fine() -> None:
        await asyncio.sleep(0)

    async def ctrl_c() -> None:
        raise KeyboardInterrupt

    async def leave() -> None:
        raise SystemExit(3)

    def here() -> tuple[Any, ...]:
        return asyncio.get_running_loop(), asyncio.current_task(), sys.get_asyncgen_hooks()

    before = here()
    running(fine)
    assert here() == before
    with pytest.raises(KeyboardInterrupt):
        running(ctrl_c)
    assert here() == before
    driver = running(leave)
    with pytest.raises(SystemExit):
        _ = driver.result
    assert here() == before
    running(fine).execution.close()
    assert here() == before


async def test_what_a_callback_raises_is_reported_to_the_host() -> None:
    """Its loop's exception handler hears of it, with the workflow's id."""
    reports: list[dict[str, Any]] = []
    host = asyncio.get_running_loop()
    old = host.get_exception_handler()
    host.set_exception_handler(lambda _, report: reports.append(report))

    async def code() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    running(code)
    host.set_exception_handler(old)
    (report,) = reports
    assert isinstance(report["exception"], ZeroDivisionError)
    assert report["workflow_id"] == "wf"
