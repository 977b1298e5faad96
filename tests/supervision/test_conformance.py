"""The cases of OTP's `supervisor_SUITE.erl` (S) and those that only asyncio knows (X), by their numbers.

Cases that mean nothing here: S44, S89, S90 (layout of log reports), S64-S70, S83-S86 (hot code
change), S74 (callback module).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import time
import weakref
from functools import partial

import pytest

from supervision import (
    BRUTAL_KILL,
    IGNORE,
    INFINITY,
    Actor,
    ActorStoppedError,
    AlreadyPresentError,
    AlreadyStartedError,
    AutoShutdown,
    ChildNotFoundError,
    ChildRestartingError,
    ChildRunningError,
    ChildSpec,
    ChildStartError,
    ChildState,
    ChildType,
    DynamicSupervisor,
    Exited,
    GaveUp,
    Restart,
    Restarted,
    RestartLimitError,
    Shutdown,
    ShutdownError,
    SpecError,
    Started,
    StartFailed,
    Stop,
    Strategy,
    Supervisor,
    Zombie,
    run,
)
from supervision.testing import settle

REASONS = ("normal", "shutdown", Shutdown("test"), "other")
GROUPS = (Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE)
NEVER, ANY, ALL = AutoShutdown


def gives_up():
    return pytest.raises(RestartLimitError)


# Start


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


@pytest.mark.parametrize("restart", [Restart.TEMPORARY, Restart.PERMANENT])
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


# Stop


async def stubborn(world, name):
    """Swallow every cancel."""
    world.journal.append(("start", name))
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()


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


@pytest.mark.parametrize("kind", ["static", "dynamic"])
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


# Administration


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


# Intensity and strategies


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


class Big:
    """A start argument that is too big to keep."""


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


# Termination


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


# Trees


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


# Significant children


@pytest.mark.parametrize("auto", list(AutoShutdown))
async def test_S57_nonsignificant_temporary(world, auto):
    """The end of a temporary child without significance never ends the supervisor."""
    async with world.supervisor(auto_shutdown=auto) as sup:
        for ending in ("terminate", "kill", "boom", "normal"):
            ref = await sup.start_child(world.spec(1, restart=Restart.TEMPORARY))
            if ending == "terminate":
                await sup.terminate_child(1)
            elif ending == "kill":
                ref.kill()
                await settle()
            else:
                await world.end(ref, ending)
            assert sup.alive
            assert await world.kids(sup) == {}


@pytest.mark.parametrize("auto", list(AutoShutdown))
async def test_S58_nonsignificant_transient(world, auto):
    """The end of a transient child without significance never ends the supervisor."""
    async with world.supervisor(
        world.spec(1, restart=Restart.TRANSIENT), auto_shutdown=auto, max_restarts=5
    ) as sup:
        await sup.terminate_child(1)
        (await sup.restart_child(1)).kill()
        await settle()
        await world.end((await world.kids(sup))[1])
        assert await world.count(sup) == [1, 1, 0, 1]
        await world.end((await world.kids(sup))[1], "normal")
        assert await world.count(sup) == [1, 0, 0, 1]
        assert sup.alive


@pytest.mark.parametrize("ending", ["terminate", "kill", "boom", "normal"])
@pytest.mark.parametrize("auto", [ANY, ALL])
async def test_S59_significant_temporary(world, auto, ending):
    """A significant temporary child that ends by itself, or the last of them, ends the supervisor."""
    significant = {"restart": Restart.TEMPORARY, "significant": True}
    async with world.supervisor(
        world.spec(0), *world.specs(1, 2, **significant), auto_shutdown=auto
    ) as sup:
        kids = await world.kids(sup)

        async def finish(name):
            if ending == "kill":
                kids[name].kill()
                await settle()
            else:
                await world.end(kids[name], ending)

        if ending == "terminate":
            await sup.terminate_child(1)
            await sup.terminate_child(2)
            assert sup.alive
            return
        await finish(1)
        assert sup.alive is (auto is ALL)
        if auto is ALL:
            await finish(2)
        assert await sup.wait() == "shutdown"
        assert not any(ref.alive for ref in kids.values())


@pytest.mark.parametrize("auto", [ANY, ALL])
async def test_S60_significant_transient(world, auto):
    """A significant transient child triggers by a normal end only."""
    significant = {"restart": Restart.TRANSIENT, "significant": True}
    async with world.supervisor(
        *world.specs(1, 2, **significant), auto_shutdown=auto, max_restarts=5
    ) as sup:
        await sup.terminate_child(1)
        (await sup.restart_child(1)).kill()
        await settle()
        await world.end((await world.kids(sup))[1])
        assert await world.count(sup) == [2, 2, 0, 2]
        await world.end((await world.kids(sup))[1], "normal")
        assert sup.alive is (auto is ALL)
        if auto is ALL:
            await world.end((await world.kids(sup))[2], Shutdown("done"))
        assert await sup.wait() == "shutdown"


async def test_S61_significant_simple(world):
    """A dynamic supervisor refuses significant children."""
    async with world.dynamic() as sup:
        with pytest.raises(SpecError, match="bad_combination"):
            await sup.start_child(world.spec(1, restart=Restart.TRANSIENT, significant=True))
    with pytest.raises(TypeError):
        DynamicSupervisor(auto_shutdown=ANY)


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("auto", [ANY, ALL])
async def test_S62_significant_bystander(world, strategy, auto):
    """Significant siblings that a group restart stops do not end the supervisor."""
    significant = {"restart": Restart.TRANSIENT, "significant": True}
    async with world.supervisor(
        world.spec(1, **significant),
        world.spec(2),
        world.spec(3, **significant),
        strategy=strategy,
        auto_shutdown=auto,
    ) as sup:
        (await world.kids(sup))[2].kill()
        await settle()
        assert sup.alive
        assert await world.count(sup) == [3, 3, 0, 3]


@pytest.mark.parametrize("chained", [True, False])
async def test_S63_significant_escalation(world, chained):
    """An automatic shutdown chains up through supervisors that are significant themselves."""
    leaf = world.spec("c", restart=Restart.TRANSIENT, significant=True)
    middle = ChildSpec(
        "b",
        lambda: Supervisor([leaf], auto_shutdown=ANY),
        type=ChildType.SUPERVISOR,
        restart=Restart.TRANSIENT,
        significant=chained,
    )
    async with world.supervisor(middle, auto_shutdown=ANY) as top:
        b = (await world.kids(top))["b"]
        c = (await world.kids(b))["c"]
        await world.end(c, "normal")
        assert b.reason == "shutdown"
        assert top.alive is not chained


# Counting, memory, scale


@pytest.mark.parametrize("kind", list(ChildType))
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


# Restart loops


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


# What only asyncio knows


async def test_X01_unrequested_cancel(world):
    """A CancelledError that nobody asked for is an abnormal exit.

    A transient child is restarted.
    """
    async with world.supervisor(world.spec(1, restart=Restart.TRANSIENT)) as sup:
        one = (await world.kids(sup))[1]
        one.cast(asyncio.CancelledError())
        assert await one.wait() == "cancelled"
        assert await world.count(sup) == [1, 1, 0, 1]


async def test_X02_system_exit(world):
    """SystemExit ends the child that raises it and nobody else."""
    async with world.supervisor(*world.specs(1, 2)) as sup:
        one, two = (await world.kids(sup)).values()
        one.cast(SystemExit(3))
        reason = await one.wait()
        assert isinstance(reason, SystemExit)
        assert await world.count(sup) == [2, 2, 0, 2]
        assert two.alive


async def test_X03_keyboard_interrupt(world):
    """KeyboardInterrupt in a child stops the whole tree in order and is raised at the root."""
    task = asyncio.current_task()
    with pytest.raises(KeyboardInterrupt):
        async with world.supervisor(
            ChildSpec("in", lambda: Supervisor(world.specs(1, 2)), type="supervisor"), world.spec(3)
        ) as sup:
            inner = (await world.kids(sup))["in"]
            (await world.kids(inner))[1].cast(KeyboardInterrupt())
            await asyncio.Event().wait()
    assert world.journal[-3:] == [("stop", 1), ("stop", 2), ("stop", 3)]
    assert task.cancelling() == 0


@pytest.mark.parametrize(
    ("swallows", "kind", "shutdown", "reason"),
    [
        (1, asyncio.CancelledError, 1.0, "killed"),
        (3, asyncio.CancelledError, 1.0, "killed"),
        (1000, asyncio.CancelledError, 1.0, "abandoned"),
        (1000, asyncio.CancelledError, BRUTAL_KILL, "killed"),
        (1000, BaseException, 1.0, "abandoned"),
        (1000, BaseException, BRUTAL_KILL, "killed"),
    ],
)
async def test_X04_stubborn_child(world, swallows, kind, shutdown, reason):
    """A child that swallows cancels is cancelled again, closed when brutal, and else a visible zombie."""
    left = swallows

    async def swallow():
        nonlocal left
        while left > 0:
            left -= 1
            with contextlib.suppress(kind):
                await asyncio.get_running_loop().create_future()
        if swallows < 1000:
            await asyncio.get_running_loop().create_future()

    system = world.supervisor(ChildSpec(1, swallow, shutdown=shutdown))
    sup = await system.start()
    ref = (await world.kids(sup))[1]
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(2)
    await stopping
    assert ref.reason == reason
    assert len(world.told(Zombie)) == system.zombies == (reason == "abandoned")
    left = 0
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await settle()
    assert system.zombies == 0


async def test_X05_blocked_loop(world):
    """A loop that was blocked for longer than the budgets kills nobody who only waited for a turn."""

    class Blocking(Actor):
        async def terminate(self, reason):
            world.clock._passed += 1.0

    system = world.dynamic()
    sup = await system.start()
    blocking = await sup.start_child(ChildSpec(1, Blocking, shutdown=0.1))
    world.slow_stops[2] = 0.01
    other = await sup.start_child(world.spec(2, shutdown=0.1))
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(0.2)
    await world.clock.advance(0.05)
    await stopping
    assert (blocking.reason, other.reason) == ("shutdown", "shutdown")


async def test_X07_cancelled_before_first_step(world):
    """A child that is cancelled before its first step has failed to start.

    Nothing is left of it.
    """

    def start():
        asyncio.get_running_loop().call_soon(cancel)
        return world.worker(1)

    def cancel():
        for task in asyncio.all_tasks():
            if task.get_name().endswith("/1"):
                task.cancel()

    async def body():
        raise AssertionError("it never runs")

    async with world.supervisor() as sup:
        asyncio.get_running_loop().call_soon(cancel)
        for child in (start, lambda: start() and body()):
            with pytest.raises(ChildStartError, match="cancelled"):
                await sup.start_child(ChildSpec(1, child))
        assert await sup.which_children() == []
    assert [event.path for event in world.told(Started)] == []


async def test_X08_slow_cleanup(world):
    """A cleanup that needs time within its budget is not cancelled a second time."""
    world.slow_stops[1] = 4.9
    system = world.supervisor(world.spec(1))
    sup = await system.start()
    ref = (await world.kids(sup))[1]
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(4.95)
    await stopping
    assert ref.reason == "shutdown"
    assert ("stop", 1) in world.journal


async def test_X09_cleanup_raises(world):
    """A cleanup that raises after a stop request is reported, and not a reason to restart."""
    world.endings[1] = OSError("disk")
    async with world.supervisor(world.spec(1)) as sup:
        ref = (await world.kids(sup))[1]
        await sup.terminate_child(1)
        assert isinstance(ref.reason, OSError)
        assert [event.path for event in world.told(ShutdownError)] == ["/root/1"]
        assert world.starts[1] == 1


async def test_X10_returns_after_stop_request(world):
    """A child function that returns after a stop request has ended with shutdown."""

    async def polite():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with world.supervisor(ChildSpec(1, polite)) as sup:
        ref = (await world.kids(sup))[1]
    assert ref.reason == "shutdown"


@pytest.mark.parametrize("how", ["cancel", "timeout", "anyio"])
async def test_X11_cancelled_from_outside(world, how):
    """A cancel from outside reaches the host of a tree after all children have stopped, and is balanced."""
    import anyio

    async def host():
        async with world.supervisor(*world.specs(1, 2)):
            if how == "anyio":
                scope.cancel()
            await asyncio.Event().wait()

    scope = anyio.CancelScope()
    if how == "cancel":
        task = asyncio.ensure_future(host())
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await host()
    else:
        with scope:
            await host()
        assert scope.cancelled_caught
    assert world.journal[-2:] == [("stop", 2), ("stop", 1)]
    assert asyncio.current_task().cancelling() == 0


async def test_X11_supervisor_task_cancelled(world):
    """A nested supervisor whose task is cancelled stops its children first.

    Its parent restarts it.
    """
    inner = ChildSpec("in", lambda: Supervisor(world.specs(1, 2)), type="supervisor")
    async with world.supervisor(inner) as sup:
        ref = (await world.kids(sup))["in"]
        (task,) = (t for t in asyncio.all_tasks() if t.get_name() == "/root/in")
        task.cancel()
        assert await ref.wait() == "cancelled"
        assert world.journal[-2:] == [("stop", 2), ("stop", 1)]
        await settle()
        assert world.starts == {1: 2, 2: 2}


@pytest.mark.parametrize("kind", ["static", "dynamic"])
async def test_X12_caller_cancelled_during_init(world, kind):
    """A child whose start_child was cancelled in its init is registered, and stopped with the rest."""
    world.slow_starts[1] = 1.0
    async with world.supervisor() if kind == "static" else world.dynamic() as sup:
        starting = asyncio.ensure_future(sup.start_child(world.spec(1)))
        await settle()
        starting.cancel()
        await world.clock.advance(2)
        assert await world.count(sup) == [1, 1, 0, 1]
        world.slow_starts[2] = 1000.0
        starting = asyncio.ensure_future(sup.start_child(world.spec(2)))
        await settle()
    with pytest.raises(ActorStoppedError):
        await starting
    assert world.starts[2] == 1
    assert {task for task in asyncio.all_tasks() if task.get_name().startswith("/root")} == set()


async def test_X13_own_tasks(world):
    """Tasks that an actor spawned end with it, before its terminate."""

    class Spawning(Actor):
        async def init(self):
            self.task = self.spawn(asyncio.Event().wait())

        async def terminate(self, reason):
            world.journal.append(("task", self.task.cancelled()))

    async with world.supervisor(ChildSpec(1, Spawning)):
        pass
    assert world.journal == [("task", True)]


async def test_X14_failing_init_without_await(world):
    """A restart loop without awaits lets other tasks run, and management calls are answered."""
    async with world.supervisor(world.spec(1), max_restarts=100_000) as sup:
        world.failing[1] = RuntimeError("not now")
        (await world.kids(sup))[1].cast(Stop("boom"))
        turns = 0
        while world.starts[1] < 100:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 50
        await sup.terminate_child(1)
        assert await world.kids(sup) == {1: None}


async def test_X15_stale_exit(world):
    """The exit of a life that is over changes nothing for the present one."""
    from supervision.messages import ChildExited

    async with world.supervisor(world.spec(1)) as sup:
        old = (await world.kids(sup))[1]
        await world.end(old)
        new = (await world.kids(sup))[1]
        sup._cell.mailbox.put_system(ChildExited(1, old.incarnation, "late"))
        await settle()
        assert (await world.kids(sup))[1] == new
        assert world.starts[1] == 2


async def test_X16_contextvars(world):
    """Every life sees the supervisor's base context: not the caller's, nor a dead life's."""
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    class Seeing(Actor):
        async def init(self):
            seen.append(variable.get())
            variable.set("dead life's")

        async def handle_cast(self, message):
            raise ValueError

    def start():
        variable.set("the start function's")
        return Seeing()

    variable.set("base")
    async with world.dynamic() as sup:
        variable.set("caller's")
        ref = await sup.start_child(ChildSpec(1, start))
        ref.cast("crash")
        await settle()
    assert seen == ["base", "base"]


