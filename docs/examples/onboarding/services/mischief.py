"""Bad luck on purpose, out of a seed."""

from __future__ import annotations

import enum
from hashlib import blake2b

__all__ = ["Fate", "Mischief"]

FAILS, HANGS, LOSES_ANSWER = 0.05, 0.01, 0.01


class Fate(enum.Enum):
    """What a request meets."""

    WELL = enum.auto()
    """Nothing goes wrong."""
    FAILS = enum.auto()
    """An error, before any effect."""
    HANGS = enum.auto()
    """No answer, and no effect."""
    LOSES_ANSWER = enum.auto()
    """The effect takes place, the answer never comes: nobody outside can tell this from a hang."""


class Mischief:
    """Draws lots that depend on what is asked and on the seed, never on who else was first."""

    def __init__(self, seed: int) -> None:
        """Bind the seed."""
        self._seed = str(seed).encode()

    def luck(self, *about: object) -> float:
        """Draw from [0, 1): the same lot for the same question, whenever it is asked."""
        question = "\0".join(map(str, about)).encode()
        lot = blake2b(question, key=self._seed, digest_size=7).digest()
        return int.from_bytes(lot, "big") / 256**7

    def fate(self, key: str, attempt: int) -> Fate:
        """Decide what the nth request with a key meets."""
        luck = self.luck("fate", key, attempt)
        if luck < FAILS:
            return Fate.FAILS
        if luck < FAILS + HANGS:
            return Fate.HANGS
        if luck < FAILS + HANGS + LOSES_ANSWER:
            return Fate.LOSES_ANSWER
        return Fate.WELL
