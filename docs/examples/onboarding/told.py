"""What the engine's process tells the world: an application is accepted, or has ended."""

from __future__ import annotations

import msgspec

__all__ = ["Told"]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One line on standard output. Once it is told it must hold, whatever is killed after it."""

    application: str
    ended: str = ""
    """``policy POL-00001``, ``declined`` or ``failed``; empty when it was accepted just now."""
