"""What the code records and does not wait for."""

from __future__ import annotations

import asyncio

from beamflow import (
    add_tags,
    progress,
    publish,
    remove_tags,
    set_attributes,
    snapshot,
    workflow,
)
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


@case(
    ends=returned(3),
    effects=["1", "2", "3"],
    tags=["new"],
    attributes={"city": "Bonn"},
)
@workflow
async def progress_and_labels() -> int:
    number = 0
    for number in (1, 2, 3):
        progress(number, 3, "counting")
        await do(str(number))
    add_tags("counted")
    remove_tags("new")
    set_attributes(city=None, count=3)
    await asyncio.sleep(seconds(1))
    return number
