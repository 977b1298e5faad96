"""A service's own record of the requests it has had: one line of JSON each, only ever added to."""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Entry", "Ledger", "Outcome", "now", "read_ledger"]


class Outcome(enum.Enum):
    """What became of a request."""

    DONE = "done"
    """It took effect, now and for the first time."""
    DUPLICATE = "duplicate"
    """It had taken effect before, under the same key: the first answer was given again."""
    REFUSED = "refused"
    """It was turned down for good; there is no effect."""
    FAILED = "failed"
    """It met an error and had no effect."""
    HUNG = "hung"
    """It was never answered and had no effect."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One request."""

    time: int
    """When it came in, microseconds since the Unix epoch."""
    key: str
    """The idempotency key it carried."""
    application: str
    action: str
    outcome: Outcome
    answered: bool = True
    """False when the service kept the answer to itself."""


class Ledger:
    """The record of one service."""

    def __init__(self, path: Path) -> None:
        """Continue the file, or begin it."""
        self._file = path.open("ab", buffering=0)

    def record(
        self, key: str, application: str, action: str, outcome: Outcome, *, answered: bool = True
    ) -> None:
        """Write one request down before anything else happens to it."""
        entry = Entry(
            time=now(),
            key=key,
            application=application,
            action=action,
            outcome=outcome,
            answered=answered,
        )
        self._file.write(msgspec.json.encode(entry) + b"\n")


def read_ledger(lines: Iterable[bytes]) -> list[Entry]:
    """Read lines back; one that is still being written is left out."""
    return [msgspec.json.decode(line, type=Entry) for line in lines if line.endswith(b"\n")]


def now() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1_000
