"""Finding workflows: filters, pages and their order, cursors."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from msgspec.structs import replace

from beamflow.model.events import AttributesChanged, Event
from beamflow.model.status import OPEN_STATES, WorkflowState
from beamflow.stores.base import LIMIT_MAX, DeadLetterQuery, Lease, Store, WorkflowQuery
from beamflow.testing.store_suite.samples import START, completed, failed, started
from beamflow.testing.store_suite.served import Suite

__all__ = ["FindingSuite"]


class FindingSuite(Suite):
    """What is found, and in which order."""

    async def _start(self, store: Store, lease: Lease, *starts: tuple[str, int, str]) -> None:
        for workflow_id, time, workflow in starts:
            await store.append(
                workflow_id, 0, [started(workflow)], time=START + time, epoch=lease.epoch
            )

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
    async def test_pages_in_order_of_start(self, store: Store, lease: Lease, limit: int) -> None:
        """Pages follow start and then id, leave nothing out, and say when they end."""
        times = {"c": 5, "b": 5, "a": 9, "d": 1, "Z": 5, "ä": 5, ":": 5}
        await self._start(store, lease, *((one, time, "x") for one, time in times.items()))
        ids, cursor, pages = [], None, 0
        while cursor is not None or not pages:
            page = await store.find(WorkflowQuery(limit=limit, after=cursor))
            assert len(page.items) == limit or page.cursor is None
            ids += [summary.id for summary in page.items]
            cursor, pages = page.cursor, pages + 1
        assert ids == ["d", ":", "Z", "b", "c", "ä", "a"]
        assert pages == max(1, -(-7 // limit))

    async def test_filters(self, store: Store, lease: Lease) -> None:
        """Each filter does what it says, takes no wildcards, and they narrow each other."""
        orders, refunds = ["order-1", "order_2", "orderX3", "ORDER-4"], ["refund%5", "refund-6"]
        for number, one in enumerate(orders + refunds):
            await self._start(store, lease, (one, number, "order" if one in orders else "refund"))
        await store.append("order-1", 1, [completed()], time=START + 9, epoch=lease.epoch)
        await store.append("refund-6", 1, [failed("refund")], time=START + 9, epoch=lease.epoch)

        async def found(**fields: object) -> list[str]:
            page = await store.find(msgspec.convert(fields, WorkflowQuery))
            return [summary.id for summary in page.items]

        assert await found(workflow="order") == orders
        assert await found(workflow="ord") == []
        assert await found(id_prefix="order_") == ["order_2"]
        assert await found(id_prefix="refund%") == ["refund%5"]
        assert await found(id_prefix="") == await found()
        assert await found(id_prefix="order-1-and-more") == []
        assert await found(states=["completed"]) == ["order-1"]
        assert await found(states=["completed", "failed"]) == ["order-1", "refund-6"]
        assert await found(states=[]) == []
        assert await found(states=[state.value for state in OPEN_STATES], workflow="refund") == [
            "refund%5"
        ]
        assert await found(states=["running"], workflow="order", id_prefix="order") == [
            "order_2",
            "orderX3",
        ]

    async def test_found_by_what_they_are(self, store: Store, lease: Lease) -> None:
        """Version, time, tags, attributes and parent, as they are now, alone and together."""
        stories: dict[str, list[Event]] = {
            "a": [started(tags=["vip", "new"], attributes={"city": "Bonn", "n": 1})],
            "b": [started(version=2, tags=["vip"], attributes={"city": "Köln", "n": 1.0})],
            "c": [started("other", attributes={"n": True, "x": "1"}, parent="a"), completed()],
            "d": [started(parent="a", tags=['q"', "ä b"], attributes={'"': '"\\'}), failed()],
            "e": [
                started(tags=["vip"], attributes={"city": "Bonn"}),
                AttributesChanged(attributes={"city": None, "n": 2}, remove_tags=("vip",)),
                AttributesChanged(add_tags=("late",)),
                completed(),
            ],
        }
        for number, (one, events) in enumerate(stories.items()):
            await store.append(one, 0, events, time=START + number, epoch=lease.epoch)

        async def found(**fields: object) -> str:
            query = msgspec.convert(fields, WorkflowQuery)
            page = await store.find(query)
            counts = await store.count(query)
            assert counts == dict(Counter(one.state for one in page.items))
            newest = await store.find(replace(query, newest_first=True))
            assert newest.items == page.items[::-1]
            return "".join(summary.id for summary in page.items)

        assert await found() == "abcde"
        assert await found(tags=["vip"]) == "ab"
        assert await found(tags=["vip", "new"]) == "a"
        assert await found(tags=["vip", "none"]) == ""
        assert await found(tags=["late"]) == "e"
        assert await found(tags=['q"', "ä b"]) == "d"
        assert await found(attributes={"city": "Bonn"}) == "a"
        assert await found(attributes={"city": "Bonn", "n": 1.0}, tags=["vip"]) == "a"
        assert await found(attributes={"n": 1}) == "ab"
        assert await found(attributes={"n": True}) == "c"
        assert await found(attributes={"n": 2}) == "e"
        assert await found(attributes={"x": 1}) == ""
        assert await found(attributes={'"': '"\\'}) == "d"
        assert await found(parent="a") == "cd"
        assert await found(parent="a", states=["failed"]) == "d"
        assert await found(parent="a", tags=["vip"]) == ""
        assert await found(workflow="onboard", version=2) == "b"
        assert await found(workflow="onboard", version=1, tags=["vip"]) == "a"
        assert await found(workflow="onboard", attributes={"n": True}) == ""
        assert await found(workflow="onboard", id_prefix="b") == "b"
        assert await found(id_prefix="c", parent="a") == "c"
        assert await found(started_after=START + 1) == "bcde"
        assert await found(started_before=START + 3) == "abc"
        assert await found(started_after=START + 1, started_before=START + 3) == "bc"
        assert await found(started_after=START + 3, tags=["late"], workflow="onboard") == "e"
        with pytest.raises(ValueError, match="which workflow"):
            await store.find(WorkflowQuery(version=1))

    @pytest.mark.parametrize("limit", [1, 3, 100])
    async def test_pages_of_the_newest_first(self, store: Store, lease: Lease, limit: int) -> None:
        """They are those of the oldest first, the other way round, within the bounds of time."""
        for number in range(20):
            events: list[Event] = [started(version=number % 3, tags=["odd"] if number % 2 else [])]
            time = START + number // 2
            await store.append(f"{number:02}", 0, events, time=time, epoch=lease.epoch)
        for query in (
            WorkflowQuery(newest_first=True),
            WorkflowQuery(newest_first=True, tags=("odd",)),
            WorkflowQuery(newest_first=True, workflow="onboard"),
            WorkflowQuery(newest_first=True, started_after=START + 2, started_before=START + 8),
        ):
            seen: list[str] = []
            page = await store.find(replace(query, limit=limit))
            while True:
                seen += [summary.id for summary in page.items]
                if page.cursor is None:
                    break
                page = await store.find(replace(query, limit=limit, after=page.cursor))
            whole = await store.find(replace(query, newest_first=False))
            assert seen == [summary.id for summary in whole.items][::-1]
            assert (await store.count(replace(query, limit=limit)))[WorkflowState.RUNNING] == len(
                seen
            )

    async def test_pages_while_workflows_move(self, store: Store, lease: Lease) -> None:
        """Who matches from the first page to the last is seen once, whatever the others do."""
        ids = [f"workflow-{number}" for number in range(30)]
        await self._start(
            store, lease, *((one, number // 4, "x") for number, one in enumerate(ids))
        )
        query = WorkflowQuery(states=frozenset({WorkflowState.RUNNING}), limit=4)
        page = await store.find(query)
        seen = [summary.id for summary in page.items]
        moving = iter(range(0, 30, 3))
        while page.cursor is not None:
            number = next(moving)
            await store.append(ids[number], 1, [completed()], time=START + 99, epoch=lease.epoch)
            await self._start(store, lease, (f"late-{number}", 1_000 + number, "x"))
            page = await store.find(replace(query, after=page.cursor))
            seen += [summary.id for summary in page.items]
        assert {one for number, one in enumerate(ids) if number % 3} <= set(seen)
        assert len(seen) == len(set(seen))

    @pytest.mark.parametrize("limit", [0, -1, LIMIT_MAX + 1])
    async def test_a_page_has_a_bound(self, store: Store, limit: int) -> None:
        """A page size that is none is refused with the bounds."""
        with pytest.raises(ValueError, match="10,000"):
            await store.find(WorkflowQuery(limit=limit))
        with pytest.raises(ValueError, match="10,000"):
            await store.dead_letters(DeadLetterQuery(limit=limit))

    @pytest.mark.parametrize("cursor", ["", "nonsense", "x:1", f"{2**63}:x", "1:\ud800"])
    async def test_a_cursor_that_is_none(self, store: Store, cursor: str) -> None:
        """What is no cursor is refused with what to pass."""
        with pytest.raises(ValueError, match="cursor of the page before"):
            await store.find(WorkflowQuery(after=cursor))
        with pytest.raises(ValueError, match="cursor of the page before"):
            await store.dead_letters(DeadLetterQuery(after=cursor))
