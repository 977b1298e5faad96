"""What static and dynamic supervisors do beyond OTP's list.

Backoff, limits, unknown requests, events.
"""

from __future__ import annotations

import asyncio

import pytest

from supervision import (
    IGNORE,
    Backoff,
    ChildNotFoundError,
    ChildSpec,
    ChildStartError,
    DeadLetter,
    DynamicSupervisor,
    Exited,
    MaxChildrenError,
    RestartLimitError,
    SpecError,
    Started,
    StartFailed,
    StillStopping,
    Stop,
    Strategy,
    Supervisor,
)
from supervision.testing import settle

SLOW = Backoff(minimum=1, maximum=4)


async def test_backoff(world):
    """A child with a backoff waits longer from restart to restart, and starts anew after it lived well."""
    async with world.supervisor(world.spec(1, backoff=SLOW), max_restarts=20) as sup:
        for delay in (1, 2, 4, 4):
            before = world.starts[1]
            await world.end((await world.kids(sup))[1])
            await world.clock.advance(delay - 0.1)
            assert (await sup.which_child(1)).state == "restarting"
            assert world.starts[1] == before
            await world.clock.advance(0.1)
            assert world.starts[1] == before + 1
        await world.clock.advance(2.5)
        await world.end((await world.kids(sup))[1])
        await world.clock.advance(1)
        assert await world.count(sup) == [1, 1, 0, 1]


async def test_backoff_of_failing_starts_counts(world):
    """Attempts with a backoff count against the limit like all others."""
    with pytest.raises(RestartLimitError):
        async with world.supervisor(world.spec(1, backoff=SLOW), max_restarts=3) as sup:
            world.failing[1] = RuntimeError("not now")
            await world.end((await world.kids(sup))[1])
            await world.clock.advance(1 + 2 + 3.9)
            assert world.starts[1] == 3
            assert sup.alive
            await world.clock.advance(4.2)
            assert await sup.wait() == "shutdown"
            assert world.starts[1] == 4


async def test_backoff_of_a_group(world):
    """In a group strategy the others wait stopped, and terminate_child ends the waiting."""
    async with world.supervisor(
        world.spec(1, backoff=SLOW), world.spec(2), strategy=Strategy.ONE_FOR_ALL
    ) as sup:
        await world.end((await world.kids(sup))[1])
        assert await world.count(sup) == [2, 0, 0, 2]
        await world.clock.advance(1)
        assert await world.count(sup) == [2, 2, 0, 2]
        await world.end((await world.kids(sup))[1])
        await sup.terminate_child(1)
        await world.clock.advance(10)
        assert world.starts == {1: 2, 2: 2}


async def test_backoff_that_never_reaches_the_limit(world):
    """A backoff so slow that the supervisor could never give up is refused, static or dynamic."""
    with pytest.raises(SpecError, match="bad_combination.*backoff"):
        Supervisor([world.spec(1, backoff=SLOW)], max_restarts=3, max_seconds=5)
    async with world.run(DynamicSupervisor()) as sup:
        with pytest.raises(SpecError, match="bad_combination.*backoff"):
            await sup.start_child(world.spec(1, backoff=SLOW))


async def test_backoff_of_a_dynamic_child(world):
    """A dynamic child waits for its backoff too, under its old ref."""
    async with world.dynamic() as sup:
        ref = await sup.start_child(world.spec(1, backoff=SLOW))
        await world.end(ref)
        assert (await sup.which_child(ref)).state == "restarting"
        await world.clock.advance(1)
        assert await world.count(sup) == [1, 1, 0, 1]


async def test_setup_adds_children(world):
    """What setup gives is started after the constructor's children."""

    class Late(Supervisor):
        async def setup(self):
            return world.specs(3)

    async with world.run(Late(world.specs(1, 2))) as sup:
        assert list(await world.kids(sup)) == [1, 2, 3]


async def test_one_for_all_absorbs_simultaneous_crashes(world):
    """Two crashes at the same instant under one_for_all cost one restart.

    One_for_one counts both.
    """
    for strategy, used in ((Strategy.ONE_FOR_ALL, 1), (Strategy.ONE_FOR_ONE, 2)):
        system = world.supervisor(*world.specs(1, 2), strategy=strategy)
        async with system as sup:
            for ref in (await world.kids(sup)).values():
                ref.cast("crash")
            await settle()
            assert await world.count(sup) == [2, 2, 0, 2]
            assert system.tree().window == (used, 3)


