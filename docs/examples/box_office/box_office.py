"""A box office: three actors that sell seats, and know nothing of tests or chaos."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from supervision import (
    Actor,
    ActorNotFoundError,
    ActorStoppedError,
    CallTimeoutError,
    ChildSpec,
    Registry,
    Strategy,
    Supervisor,
)

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["BoxOffice"]


class Bank(Protocol):
    """Takes money, once for each key."""

    def do(self, name: Hashable, *, key: Hashable) -> bool:
        """Charge an order."""


class SeatMap(Actor):
    """Gives each order a seat. The map outlives it, as a database would."""

    def __init__(self, seats: dict[str, int]) -> None:
        """Work on a map."""
        self.seats = seats

    async def handle_call(self, order: object) -> int:
        """Give the order its seat, the same one each time."""
        return self.seats.setdefault(str(order), len(self.seats) + 1)


class Till(Actor):
    """Has the bank take the money."""

    def __init__(self, bank: Bank) -> None:
        """Work with a bank."""
        self.bank = bank

    async def handle_call(self, order: object) -> None:
        """Charge the order; the key makes a second time harmless."""
        self.bank.do(("charge", order), key=order)


class Desk(Actor):
    """Sells a seat: first the seat, then the money."""

    def __init__(self, names: Registry) -> None:
        """Find the others by their names."""
        self.names = names

    async def handle_call(self, order: object) -> object:
        """Give the seat once it is paid for."""
        seat = await self.names.name("seats").call(order, timeout=2.0)
        await self.names.name("till").call(order, timeout=2.0)
        return seat


class BoxOffice:
    """The three of them under one supervisor, and how customers talk to them."""

    def __init__(self, bank: Bank) -> None:
        """Work with a bank."""
        self.names = Registry()
        self.seats: dict[str, int] = {}
        self.bank = bank

    def tree(self) -> Supervisor:
        """Make the supervisor, which can take it that something ends every few seconds."""
        via = self.names.via
        return Supervisor(
            [
                ChildSpec("seats", via("seats", lambda: SeatMap(self.seats))),
                ChildSpec("till", via("till", lambda: Till(self.bank))),
                ChildSpec("desk", via("desk", lambda: Desk(self.names))),
            ],
            strategy=Strategy.REST_FOR_ONE,
            max_restarts=100,
            max_seconds=60.0,
        )

    async def buy(self, order: str) -> int:
        """Ask the desk until it answers; the same order is the same seat and the same charge."""
        while True:
            try:
                seat = await self.names.name("desk").call(order, timeout=5.0)
            except (ActorNotFoundError, ActorStoppedError, CallTimeoutError):
                await asyncio.sleep(0.1)
            else:
                assert isinstance(seat, int)
                return seat
