"""Supervised functions: results, failures, links, streams."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import aclosing, suppress

import pytest

from supervision import (
    Actor,
    ActorStoppedError,
    CallTimeoutError,
    MaxChildrenError,
    Restart,
    Stop,
    TaskSupervisor,
    run,
)
from supervision.testing import settle


async def double(number):
    await asyncio.sleep(0)
    if number < 0:
        raise ValueError(number)
    return number * 2


async def forever():
    await asyncio.Event().wait()


async def test_result(world):
    """A task gives its result, or raises its exception, and is no child any more after that."""
    async with world.run(TaskSupervisor()) as sup:
        assert await (await sup.start_task(double, 4)).result() == 8
        failed = await sup.start_task(double, -4)
        with pytest.raises(ValueError, match="-4"):
            await failed.result()
        with pytest.raises(ValueError, match="-4"):
            await failed.result()
        assert await world.count(sup) == [0, 0, 0, 0]


async def test_timeout_and_shutdown(world):
    """Waiting has a timeout which does not end the task; shutdown does."""
    async with world.run(TaskSupervisor()) as sup:
        task = await sup.start_task(forever)
        waiting = asyncio.ensure_future(task.result(timeout=1.0))
        await world.clock.advance(2)
        with pytest.raises(CallTimeoutError):
            await waiting
        assert task.ref.alive
        await task.shutdown()
        with pytest.raises(ActorStoppedError, match="shutdown"):
            await task.result()


async def test_max_children(world):
    """One task too many is refused."""
    async with world.run(TaskSupervisor(max_children=1)) as sup:
        await sup.start_task(forever)
        with pytest.raises(MaxChildrenError):
            await sup.start_task(forever)


async def test_link(world):
    """A linked task and its actor share their fate; an unlinked one's failure concerns nobody."""
    async with world.run(TaskSupervisor()) as sup:
        owner = await run(Actor(), clock=world.clock).start()
        await (await sup.start_task(double, -1)).ref.wait()
        assert owner.alive
        linked = await sup.start_task(forever, link=owner)
        await sup.start_task(double, -1, link=owner)
        assert isinstance(await owner.wait(), ValueError)
        await linked.ref.wait()
        assert isinstance(linked.ref.reason, ValueError)


async def test_stream_is_bounded_and_ordered(world):
    """A stream runs so many at a time and no more, and yields in the order of the items."""
    running, most = 0, 0

    async def work(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - number):
            await asyncio.sleep(0)
        running -= 1
        return number

    async with world.run(TaskSupervisor()) as sup:
        assert [n async for n in sup.stream(work, range(10), max_concurrency=3)] == list(range(10))
        assert most == 3
        last_runs = asyncio.Event()

        async def backwards(number):
            if number == 2:
                last_runs.set()
            await last_runs.wait()
            for _ in range(20 * (3 - number)):
                await asyncio.sleep(0)
            return number

        got = [n async for n in sup.stream(backwards, range(3), ordered=False)]
        assert got == [2, 1, 0]
        with pytest.raises(ValueError, match="max_concurrency"):
            await anext(sup.stream(work, [], max_concurrency=0))


async def test_stream_leaves_nothing(world):
    """A stream that fails, or whose consumer stops early, stops what still runs."""
    async with world.run(TaskSupervisor()) as sup:
        got = []
        with pytest.raises(ValueError, match="-1"):
            async for result in sup.stream(double, [1, -1, 2, 3], max_concurrency=4):
                got.append(result)  # noqa: PERF401 - what came before the failure counts
        assert got == [2]

        async def first_quick(number):
            return number if number == 0 else await forever()

        async with aclosing(sup.stream(first_quick, range(5))) as results:
            assert await anext(results) == 0
            assert (await world.count(sup))[1] == 4
        await settle()
        assert await world.count(sup) == [0, 0, 0, 0]


# Cases of Elixir's Task.SupervisorTest


