"""Code that was changed under an open workflow: noticed before anything runs, and mended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DeadLetterReason,
    Engine,
    WorkflowParkedError,
    patched,
    publish,
    receive,
    start_child,
    step,
    workflow,
)
from beamflow.engine.execution import Execution
from beamflow.events import StepCompleted
from supervision.testing import settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow import Workflow
    from beamflow.stores.base import Store
    from supervision.testing import ManualClock

ran: list[str] = []


@step
async def first(what: str) -> str:
    ran.append(f"first {what}")
    return what


@step
async def second(what: str) -> str:
    ran.append(f"second {what}")
    return what


@step
async def third(what: str) -> str:
    ran.append(f"third {what}")
    return what


@workflow
async def packing() -> None: ...


@workflow(name="order")
async def original() -> str:
    await first("a")
    publish("state", "half")
    await second("b")
    word: str = await receive("word", str)
    await third(word)
    return word


@workflow(name="order")
async def reordered() -> str:
    await second("b")
    await first("a")
    return await receive("word", str)


@workflow(name="order")
async def renamed() -> str:
    await first("a")
    publish("state", "half")
    await third("b")
    return await receive("word", str)


@workflow(name="order")
async def inserted() -> str:
    await first("a")
    publish("state", "half")
    await third("x")
    await second("b")
    return await receive("word", str)


@workflow(name="order")
async def deleted() -> str:
    publish("state", "half")
    await second("b")
    return await receive("word", str)


@workflow(name="order")
async def other_arguments() -> str:
    await first("z")
    publish("state", "half")
    await second("b")
    return await receive("word", str)


@workflow(name="order")
async def other_note() -> str:
    await first("a")
    publish("state", "other")
    await second("b")
    return await receive("word", str)


@workflow(name="order")
async def at_once() -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(second("b"))
        group.create_task(first("a"))
    return await receive("word", str)


@workflow(name="order")
async def a_timer_first() -> str:
    await asyncio.sleep(5)
    await first("a")
    return await receive("word", str)


@workflow(name="order")
async def a_child_first() -> str:
    await start_child(packing)
    await first("a")
    return await receive("word", str)


@workflow(name="order")
async def ends_early() -> str:
    return await first("a")


CHANGES = [
    reordered,
    renamed,
    inserted,
    deleted,
    other_arguments,
    other_note,
    at_once,
    a_timer_first,
    a_child_first,
    ends_early,
]


async def half_done(
    place: str | Store, clock: ManualClock, reached: Callable[..., Awaitable[None]]
) -> list[Any]:
    async with Engine(place, workflows=[original, packing], clock=clock) as engine:
        handle = await engine.start(original, id="one")
        await reached(handle, StepCompleted, 2)
        return await handle.history()


@pytest.mark.invariant("I29")
@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.function.__name__)
async def test_a_change_is_noticed_and_nothing_is_run(
    place: str | Store,
    clock: ManualClock,
    change: Workflow[..., Any],
    reached: Callable[..., Awaitable[None]],
) -> None:
    """The log stays as it is, both sides and the line are told, and the mended code goes on."""
    history = await half_done(place, clock, reached)
    ran.clear()
    async with Engine(place, workflows=[change, packing], clock=clock) as engine:
        handle = engine.handle("one")
        with pytest.raises(WorkflowParkedError, match="recorded: .*\n *issued: "):
            await handle.result()
        await clock.advance(100)
        assert await handle.history() == history
        (letter,) = await engine.dead_letters.list()
        assert letter.reason is DeadLetterReason.NONDETERMINISM
        assert f"{__file__}:" in letter.error.message
        assert "The function has changed since this workflow was started" in letter.error.message
        assert [summary.id async for summary in engine.find()] == ["one"]
    assert ran == []
    async with Engine(place, workflows=[original, packing], clock=clock) as engine:
        while await engine.dead_letters.list():  # it is let go on in its turn
            await settle()
        await engine.handle("one").signal("word", "go")
        assert await engine.handle("one").result() == "go"
    assert ran == ["third go"]


@pytest.mark.invariant("I29")
async def test_without_the_comparison_a_change_would_be_absorbed(
    clock: ManualClock,
    memory: Store,
    reached: Callable[..., Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ablation: an outcome is taken for that of whatever has its number."""
    await half_done(memory, clock, reached)
    monkeypatch.setattr(Execution, "_issued_call", lambda code, _seq, event: code.calls[event.op])
    async with Engine(memory, workflows=[other_arguments, packing], clock=clock) as engine:
        await settle()
        assert await engine.dead_letters.list() == []


@pytest.mark.invariant("I30")
async def test_what_is_open_keeps_to_its_side_for_ever(
    place: str | Store, clock: ManualClock, reached: Callable[..., Awaitable[None]]
) -> None:
    """Old ones the old branch, new ones the new one, over as many restarts as there are."""

    @workflow(name="order")
    async def both_ways() -> str:
        await first("a")
        if not patched("no publishing"):
            publish("state", "half")
        await second("b")
        word: str = await receive("word", str)
        if patched("loud"):
            word = word.upper()
        await third(word)
        return word

    history = await half_done(place, clock, reached)
    for turn in range(3):
        async with Engine(place, workflows=[both_ways], clock=clock) as engine:
            new = await engine.start(both_ways, id=f"new {turn}")
            await reached(new, StepCompleted, 2)
            assert await engine.handle("one").history() == history
    async with Engine(place, workflows=[both_ways], clock=clock) as engine:
        for name in ("one", "new 0", "new 1", "new 2"):
            handle = engine.handle(name)
            await handle.signal("word", "go")
            assert await handle.result() == "GO"
            kinds = [type(each.event).__name__ for each in await handle.history()]
            assert ("StatePublished" in kinds) == (name == "one")
            assert kinds.count("PatchMarked") == (1 if name == "one" else 2)
