"""Local names at the place of a definition, to resolve the annotations of nested functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["local_names"]


def local_names(frame: FrameType) -> dict[str, Any] | None:
    """Return a copy of the frame's local names, or None at module level, where none are needed."""
    return None if frame.f_locals is frame.f_globals else dict(frame.f_locals)
