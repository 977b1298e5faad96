"""Edda on SQLite, with the defaults: a rollback journal, FULL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from edda import EddaApp, WorkflowContext, activity, publish, receive, subscribe, workflow

from benchmarks import probe
from benchmarks.contenders.port import IO_S, LONG, PARALLEL, STEPS, Contender

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Edda"]


@activity
async def work(ctx: WorkflowContext, key: str, stage: int) -> int:  # noqa: ARG001 - it is handed in
    """Do nothing."""
    probe.ran(key, stage)
    return stage


@activity
async def work_io(ctx: WorkflowContext, key: str, stage: int) -> int:  # noqa: ARG001 - it is handed in
    """Wait for somebody else."""
    await asyncio.sleep(IO_S)
    probe.ran(key, stage)
    return stage


@workflow
async def five(ctx: WorkflowContext, key: str) -> int:
    """Take five steps."""
    for stage in range(STEPS):
        await work(ctx, key, stage)
    return STEPS


@workflow
async def parallel(ctx: WorkflowContext, key: str) -> int:
    """Take twenty steps at once, with ids by hand as it wants them there."""
    steps = (work(ctx, key, stage, activity_id=f"work:{stage}") for stage in range(PARALLEL))
    return len(await asyncio.gather(*steps))


@workflow
async def waits(ctx: WorkflowContext, key: str) -> int:
    """Wait for somebody, then take a step."""
    await subscribe(ctx, key)
    await receive(ctx, key)
    return await work(ctx, key, 0)


@workflow
async def long(ctx: WorkflowContext, key: str) -> int:
    """Take a thousand steps."""
    for stage in range(LONG):
        await work(ctx, key, stage)
    return LONG


@workflow
async def io(ctx: WorkflowContext, key: str) -> int:
    """Take five steps that wait for somebody else."""
    for stage in range(STEPS):
        await work_io(ctx, key, stage)
    return STEPS


KINDS: dict[str, Any] = {
    "five": five,
    "parallel": parallel,
    "waits": waits,
    "long": long,
    "io": io,
}


class Edda(Contender):
    """An application in this process."""

    async def open(self, directory: Path) -> None:
        """Initialize it."""
        self._tasks: dict[str, asyncio.Task[str]] = {}
        self._app = EddaApp(service_name="bench", db_url=f"sqlite:///{directory / 'edda.db'}")
        await self._app.initialize()

    async def close(self) -> None:
        """Shut it down."""
        await self._app.shutdown()

    async def start(self, kind: str, key: str) -> None:
        """Start it: its ``start`` returns when the workflow has ended, or waits."""
        if kind == "waits":
            await waits.start(key=key)
        else:
            self._tasks[key] = asyncio.create_task(KINDS[kind].start(key=key))

    async def ended(self, key: str) -> None:
        """Wait for that."""
        await self._tasks.pop(key)

    async def run(self, kind: str, key: str) -> None:
        """Do both at once."""
        await KINDS[kind].start(key=key)

    async def signal(self, key: str) -> None:
        """Publish to the workflow's own channel."""
        await publish(self._app.storage, key, {"go": "now"})
