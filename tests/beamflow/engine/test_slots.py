"""So many steps at the same time, in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import DefinitionError, Engine, step, workflow
from beamflow.engine.slots import KeyedSlots, Slots
from supervision.testing import settle

if TYPE_CHECKING:
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@pytest.mark.invariant("I32")
async def test_no_more_than_there_are() -> None:
    """The others wait and get theirs in the order of asking; a turn that was given up goes on."""
    slots = Slots(2)
    got: list[str] = []

    async def take(name: str) -> None:
        if not slots.take_at_once():
            await slots.take()
        got.append(name)

    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(take(name)) for name in "abcdef"}
        await settle()
        assert got == ["a", "b"]
        tasks["c"].cancel()
        slots.give_back()
        await settle()
        assert got == ["a", "b", "d"]
        slots.give_back()
        tasks["e"].cancel()  # in the turn in which it gets one
        await settle()
        assert got == ["a", "b", "d", "f"]
        waiting = [group.create_task(take(name)) for name in "gh"]
        await settle()
        for task in waiting:
            task.cancel()
        await settle()
        assert not slots._waiting, "nothing is kept of who gave up"
    slots.give_back()
    slots.give_back()
    assert [slots.take_at_once() for _ in range(3)] == [True, True, False]


async def test_slots_of_a_key_go_from_one_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each who waits is woken once, however many there are; of a key that nobody asks for nothing is kept."""
    keys: KeyedSlots[str] = KeyedSlots(1)
    got: list[int] = []
    waits = Counter[str]()
    take = Slots.take

    async def counted(slots: Slots) -> None:
        waits["all"] += 1
        await take(slots)

    monkeypatch.setattr(Slots, "take", counted)

    async def use(number: int) -> None:
        await keys.take("one")
        got.append(number)
        await asyncio.sleep(0)
        keys.give_back("one")

    async with asyncio.TaskGroup() as group:
        users = [group.create_task(use(number)) for number in range(100)]
        await asyncio.sleep(0)
        users[50].cancel()
        await keys.take("other")
        keys.give_back("other")
    assert got == [number for number in range(100) if number != 50]
    assert waits["all"] == 99
    assert keys._slots == {}


async def test_steps_wait_for_each_other(memory: MemoryStore, clock: ManualClock) -> None:
    """Over all workflows; what fails, times out or is given up gives its slot back."""
    running: set[str] = set()
    most: list[int] = []
    gates = {name: asyncio.Event() for name in ("ends", "fails", "hangs", "given up", "last")}

    @step(timeout=10)
    async def work(name: str) -> str:
        running.add(name)
        most.append(len(running))
        try:
            await gates[name].wait()
        finally:
            running.discard(name)
        if name == "fails":
            raise ValueError(name)
        return name

    @workflow
    async def one(name: str) -> str:
        return await work(name)

    async with Engine(memory, workflows=[one], clock=clock, steps_max=2) as engine:
        handles = {name: await engine.start(one, name, id=name) for name in gates}
        await settle()
        assert running == {"ends", "fails"}
        gates["ends"].set()
        gates["fails"].set()
        await settle()
        assert running == {"hangs", "given up"}
        await clock.advance(5)
        await handles["given up"].cancel()
        await settle()
        assert running == {"hangs", "last"}
        gates["last"].set()
        assert await handles["last"].result() == "last"
        await clock.advance(6)
        assert running == set()
        assert engine._services.steps._free == 2
    assert max(most) == 2


@pytest.mark.parametrize("steps_max", [0, -1, 1.5, True, None])
def test_a_number_that_is_none(steps_max: Any) -> None:
    """Refused at once, with the value."""
    with pytest.raises(DefinitionError, match=r"Engine\(steps_max="):
        Engine("memory://", workflows=[], steps_max=steps_max)


@pytest.mark.invariant("I32")
async def test_a_step_that_is_given_up_before_it_has_its_slot(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """It was never begun; the workflow goes on with what comes next, and nothing crashes."""
    begun: list[str] = []
    gate = asyncio.Event()

    @step
    async def work(name: str) -> None:
        begun.append(name)
        await gate.wait()

    @workflow
    async def patient() -> None:
        await work("first")

    @workflow
    async def impatient() -> str:
        try:
            async with asyncio.timeout(5):
                await work("second")
        except TimeoutError:
            await work("third")
        return "done"

    async with Engine(memory, workflows=[patient, impatient], clock=clock, steps_max=1) as engine:
        await engine.start(patient, id="patient")
        await settle()
        handle = await engine.start(impatient, id="impatient")
        await settle()
        await clock.advance(6)
        await settle()
        gate.set()
        assert await handle.result() == "done"
        assert begun == ["first", "third"]
