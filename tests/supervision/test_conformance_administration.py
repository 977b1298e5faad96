"""OTP's `supervisor_SUITE.erl` (S), by its numbers. Specs, flags and management calls."""

from __future__ import annotations

import itertools

import pytest

from supervision import (
    BRUTAL_KILL,
    INFINITY,
    ActorStoppedError,
    AlreadyPresentError,
    AlreadyStartedError,
    AutoShutdown,
    ChildNotFoundError,
    ChildRunningError,
    ChildSpec,
    ChildState,
    ChildType,
    Restart,
    SpecError,
    Supervisor,
)

NEVER, ANY, ALL = AutoShutdown


async def test_S23_child_adm(world):
    """All management calls of a static supervisor answer as OTP's do."""
    spec = world.spec(1)
    async with world.supervisor(spec) as sup:
        one = (await world.kids(sup))[1]
        assert await world.count(sup) == [1, 1, 0, 1]
        with pytest.raises(AlreadyStartedError) as known:
            await sup.start_child(spec)
        assert known.value.ref == one
        with pytest.raises(ChildNotFoundError):
            await sup.terminate_child(2)
        await sup.terminate_child(1)
        assert one.reason == "shutdown"
        assert await world.kids(sup) == {1: None}
        assert await world.count(sup) == [1, 0, 0, 1]
        await sup.terminate_child(1)
        with pytest.raises(AlreadyPresentError):
            await sup.start_child(spec)
        again = await sup.restart_child(1)
        assert again != one
        with pytest.raises(ChildRunningError):
            await sup.restart_child(1)
        with pytest.raises(ChildNotFoundError):
            await sup.restart_child(2)
        with pytest.raises(ChildRunningError):
            await sup.delete_child(1)
        await sup.terminate_child(1)
        await sup.delete_child(1)
        with pytest.raises(ChildNotFoundError):
            await sup.restart_child(1)
        with pytest.raises(ChildNotFoundError):
            await sup.delete_child(1)
        assert await sup.which_children() == []
        assert await world.count(sup) == [0, 0, 0, 0]
        last = await sup.start_child(spec)
        with pytest.raises(ChildNotFoundError):
            await sup.terminate_child(last)
        assert last.alive
    with pytest.raises(ActorStoppedError, match="noproc"):
        await sup.which_children()
    with pytest.raises(ActorStoppedError, match="noproc"):
        await sup.count_children()


async def test_S24_child_adm_simple(world):
    """Children of a dynamic supervisor are managed by ref; a dead or foreign one is not found."""
    async with world.dynamic() as sup, world.dynamic() as other:
        one = await sup.start_child(world.spec(1))
        assert await world.count(sup) == [1, 1, 0, 1]
        await sup.start_child(world.spec(1))
        assert await world.count(sup) == [2, 2, 0, 2]
        await sup.terminate_child(one)
        assert not one.alive
        assert await world.count(sup) == [1, 1, 0, 1]
        with pytest.raises(ChildNotFoundError):
            await sup.terminate_child(one)
        foreign = [await other.start_child(world.spec(2)) for _ in range(3)][1]
        with pytest.raises(ChildNotFoundError):
            await sup.terminate_child(foreign)
        assert foreign.alive


async def test_S25_extra_return(world):
    """What a start function gives beside the actor is found at the ref, in every life."""
    spec = ChildSpec(1, lambda: (world.worker(1), "extra"))
    async with world.supervisor() as sup:
        one = await sup.start_child(spec)
        assert one.info == "extra"
        await sup.terminate_child(1)
        await sup.terminate_child(1)
        two = await sup.restart_child(1)
        assert two.info == "extra"
        await world.end(two)
        three = (await world.kids(sup))[1]
        assert three not in {one, two}
        assert three.info == "extra"
        assert await world.count(sup) == [1, 1, 0, 1]
        await sup.terminate_child(1)
        await sup.delete_child(1)


