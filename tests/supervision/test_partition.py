"""Partitions: routing by key, restarts, resize."""

from __future__ import annotations

import pytest

from supervision import (
    ActorNotFoundError,
    DynamicSupervisor,
    DynamicSupervisorRef,
    PartitionSupervisor,
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
        assert (
            sup.route("workflow-42") == kids[0x57889363 % 3 if False else _crc("workflow-42") % 3]
        )
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
    """Shrinking stops the tail, growing starts it again; the old number is told."""
    async with world.run(PartitionSupervisor(world.worker, partitions=3)) as sup:
        assert await sup.resize(1) == 3
        assert await world.count(sup) == [3, 1, 0, 3]
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
