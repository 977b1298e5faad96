"""An engine's process, for tests to kill: ``kill_engine.py DATABASE LEDGER LIFE``.

Commands come on standard input, a JSON array a line: ``["start", ID]``, ``["signal", ID, NUMBER]``
and ``["finish"]``, which lets the process end once no workflow is open. What has been acknowledged
is told on standard output, a line and a system call each: ``ready``, ``started ID``,
``signalled ID NUMBER``, ``finished``.

A process that hangs ends itself and shows on standard error where it hung; an actor that crashes
is told of there too.

The steps leave their marks in the ledger, a file that beamflow knows nothing of. They are written
at once and not synced: a kill takes the process, not what the kernel has.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import random
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from beamflow import (
    Engine,
    EngineStoppedError,
    Retry,
    StoreUnavailableError,
    WorkflowFailedError,
    current_step,
    receive,
    step,
    workflow,
)
from beamflow.events import SignalReceived
from beamflow.model.status import OPEN_STATES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from beamflow import Workflow

HANGS_S = 60
WORDS = 3
STUBBORN = Retry(max_attempts=4, initial=0.03)


def tell(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Ledger:
    """What the steps did, as the world outside remembers it."""

    def __init__(self, path: str, life: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._life = life
        self._runs = 0

    def begin(self, because: str = "") -> str:
        """Note that a run of a step begins; return the name that no other run has.

        Args:
            because: the run or the word without which it would not be made.
        """
        self._runs += 1
        run = f"{self._life}.{self._runs}"
        self.note("began", run, because)
        return run

    def note(self, what: str, run: str, because: str = "") -> None:
        """Write a line."""
        info = current_step()
        line = json.dumps(
            {
                "what": what,
                "run": run,
                "life": self._life,
                "key": info.idempotency_key,
                "step": info.step,
                "attempt": info.attempt,
                "time": time.time_ns() // 1000,
                "because": because,
            }
        )
        os.write(self._file, f"{line}\n".encode())


ledger: Ledger


def moment(run: str, part: str) -> float:
    """Draw how long a part of a run takes; at times nothing at all."""
    return max(0.0, random.Random(f"{run} {part}").uniform(-0.005, 0.02))


def is_unlucky() -> bool:
    """Whether this attempt fails: each step has its own number of failures, from 0 to 2."""
    info = current_step()
    return info.attempt <= crc32(info.idempotency_key.encode()) % 3


async def act(because: str) -> str:
    """Do what a step does, or fail at it; return the name of the run."""
    run = ledger.begin(because)
    await asyncio.sleep(moment(run, "before"))
    if is_unlucky():
        ledger.note("failed", run)
        raise ConnectionError(run)
    ledger.note("did", run)
    await asyncio.sleep(moment(run, "after"))
    return run


@step(retry=STUBBORN)
async def work(because: str = "") -> str:
    """Fail at times, then succeed."""
    return await act(because)


@step(retry=STUBBORN)
def work_in_thread() -> str:
    """Do it in a worker thread."""
    run = ledger.begin()
    if is_unlucky():
        ledger.note("failed", run)
        raise ConnectionError(run)
    ledger.note("did", run)
    return run


@step(timeout=0.05, retry=STUBBORN)
async def dawdle(because: str) -> str:
    """Be too slow the first time."""
    run = ledger.begin(because)
    await asyncio.sleep(60 if current_step().attempt == 1 else 0)
    ledger.note("did", run)
    return run


@step
async def hang() -> str:
    """Never end."""
    run = ledger.begin()
    await asyncio.sleep(3600)
    return run


@step(retry=STUBBORN)
async def reserve(because: str = "") -> str:
    """Do what can be undone."""
    return await act(because)


@reserve.compensation(retry=STUBBORN)
async def cancel(run: str, _because: str) -> None:
    """Undo it."""
    await act(run)


@step(retry=STUBBORN)
async def charge(because: str = "") -> str:
    """Do what can be undone, and be given up at it."""
    return await act(because)


@charge.compensation(retry=STUBBORN)
async def refund(run: str, _because: str) -> None:
    """Undo it."""
    await act(run)


@step(retry=Retry(max_attempts=2, initial=0.02))
async def refuse() -> str:
    """Fail for good."""
    run = ledger.begin()
    ledger.note("failed", run)
    raise ValueError(run)


async def side(part: int) -> str:
    """Go two steps of a branch, with a sleep between them that differs from branch to branch."""
    first = await work()
    await asyncio.sleep(0.05 * part)
    return await work(first)


@workflow
async def branches(_number: int) -> list[str]:
    """Fan out, wait, fan out again."""
    first = await asyncio.gather(side(1), side(2), work_in_thread())
    await asyncio.sleep(0.1)
    async with asyncio.TaskGroup() as group:
        second = [group.create_task(side(part)) for part in range(3)]
    return [*first, *(task.result() for task in second)]


@workflow
async def conversation(_number: int) -> list[int]:
    """Hear the words while something else goes on, then wait in vain."""
    heard: list[int] = []

    async def listen() -> None:
        while len(heard) < WORDS:
            heard.append(await receive("word", int))
            await work(f"word {heard[-1]}")

    async with asyncio.TaskGroup() as group:
        group.create_task(listen())
        group.create_task(side(1))
    try:
        async with asyncio.timeout(0.1):
            await receive("never")
    except TimeoutError:
        heard.append(-1)
    return heard


@workflow
async def race(_number: int) -> list[str]:
    """Take the first of two, give up what hangs, try again what is too slow."""
    winner = asyncio.create_task(work())
    loser = asyncio.create_task(asyncio.sleep(30))
    done, _ = await asyncio.wait({winner, loser}, return_when=asyncio.FIRST_COMPLETED)
    loser.cancel()
    results = [str(task.result()) for task in done]
    try:
        async with asyncio.timeout(0.1):
            await hang()
    except TimeoutError:
        results.append(await dawdle(results[0]))
    return results


@workflow
async def saga(number: int) -> list[str]:
    """Of three, one goes well, one fails with much to undo, one before there is anything."""
    if number % 3 == 2:
        await refuse()
    kept = [await reserve()]
    kept.append(await reserve(kept[0]))
    async with asyncio.TaskGroup() as group:
        charges = [group.create_task(charge(kept[1])) for _ in range(3)]
        if number % 3 == 1:
            await asyncio.sleep(0.01)
            group.create_task(refuse())
    return [*kept, *(task.result() for task in charges)]


KINDS: dict[str, Workflow[[int], object]] = {
    kind.name: kind for kind in (branches, conversation, race, saga)
}


async def commands() -> AsyncIterator[list[str | int]]:
    """Read standard input; wait for the kill when it ends without a command to finish."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    async for line in lines:
        command = json.loads(line)
        if command == ["finish"]:
            return
        yield command
    await asyncio.Event().wait()


