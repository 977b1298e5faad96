"""Prefect with a server on SQLite (WAL, NORMAL) in a process of its own, with the defaults.

The server is started by ``prefect server start``: the one that Prefect starts by itself costs some
seconds with every flow. What it keeps is the states of runs, sent in the background; results are
not persisted unless a setting says so.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.contenders.plain import Steps, workflows
from benchmarks.contenders.port import BRANCHES, Contender
from benchmarks.measures import children_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Prefect"]

CLOSE_S = 10.0


class Prefect(Contender):
    """Flows in this process, the server in one of its own."""

    async def open(self, directory: Path) -> None:
        """Start the server, then import it: it reads its settings then."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        os.environ["PREFECT_HOME"] = str(directory)
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"  # it would look for its makers
        os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"  # its lines would be most of what is measured
        self._server = subprocess.Popen(  # noqa: S603, ASYNC220 - it is up when it answers
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        await asyncio.to_thread(_answered, f"{os.environ['PREFECT_API_URL']}/health")
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._kinds = _flows()

    async def close(self) -> None:
        """Stop the server."""
        self._server.terminate()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._server.wait, CLOSE_S)

    async def start(self, kind: str, key: str) -> None:
        """Have a task call it."""
        self._tasks[key] = asyncio.create_task(self._kinds[kind](key))

    async def ended(self, key: str) -> None:
        """Wait for that."""
        await self._tasks.pop(key)

    async def run(self, kind: str, key: str) -> None:
        """Call it."""
        await self._kinds[kind](key)

    def pids(self) -> tuple[int, ...]:
        """Return the server's."""
        return (self._server.pid, *children_of(self._server.pid))


def _answered(url: str) -> None:
    """Wait until there is an answer; whoever runs the benchmark limits it."""
    while True:
        with suppress(URLError, OSError), urlopen(url, timeout=5):  # noqa: S310 - a URL of ours
            return


def _flows() -> dict[str, Any]:
    from prefect import flow, task  # noqa: PLC0415 - it looks for PREFECT_HOME when it is imported

    steps = Steps.made_by(task)

    @flow
    async def leaf(key: str) -> int:
        return await steps.work(key, 1)

    @flow
    async def branch(key: str) -> int:
        return sum(await asyncio.gather(*(leaf(f"{key}.{number}") for number in range(BRANCHES))))

    @flow
    async def tree(key: str) -> int:
        return sum(await asyncio.gather(*(branch(f"{key}.{number}") for number in range(BRANCHES))))

    return {kind: flow(code) for kind, code in workflows(steps).items()} | {"tree": tree}
