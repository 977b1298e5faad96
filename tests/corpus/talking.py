"""Workflows that are talked to: classes, handlers, keys."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from beamflow import on_signal, receive, signal, until, workflow
from tests.corpus.case import case, returned
from tests.corpus.outsiders import keyed
from tests.corpus.outsiders import signal as send
from tests.corpus.work import do
from tests.corpus.world import seconds


@case(
    ends=returned(["tea", "cake"]),
    outsiders=[send("add", "tea"), send("add", "cake"), send("pay")],
    effects=["add tea", "add cake", "ship"],
)
@workflow
class BasketInAClass:
    """Its attributes are replayed state."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.paid = False

    async def run(self) -> list[str]:
        await until(lambda: self.paid and len(self.items) == 2)
        await do("ship")
        return self.items

    @signal
    async def add(self, item: str) -> None:
        await do(f"add {item}")
        self.items.append(item)

    @signal
    def pay(self) -> None:
        self.paid = True


@case(
    ends=returned([1, 2, 3]),
    outsiders=[send("number", 1), send("number", 2), send("number", 3)],
    effects=["begin"],
)
@workflow
async def handler_of_a_function() -> list[int]:
    numbers: list[int] = []
    await do("begin")
    on_signal("number", numbers.append)
    await until(lambda: len(numbers) == 3)
    return numbers


@case(
    ends=returned("nobody"),
    effects=["give up"],
)
@workflow
async def condition_that_never_holds() -> str:
    try:
        async with asyncio.timeout(seconds(5)):
            await until(lambda: False)
    except TimeoutError:
        await do("give up")
    return "nobody"


@dataclass
class Deposit:
    amount: int


@case(
    ends=returned(8),
    outsiders=[
        keyed("Deposit", {"amount": 5}, key="first"),
        keyed("Deposit", {"amount": 3}, key="second"),
    ],
    effects=["kept"],
)
@workflow
async def signals_with_keys_by_type() -> int:
    first = await receive(Deposit)
    await do("kept")
    return first.amount + (await receive(Deposit)).amount
