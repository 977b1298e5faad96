"""What the bodies of steps tell whoever measures: that they have run. Nobody listens by default."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Gate", "gate", "listen", "ran"]

_listener: Callable[[str, int], None] | None = None


def ran(key: str, stage: int) -> None:
    """Tell that the step ``stage`` of the workflow ``key`` has run."""
    if _listener is not None:
        _listener(key, stage)


def listen(listener: Callable[[str, int], None] | None) -> None:
    """Have ``listener`` called by every step from now on; None: nobody."""
    global _listener  # noqa: PLW0603 - step bodies are plain functions, and find it here
    _listener = listener


class Gate:
    """Holds steps until so many have come; open from the beginning with 0."""

    def __init__(self, count: int = 0) -> None:
        self._left = count
        self._open = asyncio.Event()
        if not count:
            self._open.set()

    async def passed(self) -> None:
        """Wait until the gate is open."""
        self._left -= 1
        if not self._left:
            self._open.set()
        await self._open.wait()


gate = Gate()
"""What the first step of a ``gated`` workflow waits for; set anew by the workload."""
