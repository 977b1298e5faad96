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
from beamflow.stores.sqlite import SQLiteStore, finding
from beamflow.stores.sqlite.finding import Arm, Finding, Source
from beamflow.testing.store_suite import ServedStore, StoreClock
from beamflow.testing.store_suite.samples import START, completed, failed, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from beamflow.model.events import Attribute, Event

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
@given(query=queries, enough=st.sampled_from([1, 3, 5_000]))
async def test_every_index_finds_the_same(
    filled: list[ServedStore], query: WorkflowQuery, enough: int
) -> None:
    """Whatever is asked for, and whichever index is thought to be the shortest way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finding, "ENOUGH", enough)
        in_memory, in_file = [one.store for one in filled]
        assert await in_file.count(query) == await in_memory.count(query)
        while True:
            page = await in_memory.find(query)
            assert await in_file.find(query) == page
            if page.cursor is None:
                return
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
        if one.probe is not None:
            one.probed("[[],0]")  # the only one with a choice has a prefix, and nothing else
        assert {arm.source for arm in one.arms} == {source}
        with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as connection:
            plan = [
                step
                for sql, parameters in (one.find(10), one.count())
                for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
            ]
        reading = [step for step in plan if step.startswith("SEARCH c ")]
        assert reading
        assert all(index in step for step in reading)
        assert not {"SCAN c", "SCAN w", "SCAN l"} & {" ".join(step.split()[:2]) for step in plan}
        if source is not Source.PREFIX:
            assert "started_at" in reading[0]
            assert plan.count("USE TEMP B-TREE FOR ORDER BY") == 1


async def test_the_condition_that_fewest_meet_is_read() -> None:
    """Of several labels, a name and a prefix it is the one with the fewest rows, state by state."""
    open_, over = WorkflowState.RUNNING, WorkflowState.COMPLETED
    query = WorkflowQuery(
        states=frozenset({open_, over}), tags=("x", "y"), workflow="onboard", id_prefix="a"
    )
    x, y, name = Arm(Source.LABEL, 0), Arm(Source.LABEL, 1), Arm(Source.NAME)
    first, second = [state.value for state in query.states or ()]
    for numbers, prefixed, arms in (
        ([[9, 3, 7], [9, 3, 7]], 8, {y: [first, second]}),
        ([[9, 8, 7], [0, 8, 7]], 8, {name: [first], x: [second]}),
        ([[9, 8, 7], [9, 8, 7]], 14, {name: [first, second]}),
        ([[9, 8, 7], [9, 8, 7]], 13, {Arm(Source.PREFIX): [f'["{first}","{second}"]']}),
        ([[5000] * 3] * 2, 5000, {x: [first, second]}),
    ):
        one = Finding(query)
        assert one.probe is not None
        counted = [(s, c, rows) for s, each in enumerate(numbers) for c, rows in enumerate(each)]
        one.probed(msgspec.json.encode((counted, prefixed)).decode())
        assert one.arms == arms
        assert [arm for arm, _ in msgspec.json.decode(one.find(1)[1]["wanted"])] == [
            number for number, states in enumerate(arms.values()) for _ in states
        ]


async def test_text_of_users_is_bound(stores: list[ServedStore]) -> None:
    """No name, value or id of theirs is ever a part of a statement."""
    evil = "'); DROP TABLE beamflow_workflows; --"
    query = WorkflowQuery(
        workflow=evil, tags=(evil,), attributes={evil: evil}, parent=evil, id_prefix=evil
    )
    statements = {Finding(query).find(1)[0], Finding(query).count()[0]}
    assert not [sql for sql in statements if "DROP" in sql]
    for served in stores:
        assert (await served.store.find(query)).items == ()
        assert await served.store.count(query) == {}
