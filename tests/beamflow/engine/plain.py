"""A workflow that waits for a word, one that is parked, and a process beside this one."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from beamflow import receive, workflow
from beamflow.events import SignalReceived

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from beamflow import WorkflowHandle

    Reached = Callable[..., Awaitable[None]]


@workflow
async def wait() -> str:
    word: str = await receive("word", str)
    return word


@workflow
async def misuse() -> None:
    """Is parked."""
    await asyncio.to_thread(print)


async def words(handle: WorkflowHandle[Any]) -> list[str]:
    return [
        bytes(one.event.payload).decode().strip('"')
        for one in await handle.history()
        if isinstance(one.event, SignalReceived)
    ]


@contextlib.asynccontextmanager
async def other_process(code: str, argument: str) -> AsyncIterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # noqa: ASYNC220 - it is a test
        [sys.executable, "-c", code, argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await asyncio.to_thread(process.stdout.readline) == "up\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
