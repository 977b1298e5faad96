"""What the parts of one engine share: who waits for what, and the right to write."""

from __future__ import annotations

import asyncio
import gc
from random import Random
from typing import TYPE_CHECKING

import pytest
from msgspec import Raw

from beamflow import EngineStoppedError, workflow
from beamflow.engine.definitions import Definitions
from beamflow.engine.services import Services
from beamflow.events import WorkflowCompleted

if TYPE_CHECKING:
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@workflow
async def nothing() -> None:
    """Is known."""


@pytest.fixture
def services(memory: MemoryStore, clock: ManualClock) -> Services:
    return Services(memory, Definitions([nothing]), clock, Random(1))


DONE = WorkflowCompleted(result=Raw(b"null"))


async def test_an_end_is_told_to_those_who_wait_for_it(services: Services) -> None:
    """To all of them, and to nobody else; then nothing of them is kept."""
    ones = [services.wait_for_end("one") for _ in range(3)]
    other = services.wait_for_end("other")
    services.wait_no_more("one", ones[1])
    services.ended("one", DONE)
    services.ended("nobody", DONE)
    assert [future.cancelled() for future in ones] == [False, True, False]
    assert ones[0].result() is DONE
    assert ones[2].result() is DONE
    assert not other.done()
    for future in (ones[0], ones[2]):
        services.wait_no_more("one", future)
    assert list(services.awaited) == ["other"]
    services.wait_no_more("other", other)
    assert list(services.awaited) == []


async def test_whoever_gives_up_after_an_error_was_told_leaves_no_trace(
    services: Services,
) -> None:
    """The loop does not complain of an exception that nobody has looked at."""
    waiting = services.wait_for_end("one")
    services.ended("one", EngineStoppedError("over"))
    services.wait_no_more("one", waiting)
    del waiting
    gc.collect()


async def test_an_error_is_told_to_all_when_the_engine_ends(services: Services) -> None:
    """To those who wait and those who follow."""
    waiting = services.wait_for_end("one")
    following = services.follow("two")
    services.all_ended(EngineStoppedError("over"))
    with pytest.raises(EngineStoppedError, match="over"):
        await waiting
    assert following.is_set()
    assert services.stopped


async def test_followers_hear_when_their_log_has_grown(services: Services) -> None:
    """Each of its own; one that has left hears nothing more."""
    one, again, other = services.follow("one"), services.follow("one"), services.follow("other")
    services.grown("one")
    assert one.is_set()
    assert again.is_set()
    assert not other.is_set()
    one.clear()
    services.unfollow("one", one)
    services.grown("one")
    assert not one.is_set()
    services.unfollow("one", again)
    services.unfollow("other", other)
    assert services._followers == {}


async def test_without_a_lease_nothing_is_read_or_written(
    services: Services, memory: MemoryStore
) -> None:
    """The error says whether the engine is down, or only its store for a moment."""
    with pytest.raises(EngineStoppedError, match="async with Engine"):
        _ = services.opened
    services.begin()
    for ask in (lambda: services.opened, lambda: services.epoch):
        with pytest.raises(EngineStoppedError, match="opened again"):
            ask()
    await memory.open()
    services.lease = await memory.claim("the test", 10)
    assert services.opened is memory
    assert services.epoch == services.lease.epoch
    await memory.close()


def test_time_is_in_microseconds(services: Services, clock: ManualClock) -> None:
    """Of the clock that was handed in."""
    assert services.now() == 1_700_000_000_000_000
    asyncio.run(clock.advance(1.5))
    assert services.now() == 1_700_000_001_500_000
