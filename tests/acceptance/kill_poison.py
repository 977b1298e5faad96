"""An engine's process that one of its workflows kills: ``kill_poison.py DATABASE``.

It ends by itself, with exit code 0, once the killer is parked and everybody else is well.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys

from beamflow import Engine, WorkflowParkedError, step, workflow
from beamflow.engine import suspects

SLEEPERS = 50
INNOCENTS = 10

well = asyncio.Event()


@step
async def strike() -> None:
    """Kill the process, at once."""
    os.kill(os.getpid(), signal.SIGKILL)


@step
async def long() -> str:
    """Take longer than any life of the process but the last."""
    await well.wait()
    return "done"


@workflow
async def killer() -> None:
    """Kill the process each time."""
    await strike()


@workflow
async def innocent() -> str:
    """Be at work whenever the process dies."""
    return await long()


@workflow
async def sleeper() -> None:
    """Be there, and do nothing."""
    await asyncio.sleep(3600)


async def main(database: str) -> None:
    async with Engine(f"sqlite:///{database}", workflows=[killer, innocent, sleeper]) as engine:
        for number in range(SLEEPERS):
            await engine.start(sleeper, id=f"sleeper-{number}")
        handles = [await engine.start(innocent, id=f"innocent-{n}") for n in range(INNOCENTS)]
        try:
            await (await engine.start(killer, id="killer")).result()
        except WorkflowParkedError as error:
            os.write(1, f"{error.reason}\n".encode())
        well.set()
        for handle in handles:
            await handle.result()
        (letter,) = await engine.dead_letters.list()
        sleeping = [one.id async for one in engine.find(workflow="sleeper", state=None)]
        os.write(1, f"{letter.workflow_id} {len(sleeping)}\n".encode())


if __name__ == "__main__":
    faulthandler.dump_traceback_later(60, exit=True)
    suspects.WINDOW_S, suspects.DRAWS = 0.2, (4, 4, 4, 4)
    asyncio.run(main(sys.argv[1]))
