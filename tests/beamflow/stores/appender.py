"""A process that owns a store and appends, for tests to kill, starve and record.

It writes ``lease EPOCH`` and then, for each append that was acknowledged, ``ack STREAM SEQ``, each
with one system call, so that what it has told is what was acknowledged. An error ends it with the
error's name; one that hangs ends itself and shows on standard error where it hung.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import time

from msgspec import Raw

from beamflow.errors import StoreError
from beamflow.model.events import StepCompleted
from beamflow.stores.sqlite import SQLiteStore

HANGS_S = 60


def tell(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def append(store: SQLiteStore, stream: str, count: int, epoch: int) -> None:
    for number in range(count):
        event = StepCompleted(
            op=number, name="reserve", digest="d", result=Raw(b'"%s"' % (b"x" * 200)), started_at=1
        )
        await store.append(stream, number, [event], time=1, epoch=epoch)
        tell("ack", stream, number + 1)


async def main(path: str, streams: int, count: int, durability: str) -> None:
    store = SQLiteStore(
        path,
        clock=lambda: time.time_ns() // 1000,
        durability="full" if durability == "full" else "relaxed",
    )
    await store.open()
    try:
        async with asyncio.TaskGroup() as group:
            server = group.create_task(store.serve())
            lease = await store.claim(f"pid {os.getpid()}", 3600)
            tell("lease", lease.epoch)
            async with asyncio.TaskGroup() as writers:
                for number in range(streams):
                    writers.create_task(append(store, f"stream-{number}", count, lease.epoch))
            tell("done")
            await asyncio.to_thread(sys.stdin.read)
            server.cancel()
    finally:
        await store.close()


def leaf(error: BaseException) -> BaseException:
    return leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    try:
        asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
    except* StoreError as group:
        tell("error", type(leaf(group)).__name__, leaf(group))
