"""Whatever happens to the engine: every order ends, and is charged at most once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from beamflow import Retry, current_step, receive, step, workflow
from beamflow.testing import ChaosEngine, Ending

if TYPE_CHECKING:
    from supervision.chaos import Chaos
    from supervision.testing import Ledger

PATIENT = Retry(max_attempts=20, initial=0.1, max=1.0)
outside: list[Ledger] = []


@step(retry=PATIENT)
async def reserve(customer: str) -> str:
    """Reserve a seat."""
    outside[-1].do(("reserve", customer), key=current_step().idempotency_key)
    return f"seat of {customer}"


@reserve.compensation(retry=PATIENT)
async def release(seat: str, customer: str) -> None:
    """Give the seat back."""
    outside[-1].do(("release", customer), key=current_step().idempotency_key)


@step(retry=PATIENT)
async def charge(customer: str) -> None:
    """Take the money."""
    outside[-1].do(("charge", customer), key=current_step().idempotency_key)


@workflow
async def order(customer: str) -> str:
    """Reserve, wait for the approval, charge."""
    seat = await reserve(customer)
    if not await receive("approval", bool):
        raise PermissionError(customer)
    await asyncio.sleep(60)
    await charge(customer)
    return seat


@pytest.mark.asyncio
@pytest.mark.chaos(profile="moderate", seeds=50)
async def test_every_order_ends(chaos: Chaos, ledger: Ledger) -> None:
    outside.append(ledger)
    async with ChaosEngine(chaos, workflows=[order]) as engine:
        good = await engine.start(order, "good", id="good")
        bad = await engine.start(order, "bad", id="bad")
        await good.signal("approval", payload=True)
        await bad.signal("approval", payload=False)
        await asyncio.sleep(3600)
        chaos.calm()
        endings = await engine.endings()
    assert endings["good"] in {Ending.COMPLETED, Ending.DEAD_LETTERED}
    assert endings["bad"] in {Ending.COMPENSATED, Ending.DEAD_LETTERED}
    assert ledger.count(("charge", "good")) <= 1
    assert ledger.count(("charge", "bad")) == 0
