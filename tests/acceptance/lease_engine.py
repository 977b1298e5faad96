"""An engine's process with a short lease: ``lease_engine.py DATABASE LEDGER NAME TTL_S STALL_S``.

It runs workflows that tick: each step leaves a line in the ledger when it begins and tells it on
standard output. At its tenth step the process blocks its event loop for STALL_S seconds. Commands
come on standard input: ``start COUNT``, and ``finish``, which ends the process once all have ended.
SIGTERM ends the block of the engine, as a host would have it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import time
from contextlib import suppress
from itertools import count

from beamflow import Engine, EngineStoppedError, current_step, step, workflow
from beamflow.engine import store_keeper
from beamflow.model.status import OPEN_STATES

HANGS_S = 60
TICKS = 40
DATABASE, LEDGER, NAME, TTL_S, STALL_S = sys.argv[1:]


def tell(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


ledger = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
turns = count(1)


@step
async def tick(number: int) -> int:
    turn = next(turns)
    os.write(ledger, f"{NAME} {current_step().idempotency_key}\n".encode())
    tell("tick", turn)
    if turn == 10 and float(STALL_S):
        time.sleep(float(STALL_S))  # noqa: ASYNC251 - what is tested
    await asyncio.sleep(0.02)
    return number


@workflow
async def ticks() -> int:
    return sum([await tick(number) for number in range(TICKS)])


async def main() -> None:
    block = asyncio.current_task()
    assert block is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, block.cancel)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    patience = 30 if NAME == "second" else 0
    url = f"sqlite:///{DATABASE}"
    async with Engine(url, workflows=[ticks], lease_wait=patience) as engine:
        tell("ready")
        while (command := (await lines.readline()).decode().split()) != ["finish"]:
            for number in range(int(command[1])):
                await engine.start(ticks, id=f"ticks-{number}")
            tell("started")
        for found in [each async for each in engine.find(state=OPEN_STATES)]:
            await engine.handle(found.id).result()
        tell("finished")
        await lines.readline()


if __name__ == "__main__":
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    store_keeper.LEASE_TTL_S = float(TTL_S)
    with suppress(asyncio.CancelledError):
        try:
            asyncio.run(main())
        except EngineStoppedError as error:
            tell("stopped:", error)
