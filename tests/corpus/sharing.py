"""Results that workflows share by a key: one effect, whoever asks for it."""

from __future__ import annotations

import asyncio

from beamflow import ChildWorkflowError, step, workflow
from tests.corpus.case import case, helper, returned
from tests.corpus.work import STUBBORN, do
from tests.corpus.world import effect, seconds

DAY_S = 24 * 3600


@step(retry=STUBBORN)
async def charge(order: str) -> str:
    await asyncio.sleep(seconds(3))
    return effect("charge", order)


@helper
@workflow
async def click(number: int) -> str:
    receipt = await charge.idempotent("order 42", ttl=DAY_S)("order 42")
    return f"{number}: {receipt}"


@case(
    ends=returned(["1: charge order 42", "2: charge order 42", "charge order 42"]),
    effects=["charge order 42"],
)
@workflow
async def result_shared_with_children() -> list[str]:
    """They ask at once; a fourth one, later on, has it from the store."""
    receipts = await asyncio.gather(
        click(1), click(2), charge.idempotent("order 42", ttl=DAY_S)("order 42")
    )
    await asyncio.sleep(seconds(30))
    assert await click(3) == "3: charge order 42"
    return receipts


@step
async def ship(by: str) -> str:
    if by == "sea":
        raise ValueError("the harbour is closed")
    return effect("ship by", by)


@helper
@workflow
async def carry(by: str) -> str:
    return await ship.idempotent("parcel 7", ttl=DAY_S)(by)


@case(ends=returned(["ship by air", "ship by air"]), effects=["try the harbour", "ship by air"])
@workflow
async def shared_step_that_failed_is_taken_over() -> list[str]:
    """A failure is nobody's result but the own one; what is made then is everybody's."""
    await do("try the harbour")
    try:
        await carry("sea")
    except ChildWorkflowError:
        return [await carry("air"), await carry("sea")]
    return []
