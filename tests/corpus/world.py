"""What the steps of the corpus do to the world outside, as the world remembers it.

The world is no part of what crashes. It is kept in memory by a test that crashes engines, and in a
file by one that kills processes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from beamflow import current_step

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Effect", "World", "effect", "is_mended", "seconds", "use"]

_SECOND_S = float(os.environ.get("BEAMFLOW_CORPUS_SECOND", "1"))
_world: World


def seconds(count: float) -> float:
    """Return a duration; where real time passes, a second of the corpus is shorter."""
    return count * _SECOND_S


class Effect(msgspec.Struct, frozen=True):
    """One thing that a step or a compensation did, or somebody's repair."""

    name: str
    key: str = ""
    attempt: int = 1

    @property
    def is_undo(self) -> bool:
        """Whether a compensation did it."""
        return self.key.endswith("/compensation")


_effects = msgspec.json.Decoder(Effect)


class World:
    """Remembers all effects, in order.

    Args:
        file: where they are kept; in memory without it.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._kept: list[Effect] = []
        self._path = file
        self._file = None
        if file is not None:
            self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, effect: Effect) -> None:
        """Remember one."""
        if self._file is None:
            self._kept.append(effect)
        else:
            os.write(self._file, msgspec.json.encode(effect) + b"\n")

    @property
    def effects(self) -> list[Effect]:
        """All that has happened."""
        if self._path is None:
            return list(self._kept)
        lines = self._path.read_bytes().split(b"\n")[:-1]  # the last one may be cut off
        return [_effects.decode(line) for line in lines]

    def mend(self, what: str) -> None:
        """Repair what steps find broken until then."""
        if not self.is_mended(what):
            self.add(Effect(name=f"mended {what}"))

    def is_mended(self, what: str) -> bool:
        """Whether it was repaired."""
        return any(one.name == f"mended {what}" for one in self.effects)


def use(world: World) -> None:
    """Have the steps act on this world from now on."""
    global _world  # noqa: PLW0603 - a step has nothing but its arguments, and those are recorded
    _world = world


def effect(*words: object) -> str:
    """Do something, from a step or a compensation; return what."""
    info = current_step()
    name = " ".join(map(str, words))
    _world.add(Effect(name=name, key=info.idempotency_key, attempt=info.attempt))
    return name


def is_mended(what: str) -> bool:
    """Whether somebody has repaired it."""
    return _world.is_mended(what)
