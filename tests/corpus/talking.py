"""Workflows that are talked to: classes, handlers, keys."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from beamflow import (
    add_tags,
    on_query,
    on_signal,
    on_update,
    publish,
    query,
    receive,
    set_attributes,
    signal,
    until,
    update,
    workflow,
)
from beamflow.events import SignalReceived
from tests.corpus.case import case, returned
from tests.corpus.outsiders import (
    answers,
    ask_for,
    follows,
    has_shown,
    is_labelled,
    is_refused,
    keyed,
    shows,
    waits_for,
)
from tests.corpus.outsiders import signal as send
from tests.corpus.work import do
from tests.corpus.world import seconds


@case(
    ends=returned(["cake", "tea"]),
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
        return sorted(self.items)  # the handlers run side by side

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


@case(
    ends=returned(["tea", "milk"]),
    outsiders=[
        ask_for("add", "tea", id="first", replies=1),
        ask_for("add", "milk", id="second", replies=2, when=is_refused("add", "")),
        send("pay", when=answers("items", answer=["tea", "milk"])),
    ],
    effects=["add tea", "add milk"],
)
@workflow
class ShopInAClass:
    """Asked, and asked for something."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.paid = False

    async def run(self) -> list[str]:
        await until(lambda: self.paid)
        return self.taken

    @update
    async def add(self, item: str) -> int:
        await do(f"add {item}")
        self.taken.append(item)
        return len(self.taken)

    @add.validator
    def check(self, item: str) -> None:
        if not item:
            raise ValueError("nothing to add")

    @query
    def items(self) -> list[str]:
        return self.taken

    @signal
    def pay(self) -> None:
        self.paid = True


@case(
    ends=returned(5),
    outsiders=[
        ask_for("add", 2, id="two", replies=2),
        ask_for("add", 3, id="three", replies=5, when=answers("total", answer=2)),
        send("stop", when=waits_for("signal stop")),
    ],
)
@workflow
async def updates_of_a_function() -> int:
    total = 0

    def add(amount: int) -> int:
        nonlocal total
        total += amount
        return total

    on_update("add", add)
    on_query("total", lambda: total)
    await receive("stop")
    return total


@case(
    ends=returned("bye"),
    outsiders=[
        send("go", 1, when=shows("state", "ready")),
        send("go", 2, when=has_shown("state", "halfway")),
        send("go", 3, when=is_labelled("late", city="Bonn")),
        send("go", 4, when=follows(SignalReceived)),
    ],
    effects=["work"],
)
@workflow
async def outsiders_who_only_look() -> str:
    publish("state", "ready")
    await receive("go", int)
    publish("state", "halfway")
    await do("work")
    await receive("go", int)
    set_attributes(city="Bonn")
    add_tags("late")
    await receive("go", int)
    await receive("go", int)
    return "bye"
