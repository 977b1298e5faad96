"""Keys under which the result of a step is shared by all workflows of an engine."""

from __future__ import annotations

from typing import NamedTuple

from beamflow.errors import DefinitionError

__all__ = ["SharedKey", "checked_key"]

_KEY_CHARACTERS_MAX = 512
_TTL_S_MAX = 10 * 365 * 86_400


class SharedKey(NamedTuple):
    """Under which key a result is shared, and for how long once it is recorded."""

    key: str
    ttl_s: float


def checked_key(step: str, key: str, ttl: float) -> SharedKey:
    """Return the key; raises `DefinitionError` for one that no store can hold, and for such a time."""
    where = f"step {step!r}: idempotent"
    if not _is_key(key):
        message = (
            f"{where}({str(key)[:80]!r}) is refused: the key must be a str of 1 to "
            f"{_KEY_CHARACTERS_MAX} printable characters"
        )
        raise DefinitionError(message)
    if not _is_ttl(ttl):
        message = (
            f"{where}(ttl={ttl!r}) is refused: it must be a number of seconds above 0, at most "
            f"{_TTL_S_MAX:,}"
        )
        raise DefinitionError(message)
    return SharedKey(key, ttl)


def _is_key(key: object) -> bool:
    return isinstance(key, str) and 0 < len(key) <= _KEY_CHARACTERS_MAX and key.isprintable()


def _is_ttl(ttl: object) -> bool:
    return isinstance(ttl, int | float) and 0 < ttl <= _TTL_S_MAX
