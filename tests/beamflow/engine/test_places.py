"""Places in memory: how many there are, who has to go, who waits for one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DefinitionError,
    Engine,
    EngineFullError,
    EngineStoppedError,
    WorkflowParkedError,
    step,
    workflow,
)
from supervision.testing import settle
from tests.beamflow.engine.idlers import ALL, DAY, GATES, awake, sleep, wait, working

if TYPE_CHECKING:
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@pytest.fixture(autouse=True)
def _gates() -> None:
    GATES.clear()
    for name in "abcdefgh":
        GATES[name] = asyncio.Event()


# Places


@pytest.mark.invariant("I32")
async def test_no_more_in_memory_than_there_are_places(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Those who rest longest make room for those who come."""
    most: list[int] = []
    async with Engine(memory, workflows=ALL, clock=clock, awake_max=8) as engine:
        for number in range(50):
            await engine.start(sleep, DAY + number, id=f"{number}")
            most.append(len(awake(engine)))
        await settle()
        assert max(most) <= 8
        results = asyncio.gather(*(engine.handle(f"{n}").result() for n in range(50)))
        await clock.advance(DAY + 60)
        assert await results == ["rested"] * 50


async def test_who_rests_longest_leaves_first(memory: MemoryStore, clock: ManualClock) -> None:
    """And nobody who works."""
    async with Engine(memory, workflows=ALL, clock=clock, awake_max=4) as engine:
        for name in ("one", "two", "three"):
            await engine.start(wait, id=name)
            await clock.advance(1)
        await engine.handle("one").pause()
        await engine.start(working, "a", id="works")
        await engine.start(working, "b", id="works too")
        assert awake(engine) == {"one", "three", "works", "works too"}
        for gate in GATES.values():
            gate.set()
        await engine.handle("works").result()
        await engine.handle("works too").result()


@pytest.mark.invariant("I32")
async def test_a_start_waits_for_a_place(memory: MemoryStore, clock: ManualClock) -> None:
    """Where all are at work, in the order of asking, until one of them has ended."""
    async with Engine(memory, workflows=ALL, clock=clock, awake_max=2) as engine:
        for gate in "ab":
            await engine.start(working, gate, id=gate)
        async with asyncio.TaskGroup() as group:
            starts = [group.create_task(engine.start(working, g, id=g)) for g in "cd"]
            await settle()
            assert awake(engine) == {"a", "b"}
            assert [start.done() for start in starts] == [False, False]
            GATES["a"].set()
            await engine.handle("a").result()
            await settle()
            assert awake(engine) == {"b", "c"}
            GATES["b"].set()
        assert awake(engine) == {"c", "d"}
        for gate in "cd":
            GATES[gate].set()
            await engine.handle(gate).result()


async def test_a_start_that_does_not_wait(memory: MemoryStore, clock: ManualClock) -> None:
    """It is told how many there are, and what to change; nothing was started."""
    async with Engine(memory, workflows=ALL, clock=clock, awake_max=1) as engine:
        await engine.start(working, "a", id="a")
        with pytest.raises(EngineFullError, match=r"awake_max=1.*on_full='wait'") as caught:
            await engine.start(wait, id="one", on_full="raise")
        assert caught.value.awake_max == 1
        assert await engine.count() == 1
        assert (await engine.start(working, "a", id="a", on_full="raise")).id == "a"
        GATES["a"].set()
        await engine.handle("a").result()
        await engine.start(wait, id="one", on_full="raise")
        await engine.start(wait, id="two", on_full="raise")
        with pytest.raises(ValueError, match="on_full='perhaps' is refused"):
            await engine.start(wait, on_full="perhaps")  # type: ignore[call-overload]