def test_S26_child_specs(world):
    """Each wrong field has OTP's name; all valid combinations pass; ids must differ."""
    for atom, field, value in [
        ("invalid_restart_type", "restart", "prmanent"),
        ("invalid_shutdown", "shutdown", -10),
        ("invalid_shutdown", "shutdown", True),
        ("invalid_shutdown", "shutdown", float("nan")),
        ("invalid_child_type", "type", "wrker"),
        ("invalid_significant", "significant", "maybe"),
        ("invalid_start_timeout", "start_timeout", 0),
    ]:
        with pytest.raises(SpecError) as wrong:
            ChildSpec(1, world.worker, **{field: value})
        assert wrong.value.atom == atom
    with pytest.raises(SpecError, match="invalid_mfa"):
        ChildSpec(1, "mod")
    for restart, shutdown, kind in itertools.product(
        Restart, [0, 1.5, INFINITY, BRUTAL_KILL, None], ChildType
    ):
        ChildSpec(1, world.worker, restart=restart, shutdown=shutdown, type=kind)
    with pytest.raises(SpecError, match="duplicate_child_name"):
        Supervisor(world.specs(1, 1))


def test_S26_child_specs_order(world):
    """The first wrong field in OTP's order wins."""
    wrong = {"restart": "x", "significant": "x", "type": "x", "shutdown": "x"}
    atoms = [
        "invalid_restart_type",
        "invalid_significant",
        "invalid_child_type",
        "invalid_shutdown",
    ]
    for atom in atoms:
        with pytest.raises(SpecError, match=atom):
            ChildSpec(1, world.worker, **wrong)
        wrong.pop(next(iter(wrong)))


@pytest.mark.parametrize("auto", list(AutoShutdown))
@pytest.mark.parametrize("restart", list(Restart))
def test_S27_child_specs_map(world, auto, restart):
    """A significant child needs a restart that can end and a supervisor that cares.

    Strings do as options.
    """
    if restart is Restart.PERMANENT:
        with pytest.raises(SpecError, match="bad_combination.*restart"):
            world.spec(1, restart=restart, significant=True)
        return
    spec = world.spec(1, restart=restart.value, significant=True)
    if auto is NEVER:
        with pytest.raises(SpecError, match="bad_combination.*auto_shutdown"):
            Supervisor([spec], auto_shutdown=auto.value)
    else:
        Supervisor([spec], auto_shutdown=auto.value)


@pytest.mark.parametrize(
    ("atom", "options"),
    [
        ("invalid_strategy", {"strategy": "none_for_one"}),
        ("invalid_intensity", {"max_restarts": INFINITY}),
        ("invalid_intensity", {"max_restarts": -1}),
        ("invalid_period", {"max_seconds": 0}),
        ("invalid_period", {"max_seconds": INFINITY}),
        ("invalid_auto_shutdown", {"auto_shutdown": "sometimes"}),
    ],
)
def test_S28_sup_flags(atom, options):
    """Wrong flags of a supervisor have OTP's names; unknown ones are a TypeError."""
    with pytest.raises(SpecError) as wrong:
        Supervisor([], **options)
    assert wrong.value.atom == atom
    with pytest.raises(TypeError):
        Supervisor([], flag=1)


async def test_S92_which_children(world):
    """which_child follows a child through its states."""
    async with world.supervisor() as sup:
        with pytest.raises(ChildNotFoundError):
            await sup.which_child(1)
        ref = await sup.start_child(world.spec(1))
        assert await sup.which_child(1) == (1, ref, ChildState.RUNNING, ChildType.WORKER)
        await sup.terminate_child(1)
        assert await sup.which_child(1) == (1, None, ChildState.UNDEFINED, ChildType.WORKER)
        await sup.delete_child(1)
        with pytest.raises(ChildNotFoundError):
            await sup.which_child(1)


async def test_S93_which_children_simple_one_for_one(world):
    """which_child of a dynamic supervisor goes by ref."""
    async with world.dynamic() as sup:
        ref = await sup.start_child(world.spec(1))
        assert await sup.which_child(ref) == (1, ref, ChildState.RUNNING, ChildType.WORKER)
        await sup.terminate_child(ref)
        with pytest.raises(ChildNotFoundError):
            await sup.which_child(ref)
