"""OTP's `supervisor_SUITE.erl` (S), by its numbers. Stops: budgets, brutal kills, races."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from supervision import (
    BRUTAL_KILL,
    INFINITY,
    ChildSpec,
    ChildType,
    Restart,
    Shutdown,
    ShutdownError,
    Stop,
)

REASONS = ("normal", "shutdown", Shutdown("test"), "other")


async def until_killed(world, name):
    """Swallow the first cancel only."""
    world.journal.append(("start", name))
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.get_running_loop().create_future()
    await asyncio.get_running_loop().create_future()


async def test_S16_sup_stop_infinity(world):
    """Children with an infinite budget are waited for, worker or supervisor."""
    world.slow_stops.update({1: 100, 2: 1000})
    system = world.supervisor(
        world.spec(1, shutdown=INFINITY, type=ChildType.SUPERVISOR),
        world.spec(2, shutdown=INFINITY),
    )
    sup = await system.start()
    one, two = (await world.kids(sup)).values()
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(999)
    assert two.alive
    await world.clock.advance(101)
    await stopping
    assert (one.reason, two.reason) == ("shutdown", "shutdown")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("static", id="S17_sup_stop_timeout"),
        pytest.param("dynamic", id="S18_sup_stop_timeout_dynamic"),
    ],
)
async def test_S17_S18_sup_stop_timeout(world, kind):
    """A child that hangs on is killed when its budget is over; its sibling ends with shutdown."""
    system = world.supervisor() if kind == "static" else world.dynamic()
    sup = await system.start()
    temporary = {"restart": Restart.TEMPORARY, "shutdown": 1.0}
    one = await sup.start_child(world.spec(1, **temporary))
    two = await sup.start_child(ChildSpec(2, lambda: until_killed(world, 2), **temporary))
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(0.9)
    assert two.alive
    await world.clock.advance(0.2)
    await stopping
    assert (one.reason, two.reason, sup.reason) == ("shutdown", "killed", "shutdown")


async def test_S19_sup_stop_brutal_kill(world):
    """A child with brutal_kill ends without its terminate."""
    async with world.supervisor(world.spec(1), world.spec(2, shutdown=BRUTAL_KILL)) as sup:
        one, two = (await world.kids(sup)).values()
    assert (one.reason, two.reason) == ("shutdown", "killed")
    assert world.journal[-1] == ("stop", 1)
    assert ("stop", 2) not in world.journal


async def test_S20_sup_stop_brutal_kill_dynamic(world):
    """Ten dynamic children with brutal_kill are all killed."""
    async with world.dynamic() as sup:
        refs = [await sup.start_child(world.spec(n, shutdown=BRUTAL_KILL)) for n in range(10)]
    assert {ref.reason for ref in refs} == {"killed"}
    assert sup.reason == "shutdown"


async def test_S21_sup_stop_race(world):
    """Children that end by themselves while the supervisor stops are not restarted and hang nothing."""
    names = list(itertools.product(list(Restart), REASONS))
    world.slow_stops["z"] = 1.0
    system = world.supervisor(
        world.spec("a", restart=Restart.TEMPORARY, shutdown=1.0),
        *[world.spec(name, restart=name[0]) for name in names],
        world.spec("z", restart=Restart.TEMPORARY, shutdown=2.0),
    )
    sup = await system.start()
    kids = await world.kids(sup)
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(0.2)
    for name in names:
        kids[name].cast(Stop(name[1]))
    await world.clock.advance(1.0)
    await stopping
    assert [kids[name].reason for name in names] == [name[1] for name in names]
    assert kids["a"].reason == kids["z"].reason == sup.reason == "shutdown"
    assert set(world.starts.values()) == {1}


@pytest.mark.parametrize("restart", list(Restart))
async def test_S22_sup_stop_non_shutdown_exit_dynamic(world, restart):
    """What terminate chooses is the exit reason; the supervisor ends with shutdown all the same."""
    async with world.dynamic() as sup:
        refs = []
        for reason in REASONS:
            world.endings[reason] = Stop(reason)
            refs.append(await sup.start_child(world.spec(reason, restart=restart)))
    assert [ref.reason for ref in refs] == list(REASONS)
    assert sup.reason == "shutdown"
    told = [event.reason for event in world.told(ShutdownError)]
    assert told == (["normal", "other"] if restart is Restart.PERMANENT else ["other"])
