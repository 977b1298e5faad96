"""Progress, tags and attributes: told by the code, shown outside, the same after every crash."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DefinitionError,
    Engine,
    PayloadError,
    Progress,
    WorkflowState,
    add_tags,
    progress,
    receive,
    remove_tags,
    set_attributes,
    step,
    workflow,
)
from beamflow.events import AttributesChanged, ProgressReported
from supervision.testing import settle
from tests.beamflow.engine.cuts import cut_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from beamflow.stores.base import Store


@step
async def pack(item: str) -> str:
    return item


@workflow
async def order(items: list[str]) -> None:
    set_attributes(stage="packing", first=items[0], parcels=0)
    for number, item in enumerate(items, 1):
        await pack(item)
        progress(number, len(items), note=item)
        set_attributes(parcels=number)
    add_tags("packed", "late")
    remove_tags("new", "none")
    await receive("go")
    set_attributes(stage="gone", first=None)
    add_tags()
    set_attributes()
    remove_tags("late")


async def test_status_shows_what_the_code_has_told(place: str | Store) -> None:
    """Together with what it was started with; again after a restart."""
    async with Engine(place, workflows=[order]) as engine:
        handle = await engine.start(
            order, ["tea", "cup"], id="o", tags=["web", "new"], attributes={"city": "Bonn"}
        )
        await settle_until(handle, AttributesChanged, 5)
        for _ in range(2):
            status = await handle.status()
            assert status.progress == Progress(done=2, total=2, note="cup")
            assert status.tags == ("late", "packed", "web")
            assert status.attributes == {
                "city": "Bonn",
                "first": "tea",
                "parcels": 2,
                "stage": "packing",
            }
            assert (status.deadline, status.parent, status.cancelling) == (None, None, False)
    async with Engine(place, workflows=[order]) as engine:
        handle = engine.handle("o")
        await handle.signal("go")
        await handle.result()
        status = await handle.status()
        assert status.tags == ("packed", "web")
        assert status.attributes == {"city": "Bonn", "parcels": 2, "stage": "gone"}
        assert [one.id async for one in engine.find(attributes={"stage": "gone"})] == ["o"]
        assert [one.id async for one in engine.find(attributes={"first": "tea"})] == []
        changes = [
            recorded.event
            for recorded in await handle.history()
            if isinstance(recorded.event, AttributesChanged)
        ]
        assert len(changes) == 7


async def settle_until(handle: Any, kind: type, count: int) -> None:
    async for recorded in handle.events():
        count -= isinstance(recorded.event, kind)
        if not count:
            return


async def test_status_shows_the_deadline_and_that_it_is_told_to_end(place: str | Store) -> None:
    """And no more once it has ended."""
    async with Engine(place, workflows=[stubborn]) as engine:
        handle = await engine.start(stubborn, id="s", deadline=3600)
        await settle()
        assert (await handle.status()).deadline is not None
        await handle.cancel()
        status = await handle.status()
        assert (status.cancelling, status.state) == (True, WorkflowState.RUNNING)
        await handle.signal("let go")
        await handle.events(after=3).__anext__()
        with pytest.raises(Exception, match="cancelled"):
            await handle.result()
        status = await handle.status()
        assert (status.cancelling, status.state) == (False, WorkflowState.CANCELLED)


@workflow
async def stubborn() -> None:
    try:
        await receive("never")
    finally:
        await receive("let go")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_an_engine_killed_at_any_event_tells_the_same(
    kind: str, tmp_path: Path, reached: Callable[..., Any]
) -> None:
    """Nothing is told twice, nothing is left out, and the index ends up the same."""
    async with Engine("memory://", workflows=[order]) as engine:
        handle = await engine.start(order, ["tea", "cup"], id="o", tags=["new"])
        await reached(handle, AttributesChanged, 5)
        await handle.signal("go")
        await handle.result()
        whole, wanted = await handle.history(), await handle.status()
    told = [one.event for one in whole if isinstance(one.event, _TOLD)]
    for cut in range(1, len(whole)):
        file = tmp_path / f"{cut}.db" if kind == "sqlite" else None
        place = await cut_store(whole, cut, file)
        async with Engine(place, workflows=[order]) as engine:
            handle = engine.handle("o")
            await reached(handle, AttributesChanged, 5)
            if not any(type(one.event).__name__ == "SignalReceived" for one in whole[:cut]):
                await handle.signal("go")
            await handle.result()
            history, status = await handle.history(), await handle.status()
        assert [one.event for one in history if isinstance(one.event, _TOLD)] == told
        assert (status.progress, status.tags) == (wanted.progress, wanted.tags)
        assert status.attributes == wanted.attributes


_TOLD = (AttributesChanged, ProgressReported)


@pytest.mark.parametrize(
    "call",
    [
        lambda: progress(math.nan),
        lambda: progress(1, math.inf),
        lambda: progress("1"),  # type: ignore[arg-type]
        lambda: progress(1, note=2),  # type: ignore[arg-type]
        lambda: progress(1, note="\ud800"),
        lambda: set_attributes(a=math.nan),
        lambda: set_attributes(**{"a\0": 1}),
        lambda: set_attributes(**{"a\0": None}),
        lambda: set_attributes(a=[1]),  # type: ignore[arg-type]
        lambda: add_tags("a", ""),
        lambda: remove_tags(""),
    ],
    ids=[
        "done",
        "total",
        "type of done",
        "type of note",
        "text of note",
        "value",
        "name",
        "name to remove",
        "type of value",
        "tag",
        "tag to remove",
    ],
)
async def test_what_cannot_be_told(call: Callable[[], None]) -> None:
    """It is refused where it is told, and nothing of it is recorded."""

    @workflow
    async def tries() -> str:
        with pytest.raises(PayloadError):
            call()
        return "refused"

    async with Engine("memory://", workflows=[tries]) as engine:
        handle = await engine.start(tries)
        assert await handle.result() == "refused"
        assert len(await handle.history()) == 2


@pytest.mark.parametrize(
    "call",
    [lambda: progress(1), lambda: set_attributes(a=1), lambda: add_tags("a"), remove_tags],
    ids=["progress", "set_attributes", "add_tags", "remove_tags"],
)
def test_outside_a_workflow(call: Callable[[], None]) -> None:
    with pytest.raises(DefinitionError, match="only inside a workflow"):
        call()