async def test_context_of_the_caller(world):
    """A task sees the context variables of whoever started it (Elixir: $callers), a change stays its own."""
    variable = contextvars.ContextVar("variable", default="none")

    async def look():
        seen = variable.get()
        variable.set("the task's")
        return seen

    async with world.run(TaskSupervisor()) as sup:
        variable.set("the caller's")
        assert await (await sup.start_task(look)).result() == "the caller's"
        assert variable.get() == "the caller's"


async def test_a_linked_task_that_ends_at_once(world):
    """The link is there before the task begins: a normal end concerns nobody, a crash has its own reason."""

    async def at_once(error=None):
        if error is not None:
            raise error

    async with world.run(TaskSupervisor()) as sup:
        owner = await run(Actor(), clock=world.clock).start()
        assert await (await sup.start_task(at_once, link=owner)).result() is None
        await settle()
        assert owner.alive
        await sup.start_task(at_once, LookupError("gone"), link=owner)
        assert isinstance(await owner.wait(), LookupError)


@pytest.mark.parametrize(
    ("restart", "reason", "runs"),
    [
        (Restart.TEMPORARY, "boom", 1),
        (Restart.TRANSIENT, "boom", 2),
        (Restart.TRANSIENT, "normal", 1),
        (Restart.PERMANENT, "normal", 2),
    ],
)
async def test_start_child_with_a_restart(world, restart, reason, runs):
    """A task is temporary unless it is said otherwise; then it runs again with its arguments."""
    seen = []

    async def work(name):
        seen.append(name)
        if len(seen) == 1:
            raise Stop(reason)
        await forever()

    async with world.run(TaskSupervisor()) as sup:
        await sup.start_task(work, "argument", restart=restart)
        await settle()
        assert seen == ["argument"] * runs
        assert (await world.count(sup))[1] == runs - 1


async def test_shutdown_gives_a_result_that_came_in_time(world):
    """Shutdown hands out what the function had returned, and None if it was stopped."""

    async def careful():
        try:
            await forever()
        except asyncio.CancelledError:
            return "after all"

    async with world.run(TaskSupervisor()) as sup:
        done = await sup.start_task(double, 1)
        await done.ref.wait()
        assert done.done
        assert await done.shutdown() == 2
        started = await sup.start_task(careful)
        await settle()
        assert await started.shutdown() == "after all"
        assert await (await sup.start_task(forever)).shutdown() is None


async def test_shutdown_of_a_task_that_does_not_listen(world):
    """A task that goes on after it was asked to stop is killed when its budget is over."""

    async def slow():
        try:
            await forever()
        finally:
            await world.clock.sleep(100)

    async with world.run(TaskSupervisor()) as sup:
        task = await sup.start_task(slow)
        await settle()
        stopping = asyncio.ensure_future(task.shutdown(1.0))
        await world.clock.advance(0.9)
        assert not task.done
        await world.clock.advance(0.2)
        assert await stopping is None
        assert task.ref.reason == "killed"


async def test_supervisor_stop_gives_tasks_their_budget(world):
    """Tasks are stopped with their supervisor, all at the same time, each within its own budget."""
    ended = []

    async def work(name, seconds):
        try:
            await forever()
        finally:
            await world.clock.sleep(seconds)
            ended.append(name)

    system = world.run(TaskSupervisor())
    sup = await system.start()
    await sup.start_task(work, "quick", 1.0)
    await sup.start_task(work, "slow", 4.0, shutdown=2.0)
    await settle()
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(2.5)
    await stopping
    assert ended == ["quick"]


