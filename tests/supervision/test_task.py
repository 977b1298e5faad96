"""Supervised functions: results, failures, links, streams."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from supervision import (
    Actor,
    ActorStoppedError,
    CallTimeoutError,
    MaxChildrenError,
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
