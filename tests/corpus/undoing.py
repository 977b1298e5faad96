"""Compensations: what was done is undone when the workflow fails."""

from __future__ import annotations

import asyncio

from beamflow import Retry, current_step, step, workflow
from tests.corpus.case import case, failed, returned
from tests.corpus.work import STUBBORN, do, refuse, reserve
from tests.corpus.world import effect, seconds


@case(
    ends=failed(ValueError),
    effects=["reserve a", "reserve b"],
    undone=["release b", "release a"],
)
@workflow
async def saga_undone_in_reverse() -> None:
    await reserve("a")
    await reserve("b")
    await refuse("c")


@case(ends=returned(["reserve a", "reserve b"]), effects=["reserve a", "reserve b"])
@workflow
async def saga_that_completes() -> list[str]:
    return [await reserve("a"), await reserve("b")]


@step(retry=STUBBORN)
async def charge(what: str) -> int:
    effect("charge", what)
    return 42


@charge.compensation(retry=Retry(max_attempts=4, initial=seconds(1)))
async def refund(amount: int, what: str) -> None:
    if current_step().attempt < 3:
        raise ConnectionError("the bank is closed")
    effect("refund", what, amount)


@case(ends=failed(ValueError), effects=["charge tea"], undone=["refund tea 42"])
@workflow
async def compensation_is_retried() -> None:
    await charge("tea")
    raise ValueError("changed my mind")


@case(
    ends=failed(LookupError),
    effects=["reserve a", "note"],
    undone=["release a"],
)
@workflow
async def only_what_can_be_undone_is() -> None:
    await reserve("a")
    await do("note")
    raise LookupError("of its own")


@case(
    ends=failed(ValueError),
    effects=["reserve slow", "reserve quick"],
    undone=["release slow", "release quick"],
)
@workflow
async def parallel_saga() -> None:
    async def branch(what: str, wait: float) -> None:
        await asyncio.sleep(seconds(wait))
        await reserve(what)

    async with asyncio.TaskGroup() as group:
        group.create_task(branch("quick", 1))
        group.create_task(branch("slow", 5))
    async with asyncio.TaskGroup() as group:
        group.create_task(refuse("both"))


@step(retry=STUBBORN)
def rent(what: str) -> str:
    return effect("rent", what)


@rent.compensation(timeout=seconds(5), retry=STUBBORN)
async def give_back(_rented: str, what: str) -> None:
    if current_step().attempt == 1:
        await asyncio.sleep(seconds(3600))
    effect("give back", what)


@case(ends=failed(ValueError), effects=["rent a car"], undone=["give back a car"])
@workflow
async def compensation_times_out_then_works() -> None:
    await rent("a car")
    await refuse("to drive")


@case(ends=returned("undone by hand"), effects=["reserve it", "undone by hand"])
@workflow
async def failure_that_is_handled_undoes_nothing() -> str:
    await reserve("it")
    try:
        await refuse("it")
    except ValueError:
        return await do("undone by hand")
    return ""
