"""The engine's process: starts one workflow for each application and tells how each ended.

``python -m intake APPLICATIONS STORE`` may be killed at any instant and run again: the same id
is the same workflow, so whatever had been started goes on, and nothing is started twice.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from application import Application, read_applications
from beamflow import Engine, WorkflowFailedError
from told import Told
from workflow import Declined, Policy, onboard

OPEN_AT_ONCE = 150
"""How many onboardings may be under way before the next is taken from the file."""


async def main(applications: Path, store: str) -> None:
    """See every application to its end."""
    gate = asyncio.Semaphore(OPEN_AT_ONCE)
    async with Engine(store, workflows=[onboard]) as engine, asyncio.TaskGroup() as visitors:
        for application in read_applications(applications):
            if isinstance(application, Application):
                await gate.acquire()
                visitor = visitors.create_task(see_through(engine, application))
                visitor.add_done_callback(lambda _: gate.release())


async def see_through(engine: Engine, application: Application) -> None:
    """Start the workflow, or find it where it was, and wait for its end."""
    handle = await engine.start(onboard, application, id=application.id)
    tell(Told(application=application.id))
    try:
        outcome = await handle.result()
    except WorkflowFailedError:
        tell(Told(application=application.id, ended="failed"))
        return
    match outcome:
        case Policy(number):
            tell(Told(application=application.id, ended=f"policy {number}"))
        case Declined():
            tell(Told(application=application.id, ended="declined"))


def tell(told: Told) -> None:
    """Write one line, at once."""
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