async def test_who_waits_for_a_place_when_the_engine_is_left(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """It is told; nothing was started."""
    async with (
        asyncio.TaskGroup() as group,
        Engine(memory, workflows=ALL, clock=clock, awake_max=1) as engine,
    ):
        await engine.start(working, "a", id="a")

        async def refused() -> None:
            with pytest.raises(EngineStoppedError):
                await engine.start(wait, id="one")

        group.create_task(refused())
        await settle()
    await memory.open()
    assert await memory.summary("one") is None
    await memory.close()


@pytest.mark.invariant("I32")
async def test_who_gives_up_waiting_for_a_place(memory: MemoryStore, clock: ManualClock) -> None:
    """Leaves its turn to the next one."""
    async with Engine(memory, workflows=ALL, clock=clock, awake_max=1) as engine:
        await engine.start(working, "a", id="a")
        async with asyncio.TaskGroup() as group:
            first = group.create_task(engine.start(working, "b", id="b"))
            second = group.create_task(engine.start(working, "c", id="c"))
            await settle()
            first.cancel()
            GATES["a"].set()
            await engine.handle("a").result()
            await settle()
            assert second.done()
        assert awake(engine) == {"c"}
        late = [asyncio.create_task(engine.start(working, "d")) for _ in range(3)]
        await settle()
        for task in late:
            task.cancel()
        await asyncio.wait(late)
        assert not engine._services.awake._waiting, "nothing is kept of who gave up"
        GATES["c"].set()
        await engine.handle("c").result()


async def test_what_others_wait_for_needs_no_place(memory: MemoryStore, clock: ManualClock) -> None:
    """Children, and what steps start and talk to: a bound of one stops nobody."""

    @step
    async def asks_others() -> str:
        other = await ENGINES[0].start(wait, id="other")
        await other.signal("word", "from a step")
        return await other.result()

    @workflow
    async def deep(depth: int) -> str:
        return await deep(depth - 1) if depth else await asks_others()

    async with Engine(memory, workflows=[deep, wait], clock=clock, awake_max=1) as engine:
        ENGINES[:] = [engine]
        handle = await engine.start(deep, 5)
        assert await handle.result() == "from a step"


ENGINES: list[Engine] = []


@pytest.mark.parametrize("awake_max", [0, -1, 1.5, True, "many"])
def test_a_bound_that_is_none(awake_max: Any) -> None:
    """Refused at once, with the value."""
    with pytest.raises(DefinitionError, match=r"Engine\(awake_max="):
        Engine("memory://", workflows=ALL, awake_max=awake_max)


@pytest.mark.parametrize("idle_after", [-1, True, "soon", float("nan")])
def test_a_rest_that_is_none(idle_after: Any) -> None:
    """Refused at once, with the value."""
    with pytest.raises(DefinitionError, match=r"Engine\(idle_after="):
        Engine("memory://", workflows=ALL, idle_after=idle_after)


# Restarts


async def test_recovery_waits_for_places(memory: MemoryStore, clock: ManualClock) -> None:
    """The oldest first; the others as soon as there is room, and none is forgotten."""
    async with Engine(memory, workflows=ALL, clock=clock) as engine:
        for gate in "abcdefgh":
            await engine.start(working, gate, id=gate)
    async with Engine(memory, workflows=ALL, clock=clock, awake_max=3) as engine:
        await settle()
        assert awake(engine) == {"a", "b", "c"}
        GATES["b"].set()
        await engine.handle("b").result()
        await settle()
        assert awake(engine) == {"a", "c", "d"}
        for gate in GATES.values():
            gate.set()
        for gate in "abcdefgh":
            assert await engine.handle(gate).result() == gate


async def test_whoever_was_parked_waits_for_a_place_too(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """When the code of many is mended, they go on in turn."""

    @workflow(name="working")
    async def broken(_gate: str) -> str:
        return await asyncio.to_thread(str)

    async with Engine(memory, workflows=[broken], clock=clock) as engine:
        for gate in "abcdefgh":
            with pytest.raises(WorkflowParkedError):
                await (await engine.start(broken, gate, id=gate)).result()
    async with Engine(memory, workflows=ALL, clock=clock, awake_max=3) as engine:
        await settle()
        assert awake(engine) == {"a", "b", "c"}
        for gate in GATES.values():
            gate.set()
        async with asyncio.timeout(10):
            while await engine.dead_letters.list():
                await settle()
        for gate in "abcdefgh":
            assert await engine.handle(gate).result() == gate


async def test_recovery_is_patient_but_not_for_ever(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Who has a place may wait for one who has none: after a while one more is let in."""

    @step
    async def waits_for(other: str) -> str:
        await GATES["b"].wait()
        return str(await ENGINES[0].handle(other).result())

    @workflow
    async def needs(other: str) -> str:
        return await waits_for(other)

    every = [needs, working]
    async with Engine(memory, workflows=every, clock=clock) as engine:
        ENGINES[:] = [engine]
        await engine.start(needs, "a", id="first")
        await clock.advance(1)
        await engine.start(working, "a", id="a")
        await settle()
    GATES["a"].set()
    GATES["b"].set()
    async with Engine(memory, workflows=every, clock=clock, awake_max=1) as engine:
        ENGINES[:] = [engine]
        await clock.advance(2)
        assert await engine.handle("first").result() == "a"
