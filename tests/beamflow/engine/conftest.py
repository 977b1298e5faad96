"""Stores that outlive their engines, waiting for what a log says, and no task left behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow.stores.memory import MemoryStore
from supervision.testing import ManualClock, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from beamflow import WorkflowHandle
    from beamflow.stores.base import Store


@pytest.fixture(autouse=True)
async def _nothing_left() -> AsyncIterator[None]:
    """After each test no task is left, and nothing was reported to the loop."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    before = asyncio.all_tasks()
    yield
    await settle()
    assert asyncio.all_tasks() - before == {asyncio.current_task()} - before
    assert reports == []


@pytest.fixture
def clock() -> ManualClock:
    """Time that passes when the test says so."""
    return ManualClock()


@pytest.fixture
def memory(clock: ManualClock) -> MemoryStore:
    """A store for one engine after the other, in the time of the test."""
    return MemoryStore(clock=lambda: int(clock.now() * 1_000_000))


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, memory: MemoryStore, tmp_path: Path) -> str | Store:
    """A store of each kind, for one engine after the other."""
    return memory if request.param == "memory" else f"sqlite:///{tmp_path}/app.db"


@pytest.fixture
def reached() -> Callable[..., Awaitable[None]]:
    """Wait until a workflow's log has so many events of a type."""

    async def wait(handle: WorkflowHandle[Any], kind: type, count: int = 1) -> None:
        async with asyncio.timeout(10):
            async for recorded in handle.events():
                count -= isinstance(recorded.event, kind)
                if count <= 0:
                    return

    return wait
