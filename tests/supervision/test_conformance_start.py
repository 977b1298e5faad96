"""OTP's `supervisor_SUITE.erl` (S), by its numbers. Starts: ignored, failed, with every faulty spec."""

from __future__ import annotations

import pytest

from supervision import (
    BRUTAL_KILL,
    IGNORE,
    INFINITY,
    ChildNotFoundError,
    ChildSpec,
    ChildStartError,
    ChildType,
    GaveUp,
    Restart,
    SpecError,
    Supervisor,
)


async def test_S01_sup_start_normal(world):
    """A supervisor without children starts, and ends with shutdown when it is stopped."""
    async with world.supervisor(max_restarts=2) as sup:
        assert await world.count(sup) == [0, 0, 0, 0]
    assert sup.reason == "shutdown"


async def test_S02_sup_start_ignore_init(world):
    """A supervisor whose setup says ignore ends normally and starts nothing."""

    class Ignoring(Supervisor):
        async def setup(self):
            return IGNORE

    system = world.run(Ignoring(world.specs(1)))
    ref = await system.start()
    assert await system.wait() == "normal"
    assert not ref.alive
    assert world.starts == {}
    await system.stop()


async def test_S03_sup_start_ignore_child(world):
    """A permanent child that ignores its start is kept without a ref.

    The newest start is listed first.
    """
    world.ignoring.add(1)
    async with world.supervisor() as sup:
        assert await sup.start_child(world.spec(1)) is None
        two = await sup.start_child(world.spec(2))
        listed = await sup.which_children()
        assert [(info.id, info.ref) for info in listed] == [(2, two), (1, None)]
        assert await world.count(sup) == [2, 1, 0, 2]


async def test_S04_sup_start_ignore_temporary_child(world):
    """A temporary child that ignores its start is not kept."""
    world.ignoring.add(1)
    async with world.supervisor(*world.specs(1, 2, restart=Restart.TEMPORARY)) as sup:
        assert list(await world.kids(sup)) == [2]
        assert await world.count(sup) == [1, 1, 0, 1]


async def test_S05_sup_start_ignore_temporary_child_start_child(world):
    """The same through start_child: None, and nothing kept."""
    world.ignoring.add(1)
    async with world.supervisor() as sup:
        assert await sup.start_child(world.spec(1, restart=Restart.TEMPORARY)) is None
        await sup.start_child(world.spec(2, restart=Restart.TEMPORARY))
        assert list(await world.kids(sup)) == [2]
        assert await world.count(sup) == [1, 1, 0, 1]


@pytest.mark.parametrize(
    "restart",
    [
        pytest.param(Restart.TEMPORARY, id="S06_temporary"),
        pytest.param(Restart.PERMANENT, id="S07_permanent"),
    ],
)
async def test_S06_S07_sup_start_ignore_child_start_child_simple(world, restart):
    """A dynamic supervisor keeps nothing of a child that ignores, whatever its restart.

    It stops well.
    """
    world.ignoring.add(1)
    async with world.dynamic() as sup:
        assert await sup.start_child(world.spec(1, restart=restart)) is None
        two = await sup.start_child(world.spec(2, restart=restart))
        assert [info.ref for info in await sup.which_children()] == [two]
        assert await world.count(sup) == [1, 1, 0, 1]
    assert sup.reason == "shutdown"


async def test_S08_sup_start_error_return(world):
    """A supervisor whose setup gives nonsense fails to start with a typed error."""

    class Wrong(Supervisor):
        async def setup(self):
            return ["invalid"]

    with pytest.raises(SpecError, match="invalid_child_spec"):
        await world.run(Wrong()).start()


async def test_S09_sup_start_fail(world):
    """A supervisor whose setup raises fails to start with that exception."""

    class Failing(Supervisor):
        async def setup(self):
            raise ZeroDivisionError("fail")

    with pytest.raises(ZeroDivisionError, match="fail"):
        await world.run(Failing()).start()


async def test_S10_sup_start_child_returns_error(world):
    """A child that fails to start through start_child is reported with its cause and not kept."""
    world.failing[1] = LookupError("reason")
    async with world.supervisor() as sup:
        with pytest.raises(ChildStartError) as failure:
            await sup.start_child(world.spec(1))
        assert failure.value.child_id == 1
        assert isinstance(failure.value.__cause__, LookupError)
        assert failure.value.__cause__.__traceback__ is not None
        with pytest.raises(ChildStartError, match="no actor at all"):
            await sup.start_child(ChildSpec(2, lambda: "no actor at all"))
        assert await sup.which_children() == []
    assert not world.told(GaveUp)


async def test_S11_sup_start_restart_child_returns_error(world):
    """A child that fails in restart_child keeps its spec."""
    async with world.supervisor(world.spec(1)) as sup:
        await sup.terminate_child(1)
        world.failing[1] = TypeError("function_clause")
        with pytest.raises(ChildStartError, match="function_clause"):
            await sup.restart_child(1)
        assert await world.kids(sup) == {1: None}


async def test_S12_sup_start_child_returns_error_simple(world):
    """A dynamic child that fails to start leaves nothing behind."""
    world.failing[1] = LookupError("reason")
    async with world.dynamic() as sup:
        with pytest.raises(ChildStartError):
            await sup.start_child(world.spec(1))
        assert await sup.which_children() == []
        assert await world.count(sup) == [0, 0, 0, 0]


async def test_S13_sup_start_map(world):
    """get_childspec shows the defaults."""
    specs = [
        world.spec(1),
        world.spec(2, shutdown=BRUTAL_KILL),
        world.spec(3, type=ChildType.SUPERVISOR),
    ]
    async with world.supervisor(*specs) as sup:
        one = await sup.get_childspec(1)
        assert (one.restart, one.shutdown, one.type) == ("permanent", 5.0, "worker")
        assert (await sup.get_childspec(2)).shutdown is BRUTAL_KILL
        assert (await sup.get_childspec(3)).shutdown == INFINITY
        with pytest.raises(ChildNotFoundError):
            await sup.get_childspec(4)


async def test_S14_sup_start_map_simple(world):
    """A dynamic child's spec is found by its ref; the supervisor's own ref is no child."""
    async with world.dynamic() as sup:
        for name in (1, 2, 3):
            ref = await sup.start_child(world.spec(name, restart=Restart.TEMPORARY))
            spec = await sup.get_childspec(ref)
            assert (spec.id, spec.restart, spec.type, spec.shutdown) == (
                name,
                "temporary",
                "worker",
                5.0,
            )
            assert not spec.significant
        with pytest.raises(ChildNotFoundError):
            await sup.get_childspec(sup)


def test_S15_sup_start_map_faulty_specs(world):
    """A spec without id or start, or something that is no spec, is refused by its OTP name."""
    with pytest.raises(SpecError, match="missing_id"):
        ChildSpec(None, world.worker)
    with pytest.raises(SpecError, match="missing_start"):
        ChildSpec(1, None)
    with pytest.raises(TypeError):
        ChildSpec(1, world.worker, silly_flag=True)
    with pytest.raises(SpecError, match="invalid_child_spec: 'child4'"):
        Supervisor(["child4"])
