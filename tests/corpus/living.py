"""The whole corpus in one engine, in real time, for tests to kill: ``living DATABASE WORLD SHARE``.

Run again after a kill it goes on, and after a stop in order, which is what SIGTERM asks for. Of
all workflows it starts the first ones only, a share from 0 to 1; with 1 it ends when all have. What
it tells on standard output, a line each: ``ready``, ``started ID`` once a start is acknowledged,
``ended ID END`` with the end as JSON, ``finished`` when nothing will happen any more. A process that
hangs ends itself and shows where it hung.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamflow import Engine, WorkflowError
from beamflow.model.status import OPEN_STATES, WorkflowState
from tests.corpus.case import end_of
from tests.corpus.everything import CASES, WORKFLOWS
from tests.corpus.outsiders import play
from tests.corpus.world import World, use

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow.stores.base import Summary
    from tests.corpus.case import Case

HANGS_S = 90
LOOK_S = 0.03


def tell(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


async def live(engine: Engine, case: Case, world: World) -> None:
    """Start a case, or find it started; do what is left to do to it; wait for its end."""

    async def ask(question: Callable[[Engine], Awaitable[Any]]) -> Any:
        return await question(engine)

    await engine.start(case.workflow, *case.args, id=case.name, **case.options)
    tell("started", case.name)
    try:
        async with asyncio.timeout(HANGS_S - 30):
            await play(case.outsiders, case.name, world, ask, lambda: asyncio.sleep(LOOK_S))
            end = end_of(await engine.handle(case.name).result())
    except WorkflowError as error:
        end = end_of(error)
    except TimeoutError as error:
        history = [type(one.event).__name__ for one in await engine.handle(case.name).history()]
        error.add_note(f"{case.name} has not ended: {history}")
        raise
    tell("ended", case.name, json.dumps(end))


async def moving(engine: Engine) -> list[Summary]:
    """Return the workflows in which anything will still happen by itself."""
    states = OPEN_STATES - {WorkflowState.PARKED}
    return [summary async for summary in engine.find(state=states)]


async def main(database: Path, world: World, share: float) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    use(world)
    async with Engine(f"sqlite:///{database}", workflows=WORKFLOWS) as engine:
        tell("ready")
        async with asyncio.TaskGroup() as group:
            for case in [*CASES.values()][: round(share * len(CASES))]:
                group.create_task(live(engine, case, world))
        while share < 1 or await moving(engine):  # noqa: ASYNC110 - nobody tells when nothing moves any more
            await asyncio.sleep(LOOK_S)
    tell("finished")


if __name__ == "__main__":
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    with contextlib.suppress(asyncio.CancelledError):  # told to stop, and has stopped in order
        asyncio.run(main(Path(sys.argv[1]), World(Path(sys.argv[2])), float(sys.argv[3])))
