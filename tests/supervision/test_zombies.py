"""Children that refuse to end: visible, counted, and too many of them end their supervisor."""

from __future__ import annotations

import asyncio

import pytest

from supervision import (
    Actor,
    ChildSpec,
    GaveUp,
    SpecError,
    Supervisor,
    Zombie,
    ZombieLimitError,
    run,
)
from supervision.testing import settle


class Stubborn:
    """Bodies that swallow every cancel until they are told not to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def body(self) -> None:
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                continue

    async def end(self) -> None:
        self.go.set()
        await settle()


@pytest.fixture
async def stubborn():
    bodies = Stubborn()
    yield bodies
    await bodies.end()


async def test_too_many_zombies_end_their_supervisor(world, stubborn):
    """One more than the limit, and the supervisor of the last one gives up; a parent may restart it."""
    kids = [ChildSpec(n, stubborn.body, shutdown=0.1, restart="transient") for n in (1, 2, 3)]
    inner = ChildSpec("in", lambda: Supervisor(kids), type="supervisor")
    system = run(
        Supervisor([inner], max_restarts=1),
        clock=world.clock,
        observer=world.events.append,
        max_zombies=1,
    )
    sup = await system.start()
    first = (await world.kids(sup))["in"]
    stopping = asyncio.ensure_future(first.terminate_child(1))
    await world.clock.advance(1)
    await stopping
    assert first.alive
    assert system.zombies == 1
    stopping = asyncio.ensure_future(first.terminate_child(2))
    await world.clock.advance(2)
    with pytest.raises(Exception, match="stopped"):
        await stopping
    assert isinstance(first.cause, ZombieLimitError)
    assert (first.cause.zombies, first.cause.max_zombies) == (2, 1)
    zombies = [event.path for event in world.told(Zombie)]
    assert zombies == ["/root/in/1", "/root/in/2", "/root/in/3"]
    assert [event.path for event in world.told(GaveUp)] == ["/root/in"]
    second = (await world.kids(sup))["in"]
    assert second != first
    await stubborn.end()
    assert system.zombies == 0
    await system.stop()


async def test_a_killed_zombie_counts_as_well(world, stubborn):
    """A child that refuses a kill from elsewhere is not restarted for ever."""
    system = run(
        Supervisor([ChildSpec(1, Stubborn.body.__get__(stubborn))], max_restarts=100),
        clock=world.clock,
        max_zombies=2,
    )
    sup = await system.start()
    for _ in range(3):
        (await world.kids(sup))[1]._cell.kill()
        await world.clock.advance(1)
    assert await sup.wait() == "shutdown"
    with pytest.raises(ZombieLimitError):
        await system.stop()


async def test_a_spawned_task_that_refuses(world, stubborn):
    """Its actor ends without it; it is told of by its own name and counted until it ends."""

    class Spawning(Actor):
        async def init(self):
            self.spawn(stubborn.body(), name="stubborn")

    async with world.supervisor(ChildSpec(1, Spawning, shutdown=1.0)) as sup:
        stopping = asyncio.ensure_future(sup.terminate_child(1))
        await world.clock.advance(10)
        await stopping
    assert [(event.path, event.zombies) for event in world.told(Zombie)] == [("stubborn", 1)]


def test_the_limit_is_a_count():
    """Anything else is refused."""
    with pytest.raises(SpecError, match="invalid_max_zombies"):
        run(Supervisor(), max_zombies=-1)
