"""Which index a query reads, and that it finds the same whichever it is."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamflow.model.status import WorkflowState
from beamflow.stores.base import WorkflowQuery
from beamflow.stores.memory import MemoryStore
from beamflow.stores.pages import cursor_at
from beamflow.stores.sqlite import SQLiteStore, finding
from beamflow.stores.sqlite.finding import Finding
from beamflow.stores.sqlite.stretches import Arm, Source
from beamflow.testing.store_suite import ServedStore, StoreClock
from beamflow.testing.store_suite.samples import START, completed, failed, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from beamflow.model.events import Attribute, Event
    from beamflow.stores.base import Store, Summary

TAGS = ["x", "y", "z"]
NAMES = ["n", "m"]
VALUES: list[Attribute] = ["1", 1, 1.0, True, 2]


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[list[ServedStore]]:
    """A memory store and one in a file."""
    served = [
        ServedStore(MemoryStore(clock=StoreClock())),
        ServedStore(SQLiteStore(tmp_path / "app.db", clock=StoreClock())),
    ]
    for one in served:
        await one.start()
    yield served
    for one in served:
        await one.stop()


queries = st.builds(
    WorkflowQuery,
    states=st.none() | st.frozensets(st.sampled_from(list(WorkflowState)), max_size=3),
    workflow=st.just("onboard"),
    version=st.none() | st.integers(1, 3),
    started_after=st.none() | st.integers(START, START + 40),
    started_before=st.none() | st.integers(START, START + 40),
    tags=st.lists(st.sampled_from(TAGS), max_size=2, unique=True).map(tuple),
    attributes=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=2),
    parent=st.none() | st.sampled_from(["a0", "b1"]),
    id_prefix=st.none() | st.sampled_from(["", "a", "a1", "b", "%"]),
    newest_first=st.booleans(),
    limit=st.integers(1, 12),
) | st.builds(
    WorkflowQuery,
    tags=st.lists(st.sampled_from(TAGS), max_size=3, unique=True).map(tuple),
    parent=st.none() | st.sampled_from(["a0", "b1"]),
    id_prefix=st.none() | st.sampled_from(["", "a", "a1", "b", "%"]),
    newest_first=st.booleans(),
    limit=st.integers(1, 12),
)


def story(number: int) -> list[Event]:
    """What became of one of a few dozen workflows, no two alike."""
    events: list[Event] = [
        started(
            "onboard" if number % 7 else "other",
            version=1 + number % 3,
            tags=[tag for at, tag in enumerate(TAGS) if number >> at & 1],
            attributes={
                name: VALUES[(number + at) % len(VALUES)]
                for at, name in enumerate(NAMES)
                if number % (at + 2)
            },
            parent="" if number % 4 else ("a0" if number % 8 else "b1"),
        )
    ]
    return events + [[], [completed()], [failed()]][number % 3]


@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    query=queries,
    pieces=st.lists(st.sampled_from([1, 2, 3, 7, 1_000]), min_size=1, max_size=4),
    few=st.sampled_from([0, 3, 1_000]),
)
async def test_every_index_finds_the_same(
    filled: list[ServedStore], query: WorkflowQuery, pieces: list[int], few: int
) -> None:
    """Whatever is asked for, whichever index is thought to be the shortest way, however much is read."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LOOKED_UP", "PASSED_OVER"):
            patch.setattr(finding, name, pieces)
        for name in ("PREFIXED", "COUNTED"):
            patch.setattr(finding, name, few + 1)
        in_memory, in_file = [one.store for one in filled]
        assert await in_file.count(query) == await in_memory.count(query)
        assert await everything(in_file, query) == await everything(in_memory, query)


async def everything(store: Store, query: WorkflowQuery) -> list[Summary]:
    """Return all that a query finds, page after page, none of them too long."""
    found: list[Summary] = []
    while True:
        page = await store.find(query)
        assert len(page.items) <= query.limit
        found += page.items
        if page.cursor is None:
            return found
        assert page.cursor != query.after
        query = msgspec.structs.replace(query, after=page.cursor)


@pytest.fixture
async def filled(stores: list[ServedStore]) -> list[ServedStore]:
    for served in stores:
        lease = await served.store.claim("me", 1)
        for number in range(40):
            await served.store.append(
                f"{'ab'[number % 2]}{number}",
                0,
                story(number),
                time=START + number // 2,
                epoch=lease.epoch,
            )
    return stores


