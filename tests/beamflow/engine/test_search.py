"""Finding workflows by what they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import DefinitionError, Engine, PayloadError, WorkflowState, receive, workflow
from beamflow.engine.search import query_of
from beamflow.stores.base import Store
from supervision.testing import settle

if TYPE_CHECKING:
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@workflow
async def order(what: str) -> str:
    return str(await receive("go")) if what == "waits" else what


@workflow(name="order", version=2)
async def newer_order(what: str) -> str:
    return what


@workflow
async def refund(what: str) -> str:
    raise ValueError(what)


ALL = [order, newer_order, refund]


async def fill(engine: Engine) -> None:
    """Six workflows, one of them open, one failed."""
    for number, (what, tags, city) in enumerate(
        [("waits", ["vip"], "Bonn"), ("a", ["vip", "new"], "Köln"), ("b", [], "Bonn")]
    ):
        await engine.start(
            order, what, id=f"o-{number}", tags=tags, attributes={"city": city, "n": number}
        )
    await engine.start(newer_order, "c", id="o-3", tags=("vip",))
    await engine.start(refund, "d", id="r-4", attributes={"n": 4.0})
    await settle()


async def found(engine: Engine, **filters: Any) -> str:
    """Return the last characters of the ids, and see that counting agrees."""
    ids = "".join([summary.id[-1] async for summary in engine.find(**filters)])
    assert await engine.count(**filters) == len(ids)
    return ids


async def test_find_by_what_they_are(place: str | Store) -> None:
    """Each filter alone and together with others, before and after a restart."""
    async with Engine(place, workflows=ALL) as engine:
        await fill(engine)
        await engine.handle("r-4").events().__anext__()
    async with Engine(place, workflows=ALL) as engine:
        await settle()
        for handle in map(engine.handle, ["o-1", "o-2", "o-3"]):
            await handle.result()
        assert await found(engine) == "01234"
        assert await found(engine, newest_first=True) == "43210"
        assert await found(engine, state=WorkflowState.RUNNING) == "0"
        done = [WorkflowState.COMPLETED, WorkflowState.FAILED]
        assert await found(engine, state=done) == "1234"
        assert await found(engine, state=[]) == ""
        assert await found(engine, workflow="order") == "0123"
        assert await found(engine, workflow=order) == "0123"
        assert await found(engine, workflow=order, version=2) == "3"
        assert await found(engine, tag="vip") == "013"
        assert await found(engine, tag=["vip", "new"]) == "1"
        assert await found(engine, attributes={"city": "Bonn"}) == "02"
        assert await found(engine, attributes={"city": "Bonn"}, tag="vip") == "0"
        assert await found(engine, attributes={"n": 4}) == "4"
        assert await found(engine, id_prefix="o-") == "0123"
        assert await found(engine, parent="o-0") == ""
        counts = await engine.counts(workflow="order")
        assert counts[WorkflowState.RUNNING] == 1
        assert counts[WorkflowState.COMPLETED] == 3
        assert {*counts} == {*WorkflowState}
        summary = (await engine.page(id_prefix="o-1")).items[0]
        assert (summary.tags, summary.attributes) == (("new", "vip"), {"city": "Köln", "n": 1})


@workflow(name="parcel")
class Parcel:
    async def run(self) -> None:
        raise LookupError


async def test_a_class_is_found_as_a_function_is(memory: MemoryStore) -> None:
    """Among workflows and among dead letters, where a class used to find nothing."""
    async with Engine(memory, workflows=[*ALL, Parcel]) as engine:
        await fill(engine)
        await engine.start(Parcel, id="p-5")
        await settle()
        assert await found(engine, workflow=Parcel) == "5"
        for what in (Parcel, "parcel"):
            (letter,) = await engine.dead_letters.list(workflow=what)
            assert letter.workflow_id == "p-5"
        (letter,) = await engine.dead_letters.list(workflow=refund)
        assert letter.workflow_id == "r-4"
        assert await engine.dead_letters.retry_all(workflow=Parcel) == ["p-5"]


async def test_what_is_no_workflow_is_not_looked_for(memory: MemoryStore) -> None:
    """It would be found nowhere, and nobody would know why."""
    async with Engine(memory, workflows=ALL) as engine:
        with pytest.raises(DefinitionError, match="is no workflow"):
            await engine.count(workflow=Store)
        with pytest.raises(DefinitionError, match="is no workflow"):
            await engine.dead_letters.list(workflow=Store)


async def test_a_state_may_be_given_by_its_value(memory: MemoryStore) -> None:
    """As it comes out of the query of a URL."""
    async with Engine(memory, workflows=ALL) as engine:
        await fill(engine)
        assert await found(engine, state="running") == "0"
        with pytest.raises(ValueError, match="'gone' is not a valid WorkflowState"):
            await found(engine, state="gone")


async def test_find_by_time(clock: ManualClock, memory: MemoryStore) -> None:
    """From a moment on, and before one; the zone that it is given in does not matter."""
    async with Engine(memory, workflows=ALL, clock=clock) as engine:
        moments = []
        for number in range(4):
            moments.append(datetime.fromtimestamp(clock.now(), UTC))
            await engine.start(order, "a", id=f"{number}")
            await clock.advance(60)
        assert await found(engine, started_after=moments[2]) == "23"
        assert await found(engine, started_before=moments[2]) == "01"
        east = moments[1].astimezone() + timedelta(microseconds=1)
        assert await found(engine, started_after=east) == "23"
        assert await found(engine, started_after=moments[1], started_before=moments[3]) == "12"


async def test_pages(place: str | Store) -> None:
    """As many as there are, in order, until there is no cursor."""
    async with Engine(place, workflows=ALL) as engine:
        await fill(engine)
        first = await engine.page(limit=2, newest_first=True)
        second = await engine.page(limit=2, newest_first=True, after=first.cursor)
        third = await engine.page(limit=2, newest_first=True, after=second.cursor)
        ids = [summary.id for page in (first, second, third) for summary in page.items]
        assert ids == ["r-4", "o-3", "o-2", "o-1", "o-0"]
        assert third.cursor is None
        with pytest.raises(ValueError, match="10,000"):
            await engine.page(limit=0)
        with pytest.raises(ValueError, match="cursor of the page before"):
            await engine.page(after="nonsense")


async def test_what_nothing_can_be_found_by() -> None:
    """It is refused at once, with the value and what to do."""
    async with Engine("memory://", workflows=ALL) as engine:
        with pytest.raises(ValueError, match="time zone"):
            engine.find(started_after=datetime(2030, 1, 1))  # noqa: DTZ001 - naive on purpose
        with pytest.raises(PayloadError, match="attribute 'a'"):
            engine.find(attributes={"a": None})  # type: ignore[dict-item]
        with pytest.raises(PayloadError, match="tag ''"):
            engine.find(tag="")
        with pytest.raises(ValueError, match="which workflow"):
            await engine.count(version=3)
        with pytest.raises(TypeError, match="stat"):
            engine.find(stat="running")  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="nowhere"):
            query_of(state=["nowhere"])  # type: ignore[list-item]


@pytest.mark.parametrize("tags", ["vip", [""], ["\0"]])
async def test_a_start_with_what_cannot_be_indexed(tags: Any) -> None:
    """It is refused, and nothing is started."""
    async with Engine("memory://", workflows=ALL) as engine:
        with pytest.raises(PayloadError):
            await engine.start(order, "a", tags=tags)
        with pytest.raises(PayloadError):
            await engine.start(order, "a", attributes={"x": float("nan")})
        assert await engine.count() == 0
