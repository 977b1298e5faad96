"""Reading a log: what was published, each value once, and where following it ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    Engine,
    EngineStoppedError,
    PayloadError,
    WorkflowClosedError,
    WorkflowNotFoundError,
    continue_as_new,
    publish,
    receive,
    step,
    workflow,
)
from beamflow.events import (
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowRetried,
)
from supervision.testing import settle

if TYPE_CHECKING:
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@dataclass
class Place:
    number: int


@workflow
async def counting(count: int) -> None:
    for number in range(count):
        await receive("next")
        publish("place", Place(number))
        publish("other", number)


async def test_the_last_value_is_the_current_one(place: str | Store) -> None:
    """By name, converted to a type if one is given; after the end and a restart as well."""
    async with Engine(place, workflows=[counting]) as engine:
        handle = await engine.start(counting, 2, id="one")
        await handle.signal("next")
        assert await handle.published("place", Place) == Place(0)
        await handle.signal("next")
        assert await handle.published("place") == {"number": 1}
        await handle.result()
    async with Engine(place, workflows=[]) as engine:
        assert await engine.handle("one").published("place", Place) == Place(1)
        with pytest.raises(PayloadError, match="published 'place'"):
            await engine.handle("one").published("place", int)


async def test_the_first_value_is_waited_for(memory: MemoryStore, clock: ManualClock) -> None:
    """As long as the caller wants to."""
    async with Engine(memory, workflows=[counting], clock=clock) as engine:
        handle = await engine.start(counting, 1)
        waiting = asyncio.create_task(handle.published("other", int))
        bounded = asyncio.create_task(handle.published("other", int, timeout=30))
        await settle()
        await clock.advance(31)
        with pytest.raises(TimeoutError):
            await bounded
        assert not waiting.done()
        await handle.signal("next")
        assert await waiting == 0


async def test_what_can_never_be_published_is_an_error(memory: MemoryStore) -> None:
    """Of a workflow that has ended without, at once or while somebody waits; of none at all."""
    async with Engine(memory, workflows=[counting]) as engine:
        handle = await engine.start(counting, 1)
        waiting = asyncio.create_task(handle.published("nothing"))
        await settle()
        await handle.signal("next")
        for wait in (waiting, handle.published("nothing")):
            with pytest.raises(WorkflowClosedError, match="never published 'nothing'"):
                await wait
        with pytest.raises(WorkflowNotFoundError):
            await engine.handle("nobody").published("place")


async def test_an_engine_that_is_left_ends_the_wait(memory: MemoryStore) -> None:
    """It is no answer that there is none."""
    async with Engine(memory, workflows=[counting]) as engine:
        handle = await engine.start(counting, 1)
        waiting = asyncio.create_task(handle.published("place"))
        await settle()
    with pytest.raises(EngineStoppedError):
        await waiting


async def test_watching_gives_each_value_once_in_order(place: str | Store) -> None:
    """From the first one on, however late one begins; it ends with the workflow."""
    async with Engine(place, workflows=[counting]) as engine:
        handle = await engine.start(counting, 50)

        async def watch() -> list[int]:
            return [value async for value in handle.watch("other", int)]

        early = asyncio.create_task(watch())
        for number in range(50):
            await handle.signal("next")
            if number == 25:
                middle = asyncio.create_task(watch())
        await handle.result()
        assert await early == await middle == await watch() == list(range(50))


async def ended(memory: Any, clock: Any, how: str) -> list[type]:
    async with Engine(memory, workflows=[counting], clock=clock) as engine:
        handle = await engine.start(counting, 1)

        async def follow() -> list[type]:
            return [type(each.event) async for each in handle.events()]

        following = asyncio.create_task(follow())
        await settle()
        await getattr(handle, how)()
        live = await following
        assert live == await follow()
        return live


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_following_ends_with_a_cancelled_workflow(
    memory: MemoryStore, clock: ManualClock, how: str
) -> None:
    """Its last event is the last one that is seen, live and later."""
    assert (await ended(memory, clock, how))[-1] is WorkflowCancelled


class Mended:
    """Whether the step below works by now."""

    now = False


@step
async def fails_at_first() -> None:
    if not Mended.now:
        raise LookupError


@workflow
async def rounds(number: int) -> None:
    await fails_at_first()
    await receive("next")
    if number:
        continue_as_new(number - 1)


async def test_following_goes_on_over_new_tries_and_new_runs(
    place: str | Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who begins in the middle sees the whole log; the failure that was not the last is in it."""
    monkeypatch.setattr(Mended, "now", False)
    async with Engine(place, workflows=[rounds]) as engine:
        handle = await engine.start(rounds, 2)

        async def follow() -> list[int]:
            return [each.seq async for each in handle.events()]

        assert await follow() == [1, 2, 3]
        Mended.now = True
        await handle.retry_from()
        following = asyncio.create_task(follow())
        for _ in range(3):
            await handle.signal("next")
        await handle.result()
        history = await handle.history()
        assert {WorkflowFailed, WorkflowRetried, WorkflowContinued, WorkflowCompleted} <= {
            type(each.event) for each in history
        }
        assert await following == await follow() == [each.seq for each in history]
