"""What sleeps, and until when: noted with an append or alone, in the order of the appends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from beamflow.errors import ConflictError, FencedError
from beamflow.model.events import WorkflowPaused
from beamflow.model.status import WorkflowState
from beamflow.stores.base import AWAKE, NEVER, Lease, Place, Sleep, Store
from beamflow.testing.store_suite.samples import SECOND, START, completed, parked, started, stepped
from beamflow.testing.store_suite.served import ServedStore, StoreClock, Suite

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["WakeupSuite"]

SOON = START + 10 * SECOND
LATER = START + 20 * SECOND
FIRST = (0, "")


async def begin(store: Store, lease: Lease, *ids: str, sleep: Sleep | None = None) -> None:
    """Start workflows, a microsecond after each other, with what is to be noted of each."""
    for number, workflow_id in enumerate(ids):
        await store.append(
            workflow_id, 0, [started()], time=START + number, epoch=lease.epoch, sleep=sleep
        )


async def up(store: Store, now: int = START) -> list[str]:
    """Return the running workflows that do not sleep."""
    page = await store.awake(WorkflowState.RUNNING, now)
    return [summary.id for summary in page.items]


class WakeupSuite(Suite):
    """Who sleeps need not be in memory to be known."""

    async def test_who_is_asleep_is_not_awake(self, store: Store, lease: Lease) -> None:
        """Until its time has come, and but for those that are watched."""
        await begin(store, lease, "one", "two", "three", "four")
        await store.sleep("one", Sleep(SOON), epoch=lease.epoch)
        await store.sleep("two", Sleep(LATER, is_watched=True), epoch=lease.epoch)
        await store.sleep("three", Sleep(NEVER), epoch=lease.epoch)
        assert await up(store) == ["two", "four"]
        assert await up(store, SOON - 1) == ["two", "four"]
        assert await up(store, SOON) == ["one", "two", "four"]
        assert await up(store, NEVER - 1) == ["one", "two", "four"]

    async def test_who_is_awake_comes_in_pages(self, store: Store, lease: Lease) -> None:
        """Oldest first, each once, with what the index shows of it; of one state."""
        await begin(store, lease, "a", "b", "c", "d", "e", "f")
        await store.sleep("c", Sleep(SOON), epoch=lease.epoch)
        await store.append("e", 1, [WorkflowPaused()], time=START + 9, epoch=lease.epoch)
        first = await store.awake(WorkflowState.RUNNING, START, limit=2)
        assert first.items == (await store.summary("a"), await store.summary("b"))
        second = await store.awake(WorkflowState.RUNNING, START, after=first.cursor, limit=2)
        assert [one.id for one in second.items] == ["d", "f"]
        assert second.cursor is None
        paused = await store.awake(WorkflowState.PAUSED, START)
        assert [one.id for one in paused.items] == ["e"]

    async def test_an_append_wakes_nobody_by_itself(self, store: Store, lease: Lease) -> None:
        """What is noted stays until something else is."""
        await begin(store, lease, "one", sleep=Sleep(SOON))
        await store.append("one", 1, [stepped()], time=START, epoch=lease.epoch)
        assert await up(store) == []
        await store.append("one", 2, [stepped()], time=START, epoch=lease.epoch, sleep=AWAKE)
        assert await up(store) == ["one"]

    async def test_a_note_with_an_append_is_one_with_it(self, store: Store, lease: Lease) -> None:
        """An append that is refused notes nothing."""
        await begin(store, lease, "one", sleep=Sleep(SOON))
        with pytest.raises(ConflictError):
            await store.append("one", 5, [stepped()], time=START, epoch=lease.epoch, sleep=AWAKE)
        assert await up(store) == []
        assert await store.sleepers(FIRST, LATER) == ((SOON, "one"),)

    async def test_notes_stand_in_the_order_of_appends(self, store: Store, lease: Lease) -> None:
        """The last one counts, also among those that wait for the same commit."""
        await begin(store, lease, "one", "two")
        epoch = lease.epoch
        notes: list[Awaitable[None]] = []
        for number in range(1, 11):
            for workflow_id, last in (("one", Sleep(SOON)), ("two", AWAKE)):
                notes.append(store.sleep(workflow_id, Sleep(LATER), epoch=epoch))
                append = store.append(
                    workflow_id, number, [stepped()], time=LATER, epoch=epoch, sleep=last
                )
                notes.append(append)
        await asyncio.gather(*notes)
        assert await up(store) == ["two"]
        assert await store.sleepers(FIRST, NEVER) == ((SOON, "one"),)

    async def test_whom_time_wakes(self, store: Store, lease: Lease) -> None:
        """Soonest first, a page at a time, each before the time that is asked for."""
        expected: list[Place] = []
        for number, time in enumerate((START, START, SOON, SOON, LATER, LATER)):
            sleep = Sleep(time, is_watched=bool(number % 2))
            await begin(store, lease, f"w-{number}", sleep=sleep)
            expected.append((time, f"w-{number}"))
        await begin(store, lease, "for-ever", sleep=Sleep(NEVER))
        await begin(store, lease, "awake")
        assert await store.sleepers(FIRST, NEVER) == tuple(expected)
        assert await store.sleepers(FIRST, SOON) == tuple(expected[:2])
        first = await store.sleepers(FIRST, NEVER, limit=3)
        assert first == tuple(expected[:3])
        assert await store.sleepers(first[-1], NEVER, limit=3) == tuple(expected[3:])

    async def test_who_does_not_go_on_is_not_woken(self, store: Store, lease: Lease) -> None:
        """Time wakes nobody who has ended or is parked."""
        await begin(store, lease, "ended", "stuck", "sleeps", sleep=Sleep(SOON))
        await store.append("ended", 1, [completed()], time=START, epoch=lease.epoch)
        await store.append("$letters", 0, [parked("stuck")], time=START, epoch=lease.epoch)
        assert await store.sleepers(FIRST, NEVER) == ((SOON, "sleeps"),)

    async def test_only_the_owner_notes(
        self, store: Store, lease: Lease, clock: StoreClock
    ) -> None:
        """Whoever has lost the lease puts nobody to sleep."""
        await begin(store, lease, "one")
        clock.advance(60)
        await store.claim("another", 30.0)
        with pytest.raises(FencedError):
            await store.sleep("one", Sleep(SOON), epoch=lease.epoch)
        assert await up(store) == ["one"]

    async def test_of_nobody(self, store: Store, lease: Lease) -> None:
        """A note about a workflow that is not there is nothing."""
        await store.sleep("nobody", Sleep(SOON), epoch=lease.epoch)
        assert await store.sleepers(FIRST, NEVER) == ()

    async def test_notes_outlive_a_restart(self, served: ServedStore, lease: Lease) -> None:
        """But not a rebuild, which takes everybody for awake."""
        store = served.store
        await begin(store, lease, "one", "two", sleep=Sleep(SOON))
        await served.restart()
        assert await up(store) == []
        assert await store.sleepers(FIRST, NEVER) == ((SOON, "one"), (SOON, "two"))
        await served.rebuild()
        assert await up(store) == ["one", "two"]
        assert await store.sleepers(FIRST, NEVER) == ()
