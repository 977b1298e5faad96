"""The workflows of engines that take plain coroutine functions and a decorator, written once for them.

They differ in the decorator that makes a step, and in what is done with a workflow. A wait and a
tree are written in each engine's own words.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import probe
from benchmarks.contenders.port import IO_S, LONG, PARALLEL, STEPS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Body = Callable[[str, int], Awaitable[int]]
    Code = Callable[[str], Awaitable[int]]

__all__ = ["Steps", "work", "work_gated", "work_io", "workflows"]


async def work(key: str, stage: int) -> int:
    """Do nothing."""
    probe.ran(key, stage)
    return stage


async def work_io(key: str, stage: int) -> int:
    """Wait for somebody else."""
    await asyncio.sleep(IO_S)
    probe.ran(key, stage)
    return stage


async def work_gated(key: str, stage: int) -> int:
    """Wait for the others."""
    await probe.gate.passed()
    probe.ran(key, stage)
    return stage


class Steps(NamedTuple):
    """The steps, as an engine has made them of the functions above."""

    work: Body
    io: Body
    gated: Body

    @classmethod
    def made_by(cls, step: Callable[[Body], Body]) -> Steps:
        """Have an engine's decorator make them."""
        return cls(step(work), step(work_io), step(work_gated))


def workflows(steps: Steps) -> dict[str, Code]:
    """Return the workflows that take these steps, by their kind."""

    async def five(key: str) -> int:
        """Take five steps."""
        for stage in range(STEPS):
            await steps.work(key, stage)
        return STEPS

    async def parallel(key: str) -> int:
        """Take twenty steps at once."""
        return len(await asyncio.gather(*(steps.work(key, stage) for stage in range(PARALLEL))))

    async def long(key: str) -> int:
        """Take a thousand steps."""
        for stage in range(LONG):
            await steps.work(key, stage)
        return LONG

    async def io(key: str) -> int:
        """Take five steps that wait for somebody else."""
        for stage in range(STEPS):
            await steps.io(key, stage)
        return STEPS

    async def gated(key: str) -> int:
        """Take five steps, the first together with all others."""
        await steps.gated(key, 0)
        for stage in range(1, STEPS):
            await steps.work(key, stage)
        return STEPS

    return {code.__name__: code for code in (five, parallel, long, io, gated)}
