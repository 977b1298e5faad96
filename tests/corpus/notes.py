"""What the code records and does not wait for."""

from __future__ import annotations

import asyncio

from beamflow import publish, snapshot, workflow
from tests.corpus.case import case, returned
from tests.corpus.work import do
from tests.corpus.world import seconds


@case(ends=returned("packed"), effects=["ordered", "packed"])
@workflow
async def published_states() -> str:
    for state in ("ordered", "packed"):
        publish("state", state)
        await do(state)
        await asyncio.sleep(seconds(1))
        publish("done", [state])
    return state


@case(ends=returned(None), effects=["one", "two"])
@workflow
async def named_places() -> None:
    snapshot("begin")
    await do("one")
    snapshot("middle")
    await do("two")
    snapshot("end")
