"""The dynamic supervisor: the cases of Elixir's DynamicSupervisorTest."""

from __future__ import annotations

import asyncio

import pytest

from supervision import (
    BRUTAL_KILL,
    IGNORE,
    AlreadyStartedError,
    ChildNotFoundError,
    ChildSpec,
    ChildStartError,
    ChildState,
    DynamicSupervisor,
    MaxChildrenError,
    Registry,
    Restart,
    RestartLimitError,
    Shutdown,
    ShutdownError,
    SpecError,
    StartFailed,
)
from supervision.record import Child
from supervision.testing import settle

REASONS = ("normal", "shutdown", Shutdown("x"), "boom")


@pytest.mark.parametrize(
    ("options", "atom"),
    [
        ({"max_children": -1}, "invalid_max_children"),
        ({"max_children": 1.5}, "invalid_max_children"),
        ({"extra_arguments": [1]}, "invalid_extra_arguments"),
        ({"max_restarts": -1}, "invalid_intensity"),
        ({"max_seconds": 0}, "invalid_period"),
    ],
)
async def test_init_refuses_bad_options(options, atom):
    """Each option is checked before anything starts."""
    with pytest.raises(SpecError) as refused:
        DynamicSupervisor(**options)
    assert refused.value.atom == atom


async def test_start_child_with_different_returns(world):
    """A ref, one with info, None for ignore; what fails is the caller's error, and nothing is kept."""

    def gives(value):
        return ChildSpec(1, lambda: value)

    def raises(error):
        def start():
            raise error

        return ChildSpec(1, start)

    async with world.dynamic() as sup:
        assert (await sup.start_child(world.spec(1))).alive
        assert (await sup.start_child(gives((world.worker(2), "info")))).info == "info"
        assert await sup.start_child(gives(IGNORE)) is None
        for spec in (gives("nonsense"), raises(LookupError()), raises(SystemExit())):
            with pytest.raises(ChildStartError):
                await sup.start_child(spec)
        with pytest.raises(ChildStartError) as failure:
            await sup.start_child(raises(LookupError("mine")))
        assert isinstance(failure.value.reason, LookupError)
        assert failure.value.__cause__ is failure.value.reason
        assert await world.count(sup) == [2, 2, 0, 2]
    assert all(not event.retrying for event in world.told(StartFailed))


async def test_ids_need_not_differ(world):
    """A spec's id is a label; the same one may be started again and again."""
    async with world.dynamic() as sup:
        refs = [await sup.start_child(world.spec("same")) for _ in range(3)]
        assert len(set(refs)) == 3
        assert [info.id for info in await sup.which_children()] == ["same"] * 3


async def test_a_name_that_is_taken(world):
    """The start of a child whose name belongs to another says who has it."""
    registry = Registry()
    async with world.dynamic() as sup:
        named = ChildSpec(1, registry.via("name", lambda: world.worker(1)))
        first = await sup.start_child(named)
        with pytest.raises(AlreadyStartedError) as taken:
            await sup.start_child(named)
        assert taken.value.ref == first
        assert await world.count(sup) == [1, 1, 0, 1]


async def test_extra_arguments_come_first(world):
    """They are put before the arguments of the start function, also at every restart."""
    seen = []

    def start(*arguments):
        seen.append(arguments)
        return world.worker(1)

    async with world.dynamic(extra_arguments=("extra", 2)) as sup:
        ref = await sup.start_child(ChildSpec(1, start))
        await world.end(ref)
        assert seen == [("extra", 2)] * 2


async def test_max_children(world):
    """One more than the limit is refused; those that are being restarted count, restarts never do."""
    async with world.dynamic(max_children=2, max_restarts=100) as sup:
        one = await sup.start_child(world.spec(1))
        await sup.start_child(world.spec(2))
        with pytest.raises(MaxChildrenError):
            await sup.start_child(world.spec(3))
        await world.end(one)
        assert await world.count(sup) == [2, 2, 0, 2]
        (again,) = [info.ref for info in await sup.which_children() if info.id == 1]
        world.slow_starts[1] = 1.0
        world.failing[1] = LookupError()
        await world.end(again)
        await world.clock.advance(1.5)
        starting = asyncio.ensure_future(sup.start_child(world.spec(3)))
        await world.clock.advance(1)
        with pytest.raises(MaxChildrenError):
            await starting
        ending = asyncio.ensure_future(sup.terminate_child(again))
        await world.clock.advance(1)
        await ending
        await sup.start_child(world.spec(3))
    async with world.dynamic(max_children=0) as sup:
        with pytest.raises(MaxChildrenError):
            await sup.start_child(world.spec(1))


@pytest.mark.parametrize("restart", list(Restart))
@pytest.mark.parametrize("reason", REASONS, ids=str)
async def test_restart_types(world, restart, reason):
    """Permanent always, transient after an abnormal exit, temporary never; nothing is kept of the others."""
    async with world.dynamic() as sup:
        ref = await sup.start_child(world.spec(1, restart=restart))
        await world.end(ref, reason)
        again = restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and reason == "boom")
        assert world.starts[1] == 1 + again
        assert (await world.count(sup))[0] == again


