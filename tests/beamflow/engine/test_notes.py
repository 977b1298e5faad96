"""Notes: recorded with what led to them, compared in order on replay, never twice, never lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw

from beamflow import (
    DefinitionError,
    Engine,
    NondeterminismError,
    PayloadError,
    WorkflowParkedError,
    publish,
    receive,
    snapshot,
    step,
    workflow,
)
from beamflow.engine.execution import replay
from beamflow.engine.notes import Notes
from beamflow.events import (
    AttributesChanged,
    PatchMarked,
    ProgressReported,
    SnapshotTaken,
    StatePublished,
    StepCompleted,
    WorkflowCompleted,
    WorkflowStarted,
)
from supervision.testing import settle
from tests.beamflow.engine.cuts import cut_store
from tests.beamflow.engine.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from beamflow.model.events import Note
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore


@step
async def pay(amount: int) -> int:
    return amount


@workflow
async def noting() -> int:
    publish("state", "new")
    paid = await pay(1)
    publish("state", "paid")
    snapshot("paid")
    publish("amount", {"value": paid})
    await receive("go")
    publish("state", "gone")
    return paid


def kinds(events: Any) -> list[str]:
    return [type(each.event).__name__ for each in events]


async def test_a_note_is_recorded_with_what_led_to_it(place: str | Store) -> None:
    """In order, before what the code does next; the last ones before the end."""
    async with Engine(place, workflows=[noting]) as engine:
        handle = await engine.start(noting)
        history = []
        async for recorded in handle.events():
            history.append(recorded)
            if len(history) == 6:
                await handle.signal("go")
    assert kinds(history) == [
        "WorkflowStarted",
        "StatePublished",
        "StepCompleted",
        "StatePublished",
        "SnapshotTaken",
        "StatePublished",
        "SignalReceived",
        "StatePublished",
        "WorkflowCompleted",
    ]
    values = [bytes(each.event.value) for each in history if type(each.event) is StatePublished]
    assert values == [b'"new"', b'"paid"', b'{"value":1}', b'"gone"']


def lived() -> Driver:
    driver = Driver.start(noting)
    driver.complete("pay", 1)
    driver.signal("go")
    driver.take()
    assert driver.result == 1
    return driver


def test_notes_are_the_same_after_a_cut_at_any_event() -> None:
    """Those that the log has are not recorded again, those that it lacks are."""
    log = lived().log
    wanted = [each.event for each in log if isinstance(each.event, StatePublished | SnapshotTaken)]
    assert len(wanted) == 5
    for cut in range(1, len(log) + 1):
        driver = Driver.resume(noting, log[:cut])
        if driver.calls:
            driver.complete("pay", 1)
        if not driver.execution.ended:
            driver.signal("go")
        driver.take()
        assert driver.result == 1
        taken = [e.event for e in driver.log if isinstance(e.event, StatePublished | SnapshotTaken)]
        assert taken == wanted, cut


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_an_engine_that_is_killed_at_any_event_loses_no_note(
    tmp_path: Path, kind: str
) -> None:
    """Not in the moment between the start and what follows from it either."""
    history = [each for each in lived().log if type(each.event) is not WorkflowCompleted]
    wanted = [each.event for each in history if isinstance(each.event, StatePublished)]
    for cut in range(1, len(history) + 1):
        file = None if kind == "memory" else tmp_path / f"{cut}.db"
        async with Engine(await cut_store(history, cut, file), workflows=[noting]) as engine:
            handle = engine.handle("wf")
            if cut < len(history) - 1:
                await handle.signal("go")
            assert await handle.result() == 1
            now = await handle.history()
        assert [each.event for each in now if type(each.event) is StatePublished] == wanted, cut


def other_value() -> None:
    publish("state", "old")


def other_name() -> None:
    publish("status", "new")


def other_kind() -> None:
    snapshot("state")


def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("changed", "issued"),
    [
        (other_value, "publish('state', \"old\")"),
        (other_name, "publish('status', \"new\")"),
        (other_kind, "snapshot('state')"),
        (nothing, "nothing to be recorded here"),
    ],
)
def test_another_note_in_its_place_is_noticed(changed: Callable[[], None], issued: str) -> None:
    """The message shows both sides."""

    async def code() -> int:
        changed()
        await pay(1)
        return 1

    with pytest.raises(NondeterminismError) as caught:
        replay(workflow(name="noting")(code), "wf", lived().log)
    assert caught.value.recorded == "publish('state', \"new\")"
    assert caught.value.issued == issued


async def test_changed_code_parks_and_goes_on_after_the_fix(memory: MemoryStore) -> None:
    """With nothing recorded twice."""

    async def code() -> int:
        publish("state", "other")
        return await pay(1)

    async with Engine(memory, workflows=[noting]) as engine:
        handle = await engine.start(noting, id="one")
        async for recorded in handle.events():
            if type(recorded.event) is SnapshotTaken:
                break
    async with Engine(memory, workflows=[workflow(name="noting")(code)]) as engine:
        with pytest.raises(WorkflowParkedError, match="publish"):
            await engine.handle("one").result()
    async with Engine(memory, workflows=[noting]) as engine:
        await settle()
        handle = engine.handle("one")
        await handle.signal("go")
        assert await handle.result() == 1
        assert kinds(await handle.history()).count("StatePublished") == 4


def test_a_marker_that_the_code_does_not_ask_for_is_let_pass() -> None:
    """So patches retire; one that it has asked for is settled out of order."""
    notes = Notes("wf")
    notes.recorded(2, PatchMarked(name="gone"))
    published = StatePublished(name="x", value=Raw(b"1"))
    notes.add(published)
    notes.add(PatchMarked(name="new"))
    notes.recorded(3, PatchMarked(name="new"))
    assert notes.unrecorded == [published]
    notes.recorded(4, StatePublished(name="x", value=Raw(b"1")))
    assert notes.unrecorded == []


@pytest.mark.parametrize(
    ("note", "shown"),
    [
        (ProgressReported(done=1, total=2, note="on"), "progress(1, 2, 'on')"),
        (AttributesChanged(attributes={"a": 1}), "change of attributes {'a': 1}"),
        (PatchMarked(name="p"), "patched('p')"),
        (StatePublished(name="x", value=Raw(b"1" * 500)), "1111…"),
    ],
)
def test_each_kind_is_shown(note: Note, shown: str) -> None:
    """Shortened when it is long."""
    notes = Notes("wf")
    notes.add(note)
    with pytest.raises(NondeterminismError) as caught:
        notes.recorded(2, SnapshotTaken(name="s"))
    assert shown in caught.value.issued
    assert len(caught.value.issued) <= 201


def test_a_value_that_cannot_be_recorded_is_an_error_at_the_call() -> None:
    """So are bad names; nothing is noted."""

    async def code() -> list[str]:
        said = []
        for name, value in (("x", object()), ("", 1), (3, 1)):
            try:
                publish(name, value)  # type: ignore[arg-type]
            except (PayloadError, DefinitionError) as error:
                said.append(f"{error}")
        return said

    driver = Driver.start(workflow(code))
    assert [text[:14] for text in driver.result] == [
        "published 'x':",
        "published name",
        "published name",
    ]
    assert driver.commands == []


def test_notes_are_refused_outside_a_workflow() -> None:
    """There is no log to write them into."""
    for take in (lambda: publish("x", 1), lambda: snapshot("x")):
        with pytest.raises(DefinitionError, match="only inside a workflow"):
            take()


def test_code_that_is_taken_away_notes_nothing() -> None:
    """Its ``finally`` blocks run on a dead loop."""

    async def code() -> None:
        try:
            await receive("never")
        finally:
            publish("last", "words")

    driver = Driver.start(workflow(code))
    driver.execution.close()
    assert driver.execution.take_commands() == []
    assert driver.execution.notes is None


async def test_many_notes_of_one_activation_cost_as_many_times_one(place: str | Store) -> None:
    """Ten thousand are one append."""

    @workflow
    async def chatty(count: int) -> None:
        for number in range(count):
            publish("number", number)
        await asyncio.sleep(0)

    async with Engine(place, workflows=[chatty]) as engine:
        handle = await engine.start(chatty, 10_000)
        await handle.result()
        history = await handle.history()
    assert type(history[0].event) is WorkflowStarted
    assert [type(each.event) for each in history[1:-1]] == [StatePublished] * 10_000
    assert type(history[-1].event) is WorkflowCompleted
    assert StepCompleted not in {type(each.event) for each in history}
