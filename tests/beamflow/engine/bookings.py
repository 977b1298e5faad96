"""Bookings that can be undone, unless a test says otherwise; what came of them is in a ledger."""

from __future__ import annotations

import asyncio

from beamflow import Retry, saga, step, workflow


class Ledger(list[str]):
    """What was done and undone, outside the engine's knowledge."""

    def __init__(self) -> None:
        self.grown = asyncio.Event()

    def append(self, entry: str) -> None:
        super().append(entry)
        self.grown.set()

    async def until(self, *entries: str) -> None:
        """Wait until it has these."""
        async with asyncio.timeout(10):
            while not {*entries} <= {*self}:
                self.grown.clear()
                await self.grown.wait()


ledger = Ledger()

gates: dict[str, asyncio.Event] = {}
"""What bookings and cancellations wait for."""

unwell: set[str] = set()
"""What cannot be undone."""


def fresh() -> None:
    """Begin with nothing done, and nothing in the way."""
    ledger.clear()
    ledger.grown = asyncio.Event()
    gates.clear()
    unwell.clear()


@step
async def book(what: str) -> str:
    if what in gates:
        await gates[what].wait()
    ledger.append(what)
    return what


@book.compensation(retry=Retry(max_attempts=2, initial=10, jitter=0))
async def unbook(booked: str, what: str) -> None:
    ledger.append(f"un{booked}?")
    if f"un{what}" in gates:
        await gates[f"un{what}"].wait()
    if what in unwell:
        raise ConnectionError(f"{what} is unwell")
    ledger.append(f"un{booked}")


@step
async def refuse(why: str) -> None:
    raise ValueError(why)


def undone() -> list[str]:
    return [each for each in ledger if each.startswith("un") and not each.endswith("?")]


@workflow
async def trip() -> str:
    await book("visa")
    try:
        async with saga():
            await book("flight")
            await book("hotel")
            await refuse("full")
    except ValueError as error:
        assert undone() == ["unhotel", "unflight"]
        await book("sofa")
        return f"home: {error}"
    return "away"
