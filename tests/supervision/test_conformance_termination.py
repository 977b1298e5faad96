"""OTP's `supervisor_SUITE.erl` (S), by its numbers. Restart types against exit reasons, and whole trees."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from supervision import (
    ChildSpec,
    ChildStartError,
    ChildType,
    DynamicSupervisor,
    Exited,
    Restart,
    Restarted,
    Shutdown,
    Started,
    StartFailed,
    Stop,
    Strategy,
    Supervisor,
    run,
)
from supervision.testing import settle


@pytest.mark.parametrize(
    ("restart", "reason", "after"),
    [
        pytest.param(Restart.PERMANENT, "normal", [1, 1, 0, 1], id="S45_permanent_normal"),
        pytest.param(Restart.TRANSIENT, "normal", [1, 0, 0, 1], id="S46_transient_normal"),
        pytest.param(Restart.TEMPORARY, "normal", [0, 0, 0, 0], id="S47_temporary_normal"),
        pytest.param(Restart.PERMANENT, "shutdown", [1, 1, 0, 1], id="S48_permanent_shutdown"),
        pytest.param(Restart.PERMANENT, Shutdown("x"), [1, 1, 0, 1], id="S48_permanent_shutdown_x"),
        pytest.param(Restart.TRANSIENT, "shutdown", [1, 0, 0, 1], id="S49_transient_shutdown"),
        pytest.param(Restart.TRANSIENT, Shutdown("x"), [1, 0, 0, 1], id="S49_transient_shutdown_x"),
        pytest.param(Restart.TEMPORARY, "shutdown", [0, 0, 0, 0], id="S50_temporary_shutdown"),
        pytest.param(Restart.TEMPORARY, Shutdown("x"), [0, 0, 0, 0], id="S50_temporary_shutdown_x"),
        pytest.param(Restart.PERMANENT, "boom", [1, 1, 0, 1], id="S52_permanent_abnormal"),
        pytest.param(Restart.TRANSIENT, "boom", [1, 1, 0, 1], id="S53_transient_abnormal"),
        pytest.param(Restart.TEMPORARY, "boom", [0, 0, 0, 0], id="S54_temporary_abnormal"),
    ],
)
async def test_S45_to_S54_termination(world, restart, reason, after):
    """Restart type and exit reason decide whether a child is restarted, kept or forgotten."""
    async with world.supervisor(world.spec(1, restart=restart), max_restarts=2) as sup:
        one = (await world.kids(sup))[1]
        await world.end(one, reason)
        assert one.reason == reason
        assert await world.count(sup) == after
        if restart is Restart.TEMPORARY:
            await sup.start_child(world.spec(1, restart=restart))
        elif after == [1, 0, 0, 1]:
            await sup.restart_child(1)
        assert await world.count(sup) == [1, 1, 0, 1]


async def test_S51_faulty_application_shutdown(world):
    """A root that fails to start names the child and shows the original traceback, also through levels."""

    def leaf():
        return undefined_name()  # noqa: F821 - the case is a call of something undefined

    inner = ChildSpec("inner", lambda: Supervisor([ChildSpec("leaf", leaf)]), type="supervisor")
    with pytest.raises(ChildStartError) as failure:
        await world.supervisor(world.spec(1), inner).start()
    assert failure.value.child_id == "inner"
    assert failure.value.__cause__.child_id == "leaf"
    origin = failure.value.__cause__.__cause__
    assert isinstance(origin, NameError)
    frames = [frame.name for frame in __import__("traceback").extract_tb(origin.__traceback__)]
    assert frames[-1] == "leaf"
    assert world.journal == [("start", 1), ("stop", 1)]


async def test_S55_child_unlink(world):
    """A child whose body runs in a task of its own making cannot hang its supervisor."""

    async def detached():
        await asyncio.shield(asyncio.ensure_future(asyncio.Event().wait()))

    async with world.supervisor(ChildSpec(1, detached)) as sup:
        await sup.terminate_child(1)
        assert await world.count(sup) == [1, 0, 0, 1]
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await settle()


async def test_S56_tree(world):
    """An escalation restarts static subtrees from their specs, also the one that was stopped by hand."""

    def level(name, *specs, **options):
        make = partial(Supervisor, specs, name=name, max_seconds=3600, **options)
        return partial(ChildSpec, name, make, type=ChildType.SUPERVISOR)

    dynamic = partial(DynamicSupervisor, max_restarts=2, max_seconds=3600)
    async with world.supervisor(
        level("one", *world.specs("1a", "1b"))(),
        ChildSpec("two", dynamic, type=ChildType.SUPERVISOR),
        level("three")(restart=Restart.TRANSIENT),
        strategy=Strategy.ONE_FOR_ALL,
        max_restarts=4,
    ) as top:
        await top.terminate_child("three")
        assert await world.count(top) == [3, 2, 3, 0]
        kids = await world.kids(top)
        first = await kids["two"].start_child(world.spec("d1"))
        await kids["two"].start_child(world.spec("d2"))
        workers = await world.kids(kids["one"])
        await world.end(workers["1a"])
        assert (await world.kids(kids["one"]))["1b"] == workers["1b"]
        world.failing["d1"] = RuntimeError("cannot")
        await world.end(first)
        assert await world.count(top) == [3, 3, 3, 0]
        again = await world.kids(top)
        assert not set(again.values()) & set(kids.values())
        assert await world.count(again["one"]) == [2, 2, 0, 2]
        assert await world.count(again["two"]) == [0, 0, 0, 0]


async def test_restart_events_differ_from_first_starts(world):
    """An observer can tell a restart from a first start, and hears of exits and failed starts."""
    async with world.supervisor(world.spec(1)) as sup:
        world.failing[1] = RuntimeError("once")
        one = (await world.kids(sup))[1]
        one.cast(Stop("boom"))
        await one.wait()
        while world.starts[1] < 2:  # noqa: ASYNC110 - the attempts go on, nothing settles
            await asyncio.sleep(0)
        world.failing.clear()
        await settle()
    kinds = [type(event) for event in world.events]
    assert kinds == [Started, Exited, StartFailed, Restarted, Exited, Exited]
    assert run is not None
