# ruff: noqa: PLR2004 - this is a module of tests that happens to be shipped
"""Removal: what has ended and is not needed goes, all of it; everything else stays."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from msgspec import Raw
from msgspec.structs import replace

from beamflow.errors import FencedError
from beamflow.model.events import (
    DeadLetterResolved,
    Event,
    WorkflowCancelled,
    WorkflowContinued,
    WorkflowRetried,
)
from beamflow.model.ids import DEAD_LETTERS
from beamflow.model.status import WorkflowState
from beamflow.stores.base import DeadLetterQuery, Lease, Store, WorkflowQuery
from beamflow.stores.removal import Removable, RemovableQuery
from beamflow.testing.store_suite.samples import (
    START,
    completed,
    failed,
    parked,
    shared,
    started,
    stepped,
)
from beamflow.testing.store_suite.served import ServedStore, Suite

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RemovalSuite"]

_LATER = START + 1_000_000
_LONG = 2_600


class RemovalSuite(Suite):
    """Which workflows may be removed, and what is left of them."""

    _time = START

    async def _told(
        self, store: Store, lease: Lease, *stories: tuple[str, Sequence[Event]]
    ) -> None:
        """Append the events of each stream, a microsecond after those before."""
        for stream, events in stories:
            seq = len(await store.read(stream))
            await store.append(stream, seq, events, time=self._time, epoch=lease.epoch)
            self._time += 1

    async def _removable(self, store: Store, *, now: int = _LATER, **fields: object) -> list[str]:
        """Return the ids of all that may be removed, by pages of two."""
        ids: list[str] = []
        for state in (WorkflowState.COMPLETED, WorkflowState.FAILED, WorkflowState.CANCELLED):
            query = RemovableQuery(state=state, closed_before=_LATER, now=now, limit=2)
            for name, value in fields.items():
                query = replace(query, **{name: value})
            while True:
                page = await store.removable(query)
                ids += [item.id for item in page.items]
                if page.cursor is None:
                    break
                query = replace(query, after=page.cursor)
        return ids

    async def _remove(
        self, store: Store, lease: Lease, workflow_id: str, now: int = _LATER
    ) -> bool:
        """Remove one workflow, and tell whether it went."""
        item = Removable(workflow_id, len(await store.read(workflow_id)))
        return await store.remove([item], now=now, epoch=lease.epoch) == (workflow_id,)

    @pytest.mark.parametrize("then", ["at once", "reopened", "rebuilt"])
    async def test_nothing_is_left(self, served: ServedStore, lease: Lease, then: str) -> None:
        """Events, summary, labels and letters are gone; what others have is untouched."""
        store = served.store
        begin = started(tags=["x"], attributes={"n": 1}, parent="gone", on_close="wait")
        await self._told(
            store,
            lease,
            ("a", [begin, stepped(), failed()]),
            ("b", [begin, stepped(), failed()]),
            ("c", [started()]),
            (
                DEAD_LETTERS,
                [
                    parked("c"),
                    DeadLetterResolved(workflow_id="a", note="by hand"),
                    DeadLetterResolved(workflow_id="b", note="by hand"),
                    DeadLetterResolved(workflow_id="c", note="by hand"),
                ],
            ),
            ("c", [completed()]),
        )
        kept = await store.read("b"), await store.summary("b")
        assert await self._remove(store, lease, "a")
        assert await self._remove(store, lease, "c")
        if then == "reopened":
            await served.restart()
        elif then == "rebuilt":
            await served.rebuild()
        for one in ("a", "c"):
            assert await store.read(one) == []
            assert await store.summary(one) is None
            letters = DeadLetterQuery(states=None, workflow_id=one)
            assert (await store.dead_letters(letters)).items == ()
        for query in (WorkflowQuery(), WorkflowQuery(tags=("x",)), WorkflowQuery(parent="gone")):
            assert [one.id for one in (await store.find(query)).items] == ["b"]
            assert sum((await store.count(query)).values()) == 1
        assert (await store.read("b"), await store.summary("b")) == kept
        assert len((await store.dead_letters(DeadLetterQuery(states=None))).items) == 1

    async def test_an_id_can_be_started_anew(self, served: ServedStore, lease: Lease) -> None:
        """It is a new workflow then, from event 1, with nothing of the old one, also when rebuilt."""
        store = served.store
        await self._told(store, lease, ("a", [started(tags=["old"]), stepped(), failed()]))
        closing = DeadLetterResolved(workflow_id="a", note="x")
        await self._told(store, lease, (DEAD_LETTERS, [parked("a"), closing, closing]))
        await self._told(store, lease, ("a", [WorkflowRetried(at=3), completed()]))
        assert await self._remove(store, lease, "a")
        await self._told(store, lease, ("a", [started(tags=["new"])]))
        for _ in range(2):
            assert [one.event for one in await store.read("a")] == [started(tags=["new"])]
            summary = await store.summary("a")
            assert summary is not None
            assert (summary.state, summary.tags) == (WorkflowState.RUNNING, ("new",))
            assert (await store.dead_letters(DeadLetterQuery(states=None))).items == ()
            await served.rebuild()

    async def test_which_may_go(self, store: Store, lease: Lease) -> None:
        """Those that have ended, in the state, by then, of the name, and whose letters are closed."""
        await self._told(
            store,
            lease,
            ("open", [started()]),
            ("done", [started()]),
            ("other", [started("ping"), completed()]),
            ("failed", [started(), failed()]),
            ("resolved", [started(), failed()]),
            ("again", [started(), failed(), WorkflowRetried(at=2)]),
            ("cancelled", [started(), WorkflowCancelled(reason="x")]),
            ("stuck", [started()]),
            (
                DEAD_LETTERS,
                [parked("stuck"), DeadLetterResolved(workflow_id="resolved", note="x")],
            ),
            ("done", [stepped(), completed()]),
        )
        assert await self._removable(store) == ["done", "other", "resolved", "cancelled"]
        assert await self._removable(store, workflow="ping") == ["other"]
        rest = ["done", "resolved", "cancelled"]
        assert await self._removable(store, others_than=("ping", "pong")) == rest
        early = await self._removable(store, closed_before=START + 9)
        assert early == ["other", "resolved", "cancelled"], "done was started second and ended last"
        for one in ("open", "failed", "again", "stuck", "nobody"):
            assert not await self._remove(store, lease, one)
        assert await self._remove(store, lease, "cancelled")
        assert "cancelled" not in await self._removable(store)

    async def test_a_parent_of_open_children_stays(self, store: Store, lease: Lease) -> None:
        """A child that ends with its parent looks what has become of it; an abandoned one does not."""
        await self._told(
            store,
            lease,
            ("p", [started(), WorkflowCancelled(terminated=True)]),
            ("p/1", [started(parent="p", on_close="wait")]),
            ("q", [started(), completed()]),
            ("q/1", [started(parent="q", on_close="abandon")]),
        )
        assert await self._removable(store) == ["q"]
        assert not await self._remove(store, lease, "p")
        await self._told(store, lease, ("p/1", [completed()]))
        assert await self._removable(store) == ["p/1", "q", "p"]

    async def test_a_child_stays_while_its_parent_may_ask_for_it(
        self, store: Store, lease: Lease
    ) -> None:
        """That is: while the parent is in the run that it was in, and has not ended for good."""
        for one in ("open", "failed", "done", "endless"):
            await self._told(store, lease, (one, [started()]))
        for one in ("open", "failed", "done", "endless", "gone"):
            child: list[Event] = [started(parent=one, on_close="wait"), completed()]
            await self._told(store, lease, (f"{one}/1", child))
        await self._told(
            store,
            lease,
            ("failed", [failed()]),
            (DEAD_LETTERS, [DeadLetterResolved(workflow_id="failed", note="x")]),
            ("done", [completed()]),
            ("endless", [WorkflowContinued(run=1, input=Raw(b"[]"))]),
        )
        assert await self._removable(store) == ["done", "done/1", "endless/1", "gone/1", "failed"]
        for one in ("open/1", "failed/1"):
            assert not await self._remove(store, lease, one)
        assert await self._remove(store, lease, "failed")
        assert "failed/1" in await self._removable(store)

    async def test_whose_results_are_shared_stays(self, store: Store, lease: Lease) -> None:
        """As long as they are valid: a rebuild would lose them with the events."""
        result = shared("k", b"1", _LATER + 10)
        await self._told(store, lease, ("a", [started(), result, completed()]))
        assert await self._removable(store, now=_LATER + 9) == []
        assert not await self._remove(store, lease, "a", now=_LATER + 9)
        assert await self._removable(store, now=_LATER + 10) == ["a"]
        await self._remove(store, lease, "a", now=_LATER + 10)

    async def test_who_is_not_the_owner_removes_nothing(
        self, served: ServedStore, lease: Lease
    ) -> None:
        """Removing is writing: under an older epoch it is refused."""
        store = served.store
        await self._told(store, lease, ("a", [started(), completed()]))
        for seq in (1, 3):
            assert not await store.remove([Removable("a", seq)], now=_LATER, epoch=lease.epoch)
        await served.restart()
        await store.claim("another", 30)
        with pytest.raises(FencedError):
            await store.remove([Removable("a", 2)], now=_LATER, epoch=lease.epoch)
        assert len(await store.read("a")) == 2

    async def test_a_long_log_is_gone_at_once(self, served: ServedStore, lease: Lease) -> None:
        """Whoever looks while it goes sees all of it or nothing, and others write meanwhile."""
        store = served.store
        events = [stepped(number) for number in range(_LONG)]
        await self._told(store, lease, ("a", [started(), *events, completed()]))
        await self._told(store, lease, ("b", [started()]))
        removing = asyncio.create_task(self._remove(store, lease, "a"))  # noqa: TID251 - awaited below
        seq = 1
        while not removing.done():
            assert len(await store.read("a")) in {0, _LONG + 2}
            await store.append("b", seq, [stepped()], time=_LATER, epoch=lease.epoch)
            seq += 1
            await asyncio.sleep(0)  # noqa: TID251 - passes a turn, waits for no time
        await removing
        assert await store.read("a") == []
        await served.rebuild()
        assert await store.read("a") == []
        assert len(await store.read("b")) == seq

    async def test_a_removal_that_is_cut_off_is_completed(
        self, served: ServedStore, lease: Lease
    ) -> None:
        """However far it came: it is gone or there, what is left is offered again, ids begin anew."""
        store = served.store
        for number in range(6):
            one = f"{number}"
            events = [stepped(op) for op in range(_LONG)]
            await self._told(store, lease, (one, [started(), *events, completed()]))
            removing = asyncio.create_task(self._remove(store, lease, one))  # noqa: TID251 - likewise
            for _ in range(number):
                await store.read("nobody")
            await served.stop()
            await asyncio.wait({removing})
            removing.exception()
            await served.start()
            lease = await store.claim("again", 30)
            left = len(await store.read(one))
            assert left in {0, _LONG + 2}
            assert (await store.summary(one) is None) == (left == 0)
        await served.rebuild()
        lease = await store.claim("again", 30)
        query = RemovableQuery(state=WorkflowState.COMPLETED, closed_before=_LATER, now=_LATER)
        anew = [f"{n}" for n in range(0, 6, 2) if await store.summary(f"{n}") is None]
        for one in anew:
            await store.append(one, 0, [started()], time=_LATER, epoch=lease.epoch)
            await store.append(one, 1, [stepped()], time=_LATER, epoch=lease.epoch)
        left_over = (await store.removable(query)).items
        assert not {item.id for item in left_over} & {*anew}
        await store.remove(left_over, now=_LATER, epoch=lease.epoch)
        assert (await store.removable(query)).items == ()
        for number in range(6):
            one = f"{number}"
            assert len(await store.read(one)) == (2 if one in anew else 0)
