"""LangGraph's functional API with AsyncSqliteSaver, with the defaults.

WAL, FULL, and ``durability="async"``: a checkpoint is written while the next step runs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task
from langgraph.types import Command, interrupt

from benchmarks.contenders.plain import Steps, workflows
from benchmarks.contenders.port import BRANCHES, Contender

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["LangGraph"]


STEPS = Steps.made_by(task)


async def waits(key: str) -> int:
    """Wait for somebody, then take a step."""
    interrupt("go")
    return await STEPS.work(key, 0)


class LangGraph(Contender):
    """Entry points with one saver, in this process."""

    async def open(self, directory: Path) -> None:
        """Open the saver, compile the entry points."""
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._saver = AsyncSqliteSaver.from_conn_string(str(directory / "langgraph.db"))
        saver = await self._saver.__aenter__()
        self._kinds: dict[str, Any] = {
            kind: entrypoint(checkpointer=saver)(code)
            for kind, code in {**workflows(STEPS), "waits": waits}.items()
        }
        self._kinds["tree"] = _tree(saver)

    async def close(self) -> None:
        """Close the saver."""
        await self._saver.__aexit__(None, None, None)

    async def start(self, kind: str, key: str) -> None:
        """Have a task invoke it: nothing acknowledges a start. One that waits has returned."""
        invocation = self._kinds[kind].ainvoke(key, _thread(key))
        if kind == "waits":
            await invocation
        else:
            self._tasks[key] = asyncio.create_task(invocation)

    async def ended(self, key: str) -> None:
        """Wait for that."""
        await self._tasks.pop(key)

    async def run(self, kind: str, key: str) -> None:
        """Invoke it."""
        await self._kinds[kind].ainvoke(key, _thread(key))

    async def signal(self, key: str) -> None:
        """Invoke it once more with what it was interrupted for."""
        await self._kinds["waits"].ainvoke(Command(resume="now"), _thread(key))

    async def resume(self, keys: Sequence[str]) -> None:
        """Invoke again what the host knows to be unfinished: nothing else does.

        One whose first checkpoint was not written yet has to be given its input again.
        """
        gated = self._kinds["gated"]
        for key in keys:
            kept = (await gated.aget_state(_thread(key))).created_at is not None
            invocation = gated.ainvoke(None if kept else key, _thread(key))
            self._tasks[key] = asyncio.create_task(invocation)


def _thread(key: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": key}}


def _tree(saver: AsyncSqliteSaver) -> Any:
    """Make the entry point of a tree: a task invokes each child, as a thread of its own."""

    @entrypoint(checkpointer=saver)
    async def leaf(key: str) -> int:
        return await STEPS.work(key, 1)

    @task
    async def leaf_of(key: str) -> int:
        return await leaf.ainvoke(key, _thread(key))

    @entrypoint(checkpointer=saver)
    async def branch(key: str) -> int:
        return sum(await asyncio.gather(*(leaf_of(f"{key}.{n}") for n in range(BRANCHES))))

    @task
    async def branch_of(key: str) -> int:
        return await branch.ainvoke(key, _thread(key))

    @entrypoint(checkpointer=saver)
    async def tree(key: str) -> int:
        return sum(await asyncio.gather(*(branch_of(f"{key}.{n}") for n in range(BRANCHES))))

    return tree
