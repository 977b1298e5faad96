"""SIGINT and SIGTERM, for trees whose host asks for it: stop, hurry, leave."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Interrupts"]

WATCHED: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Takes both signals between `install` and `remove`.

    The third one ends the process at once, also when a child blocks the loop.
    """

    __slots__ = ("_before", "_count", "_hurry", "_loop", "_stop", "first")

    def __init__(
        self, loop: AbstractEventLoop, stop: Callable[[], object], hurry: Callable[[], object]
    ) -> None:
        """Prepare; no signal is taken yet.

        Args:
            loop: Where to call these two.
            stop: Called for the first signal.
            hurry: Called for the second.
        """
        self._loop = loop
        self._stop = stop
        self._hurry = hurry
        self._count = 0
        self._before: dict[signal.Signals, object] = {}
        self.first: signal.Signals | None = None

    def install(self) -> None:
        """Take the signals from whoever has them.

        Raises:
            RuntimeError: This is not the main thread, the only one that Python lets do that.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "signals=True works in the main thread only. Leave it out elsewhere."
            )
        for number in WATCHED:
            self._before[number] = signal.signal(number, self._take)

    def remove(self) -> None:
        """Give the signals back, unless somebody else has taken them meanwhile."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._take:
                signal.signal(number, before)  # type: ignore[arg-type]  # what signal.signal gave
        self._before.clear()

    def _take(self, number: int, _: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            self.first = signal.Signals(number)
            self._loop.call_soon_threadsafe(self._stop)
        elif self._count == 2:  # noqa: PLR2004 - stop, hurry, leave
            self._loop.call_soon_threadsafe(self._hurry)
        else:
            os._exit(128 + number)