async def obey(engine: Engine, command: list[str | int], turn: asyncio.Lock) -> None:
    """Carry out one command; those for one workflow take turns. Insist where the store fails."""
    async with turn:
        while True:
            try:
                await carry_out(engine, command)
            except (EngineStoppedError, StoreUnavailableError):
                await asyncio.sleep(0.05)
            else:
                return


async def carry_out(engine: Engine, command: list[str | int]) -> None:
    """Do it, and tell when it is acknowledged."""
    match command:
        case ["start", str(workflow_id)]:
            kind, _, number = workflow_id.partition("-")
            await engine.start(KINDS[kind], int(number), id=workflow_id)
            tell("started", workflow_id)
        case ["signal", str(workflow_id), int(number)]:
            if not await has(engine, workflow_id, number):
                await engine.handle(workflow_id).signal("word", number)
            tell("signalled", workflow_id, number)
        case _:
            raise ValueError(command)


async def has(engine: Engine, workflow_id: str, number: int) -> bool:
    """Look whether a word is in the log, as one does whose call was not acknowledged."""
    return any(
        isinstance(each.event, SignalReceived) and int(bytes(each.event.payload)) == number
        for each in await engine.handle(workflow_id).history()
    )


async def open_ones(engine: Engine) -> list[str]:
    """Find what has not ended."""
    while True:
        try:
            return [found.id async for found in engine.find(state=OPEN_STATES)]
        except (EngineStoppedError, StoreUnavailableError):
            await asyncio.sleep(0.05)


async def main(database: Path) -> None:
    turns: defaultdict[str | int, asyncio.Lock] = defaultdict(asyncio.Lock)
    async with Engine(f"sqlite:///{database}", workflows=KINDS.values()) as engine:
        tell("ready")
        async with asyncio.TaskGroup() as group:
            async for command in commands():
                group.create_task(obey(engine, command, turns[command[1]]))
        while pending := await open_ones(engine):
            for workflow_id in pending:
                with suppress(WorkflowFailedError, EngineStoppedError, StoreUnavailableError):
                    await engine.handle(workflow_id).result()
    tell("finished")


if __name__ == "__main__":
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    logging.basicConfig(level=logging.ERROR)
    ledger = Ledger(sys.argv[2], int(sys.argv[3]))
    asyncio.run(main(Path(sys.argv[1])))
