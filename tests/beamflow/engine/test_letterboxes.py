"""So many messages on their way to one workflow; the other senders wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from beamflow import Engine, receive, workflow
from beamflow.engine.letterboxes import Letterboxes
from beamflow.model.events import SignalReceived
from beamflow.stores.memory import MemoryStore
from supervision.testing import settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow.model.events import Event
    from supervision.testing import ManualClock


async def test_room_is_given_in_order_and_for_each_workflow_apart() -> None:
    """And nothing is kept of a workflow to which nothing is on its way."""
    boxes = Letterboxes(2)
    inside: list[str] = []
    gates = {name: asyncio.Event() for name in "abcde"}

    async def send(name: str, to: str) -> None:
        async with boxes.room(to):
            inside.append(name)
            await gates[name].wait()

    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(send(name, "one")) for name in "abcd"}
        group.create_task(send("e", "other"))
        await settle()
        assert inside == ["a", "b", "e"]
        tasks["c"].cancel()
        gates["a"].set()
        await settle()
        assert inside == ["a", "b", "e", "d"]
        for gate in gates.values():
            gate.set()
    assert boxes._boxes._slots == {}


async def test_a_flood_of_signals_reaches_the_log_in_portions(clock: ManualClock) -> None:
    """While one portion is being written no more than another one waits; all arrive, in order."""
    portions: list[int] = []

    class Counting(MemoryStore):
        async def append(
            self, stream: str, expected: int, events: Sequence[Event], **options: Any
        ) -> None:
            await asyncio.sleep(0)
            await super().append(stream, expected, events, **options)
            portions.append(sum(isinstance(event, SignalReceived) for event in events))

    @workflow
    async def adds() -> list[int]:
        return [await receive("number", int) for _ in range(500)]

    store = Counting(clock=lambda: int(clock.now() * 1_000_000))
    async with Engine(store, workflows=[adds], clock=clock) as engine:
        engine._services.letterboxes = Letterboxes(20)
        handle = await engine.start(adds)
        async with asyncio.TaskGroup() as group:
            for number in range(500):
                group.create_task(handle.signal("number", number))
        assert await handle.result() == list(range(500))
    assert max(portions) <= 20