@pytest.mark.parametrize("kind", ["leaf", "cancelled", "several", "interrupt"])
async def test_X17_exception_group(world, kind):
    """An exception group is one exit, classified by its worst leaf."""
    leaf = ValueError("leaf")
    groups = {
        "leaf": BaseExceptionGroup("g", [leaf, asyncio.CancelledError()]),
        "cancelled": BaseExceptionGroup("g", [asyncio.CancelledError()]),
        "several": ExceptionGroup("g", [leaf, ExceptionGroup("h", [KeyError()])]),
        "interrupt": BaseExceptionGroup("g", [leaf, KeyboardInterrupt()]),
    }
    system = world.supervisor(world.spec(1))
    sup = await system.start()
    one = (await world.kids(sup))[1]
    one.cast(groups[kind])
    reason = await one.wait()
    await settle()
    expected = {"leaf": leaf, "cancelled": "cancelled", "several": groups["several"]}
    if kind == "interrupt":
        assert isinstance(reason, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            await system.stop()
        return
    assert reason == expected[kind]
    assert world.starts[1] == 2
    await system.stop()


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="Python 3.12 has it")
async def test_X18_eager_task_factory(world):
    """A child that ends inside create_task is still seen."""

    async def at_once():
        world.journal.append("ran")

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with world.supervisor() as sup:
        ref = await sup.start_child(ChildSpec(1, at_once, restart=Restart.TRANSIENT))
        assert await ref.wait() == "normal"
        assert await world.count(sup) == [1, 0, 0, 1]
    assert world.journal == ["ran"]


async def test_X19_mass_crash(world):
    """Ten thousand crashes in one turn are one give-up and one stop."""
    with gives_up():
        async with world.dynamic(max_restarts=3) as sup:
            refs = [await sup.start_child(world.spec(1)) for _ in range(10_000)]
            for ref in refs:
                ref.cast("crash")
            assert await sup.wait() == "shutdown"
    assert len(world.told(GaveUp)) == 1
    assert not any(ref.alive for ref in refs)


async def test_X20_gc(world):
    """No task is collected before it ends, however often the collector runs."""
    async with world.supervisor(*world.specs(1, 2)) as sup:
        for _ in range(5):
            gc.collect()
            await world.end((await world.kids(sup))[1])
            gc.collect()
            world.clock._passed += 4000
        assert await world.count(sup) == [2, 2, 0, 2]


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


async def spent(coro):
    before = time.process_time()
    await coro
    return time.process_time() - before


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
