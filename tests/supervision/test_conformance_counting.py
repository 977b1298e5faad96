"""OTP's `supervisor_SUITE.erl` (S), by its numbers. Counting, what is kept, and scale."""

from __future__ import annotations

import asyncio
import gc
import time
from functools import partial

import pytest

from supervision import (
    BRUTAL_KILL,
    Actor,
    AlreadyPresentError,
    AlreadyStartedError,
    ChildSpec,
    ChildType,
    DynamicSupervisor,
    Restart,
    Stop,
    Strategy,
    Supervisor,
    run,
)
from supervision.testing import settle

GROUPS = (Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE)


async def spent(coro):
    """Measure the processor's time, without that of a collector which looks through all other tests."""
    gc.collect()
    gc.disable()
    try:
        before = time.process_time()
        await coro
        return time.process_time() - before
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(ChildType.WORKER, id="S71_count_children"),
        pytest.param(ChildType.SUPERVISOR, id="S72_count_children_supervisor"),
    ],
)
async def test_S71_S72_count_children(world, kind):
    """Counts of many children are exact, and nothing is left when they are gone."""
    async with world.dynamic() as sup:
        specs = partial(world.spec, 1, restart=Restart.TEMPORARY, type=kind)
        refs = [await sup.start_child(specs()) for _ in range(1000)]
        both = (1000, 0) if kind is ChildType.SUPERVISOR else (0, 1000)
        assert await world.count(sup) == [1000, 1000, *both]
        assert await world.count(sup) == [1000, 1000, *both]
        for ref in refs:
            ref.kill()
        await settle()
        assert await world.count(sup) == [0, 0, 0, 0]


async def test_S73_count_restarting_children(world):
    """A child that is being restarted counts as one that does not run."""
    async with world.dynamic(max_restarts=20, max_seconds=10) as sup:
        for name in (1, 2, 3):
            await sup.start_child(world.spec(name, shutdown=BRUTAL_KILL))
        for ref in (await world.kids(sup)).values():
            await world.end(ref)
        assert await world.count(sup) == [3, 3, 0, 3]
        for name in (1, 2, 3):
            world.failing[name] = RuntimeError("not now")
            world.slow_starts[name] = 2.0
        kids = await world.kids(sup)
        for name in (1, 2):
            kids[name].cast(Stop("boom"))
        await settle()
        counting = asyncio.ensure_future(world.count(sup))
        await world.clock.advance(4)
        assert await counting == [3, 1, 0, 3]
        world.failing.clear()
        world.slow_starts.clear()
        await world.clock.advance(4)
        assert await world.count(sup) == [3, 3, 0, 3]
        for left in (2, 1, 0):
            await sup.terminate_child((await sup.which_children())[0].ref)
            assert await world.count(sup) == [left, left, 0, left]


@pytest.mark.parametrize("ending", ["kill", "normal", "boom", "terminate"])
@pytest.mark.parametrize("strategy", list(Strategy))
async def test_S76_do_not_save_child_specs_for_temporary_children(world, strategy, ending):
    """After its end a permanent child is there again, a transient one is known, a temporary one forgotten."""
    for restart in Restart:
        async with world.supervisor(strategy=strategy) as sup:
            spec = world.spec(1, restart=restart)
            ref = await sup.start_child(spec)
            if ending == "terminate":
                await sup.terminate_child(1)
            elif ending == "kill":
                ref.kill()
                await settle()
            else:
                await world.end(ref, ending)
            if restart is Restart.TEMPORARY:
                await sup.start_child(spec)
                continue
            down = ending == "terminate" or (restart is Restart.TRANSIENT and ending == "normal")
            with pytest.raises(AlreadyPresentError if down else AlreadyStartedError):
                await sup.start_child(spec)
            if down:
                await sup.restart_child(1)


@pytest.mark.parametrize("strategy", GROUPS)
async def test_S78_temporary_bystander(world, strategy):
    """A temporary child that a group restart stops is not started again."""
    async with world.supervisor(
        world.spec(1), world.spec(2, restart=Restart.TEMPORARY), strategy=strategy, max_restarts=2
    ) as sup:
        kids = await world.kids(sup)
        await world.end(kids[1], "normal")
        assert kids[2].reason == "shutdown"
        assert list(await world.kids(sup)) == [1]
        assert world.starts[2] == 1


async def test_S77_simple_one_for_one_scale_many_temporary_children():
    """Stopping ten times as many dynamic children takes no more than fifty times as long."""

    async def stop(children):
        system = run(DynamicSupervisor())
        sup = await system.start()
        for _ in range(children):
            await sup.start_child(ChildSpec(1, Actor, restart=Restart.TEMPORARY))
        return await spent(system.stop())

    assert await stop(4000) <= 50 * await stop(400)


async def test_S88_scale_start_stop_many_children():
    """Starting and stopping ten times as many static children takes no more than fifty times as long."""

    async def start_and_stop(children):
        system = run(Supervisor([ChildSpec(number, Actor) for number in range(children)]))
        return await spent(system.start()) + await spent(system.stop())

    assert await start_and_stop(4000) <= 50 * await start_and_stop(400)
