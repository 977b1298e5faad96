"""DBOS Transact on its SQLite system database, with the defaults: a rollback journal, FULL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dbos import DBOS, SetWorkflowID

from benchmarks import probe
from benchmarks.contenders.port import BRANCHES, IO_S, LONG, PARALLEL, STEPS, Contender

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Dbos"]


@DBOS.step()
async def work(key: str, stage: int) -> int:
    """Do nothing."""
    probe.ran(key, stage)
    return stage


@DBOS.step()
async def work_io(key: str, stage: int) -> int:
    """Wait for somebody else."""
    await asyncio.sleep(IO_S)
    probe.ran(key, stage)
    return stage


@DBOS.step()
async def work_gated(key: str, stage: int) -> int:
    """Wait for the others."""
    await probe.gate.passed()
    probe.ran(key, stage)
    return stage


@DBOS.workflow()
async def five(key: str) -> int:
    """Take five steps."""
    for stage in range(STEPS):
        await work(key, stage)
    return STEPS


@DBOS.workflow()
async def parallel(key: str) -> int:
    """Take twenty steps at once."""
    return len(await asyncio.gather(*(work(key, stage) for stage in range(PARALLEL))))


@DBOS.workflow()
async def waits(key: str) -> int:
    """Wait for somebody, then take a step."""
    await DBOS.recv_async("go", timeout_seconds=3_600)
    return await work(key, 0)


@DBOS.workflow()
async def long(key: str) -> int:
    """Take a thousand steps."""
    for stage in range(LONG):
        await work(key, stage)
    return LONG


@DBOS.workflow()
async def tree(key: str) -> int:
    """Have ten branches grow."""
    handles = [
        await DBOS.start_workflow_async(branch, f"{key}.{number}") for number in range(BRANCHES)
    ]
    return sum([await handle.get_result() for handle in handles])


@DBOS.workflow()
async def branch(key: str) -> int:
    """Have ten leaves grow."""
    handles = [
        await DBOS.start_workflow_async(leaf, f"{key}.{number}") for number in range(BRANCHES)
    ]
    return sum([await handle.get_result() for handle in handles])


@DBOS.workflow()
async def leaf(key: str) -> int:
    """Take a step."""
    return await work(key, 1)


@DBOS.workflow()
async def io(key: str) -> int:
    """Take five steps that wait for somebody else."""
    for stage in range(STEPS):
        await work_io(key, stage)
    return STEPS


@DBOS.workflow()
async def gated(key: str) -> int:
    """Take five steps, the first together with all others."""
    await work_gated(key, 0)
    for stage in range(1, STEPS):
        await work(key, stage)
    return STEPS


KINDS: dict[str, Any] = {
    "five": five,
    "parallel": parallel,
    "waits": waits,
    "long": long,
    "tree": tree,
    "io": io,
    "gated": gated,
}


class Dbos(Contender):
    """DBOS in this process."""

    async def open(self, directory: Path) -> None:
        """Launch it, which recovers what is pending."""
        self._handles: dict[str, Any] = {}
        DBOS(
            config={
                "name": "bench",
                "system_database_url": f"sqlite:///{directory / 'dbos.sqlite'}",
                "log_level": "ERROR",
            }
        )
        await asyncio.to_thread(DBOS.launch)

    async def close(self) -> None:
        """Destroy it, as its documentation calls that."""
        await asyncio.to_thread(DBOS.destroy)

    async def start(self, kind: str, key: str) -> None:
        """Start it; it is in the database then."""
        with SetWorkflowID(key):
            self._handles[key] = await DBOS.start_workflow_async(KINDS[kind], key)

    async def ended(self, key: str) -> None:
        """Ask for the result."""
        await self._handles.pop(key).get_result()

    async def signal(self, key: str) -> None:
        """Send it a message."""
        await DBOS.send_async(key, "now", topic="go")