@pytest.mark.parametrize(
    ("query", "source", "index"),
    [
        (WorkflowQuery(), Source.STATE, "beamflow_workflows_by_state"),
        (WorkflowQuery(workflow="x"), Source.NAME, "beamflow_workflows_by_name"),
        (WorkflowQuery(workflow="x", version=2), Source.NAME, "beamflow_workflows_by_name"),
        (WorkflowQuery(tags=("x",)), Source.LABEL, "beamflow_labels_by_value"),
        (WorkflowQuery(attributes={"n": 1}), Source.LABEL, "beamflow_labels_by_value"),
        (WorkflowQuery(parent="p"), Source.LABEL, "beamflow_labels_by_value"),
        (WorkflowQuery(id_prefix="a"), Source.PREFIX, "sqlite_autoindex_beamflow_workflows_1"),
    ],
)
async def test_each_query_reads_a_stretch_of_an_index(
    tmp_path: Path,
    stores: list[ServedStore],
    query: WorkflowQuery,
    source: Source,
    index: str,
) -> None:
    """Bounded by the place of the page, and in its order: nothing is sorted but a few pages."""
    for newest_first in (False, True):
        one = Finding(msgspec.structs.replace(query, newest_first=newest_first))
        if source is Source.PREFIX:
            one.arms = {Arm(Source.PREFIX): ["[]"]}
        assert {arm.source for arm in one.arms} == {source}
        with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as connection:
            plan = plans(connection, one.finding(10), one.counting())
        reading = [step for step in plan if step.startswith("SEARCH c ")]
        assert reading
        assert all(index in step for step in reading)
        assert not {"SCAN c", "SCAN w", "SCAN l"} & {" ".join(step.split()[:2]) for step in plan}
        if source is not Source.PREFIX:
            assert "started_at" in reading[0]
            assert plan.count("USE TEMP B-TREE FOR ORDER BY") == 1


def plans(connection: sqlite3.Connection, *statements: tuple[str, dict[str, object]]) -> list[str]:
    """Return the steps that SQLite plans for some statements."""
    return [
        step
        for sql, parameters in statements
        for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
    ]


@pytest.mark.parametrize(
    "query",
    [
        WorkflowQuery(workflow="onboard", tags=("x",)),
        WorkflowQuery(workflow="onboard", version=2, tags=("x",)),
        WorkflowQuery(states=frozenset({WorkflowState.COMPLETED}), tags=("x", "y")),
        WorkflowQuery(tags=("x",), attributes={"n": 1}, parent="p", workflow="onboard"),
        WorkflowQuery(tags=("x",), attributes={"n": 1}, started_after=START, id_prefix="a"),
        WorkflowQuery(id_prefix="a", states=frozenset({WorkflowState.FAILED})),
        WorkflowQuery(id_prefix="a", workflow="onboard", started_before=START + 9),
        WorkflowQuery(id_prefix="a", tags=("x",)),
    ],
)
async def test_several_conditions_are_looked_up_in_indexes_alone(
    tmp_path: Path, filled: list[ServedStore], query: WorkflowQuery
) -> None:
    """No row of a table is looked at but what the page shows; nothing is walked through, nothing sorted."""
    for newest_first in (False, True):
        one = Finding(msgspec.structs.replace(query, newest_first=newest_first))
        with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as connection:
            asked: list[tuple[str, dict[str, object]]] = []
            one.choose(executing(connection, asked), 2, 0)
            reaching = plans(connection, *asked)
            reading = plans(connection, one.finding(10))
        looks = [step for step in reaching + reading if step.split()[1] in {"c", "l", "w"}]
        shown = "SEARCH w USING INDEX sqlite_autoindex_beamflow_workflows_1 (id=?)"
        for step in set(looks) - {shown}:
            assert step.split()[0] == "SEARCH"
            assert "USING COVERING INDEX beamflow_" in step
            assert "started_at" in step
        assert not [step for step in reaching if "B-TREE" in step]
        assert reading.count("USE TEMP B-TREE FOR ORDER BY") == 1


