"""Retention under chaos: whatever strikes, what is gone from the store is in the archive, whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from beamflow import Retention, Retry, step, workflow
from beamflow.engine.archive import ArchivedWorkflow
from beamflow.model.status import WorkflowState
from beamflow.testing.chaos_engine import ChaosEngine

if TYPE_CHECKING:
    from pathlib import Path

    from beamflow import Engine
    from supervision.chaos import Chaos

PATIENT = Retry(max_attempts=50, initial=0.1, max=1.0)
HOUR = 3_600.0
TEN_MINUTES = 600.0
"""A file takes real time for each renewal of its lease."""


@step(retry=PATIENT)
async def act(name: str) -> str:
    await asyncio.sleep(0.1)
    return name


@workflow
async def work(name: str) -> str:
    return await act(name)


@workflow
async def family(name: str) -> list[str]:
    done = await asyncio.gather(work(f"{name} a"), work(f"{name} b"))
    await asyncio.sleep(3 * TEN_MINUTES)
    return done


@pytest.mark.invariant("I41")
@pytest.mark.chaos(profile="moderate", seeds=8)
async def test_nothing_is_lost_in_memory(chaos: Chaos, tmp_path: Path) -> None:
    """Each workflow that was started is there, or archived with all that it came to, or both."""
    await nothing_is_lost(chaos, tmp_path, "memory://", HOUR)


@pytest.mark.invariant("I41")
@pytest.mark.chaos(profile="moderate", seeds=2)
async def test_nothing_is_lost_in_a_file(chaos: Chaos, tmp_path: Path) -> None:
    """Likewise, with removals that are commits of SQLite."""
    await nothing_is_lost(chaos, tmp_path, f"sqlite:///{tmp_path}/app.db", TEN_MINUTES)


async def nothing_is_lost(chaos: Chaos, folder: Path, store: str, while_: float) -> None:
    """Start families under chaos, wait in peace, and look what is where."""
    file = folder / "ended.jsonl"
    retention = Retention(while_, every=while_ / 4, archive=file)
    started: set[str] = set()

    async def there(engine: Engine) -> dict[str, WorkflowState]:
        return {found.id: found.state async for found in engine.find()}

    async def overdue(engine: Engine) -> set[str]:
        """Who has ended long enough ago by the engine's clock, which may have been set back."""
        latest = engine._services.now() - round(1.5 * while_ * 1_000_000)
        return {one.id async for one in engine.find() if (one.closed_at or latest) < latest}

    async with ChaosEngine(
        chaos, workflows=[work, family], store=store, retention=retention
    ) as engine:
        for number in range(5):
            await engine.start(work, f"{number}", id=f"work-{number}")
            await engine.start(family, f"{number}", id=f"family-{number}")
            started |= {f"work-{number}", f"family-{number}"}
            await asyncio.sleep(while_)
            children = {one for one in await engine.ask(there) if "/" in one}
            started |= children
        chaos.calm()
        await asyncio.sleep(10 * while_)
        left = await engine.ask(there)
        late = await engine.ask(overdue)
    archived: dict[str, ArchivedWorkflow] = {}
    for line in file.read_bytes().splitlines():
        one = msgspec.json.decode(line, type=ArchivedWorkflow)
        before = archived.setdefault(one.summary.id, one)
        assert before == one, "the same each time"
    assert started <= {*left, *archived}
    needed = {one for one in left if one.partition("/")[0] in {*left} - late}
    assert late <= needed, "who was needed by a parent until now, and no other, stays"
    assert not {*left} & {*archived}
    for one in archived.values():
        assert one.summary.state is WorkflowState.COMPLETED
        assert [event.seq for event in one.events] == list(range(1, len(one.events) + 1))
        assert b"workflow_completed" in bytes(one.events[-1].event)
