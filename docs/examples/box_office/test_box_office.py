"""Whatever happens at the box office: everybody gets one seat and pays for it once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from box_office import BoxOffice
from supervision import run
from supervision.testing import survives

if TYPE_CHECKING:
    from supervision.chaos import Chaos
    from supervision.testing import Ledger


@pytest.mark.asyncio
@pytest.mark.chaos(profile="moderate", seeds=100)
async def test_one_seat_paid_once(chaos: Chaos, ledger: Ledger) -> None:
    office = BoxOffice(bank=ledger)
    async with run(office.tree()) as root:
        chaos.attach(root)
        seats = [await office.buy(f"order {number}") for number in range(1, 11)]
        chaos.calm()
        await survives(root)
    assert seats == [*range(1, 11)]
    for number in range(1, 11):
        assert ledger.count(("charge", f"order {number}")) == 1
