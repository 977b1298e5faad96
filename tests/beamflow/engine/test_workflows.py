"""The workflows in memory: one actor for each id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import Engine, EngineStoppedError, receive, step, workflow
from beamflow.stores.memory import MemoryStore
from supervision.testing import settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow.events import Event
    from supervision.testing import ManualClock


@workflow
async def wait() -> str:
    word: str = await receive("word", str)
    return word


@workflow
async def nothing() -> None:
    """Ends at once."""


async def test_a_workflow_that_has_ended_leaves_memory(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """With its actor, its timers and its place among those awake."""
    async with Engine(memory, workflows=[nothing], clock=clock) as engine:
        for _ in range(20):
            await (await engine.start(nothing)).result()
        await settle()
        supervisor = engine._workflows._supervisor
        assert supervisor is not None
        assert engine._services.actors == {}
        assert (await supervisor.ref.count_children()).active == 0


async def test_waking_at_the_same_time_gives_one_actor(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Whoever comes second finds the first."""
    async with Engine(memory, workflows=[wait], clock=clock) as engine:
        handle = await engine.start(wait, id="one")
        engine._services.actors["one"].kill()
        woken = await asyncio.gather(*(engine._workflows.wake("one") for _ in range(10)))
        assert sum(woken) <= 1
        await settle()
        supervisor = engine._workflows._supervisor
        assert supervisor is not None
        assert (await supervisor.ref.count_children()).active == 1
        await handle.signal("word", "go")
        assert await handle.result() == "go"


@pytest.mark.invariant("I26")
async def test_many_crashes_of_one_cost_no_other_its_life(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The others keep their actors, and what they are at."""
    gate = asyncio.Event()
    runs: list[str] = []

    @step
    async def long() -> str:
        runs.append("long")
        await gate.wait()
        return "done"

    @workflow
    async def quiet() -> str:
        return await long()

    async with Engine(memory, workflows=[wait, quiet], clock=clock) as engine:
        crashing = await engine.start(wait, id="crashing")
        peaceful = await engine.start(quiet, id="peaceful")
        await settle()
        before = engine._services.actors["peaceful"]
        for _ in range(200):
            engine._services.actors["crashing"].kill()
            await settle()
        assert engine._services.actors["peaceful"] == before
        gate.set()
        assert await peaceful.result() == "done"
        await crashing.signal("word", "alive")
        assert await crashing.result() == "alive"
    assert runs == ["long"]


async def test_nothing_is_started_without_the_supervisor(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """A typed error, in the moments when it is down."""
    engine = Engine(memory, workflows=[wait], clock=clock)
    with pytest.raises(EngineStoppedError):
        await engine._workflows.wake("one")
    async with engine:
        await engine.start(wait, id="one")
    with pytest.raises(EngineStoppedError):
        await engine._workflows.wake("one")


class SlowToBegin(MemoryStore):
    """Takes no start before it is let, and notes who is on the way."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=lambda: int(clock.now() * 1_000_000))
        self.let = asyncio.Event()
        self.begun: list[str] = []

    async def append(
        self, stream: str, expected: int, events: Sequence[Event], **options: Any
    ) -> None:
        if not expected:
            self.begun.append(stream)
            await self.let.wait()
        await super().append(stream, expected, events, **options)


async def test_of_many_starts_few_are_on_their_way_to_the_log(clock: ManualClock) -> None:
    """The others follow in the order in which they were asked for; one that is given up is none."""
    store = SlowToBegin(clock)
    async with Engine(store, workflows=[nothing], clock=clock) as engine:
        names = [f"{number:03}" for number in range(300)]
        starts = [asyncio.create_task(engine.start(nothing, id=name)) for name in names]
        await settle()
        assert 0 < len(store.begun) < len(names) / 2
        starts[200].cancel()
        store.let.set()
        await asyncio.wait(starts)
        assert store.begun == [*names[:200], *names[201:]]
        async for found in engine.find():
            names.remove(found.id)
        assert names == ["200"]
