"""Stores that outlive their engines, waiting for what a log says, and no task left behind."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from beamflow.engine import workflow_loop
from beamflow.engine.execution import Execution
from beamflow.stores.memory import MemoryStore
from supervision.testing import ManualClock, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from beamflow import Workflow, WorkflowHandle
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


@pytest.fixture(autouse=True)
def _nothing_suspended(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """After each test no code of a workflow is left to the collector, which would report it later."""
    if request.module.__name__.endswith("test_programs"):  # thousands, and they are closed
        yield
        return
    made: dict[int, Execution] = {}
    init, close = Execution.__init__, Execution.close

    def remember(
        execution: Execution, workflow: Workflow[..., Any], workflow_id: str, origin: str = ""
    ) -> None:
        init(execution, workflow, workflow_id, origin)
        made[id(execution)] = execution

    def forget(execution: Execution) -> None:
        made.pop(id(execution), None)
        close(execution)

    monkeypatch.setattr(Execution, "__init__", remember)
    monkeypatch.setattr(Execution, "close", forget)
    yield
    while made:
        close(made.popitem()[1])
    with warnings.catch_warnings():  # of coroutines that were about to be awaited
        warnings.simplefilter("ignore", RuntimeWarning)
        gc.collect()


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


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million callbacks take a second."""
    monkeypatch.setattr(workflow_loop, "_CALLBACKS_MAX", 1000)
