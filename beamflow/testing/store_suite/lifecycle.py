"""Open, serve and close."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from beamflow.errors import ConflictError, StoreLockedError, StoreUnavailableError
from beamflow.model.status import WorkflowState
from beamflow.stores.base import AWAKE, NEVER, DeadLetterQuery, Lease, Store, WorkflowQuery
from beamflow.testing.store_suite.samples import START, completed, failed, started, stepped
from beamflow.testing.store_suite.served import ServedStore, Suite

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["LifecycleSuite"]


class LifecycleSuite(Suite):
    """Open, serve, close."""

    async def test_a_restart_keeps_everything(self, served: ServedStore, lease: Lease) -> None:
        """What was acknowledged is there after close and open: events, summaries, dead letters."""
        store = served.store
        await store.append("one", 0, [started(), failed()], time=START, epoch=lease.epoch)
        await store.append("two", 0, [started()], time=START + 1, epoch=lease.epoch)
        before = (
            await store.read("one"),
            await store.find(WorkflowQuery()),
            await store.dead_letters(DeadLetterQuery()),
        )
        await served.restart()
        assert before == (
            await store.read("one"),
            await store.find(WorkflowQuery()),
            await store.dead_letters(DeadLetterQuery()),
        )
        lease = await store.claim("again", 30)
        with pytest.raises(ConflictError):
            await store.append("two", 0, [started()], time=START + 1, epoch=lease.epoch)
        await store.append("two", 1, [completed()], time=START + 1, epoch=lease.epoch)

    async def test_a_store_is_opened_once(self, store: Store, lease: Lease) -> None:
        """A second engine that is given this very object is refused, the first one goes on."""
        with pytest.raises(StoreLockedError):
            await store.open()
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)

    async def test_a_store_that_is_not_open(self, served: ServedStore, lease: Lease) -> None:
        """Whatever is asked of a closed store is refused, closing it again is not."""
        store = served.store
        await served.stop()
        await store.close()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.append("one", 0, [started()], time=START, epoch=lease.epoch),
            lambda: store.read("one"),
            lambda: store.end("one"),
            lambda: store.find(WorkflowQuery()),
            lambda: store.summary("one"),
            lambda: store.dead_letters(DeadLetterQuery()),
            lambda: store.sleep("one", AWAKE, epoch=lease.epoch),
            lambda: store.sleepers((0, ""), NEVER),
            lambda: store.awake(WorkflowState.RUNNING, START),
            lambda: store.claim("me", 1),
            lambda: store.renew(lease, 1),
            lambda: store.release(lease),
            store.serve,
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError):
                await call()

    async def test_nobody_waits_for_a_closed_store(self, served: ServedStore, lease: Lease) -> None:
        """Closing answers every append that still waits, and keeps what it has acknowledged."""
        store = served.store

        async def write(stream: str) -> bool:
            try:
                await store.append(stream, 0, [started(), stepped()], time=START, epoch=lease.epoch)
            except StoreUnavailableError:
                return False
            return True

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(write(f"workflow-{number}")) for number in range(30)]
            await asyncio.sleep(0)  # noqa: TID251 - passes a turn, waits for no time
            await served.stop()
        await served.start()
        for number, task in enumerate(tasks):
            sizes = {2} if task.result() else {0, 2}
            assert len(await store.read(f"workflow-{number}")) in sizes