async def test_rest_for_one_counts_an_earlier_crash_of_its_own(world):
    """Under rest_for_one an earlier child that crashes at the same instant costs its own restart."""
    system = world.supervisor(*world.specs(1, 2, 3), strategy=Strategy.REST_FOR_ONE)
    async with system as sup:
        kids = await world.kids(sup)
        for name in (3, 1):
            kids[name].cast("crash")
        await settle()
        assert system.tree().window == (2, 3)
        assert await world.count(sup) == [3, 3, 0, 3]


async def test_group_restart_revives_stopped_siblings(world):
    """A group restart starts what was stopped by hand or ended normally, but nothing temporary."""
    async with world.supervisor(
        world.spec(1),
        world.spec(2),
        world.spec(3, restart="transient"),
        world.spec(4, restart="temporary"),
        strategy=Strategy.ONE_FOR_ALL,
    ) as sup:
        await sup.terminate_child(2)
        kids = await world.kids(sup)
        await world.end(kids[3], "normal")
        await world.end(kids[1])
        assert [name for name, ref in (await world.kids(sup)).items() if ref] == [1, 2, 3]


async def test_ignored_restart(world):
    """A permanent child that ignores its restart keeps its spec; the supervisor goes on."""
    async with world.supervisor(world.spec(1)) as sup:
        world.ignoring.add(1)
        await world.end((await world.kids(sup))[1])
        assert await world.kids(sup) == {1: None}
        assert await sup.restart_child(1) is None


async def test_max_children(world):
    """max_children refuses one more; a child that is being restarted holds its place."""
    async with world.dynamic(max_children=1) as sup:
        ref = await sup.start_child(world.spec(1, backoff=SLOW))
        with pytest.raises(MaxChildrenError):
            await sup.start_child(world.spec(2))
        await world.end(ref)
        with pytest.raises(MaxChildrenError):
            await sup.start_child(world.spec(2))
        await sup.terminate_child(ref)
        await sup.start_child(world.spec(2))
    for wrong in ({"max_children": -1}, {"max_children": True}, {"extra_arguments": [1]}):
        with pytest.raises(SpecError):
            DynamicSupervisor(**wrong)


async def test_extra_arguments(world):
    """Extra arguments are given to every start, also to restarts."""
    got = []

    def start(*arguments):
        got.append(arguments)
        return world.worker(1)

    async with world.dynamic(extra_arguments=(1, 2)) as sup:
        ref = await sup.start_child(ChildSpec("c", start))
        await world.end(ref)
    assert got == [(1, 2), (1, 2)]


async def test_start_that_ignores_by_itself(world):
    """A start function may say IGNORE without making an actor."""
    async with world.supervisor() as sup, world.dynamic() as dynamic:
        spec = ChildSpec(1, lambda: IGNORE)
        assert await sup.start_child(spec) is None
        assert await world.kids(sup) == {1: None}
        assert await dynamic.start_child(spec) is None
        assert await dynamic.which_children() == []


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), Stop("no")])
async def test_start_function_that_raises(world, error):
    """Whatever a start function raises is a start failure of that child, and nothing else."""

    def start():
        raise error

    async with world.supervisor(world.spec(1)) as sup:
        with pytest.raises(ChildStartError):
            await sup.start_child(ChildSpec(2, start))
        assert list(await world.kids(sup)) == [1]
    assert world.told(StartFailed)[0].retrying is False


async def test_supervisors_survive_strange_messages(world):
    """Unknown calls are refused, casts and other messages are dead letters, exits of strangers mean nothing."""
    async with world.supervisor(world.spec(1)) as sup, world.dynamic() as dynamic:
        for ref in (sup, dynamic):
            with pytest.raises(TypeError, match="understand"):
                await ref.call("what?")
            ref.cast("hey")
            ref.send("psst")
            ref.exit("stranger")
            await settle()
            assert ref.alive
        assert [e.message for e in world.told(DeadLetter)] == ["hey", "psst"] * 2