@pytest.fixture
async def crowd(tmp_path: Path) -> AsyncIterator[sqlite3.Connection]:
    """A file with 60 workflows; all are tagged ``often``, one in ten ``seldom``, from 30 on ``late``."""
    store = SQLiteStore(tmp_path / "crowd.db", clock=StoreClock())
    served = ServedStore(store)
    await served.start()
    lease = await store.claim("me", 1)
    for number in range(60):
        tags = ["often"] + ["seldom"] * (not number % 10) + ["late"] * (number >= 30)
        name, side = ("onboard", "other")[number % 2], ("even", "odd")[number % 2]
        events: list[Event] = [started(name, tags=tags, attributes={"side": side})]
        events += [completed()] if number % 3 else []
        await store.append(f"{number:02}", 0, events, time=START + number, epoch=lease.epoch)
    with contextlib.closing(sqlite3.connect(tmp_path / "crowd.db")) as connection:
        yield connection
    await served.stop()


def executing(
    connection: sqlite3.Connection, asked: list[tuple[str, dict[str, object]]] | None = None
) -> Callable[[str, dict[str, object]], object]:
    """Return what executes a statement, notes it, and returns its first row."""

    def execute(sql: str, parameters: dict[str, object]) -> object:
        if asked is not None:
            asked.append((sql, parameters))
        return connection.execute(sql, parameters).fetchone()

    return execute


@pytest.mark.parametrize(
    ("query", "label"),
    [
        (WorkflowQuery(), 2),
        (WorkflowQuery(started_after=START + 30), 1),
        (WorkflowQuery(newest_first=True), 1),
    ],
)
async def test_what_reaches_furthest_is_read(
    crowd: sqlite3.Connection, query: WorkflowQuery, label: int
) -> None:
    """Of what all meet, what few meet and what nobody meets at first, it depends on the place."""
    for state in (WorkflowState.RUNNING, WorkflowState.COMPLETED):
        states, tags = frozenset({state}), ("often", "seldom", "late")
        one = Finding(msgspec.structs.replace(query, states=states, tags=tags))
        one.choose(executing(crowd), 2, 0)
        assert one.arms == {Arm(Source.LABEL, label): [state.value]}


async def test_a_state_is_read_as_far_as_the_nearest(crowd: sqlite3.Connection) -> None:
    """So that none of another state is left out before the end; the rows are of all states together."""
    query = WorkflowQuery(tags=("often", "seldom"))
    one = Finding(query)
    one.choose(executing(crowd), 2, 0)
    assert one.until == (START + 10, "10")  # running: two rows, to 30; completed: one, to 10
    found = Finding(query).page(executing(crowd), 100)
    assert found.until is None


async def test_a_prefix_of_few_ids_is_read_to_the_end(crowd: sqlite3.Connection) -> None:
    """Of many ids it is looked for in the order of start."""
    one = Finding(WorkflowQuery(id_prefix="5"))
    for few, source, until in ((11, Source.PREFIX, True), (10, Source.STATE, False)):
        one.choose(executing(crowd), 3, few)
        assert {arm.source for arm in one.arms} == {source}
        assert (one.until is None) == until


@pytest.mark.parametrize("query", [WorkflowQuery(), WorkflowQuery(newest_first=True)])
async def test_what_never_meets_ends_a_page_early(
    crowd: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, query: WorkflowQuery
) -> None:
    """A page looks at so many rows and no more; the next one goes on from there, to the end."""
    monkeypatch.setattr(finding, "LOOKED_UP", [2, 4])
    query = msgspec.structs.replace(query, workflow="onboard", attributes={"side": "odd"})
    pages = 1
    while (until := Finding(query).page(executing(crowd), 5).until) is not None:
        query = msgspec.structs.replace(query, after=cursor_at(*until))
        pages += 1
    assert pages == 5  # of 30 of each side, 6 a page, whatever the states


async def test_text_of_users_is_bound(stores: list[ServedStore]) -> None:
    """No name, value or id of theirs is ever a part of a statement."""
    evil = "'); DROP TABLE beamflow_workflows; --"
    query = WorkflowQuery(
        workflow=evil, tags=(evil,), attributes={evil: evil}, parent=evil, id_prefix=evil
    )
    statements = {Finding(query).finding(1)[0], Finding(query).counting()[0]}
    assert not [sql for sql in statements if "DROP" in sql]
    for served in stores:
        assert (await served.store.find(query)).items == ()
        assert await served.store.count(query) == {}
