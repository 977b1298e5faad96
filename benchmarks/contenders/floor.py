"""The floor: the least that the same workloads cost, with no engine at all.

``Tasks`` is plain asyncio. ``GroupCommit`` appends the events that an engine must have before it
goes on (a start, each step's result, each signal, an end) to a table, and waits for the commit; all
that is appended while a commit is in flight goes into the next one. It replays nothing, checks
nothing and finds nothing.
"""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import TYPE_CHECKING

from benchmarks import probe
from benchmarks.contenders.port import BRANCHES, IO_S, LONG, PARALLEL, STEPS, Contender

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    import aiosqlite

__all__ = ["GroupCommit", "Tasks"]

SCHEMA = """
CREATE TABLE events (
    stream TEXT NOT NULL, seq INTEGER NOT NULL, data TEXT NOT NULL, PRIMARY KEY (stream, seq)
) STRICT, WITHOUT ROWID
"""
APPEND = """
INSERT INTO events SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?)
"""


class Tasks(Contender):
    """A task for each workflow; nothing is kept."""

    async def open(self, directory: Path) -> None:  # noqa: ARG002 - there is no file
        """Begin with nothing."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._signals: dict[str, asyncio.Future[None]] = {}

    async def append(self, key: str, kind: str, stage: int = 0) -> None:
        """Keep an event; here none is kept."""

    async def start(self, kind: str, key: str) -> None:
        """Append the start, make the task."""
        if kind == "waits":
            self._signals[key] = asyncio.get_running_loop().create_future()
        await self.append(key, "workflow_started")
        self._tasks[key] = asyncio.create_task(self._code(kind, key))

    async def ended(self, key: str) -> None:
        """Wait for the task."""
        await self._tasks.pop(key)

    async def signal(self, key: str) -> None:
        """Append the signal, then let the task go on."""
        await self.append(key, "signal_received")
        self._signals.pop(key).set_result(None)

    async def _code(self, kind: str, key: str) -> None:
        match kind:
            case "five" | "long":
                for stage in range(STEPS if kind == "five" else LONG):
                    await self._step(key, stage)
            case "parallel":
                await asyncio.gather(*(self._step(key, stage) for stage in range(PARALLEL)))
            case "waits":
                await self._signals[key]
                await self._step(key, 0)
            case "io":
                for stage in range(STEPS):
                    await asyncio.sleep(IO_S)
                    await self._step(key, stage)
            case "tree" | "branch":
                below = "branch" if kind == "tree" else "leaf"
                await asyncio.gather(*self._children(below, key))
            case _:
                await self._step(key, 1)
        await self.append(key, "workflow_completed")

    async def _step(self, key: str, stage: int) -> None:
        probe.ran(key, stage)
        await self.append(key, "step_completed", stage)

    def _children(self, kind: str, key: str) -> list[Coroutine[None, None, None]]:
        return [self._child(kind, f"{key}.{number}") for number in range(BRANCHES)]

    async def _child(self, kind: str, key: str) -> None:
        await self.append(key, "workflow_started")
        await self._code(kind, key)


class GroupCommit(Tasks):
    """The same with each event synced before anything depends on it: aiosqlite, WAL, FULL."""

    async def open(self, directory: Path) -> None:
        """Open the file."""
        import aiosqlite  # noqa: PLC0415 - `Tasks` needs none

        await super().open(directory)
        self._file: aiosqlite.Connection = await aiosqlite.connect(
            directory / "floor.db", isolation_level=None
        )
        await self._file.execute("PRAGMA journal_mode = WAL")
        await self._file.execute("PRAGMA synchronous = FULL")
        await self._file.execute(SCHEMA)
        self._numbers = count(1)
        self._rows: list[tuple[str, int, str]] = []
        self._next = asyncio.get_running_loop().create_future()
        self._writer: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Close the file."""
        await self._file.close()

    async def append(self, key: str, kind: str, stage: int = 0) -> None:
        """Wait until the event is on disk."""
        data = json.dumps({"type": kind, "name": "work", "op": stage, "result": stage})
        self._rows.append((key, next(self._numbers), data))
        committed = self._next
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await committed

    async def _write(self) -> None:
        while self._rows:
            rows, self._rows = self._rows, []
            committed, self._next = self._next, asyncio.get_running_loop().create_future()
            await self._file.execute(APPEND, (json.dumps(rows),))
            committed.set_result(None)
        self._writer = None