async def test_infinite_budget_is_reported(world):
    """Every five seconds it is told whom a supervisor with an infinite budget waits for, and where that is."""
    world.slow_stops[1] = 12.0
    system = world.supervisor(world.spec(1, shutdown=float("inf")))
    await system.start()
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(12)
    await stopping
    told = world.told(StillStopping)
    assert [event.waited_s for event in told] == [5.0, 10.0]
    assert "Worker.terminate" in "".join(told[0].stack)


async def test_killed_supervisor_leaves_no_children(world):
    """A supervisor whose budget is over kills its children at once instead of leaking them."""
    world.slow_stops.update({1: 1000.0, 2: 1000.0})
    inner = ChildSpec("in", lambda: Supervisor(world.specs(1, 2)), type="supervisor", shutdown=1.0)
    system = world.supervisor(inner)
    sup = await system.start()
    ref = (await world.kids(sup))["in"]
    kids = (await world.kids(ref)).values()
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(2)
    await stopping
    assert ref.reason == "killed"
    assert {kid.reason for kid in kids} == {"killed"}


async def test_late_timer_of_a_backoff(world):
    """A timer that was set for an earlier restart of a child does not restart it too early."""
    async with world.supervisor(world.spec(1, backoff=SLOW), max_restarts=20) as sup:
        await world.end((await world.kids(sup))[1])
        await world.clock.advance(0.5)
        await sup.terminate_child(1)
        await world.end(await sup.restart_child(1))
        await world.clock.advance(0.6)
        assert (await sup.which_child(1)).state == "restarting"
        assert world.starts[1] == 2
        await world.clock.advance(2)
        assert world.starts[1] == 3


async def test_start_function_that_fails_at_once_lets_others_run(world):
    """Between two attempts of a start function that raises without awaiting, other tasks have their turn."""
    attempts = 0

    def start():
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            raise RuntimeError("cannot")
        return world.worker(1)

    async with world.supervisor(ChildSpec(1, start), max_restarts=100_000) as sup:
        (await world.kids(sup))[1].cast("crash")
        for _ in range(50):
            await asyncio.sleep(0)
        assert 10 < attempts < 60
        await sup.terminate_child(1)


async def test_an_id_that_cannot_be_one(world):
    """An unhashable id is that of no child; it does not end the supervisor."""
    async with world.supervisor(world.spec(1)) as sup:
        verbs = (
            sup.terminate_child,
            sup.restart_child,
            sup.delete_child,
            sup.which_child,
            sup.get_childspec,
        )
        for verb in verbs:
            with pytest.raises(ChildNotFoundError):
                await verb(["not", "hashable"])
        assert sup.alive


async def test_a_start_that_gives_too_much(world):
    """A start function that gives neither a child nor a pair has failed; its supervisor lives on."""
    async with world.supervisor() as sup, world.dynamic() as dynamic:
        for ref in (sup, dynamic):
            with pytest.raises(ChildStartError, match="must give an Actor or a coroutine"):
                await ref.start_child(ChildSpec(1, lambda: (world.worker(1), 2, 3)))
            assert await world.count(ref) == [0, 0, 0, 0]


async def test_a_full_mailbox_does_not_stop_the_retries(world):
    """A supervisor whose mailbox is bounded and full tries again all the same to restart a child."""

    class Small(Supervisor):
        mailbox_limit = 1

    async with world.run(Small([world.spec(1)], max_restarts=10, max_seconds=3600)) as sup:
        one = (await world.kids(sup))[1]
        world.failing[1] = LookupError("not yet")
        world.slow_starts[1] = 1.0
        one.cast("crash")
        await settle()
        asked = asyncio.ensure_future(sup.count_children())
        await world.clock.advance(1)
        assert (await asked).active == 0
        del world.failing[1]
        await world.clock.advance(1)
        assert (await world.kids(sup))[1].alive


async def test_a_child_that_ignored_has_not_ended(world):
    """A child whose init says IGNORE never was there: neither Started nor Exited is told of it."""
    world.ignoring.add(1)
    async with world.supervisor(world.spec(1)):
        await settle()
        assert world.told(Started) == world.told(Exited) == []