@pytest.mark.parametrize("ordered", [True, False])
async def test_stream_ends_late_items(world, ordered):
    """An item has its time from its start; one that takes longer is killed, in its place an error."""

    async def work(seconds):
        await world.clock.sleep(seconds)
        return seconds

    async def collect():
        return [
            outcome
            async for outcome in sup.stream(
                work, [3, 100, 1], timeout=5.0, ordered=ordered, return_exceptions=True
            )
        ]

    async with world.run(TaskSupervisor()) as sup:
        collecting = asyncio.ensure_future(collect())
        await world.clock.advance(5.5)
        got = await collecting
        assert [n for n in got if isinstance(n, int)] == ([3, 1] if ordered else [1, 3])
        (late,) = [n for n in got if isinstance(n, Exception)]
        assert isinstance(late, CallTimeoutError)
        assert got.index(late) == (1 if ordered else 2)
        assert world.clock.pending == 0
        failing = asyncio.ensure_future(anext(sup.stream(work, [100], timeout=5.0)))
        await world.clock.advance(5.5)
        with pytest.raises(CallTimeoutError):
            await failing
        assert await world.count(sup) == [0, 0, 0, 0]


async def test_stream_goes_on_after_failures(world):
    """With return_exceptions failures are results; without them the first ends the stream."""
    async with world.run(TaskSupervisor()) as sup:
        got = [n async for n in sup.stream(double, [1, -1, 2], return_exceptions=True)]
        assert (got[0], got[2]) == (2, 4)
        assert isinstance(got[1], ValueError)


async def test_stream_of_what_comes_in_time(world):
    """Items may come from an async iterator; they are taken as there is room, and an empty one is no error."""
    taken = []

    async def items():
        for number in range(5):
            taken.append(number)
            yield number
            await asyncio.sleep(0)

    async with world.run(TaskSupervisor()) as sup:
        async with aclosing(sup.stream(double, items(), max_concurrency=2)) as results:
            assert await anext(results) == 0
            assert taken == [0, 1]
            assert [n async for n in results] == [2, 4, 6, 8]
        assert [n async for n in sup.stream(double, [])] == []


async def test_stream_whose_items_fail(world):
    """An iterator that raises ends the stream, and what runs is stopped."""

    def items():
        yield 1
        yield 2
        raise LookupError("no more")

    async with world.run(TaskSupervisor()) as sup:
        with pytest.raises(LookupError, match="no more"):
            async for _ in sup.stream(forever_with, items()):
                pass
        assert await world.count(sup) == [0, 0, 0, 0]


async def forever_with(_):
    await forever()


async def test_stream_with_too_little_room(world):
    """A supervisor that is full ends the stream with its error, and leaves nothing behind."""
    async with world.run(TaskSupervisor(max_children=2)) as sup:
        with pytest.raises(MaxChildrenError):
            async for _ in sup.stream(forever_with, range(3), max_concurrency=3):
                pass
        assert await world.count(sup) == [0, 0, 0, 0]


@pytest.mark.parametrize("when", ["waiting", "started"])
async def test_a_stream_that_is_cancelled_while_it_starts_a_task(world, when):
    """The task that nobody will ever know of is stopped, whether it had begun by then or not."""

    async def forever(_):
        await asyncio.Event().wait()

    async def consume(sup):
        async for _ in sup.stream(forever, [1], timeout=None):
            pass

    async with world.run(TaskSupervisor()) as sup:
        await sup.suspend()
        consuming = asyncio.ensure_future(consume(sup))
        await settle()
        if when == "started":
            call = sup._cell.mailbox.user[0]
            call.future.add_done_callback(lambda _: consuming.cancel())
            await sup.resume()
        else:
            consuming.cancel()
            await settle()
            await sup.resume()
        await settle()
        assert consuming.cancelled()
        assert await world.count(sup) == [0, 0, 0, 0]


@pytest.mark.virtual_time
async def test_all_tasks_of_a_stream_have_one_budget():
    """A stream that is closed asks all its tasks to end at the same time, and waits once."""
    hear = asyncio.Event()

    async def deaf(_):
        while not hear.is_set():
            with suppress(asyncio.CancelledError):
                await hear.wait()

    async def consume(sup):
        async for _ in sup.stream(deaf, range(4), timeout=None):
            pass

    loop = asyncio.get_running_loop()
    async with run(TaskSupervisor()) as sup:
        consuming = asyncio.ensure_future(consume(sup))
        await settle()
        consuming.cancel()
        await asyncio.wait([consuming])
        assert loop.time() < 7
        hear.set()
