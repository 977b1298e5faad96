"""Partitions: routing by key, restarts, resize."""

from __future__ import annotations

import asyncio

import pytest

from supervision import (
    ActorNotFoundError,
    Backoff,
    ChildStartError,
    DynamicSupervisor,
    DynamicSupervisorRef,
    PartitionSupervisor,
    RestartLimitError,
    SpecError,
    Stop,
)
from supervision.testing import settle


async def test_routing_by_key(world):
    """An int goes by its remainder, other keys by a checksum that is the same everywhere."""
    async with world.run(PartitionSupervisor(world.worker, partitions=3)) as sup:
        kids = await world.kids(sup)
        assert list(kids) == [0, 1, 2]
        assert [sup.route(n) for n in (0, 1, 2, 3, -4)] == [kids[n] for n in (0, 1, 2, 0, 1)]
        assert sup.route("workflow-42") == kids[_crc("workflow-42") % 3]
        assert sup.route(("a", 1)) == sup.route(("a", 1))
        assert sup.partitions == 3
    assert sup.partitions == 0
    with pytest.raises(ActorNotFoundError):
        sup.route(1)


def _crc(text):
    import zlib

    return zlib.crc32(text.encode())


async def test_table_follows_restarts(world):
    """After a partition was restarted, its keys are routed to the new life."""
    async with world.run(PartitionSupervisor(world.worker, partitions=2)) as sup:
        one = sup.route(1)
        await world.end(one)
        assert sup.route(1) != one
        assert sup.route(1).alive


async def test_resize(world):
    """Shrinking stops the tail and forgets it, growing starts it anew; the old number is told."""
    async with world.run(PartitionSupervisor(world.worker, partitions=3)) as sup:
        assert await sup.resize(1) == 3
        assert await world.count(sup) == [1, 1, 0, 1]
        assert sup.route(5) == sup.route(0)
        assert await sup.resize(4) == 1
        assert await world.count(sup) == [4, 4, 0, 4]
        assert sup.route(3).id == 3
        assert await sup.resize(0) == 4
        with pytest.raises(ActorNotFoundError):
            sup.route(1)
        assert await sup.resize(2) == 0
        assert sup.route(1).alive
        with pytest.raises(SpecError, match="invalid_partitions"):
            await sup.resize(-1)


async def test_over_dynamic_supervisors(world):
    """Partitions of dynamic supervisors give their own kind of ref, and stop with their children."""
    root = PartitionSupervisor(lambda _: DynamicSupervisor(), partitions=2, type="supervisor")
    async with world.run(root) as sup:
        dynamic = sup.route("key", DynamicSupervisorRef)
        child = await dynamic.start_child(world.spec("x"))
        assert child.path.startswith("/root/")
        with pytest.raises(TypeError, match="PartitionSupervisorRef"):
            sup.route("key", type(sup))
        assert await world.count(sup) == [2, 2, 2, 0]
    assert child.reason == "shutdown"


async def test_bad_options():
    """A number of partitions that makes no sense is refused; the default is one for each core."""
    with pytest.raises(SpecError, match="invalid_partitions"):
        PartitionSupervisor(Stop, partitions=-1)
    assert PartitionSupervisor(Stop).partitions >= 1
    await settle()


# Cases of Elixir's PartitionSupervisorTest


async def test_children_are_those_of_a_supervisor(world):
    """which_children, count_children, restarts and the limit are those of any static supervisor."""
    root = PartitionSupervisor(world.worker, partitions=3, max_restarts=0)
    with pytest.raises(RestartLimitError):
        async with world.run(root) as sup:
            assert [info.id for info in await sup.which_children()] == [2, 1, 0]
            assert await world.count(sup) == [3, 3, 0, 3]
            await world.end(sup.route(1))
            assert await sup.wait() == "shutdown"
    assert [name for what, name in world.journal if what == "stop"] == [1, 2, 0]


async def test_shrinking_routes_first(world):
    """No key is routed to a partition that is being stopped; growing routes only once all are up."""
    async with world.run(PartitionSupervisor(world.worker, partitions=2)) as sup:
        world.slow_stops[1] = 1.0
        resizing = asyncio.ensure_future(sup.resize(1))
        await settle()
        assert sup.partitions == 1
        assert sup.route(1) == sup.route(0)
        await world.clock.advance(1)
        assert await resizing == 2
        world.slow_stops.clear()
        world.slow_starts[1] = 1.0
        resizing = asyncio.ensure_future(sup.resize(2))
        await settle()
        assert sup.partitions == 1
        await world.clock.advance(1)
        assert await resizing == 1
        assert sup.route(1).id == 1


async def test_growth_that_fails(world):
    """When a further partition does not come up the number of routes stays as it was."""
    async with world.run(PartitionSupervisor(world.worker, partitions=1)) as sup:
        world.failing[1] = LookupError("no")
        with pytest.raises(ChildStartError):
            await sup.resize(2)
        assert sup.partitions == 1
        assert sup.route(7) == sup.route(0)


async def test_zero_partitions(world):
    """A supervisor may have none; nothing can be routed until there are some."""
    async with world.run(PartitionSupervisor(world.worker, partitions=0)) as sup:
        with pytest.raises(ActorNotFoundError):
            sup.route("key")
        await sup.resize(1)
        assert sup.route("key").alive


async def test_options_of_the_children(world):
    """Backoff, start time-out and a stash are those of a child spec; with a stash a route outlives restarts."""
    root = PartitionSupervisor(
        world.worker,
        partitions=1,
        backoff=Backoff(minimum=1.0, maximum=1.0),
        start_timeout=3.0,
        restart_stash=5,
    )
    async with world.run(root) as sup:
        route = sup.route("key")
        await world.end(route)
        asked = asyncio.ensure_future(route.call("kept"))
        await world.clock.advance(1)
        assert await asked == "kept"
        assert (await sup.get_childspec(0)).start_timeout == 3.0


async def test_growth_that_fails_half_way(world):
    """Those that had come up are stopped again; the next growth begins anew."""
    async with world.run(PartitionSupervisor(world.worker, partitions=1)) as sup:
        world.failing[2] = LookupError("no")
        with pytest.raises(ChildStartError):
            await sup.resize(3)
        assert await world.count(sup) == [1, 1, 0, 1]
        del world.failing[2]
        assert await sup.resize(3) == 1
        assert await world.count(sup) == [3, 3, 0, 3]


async def test_a_restart_of_the_group_after_shrinking(world):
    """It does not bring back partitions that nothing is routed to."""
    root = PartitionSupervisor(world.worker, partitions=3, strategy="one_for_all")
    async with world.run(root) as sup:
        await sup.resize(2)
        await world.end(sup.route(0))
        assert await world.count(sup) == [2, 2, 0, 2]


async def test_no_stranger_among_partitions(world):
    """start_child is refused: partitions are equal, and there are as many as resize() says."""
    async with world.run(PartitionSupervisor(world.worker, partitions=1)) as sup:
        with pytest.raises(SpecError, match="resize"):
            await sup.start_child(world.spec("stranger"))
        assert await world.count(sup) == [1, 1, 0, 1]
