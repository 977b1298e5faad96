"""OTP's `supervisor_SUITE.erl` (S), by its numbers. Restart loops that management calls interrupt."""

from __future__ import annotations

import asyncio

from supervision import (
    IGNORE,
    AlreadyPresentError,
    ChildRestartingError,
    ChildSpec,
    ChildState,
    Stop,
    Strategy,
)
from supervision.testing import settle


async def test_S80_hanging_restart_loop(world):
    """Between the attempts of a restart that fails slowly, management calls are served."""
    async with world.supervisor(world.spec(1), max_restarts=8, max_seconds=10) as sup:
        world.failing[1] = RuntimeError("not now")
        world.slow_starts[1] = 2.0

        async def served(coro):
            waiting = asyncio.ensure_future(coro)
            await world.clock.advance(2.5)
            assert waiting.done()
            return waiting

        (await world.kids(sup))[1].cast(Stop("boom"))
        for call, refusal in [
            (sup.start_child(world.spec(1)), AlreadyPresentError),
            (sup.restart_child(1), ChildRestartingError),
            (sup.delete_child(1), ChildRestartingError),
        ]:
            assert isinstance((await served(call)).exception(), refusal)
        listed = (await served(sup.which_children())).result()
        assert [(info.ref, info.state) for info in listed] == [(None, ChildState.RESTARTING)]
        assert list((await served(sup.count_children())).result()) == [1, 0, 0, 1]
        await served(sup.terminate_child(1))
        attempts = world.starts[1]
        await world.clock.advance(20)
        assert world.starts[1] == attempts
        assert (await world.kids(sup)) == {1: None}
        world.failing.clear()
        world.slow_starts.clear()
        ref = await sup.restart_child(1)
        world.failing[1] = RuntimeError("not now")
        world.slow_starts[1] = 2.0
        await world.end(ref)
    assert sup.reason == "shutdown"


async def test_S81_hanging_restart_loop_rest_for_one(world):
    """In a rest_for_one loop those before run, those after wait; terminate_child ends the loop."""
    async with world.supervisor(
        *world.specs(1, 2, 3), strategy=Strategy.REST_FOR_ONE, max_restarts=8, max_seconds=10
    ) as sup:
        kids = await world.kids(sup)
        world.failing[2] = RuntimeError("not now")
        world.slow_starts[2] = 2.0
        kids[2].cast(Stop("boom"))
        await settle()
        listing = asyncio.ensure_future(sup.which_children())
        counting = asyncio.ensure_future(world.count(sup))
        stopping = asyncio.ensure_future(sup.terminate_child(2))
        await world.clock.advance(2.5)
        states = [(info.id, info.state) for info in await listing]
        assert states == [(3, "undefined"), (2, "restarting"), (1, "running")]
        assert await counting == [3, 1, 0, 3]
        await stopping
        assert await world.kids(sup) == {1: kids[1], 2: None, 3: None}


async def test_S82_hanging_restart_loop_simple(world):
    """A dynamic child in a restart loop is named by the ref of its last life."""
    async with world.dynamic(max_restarts=8, max_seconds=10) as sup:
        old = await sup.start_child(world.spec(1))
        world.failing[1] = RuntimeError("not now")
        world.slow_starts[1] = 2.0
        old.cast(Stop("boom"))
        await settle()
        listing = asyncio.ensure_future(sup.which_children())
        counting = asyncio.ensure_future(world.count(sup))
        await world.clock.advance(2.5)
        assert [info.state for info in await listing] == ["restarting"]
        assert await counting == [1, 0, 0, 1]
        stopping = asyncio.ensure_future(sup.terminate_child(old))
        await world.clock.advance(2.5)
        await stopping
        assert await sup.which_children() == []


async def test_a_start_function_that_ignores_a_restart(world):
    """A child whose start function says ignore when it is restarted is down, and no longer restarting."""
    says = [IGNORE, world.worker(1)]
    async with world.supervisor(ChildSpec(1, says.pop)) as sup:
        await world.end((await world.kids(sup))[1])
        assert (await sup.which_child(1)).state is ChildState.UNDEFINED
        await sup.delete_child(1)
        assert await world.count(sup) == [0, 0, 0, 0]
