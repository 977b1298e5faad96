"""Writes the golden histories of the release at hand: ``python -m tests.golden.generate``.

Run it for a release that is not out yet; the files of one that is out may never change.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from beamflow import Engine, WorkflowError
from beamflow.engine.definitions import Definitions
from beamflow.model.events import (
    ProbationBegan,
    Recorded,
    RecoveryBegan,
    SignalReceived,
    StepCompleted,
    TimerStarted,
    UpdateAccepted,
    WorkflowStarted,
)
from beamflow.model.ids import DEAD_LETTERS, RECOVERIES
from beamflow.stores.memory import MemoryStore
from supervision.testing import ManualClock, settle
from tests.golden.history import view_of, write_history
from tests.golden.release_0_1 import workflows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow import WorkflowHandle

RELEASE = Path(__file__).with_name("release_0_1")


async def main() -> None:
    """Live through everything, then write it down."""
    clock = ManualClock()
    store = MemoryStore(clock=lambda: int(clock.now() * 1_000_000))
    async with Engine(
        store, workflows=workflows.WORKFLOWS, clock=clock, random=Random(1)
    ) as engine:
        for scene in SCENES:
            await scene(engine, clock)
            await _pass(clock, 1)
        streams = [summary.id async for summary in engine.find()]
        histories = {name: await store.read(name) for name in (*streams, DEAD_LETTERS)}
    _write(histories | {RECOVERIES: _recoveries()})


def _recoveries() -> list[Recorded]:
    """Make up what an engine writes that follows one which died: a process would have to."""
    events = (
        RecoveryBegan(under_way={"journey": (3, 1, 0), "trip": (5, 1, 0)}),
        RecoveryBegan(under_way={"journey": (3, 2, 1)}),
        ProbationBegan(workflows=("journey",)),
        ProbationBegan(workflows=()),
    )
    return [
        Recorded(
            stream=RECOVERIES, seq=seq, time=1_700_000_000_000_000 + seq, epoch=seq, event=event
        )
        for seq, event in enumerate(events, start=1)
    ]


def _write(histories: dict[str, list[Recorded]]) -> None:
    definitions = Definitions(workflows.WORKFLOWS)
    views: dict[str, dict[str, Any]] = {}
    (RELEASE / "histories").mkdir(exist_ok=True)
    for file in (RELEASE / "histories").iterdir():
        file.unlink()
    for name, history in sorted(histories.items()):
        write_history(RELEASE / "histories" / f"{name.replace('/', '+')}.jsonl", history)
        if isinstance(history[0].event, WorkflowStarted):
            views[name] = view_of(definitions, history)
    text = json.dumps(views, indent=1, ensure_ascii=False)
    (RELEASE / "views.json").write_text(f"{text}\n", encoding="utf-8")


async def _pass(clock: ManualClock, seconds: float) -> None:
    """Let time pass; let steps that run in threads come back."""
    for _ in range(4):
        await asyncio.to_thread(int)
        await settle()
    await clock.advance(seconds)
    await settle()


async def _has(handle: WorkflowHandle[Any], clock: ManualClock, kind: type, count: int = 1) -> None:
    """Let time pass until the log has so many events of a kind."""
    for _ in range(200):
        history: Sequence[Recorded] = await handle.history()
        if sum(isinstance(one.event, kind) for one in history) >= count:
            return
        await _pass(clock, 1)
    raise AssertionError(handle, kind)


async def _ended(handle: WorkflowHandle[Any], clock: ManualClock) -> None:
    end = asyncio.ensure_future(handle.result())
    for _ in range(400):
        if end.done():
            break
        await _pass(clock, 1)
    try:
        await end
    except WorkflowError:
        return


# Scenes


async def travels(engine: Engine, clock: ManualClock) -> None:
    handle = await engine.start(workflows.journey, "tea", id="journey")
    await _has(handle, clock, StepCompleted, 2)
    await handle.signal("word", "open", key="first")
    await handle.signal("word", "sesame")
    await _ended(handle, clock)
    await _ended(await engine.start(workflows.trip, "nowhere", id="trip"), clock)
    await _ended(await engine.start(workflows.part_of_a_trip, id="part"), clock)


async def letters(engine: Engine, clock: ManualClock) -> None:
    for name in ("ladder", "spade"):
        await _ended(await engine.start(workflows.stuck, name, id=name), clock)
    await engine.dead_letters.retry("ladder")
    await _ended(engine.handle("ladder"), clock)
    await engine.dead_letters.resolve("spade", "bought another one")


async def orders(engine: Engine, clock: ManualClock) -> None:
    handle = await engine.start(workflows.patient, 1, id="patient", delay=30, deadline=5000)
    await _has(handle, clock, TimerStarted)
    await handle.pause("lunch")
    await _pass(clock, 5)
    await handle.resume()
    await _pass(clock, 5)
    await handle.cancel("no longer wanted")
    await _ended(handle, clock)
    handle = await engine.start(workflows.stubborn, id="stubborn")
    await _has(handle, clock, TimerStarted)
    await handle.cancel(grace=20)
    await _ended(handle, clock)
    handle = await engine.start(workflows.stubborn, id="terminated")
    await _has(handle, clock, TimerStarted)
    await handle.terminate("at once")
    handle = await engine.start(workflows.patient, 2, id="overdue", deadline=60)
    await _ended(handle, clock)
    await engine.start(workflows.patient, 3, id="pending", delay=10_000_000)
    handle = await engine.start(workflows.patient, 4, id="on-pause")
    await _has(handle, clock, StepCompleted)
    await handle.pause()


async def families(engine: Engine, clock: ManualClock) -> None:
    await _ended(await engine.start(workflows.parent, "tea", id="parent"), clock)


async def talks(engine: Engine, clock: ManualClock) -> None:
    handle: WorkflowHandle[Any] = await engine.start(workflows.endless_count, 0, id="count")
    for number in (1, 2, 3):
        await handle.signal("add", number)
    await _ended(handle, clock)
    handle = await engine.start(workflows.watched, id="watched")
    for number in (2, 3, 4):
        await handle.signal("hear", number)
    await _ended(handle, clock)
    handle = await engine.start(workflows.Counter, "abc", id="counter", signal=("hear", "yes"))
    await _has(handle, clock, StepCompleted, 2)
    for number in (3, 101, 0):
        asked = asyncio.ensure_future(handle.update("add", number, id=f"add {number}"))
        while not asked.done():
            await _pass(clock, 1)
        asked.exception()
    later = asyncio.ensure_future(handle.update("end later", id="later"))
    await _pass(clock, 1)
    await handle.signal("end")
    await _ended(handle, clock)
    await asyncio.wait({later})
    later.exception()
    handle = await engine.start(workflows.Counter, "abcd", id="waits", tags=["x"])
    await _has(handle, clock, StepCompleted)
    await handle.signal("other", {"kept": True})
    await _has(handle, clock, SignalReceived)
    waits = asyncio.ensure_future(handle.update("end later", id="waits"))
    await _has(handle, clock, UpdateAccepted)
    waits.cancel()


async def second_thoughts(engine: Engine, clock: ManualClock) -> None:
    workflows.BROKEN.add("printer")
    handle: WorkflowHandle[Any] = await engine.start(workflows.parcel, "tea", id="parcel")
    await handle.signal("pack")
    await _ended(handle, clock)
    workflows.BROKEN.clear()
    await handle.retry_from(note="paper refilled")
    await _ended(handle, clock)
    again = await engine.handle("journey").fork("again", at="rested", results={"weigh": 9})
    await again.signal("word", "open")
    await again.signal("word", "again")
    await _ended(again, clock)


SCENES = [travels, letters, orders, families, talks, second_thoughts]

if __name__ == "__main__":
    asyncio.run(main())
