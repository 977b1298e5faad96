"""Stores in which a log ends where a crash may have ended it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from beamflow.stores.memory import MemoryStore
from beamflow.stores.url import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from beamflow import Recorded
    from beamflow.stores.base import Store


async def cut_store(history: Sequence[Recorded], cut: int, file: Path | None = None) -> Store:
    """Return a closed store that holds the first events of a log, in a file if one is named."""
    store: Store
    store = (
        MemoryStore(clock=lambda: 0)
        if file is None
        else open_store(f"sqlite:///{file}", clock=lambda: 0)
    )
    await store.open()
    lease = await store.claim("the test", 1e6)
    serving = asyncio.create_task(store.serve())
    try:
        for recorded in history[:cut]:
            await store.append(
                recorded.stream,
                recorded.seq - 1,
                [recorded.event],
                time=recorded.time,
                epoch=lease.epoch,
            )
        await store.release(lease)
    finally:
        serving.cancel()
        await asyncio.wait({serving})
        await store.close()
    return store
