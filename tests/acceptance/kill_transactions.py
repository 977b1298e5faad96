"""An engine's process whose steps write rows of their own, for tests to kill: ``… DATABASE``."""

from __future__ import annotations

import asyncio
import faulthandler
import sys

from beamflow import Engine, current_step, step, transaction, workflow


@step
async def book(word: str) -> int:
    """Write a row, and one that belongs to it."""
    async with transaction() as db:
        await db.execute("INSERT INTO rows VALUES (?, ?)", (word, current_step().idempotency_key))
        await db.execute("UPDATE total SET rows = rows + 1")
        ((total,),) = await db.execute("SELECT rows FROM total")
    return int(total)


@workflow
async def branches(name: str) -> list[int]:
    """Write some rows at the same time, then some one after the other."""
    first = await asyncio.gather(*(book(f"{name} {part}") for part in "abc"))
    return [*first, await book(f"{name} d"), await book(f"{name} e")]


async def main(database: str) -> None:
    async with Engine(f"sqlite:///{database}", workflows=[branches]) as engine:
        handles = [await engine.start(branches, name, id=name) for name in ("one", "two", "three")]
        for handle in handles:
            await handle.result()


if __name__ == "__main__":
    faulthandler.dump_traceback_later(60, exit=True)
    asyncio.run(main(sys.argv[1]))
