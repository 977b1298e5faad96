"""OTP's `supervisor_SUITE.erl` (S), by its numbers. Restart intensity, strategies, escalation, order."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from supervision import (
    BRUTAL_KILL,
    ChildSpec,
    ChildStartError,
    Restart,
    RestartLimitError,
    Stop,
    Strategy,
)
from supervision.testing import settle


def gives_up():
    return pytest.raises(RestartLimitError)


async def fail_once(world, sup, crashing, failing):
    """Crash one child; the restart of another fails once."""
    world.failing[failing] = Stop("normal")
    world.journal.clear()
    real = world.starts.get

    class Once(dict):
        def __contains__(self, name):
            return dict.__contains__(self, name)

        def __getitem__(self, name):
            return self.pop(name)

    world.failing = Once(world.failing)
    assert real(failing) == 1
    await world.end((await world.kids(sup))[crashing])


class Big:
    """A start argument that is too big to keep."""


async def test_S29_multiple_restarts(world):
    """With one restart a second permitted, crashes every 1.1 seconds go on for ever."""
    system = world.supervisor(world.spec(1, shutdown=BRUTAL_KILL), max_restarts=1, max_seconds=1)
    async with system as sup:
        for _ in range(4):
            await world.end((await world.kids(sup))[1])
            await world.clock.advance(1.1)
        assert sup.alive
        await sup.terminate_child(1)
        await sup.delete_child(1)


async def test_S30_one_for_one(world):
    """Only the child that crashed is restarted.

    The third crash of two permitted ends the supervisor.
    """
    with gives_up() as failure:
        async with world.supervisor(*world.specs(1, 2), max_restarts=2) as sup:
            one, two = (await world.kids(sup)).values()
            await world.end(one)
            kids = await world.kids(sup)
            assert kids[2] == two
            assert kids[1] != one
            assert await world.count(sup) == [2, 2, 0, 2]
            await world.end(two)
            kids = await world.kids(sup)
            await world.end(kids[2])
            assert await sup.wait() == "shutdown"
            assert kids[1].reason == "shutdown"
    assert failure.value.child_id == 2


async def test_S31_one_for_one_escalation(world):
    """Attempts that fail count.

    Four of them are permitted, then the supervisor and its children end.
    """
    with gives_up() as failure:
        async with world.supervisor(*world.specs(1, 2), max_restarts=4) as sup:
            one, two = (await world.kids(sup)).values()
            world.failing[1] = RuntimeError("cannot")
            await world.end(one)
            assert await sup.wait() == "shutdown"
            assert two.reason == "shutdown"
    assert world.starts[1] == 5
    assert isinstance(failure.value.__cause__, ChildStartError)


async def test_S32_one_for_all(world):
    """A crash restarts everybody and counts once."""
    with gives_up():
        async with world.supervisor(
            *world.specs(1, 2), strategy=Strategy.ONE_FOR_ALL, max_restarts=2
        ) as sup:
            one, two = (await world.kids(sup)).values()
            await world.end(one)
            assert two.reason == "shutdown"
            kids = await world.kids(sup)
            assert not {one, two} & set(kids.values())
            assert await world.count(sup) == [2, 2, 0, 2]
            await world.end(kids[2])
            await world.end((await world.kids(sup))[1])
            assert await sup.wait() == "shutdown"


async def test_S33_one_for_all_escalation(world):
    """A sibling that does not come up again ends the supervisor."""
    with gives_up():
        async with world.supervisor(
            *world.specs(1, 2), strategy=Strategy.ONE_FOR_ALL, max_restarts=4
        ) as sup:
            one, two = (await world.kids(sup)).values()
            world.failing[2] = RuntimeError("cannot")
            await world.end(one)
            assert two.reason == "shutdown"
            assert await sup.wait() == "shutdown"


async def test_S34_one_for_all_other_child_fails_restart(world):
    """When the second child fails in a group restart, the first is stopped and both start again in order."""
    async with world.supervisor(
        *world.specs(1, 2), strategy=Strategy.ONE_FOR_ALL, max_restarts=3
    ) as sup:
        await fail_once(world, sup, 1, 2)
        assert world.journal == [
            ("stop", 1), ("stop", 2), ("start", 1), ("stop", 1), ("start", 1), ("start", 2),
        ]  # fmt: skip
        assert await world.count(sup) == [2, 2, 0, 2]


async def test_S35_simple_one_for_one(world):
    """A dynamic child is restarted alone; the third crash of two permitted ends the supervisor."""
    with gives_up():
        async with world.dynamic(max_restarts=2) as sup:
            one = await sup.start_child(world.spec(1))
            two = await sup.start_child(world.spec(2))
            await world.end(one)
            kids = await world.kids(sup)
            assert kids[2] == two
            assert kids[1] != one
            assert await world.count(sup) == [2, 2, 0, 2]
            await world.end(two)
            await world.end((await world.kids(sup))[2])
            assert await sup.wait() == "shutdown"


async def test_S36_simple_one_for_one_shutdown(world):
    """Dynamic children stop in parallel, each within its own budget."""
    world.slow_stops.update({1: 1.0, 2: 1.0, 3: 5.0})
    system = world.dynamic()
    sup = await system.start()
    refs = [await sup.start_child(world.spec(n, shutdown=2.0)) for n in (1, 2, 3)]
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(0.99)
    assert all(ref.alive for ref in refs)
    await world.clock.advance(0.02)
    assert [ref.alive for ref in refs] == [False, False, True]
    await world.clock.advance(1.1)
    await stopping
    assert [ref.reason for ref in refs] == ["shutdown", "shutdown", "killed"]


async def test_S37_simple_one_for_one_extra(world):
    """A dynamic child's info is there after restarts, and the intensity counts as ever."""
    with gives_up():
        async with world.dynamic(max_restarts=2) as sup:
            ref = await sup.start_child(ChildSpec(1, lambda: (world.worker(1), "extra")))
            assert ref.info == "extra"
            for _ in range(3):
                await world.end(ref)
                ref = (await world.kids(sup))[1] if sup.alive else None
            assert await sup.wait() == "shutdown"


