"""beamflow itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from beamflow import Engine, receive, start_child, step, workflow
from benchmarks import probe
from benchmarks.contenders.port import BRANCHES, IO_S, LONG, PARALLEL, STEPS, Contender

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Beamflow", "InMemory"]


@step
async def work(key: str, stage: int) -> int:
    """Do nothing."""
    probe.ran(key, stage)
    return stage


@step
async def work_io(key: str, stage: int) -> int:
    """Wait for somebody else."""
    await asyncio.sleep(IO_S)
    probe.ran(key, stage)
    return stage


@step
async def work_gated(key: str, stage: int) -> int:
    """Wait for the others."""
    await probe.gate.passed()
    probe.ran(key, stage)
    return stage


@workflow
async def five(key: str) -> int:
    """Take five steps."""
    for stage in range(STEPS):
        await work(key, stage)
    return STEPS


@workflow
async def parallel(key: str) -> int:
    """Take twenty steps at once."""
    return len(await asyncio.gather(*(work(key, stage) for stage in range(PARALLEL))))


@workflow
async def waits(key: str) -> int:
    """Wait for somebody, then take a step."""
    await receive("go")
    return await work(key, 0)


@workflow
async def long(key: str) -> int:
    """Take a thousand steps."""
    for stage in range(LONG):
        await work(key, stage)
    return LONG


@workflow
async def tree(key: str) -> int:
    """Have ten branches grow."""
    children = [await start_child(branch, f"{key}.{number}") for number in range(BRANCHES)]
    return sum(await asyncio.gather(*(child.result() for child in children)))


@workflow
async def branch(key: str) -> int:
    """Have ten leaves grow."""
    children = [await start_child(leaf, f"{key}.{number}") for number in range(BRANCHES)]
    return sum(await asyncio.gather(*(child.result() for child in children)))


@workflow
async def leaf(key: str) -> int:
    """Take a step."""
    return await work(key, 1)


@workflow
async def io(key: str) -> int:
    """Take five steps that wait for somebody else."""
    for stage in range(STEPS):
        await work_io(key, stage)
    return STEPS


@workflow
async def gated(key: str) -> int:
    """Take five steps, the first together with all others."""
    await work_gated(key, 0)
    for stage in range(1, STEPS):
        await work(key, stage)
    return STEPS


@workflow
async def remembers(key: str) -> int:
    """Take a thousand steps, wait for somebody, take one more."""
    for stage in range(LONG):
        await work(key, stage)
    await receive("go")
    return await work(key, LONG)


KINDS = {one.name: one for one in (five, parallel, waits, long, tree, io, gated, remembers)}


class Beamflow(Contender):
    """An engine on a SQLite file, with the defaults."""

    async def open(self, directory: Path) -> None:
        """Enter the engine."""
        self._engine = Engine(self.url(directory), workflows=[*KINDS.values(), branch, leaf])
        await self._engine.__aenter__()

    def url(self, directory: Path) -> str:
        """Name the store."""
        return f"sqlite:///{directory / 'beamflow.db'}"

    async def close(self) -> None:
        """Leave the engine."""
        await self._engine.__aexit__(None, None, None)

    async def start(self, kind: str, key: str) -> None:
        """Start it; it is in the log then."""
        await self._engine.start(KINDS[kind], key, id=key)

    async def ended(self, key: str) -> None:
        """Ask for the result."""
        await self._engine.handle(key).result()

    async def run(self, kind: str, key: str) -> None:
        """Start it and ask for the result, with one handle."""
        handle = await self._engine.start(KINDS[kind], key, id=key)
        await handle.result()

    async def signal(self, key: str) -> None:
        """Send the signal; it is in the log then."""
        await self._engine.handle(key).signal("go")


class InMemory(Beamflow):
    """The same on the store in memory."""

    def url(self, directory: Path) -> str:  # noqa: ARG002 - it has no file
        """Name the store."""
        return "memory://"