async def test_a_restart_that_fails_is_tried_again(world):
    """Each attempt counts; one that says ignore ends the child, one too many the supervisor."""
    async with world.dynamic(max_restarts=3) as sup:
        ref = await sup.start_child(world.spec(1))
        fails = [LookupError(), LookupError()]
        world.failing[1] = fails[0]
        ref.cast("crash")
        while world.starts[1] < 3:  # noqa: ASYNC110 - turns are what passes
            await asyncio.sleep(0)
        del world.failing[1]
        world.ignoring.add(1)
        await settle()
        assert await sup.which_children() == []
        assert [event.retrying for event in world.told(StartFailed)] == [True, True]
    with pytest.raises(RestartLimitError):
        async with world.dynamic(max_restarts=3) as sup:
            ref = await sup.start_child(world.spec(2))
            world.failing[2] = LookupError()
            ref.cast("crash")
            await sup.wait()
    assert world.starts[2] == 4


async def test_terminate_child(world):
    """By ref, once; a ref of somebody else, or of a child that is gone, is not found."""
    async with world.dynamic() as sup, world.dynamic() as other:
        ref = await sup.start_child(world.spec(1))
        foreign = await other.start_child(world.spec(2))
        await sup.terminate_child(ref)
        assert ref.reason == "shutdown"
        for gone in (ref, foreign):
            with pytest.raises(ChildNotFoundError):
                await sup.terminate_child(gone)
        assert foreign.alive
        temporary = await sup.start_child(world.spec(3, restart=Restart.TEMPORARY))
        await world.end(temporary)
        with pytest.raises(ChildNotFoundError):
            await sup.terminate_child(temporary)


async def test_terminate_a_restarting_child(world):
    """The ref of the last life names a child that is being restarted."""
    async with world.dynamic(max_restarts=1000) as sup:
        ref = await sup.start_child(world.spec(1))
        world.slow_starts[1] = 1.0
        world.failing[1] = LookupError()
        await world.end(ref)
        await world.clock.advance(1.5)
        looking = asyncio.ensure_future(sup.which_child(ref))
        await world.clock.advance(1)
        assert (await looking).state is ChildState.RESTARTING
        ending = asyncio.ensure_future(sup.terminate_child(ref))
        await world.clock.advance(1)
        await ending
        assert await sup.which_children() == []


@pytest.mark.parametrize("how", ["terminate_child", "stop"])
async def test_every_budget_is_its_own(world, how):
    """All are stopped at the same time: brutally, within their seconds, or for as long as they take."""
    system = world.dynamic()
    sup = await system.start()
    refs = {}
    for name, shutdown, seconds in (
        ("brutal", BRUTAL_KILL, 0.0),
        ("quick", 5.0, 1.0),
        ("late", 2.0, 10.0),
        ("patient", float("inf"), 20.0),
    ):
        world.slow_stops[name] = seconds
        refs[name] = await sup.start_child(world.spec(name, shutdown=shutdown))
    if how == "stop":
        stopping = asyncio.ensure_future(system.stop())
        await world.clock.advance(19.9)
        assert not stopping.done()
        await world.clock.advance(0.2)
        await stopping
    else:
        for ref in refs.values():
            ending = asyncio.ensure_future(sup.terminate_child(ref))
            await world.clock.advance(21)
            await ending
    reasons = {name: ref.reason for name, ref in refs.items()}
    assert reasons == {
        "brutal": "killed", "quick": "shutdown", "late": "killed", "patient": "shutdown",
    }  # fmt: skip
    assert [event.path for event in world.told(ShutdownError)] == ["/root/late"]
    await system.stop()


async def test_a_child_that_ends_badly_while_it_is_stopped(world):
    """Its reason is reported, and the stop goes on."""
    world.endings[1] = OSError("disk")
    async with world.dynamic() as sup:
        ref = await sup.start_child(world.spec(1))
        await sup.terminate_child(ref)
    (told,) = world.told(ShutdownError)
    assert isinstance(told.reason, OSError)


async def test_significance_has_no_place_here(world):
    """A significant child is refused."""
    async with world.dynamic() as sup:
        with pytest.raises(SpecError, match="bad_combination"):
            await sup.start_child(world.spec(1, restart=Restart.TRANSIENT, significant=True))


async def test_a_request_of_ones_own(world):
    """A supervisor that starts children for a call of its own answers with what it says, not with a child."""

    class Pairs(DynamicSupervisor):
        async def manage(self, request):
            if request != "pair":
                return await super().manage(request)
            return [await self.start_new(Child(world.spec(n))) for n in (1, 2)]

    async with world.run(Pairs()) as sup:
        assert [ref.id for ref in await sup.call("pair")] == [1, 2]