async def test_S38_simple_one_for_one_escalation(world):
    """A dynamic child that cannot be restarted ends the supervisor and the others."""
    with gives_up():
        async with world.dynamic(max_restarts=4) as sup:
            one = await sup.start_child(world.spec(1))
            two = await sup.start_child(world.spec(2))
            world.failing[1] = RuntimeError("error")
            await world.end(one)
            assert await sup.wait() == "shutdown"
            assert two.reason == "shutdown"
    assert world.starts[1] == 5


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize("restart", list(Restart))
async def test_S39_S75_do_not_save_start_parameters_for_temporary_children(world, kind, restart):
    """What the start function of a temporary child holds is let go once the child runs."""
    async with world.supervisor() if kind == "static" else world.dynamic() as sup:
        big = Big()
        gone = weakref.ref(big)
        await sup.start_child(
            ChildSpec(1, lambda held=big: held and world.worker(1), restart=restart)
        )
        del big
        await settle()
        gc.collect()
        assert (gone() is None) is (restart is Restart.TEMPORARY)


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.PERMANENT])
async def test_S40_simple_one_for_one_restart_ignore(world, restart):
    """A dynamic child that ignores its restart is dropped."""
    async with world.dynamic(max_restarts=10) as sup:
        await sup.start_child(world.spec(1, restart=restart))
        for _ in range(2):
            (await world.kids(sup))[1].kill()
            await settle()
        assert world.starts[1] == 3
        world.ignoring.add(1)
        (await world.kids(sup))[1].kill()
        await settle()
        assert await sup.which_children() == []
        assert await world.count(sup) == [0, 0, 0, 0]
    assert sup.reason == "shutdown"


async def test_S41_rest_for_one(world):
    """A crash restarts the child and those started after it; those before live on."""
    with gives_up():
        async with world.supervisor(
            *world.specs(1, 2, 3), strategy=Strategy.REST_FOR_ONE, max_restarts=2
        ) as sup:
            one, two, three = (await world.kids(sup)).values()
            await world.end(two)
            assert three.reason == "shutdown"
            kids = await world.kids(sup)
            assert kids[1] == one
            assert not {two, three} & set(kids.values())
            assert await world.count(sup) == [3, 3, 0, 3]
            await world.end(kids[3])
            assert (await world.kids(sup))[2] == kids[2]
            await world.end(kids[2])
            assert await sup.wait() == "shutdown"


async def test_S42_rest_for_one_escalation(world):
    """A later child that does not come up again ends the supervisor."""
    with gives_up():
        async with world.supervisor(
            *world.specs(1, 2), strategy=Strategy.REST_FOR_ONE, max_restarts=4
        ) as sup:
            world.failing[2] = RuntimeError("cannot")
            await world.end((await world.kids(sup))[1])
            assert await sup.wait() == "shutdown"


async def test_S43_rest_for_one_other_child_fails_restart(world):
    """When a later child fails in a group restart, only it and those after it are tried again."""
    async with world.supervisor(
        *world.specs(1, 2), strategy=Strategy.REST_FOR_ONE, max_restarts=3
    ) as sup:
        await fail_once(world, sup, 1, 2)
        assert world.journal == [("stop", 1), ("stop", 2), ("start", 1), ("start", 2)]
        assert world.starts == {1: 2, 2: 3}
        assert await world.count(sup) == [2, 2, 0, 2]


async def test_S87_order_of_children(world):
    """Children start in order, stop in reverse order, in a group restart and at the end."""
    async with world.supervisor(
        *world.specs(7, 3, 10, 2, 5), strategy=Strategy.REST_FOR_ONE
    ) as sup:
        assert world.journal == [("start", n) for n in (7, 3, 10, 2, 5)]
        world.journal.clear()
        (await world.kids(sup))[10].kill()
        await settle()
        assert world.journal == [
            ("stop", 5), ("stop", 2), ("start", 10), ("start", 2), ("start", 5),
        ]  # fmt: skip
        world.journal.clear()
    assert world.journal == [("stop", n) for n in (5, 2, 10, 3, 7)]
