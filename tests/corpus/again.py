"""Going on from the middle: retries in place, forks, dead letters sent round."""

from __future__ import annotations

import asyncio

from beamflow import snapshot, step, workflow
from beamflow.events import SnapshotTaken, WorkflowFailed
from tests.corpus.case import case, failed, returned
from tests.corpus.outsiders import fork, has_named, resolve, retry, retry_in_place, seen
from tests.corpus.work import do, refuse, reserve
from tests.corpus.world import effect, is_mended, seconds


@step
async def ship(what: str) -> str:
    if not is_mended(f"the way for {what}"):
        raise ConnectionError("nobody answers")
    return effect("ship", what)


@case(
    ends=returned(["charge", "ship tea"]),
    outsiders=[retry_in_place("the way for tea")],
    effects=["charge", "ship tea"],
)
@workflow
async def failed_and_retried_in_place() -> list[str]:
    return [await do("charge"), await ship("tea")]


@case(
    ends=returned(["one", "ship cups"]),
    outsiders=[retry_in_place("the way for cups", step="do")],
    effects=["one", "ship cups"],
)
@workflow
async def failed_and_retried_from_a_step() -> list[str]:
    first = await do("one")
    await asyncio.sleep(seconds(1))
    return [first, await ship("cups")]


@case(
    ends=returned(["one", "ship pots"]),
    outsiders=[retry("the way for pots", when=seen(WorkflowFailed))],
    effects=["one", "ship pots"],
)
@workflow
async def failed_and_retried_by_its_letter() -> list[str]:
    return [await do("one"), await ship("pots")]


@case(
    ends=failed(ValueError),
    outsiders=[resolve(seen(WorkflowFailed))],
    effects=["one"],
)
@workflow
async def failure_that_is_settled_by_hand() -> None:
    await do("one")
    await refuse("two")


@case(
    ends=returned("paid by card, done"),
    outsiders=[fork("what-if", at="paid", results={"do": "paid by hand"}, when=has_named("paid"))],
    effects=["paid by card", "paid by card, done", "paid by hand, done"],
)
@workflow
async def forked_at_a_snapshot() -> str:
    receipt = await do("paid by card")
    snapshot("paid")
    await asyncio.sleep(seconds(5))
    return await do(f"{receipt}, done")


@case(
    "tea",
    ends=failed(ValueError),
    outsiders=[fork("other-input", at=1, input=["milk"], when=seen(WorkflowFailed))],
    effects=["reserve tea", "reserve milk"],
    undone=["release tea"],
)
@workflow
async def forked_with_another_input(what: str) -> str:
    done = await reserve(what)
    if what == "tea":
        await refuse("more of it")
    return done


@case(
    ends=returned("end"),
    outsiders=[fork("copy-in-the-middle", when=seen(SnapshotTaken))],
    effects=["a", "b", "b"],
)
@workflow
async def forked_while_it_waits() -> str:
    await do("a")
    snapshot("here")
    await asyncio.sleep(seconds(24))
    await do("b")
    return "end"
