"""OTP's `supervisor_SUITE.erl` (S), by its numbers. Significant children and auto_shutdown."""

from __future__ import annotations

import pytest

from supervision import (
    AutoShutdown,
    ChildSpec,
    ChildType,
    DynamicSupervisor,
    Restart,
    Shutdown,
    SpecError,
    Strategy,
    Supervisor,
)
from supervision.testing import settle

NEVER, ANY, ALL = AutoShutdown


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
