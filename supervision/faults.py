"""What may go wrong, how often, and where: faults drawn from a seed, the same ones every time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["MESSAGE_FAULTS", "ChaosError", "Fault", "FaultPlan", "Profile", "Strike"]


class Profile(StrEnum):
    """How often something goes wrong."""

    GENTLE = "gentle"
    """At 5 % of the opportunities."""
    MODERATE = "moderate"
    """At 15 %."""
    AGGRESSIVE = "aggressive"
    """At 30 %."""

    @property
    def rate(self) -> float:
        """The share of the opportunities at which something goes wrong."""
        return _RATES[self]


_RATES: Final = {Profile.GENTLE: 0.05, Profile.MODERATE: 0.15, Profile.AGGRESSIVE: 0.30}


class Fault(StrEnum):
    """What can happen to an actor; an opportunity is each message that it is about to handle."""

    CRASH_BEFORE = "crash_before"
    """Killed before it has looked at the message."""
    CRASH_DURING = "crash_during"
    """Killed at the first await of its callback, or half a second into it."""
    CRASH_AFTER = "crash_after"
    """Killed when the message is handled; a call stays without its answer."""
    LATENCY = "latency"
    """It takes 50-500 ms longer."""
    ERROR = "error"
    """`ChaosError` comes out of the callback, before or after it has run."""
    HANG = "hang"
    """It takes 10-60 s longer: more than most time-outs allow."""
    DROP = "drop"
    """The message is lost. Only of calls with a time-out, for the others are lost with the actor only."""
    DUPLICATE = "duplicate"
    """The message is handled twice."""
    DELAY = "delay"
    """The message comes 50-500 ms later; others overtake it."""
    SWALLOWED_CANCEL = "swallowed_cancel"
    """The actor is told to stop, and its callback swallows the cancellation."""
    STALL = "stall"
    """The whole event loop stands still for half a second to 5 s."""
    SUPERVISOR_KILLED = "supervisor_killed"
    """Its supervisor is killed, unless that is the root."""


MESSAGE_FAULTS: Final = frozenset({Fault.DROP, Fault.DUPLICATE, Fault.DELAY})
"""What an unreliable network does to messages, and nothing inside one process."""


class ChaosError(Exception):
    """Raised on purpose."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault at one place.

    Attributes:
        site: Where: which actor or store, doing what.
        number: How many opportunities there had been at that site.
        fault: What.
    """

    site: str
    number: int
    fault: str

    def __str__(self) -> str:
        """Say where and what."""
        return f"{self.site} #{self.number}: {self.fault}"


class FaultPlan:
    """Decides at each opportunity whether something goes wrong, and what.

    The decision depends on the seed, the site and how often the site was asked before; never on what
    happened elsewhere. So a seed gives the same faults at the same places again.

    Attributes:
        seed: All that the decisions come from.
        rate: The share of opportunities at which something goes wrong.
        log: What has gone wrong, in order.
        calm: While true nothing goes wrong; opportunities are not counted.
    """

    def __init__(self, seed: int, rate: float, faults: Collection[str] | None = None) -> None:
        """Plan.

        Args:
            seed: What to decide by.
            rate: From 0 to 1.
            faults: The only faults there are; None for all.

        Raises:
            ValueError: The rate is none, or no fault is left.
        """
        if not 0 <= rate <= 1:
            raise ValueError(f"rate={rate!r} is refused: it is a share, from 0 to 1")
        if faults is not None and not faults:
            raise ValueError("faults=() leaves nothing to go wrong. Name some, or leave it out.")
        self.seed = seed
        self.rate = rate
        self.log: list[Strike] = []
        self.calm = False
        self._faults = None if faults is None else frozenset(faults)
        self._asked: Counter[str] = Counter()

    @property
    def reached(self) -> Counter[str]:
        """How often each fault has really happened."""
        return Counter(str(strike.fault) for strike in self.log)

    def draw(self, site: str, among: Sequence[str]) -> tuple[str, Random] | None:
        """Decide about one opportunity.

        Args:
            site: Where it is; the same words each time.
            among: What could go wrong there, in a fixed order.

        Returns:
            None when all goes well; else the fault, and where its details are drawn from.
        """
        if self.calm:
            return None
        if self._faults is not None:
            among = [fault for fault in among if fault in self._faults]
        if not among:
            return None
        self._asked[site] += 1
        number = self._asked[site]
        lot = blake2b(f"{self.seed}\0{site}\0{number}".encode(), digest_size=8).digest()
        if int.from_bytes(lot, "big") / 2**64 >= self.rate:
            return None
        details = Random(lot)  # noqa: S311 - repeatable on purpose
        fault = among[details.randrange(len(among))]
        self.log.append(Strike(site, number, fault))
        return fault, details
