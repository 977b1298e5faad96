"""The watchdog: a thread that notices when something blocks the loop, which nothing in the loop could."""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from supervision.clock import machine_seconds
from supervision.errors import SpecError
from supervision.events import LoopBlocked
from supervision.tree import cell_of_task

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from supervision.cell import Cell

__all__ = ["Guard", "Watchdog"]


@dataclass(frozen=True, slots=True)
class Watchdog:
    """Asks for a thread that looks whether the loop of a tree still turns; see `run`.

    What it finds is told as a `LoopBlocked` event as soon as the loop turns again.

    Attributes:
        threshold_s: How long the loop may be blocked by one child without a report.
        report: Called in the watchdog's thread while the loop is still blocked, again whenever the time has
            doubled; for a line in a log. What it raises goes to the loop's exception handler.

    Raises:
        SpecError: ``invalid_threshold``.
    """

    threshold_s: float = 0.2
    report: Callable[[LoopBlocked], object] | None = None

    def __post_init__(self) -> None:
        """Check the threshold."""
        if not self.threshold_s > 0:
            raise SpecError("invalid_threshold", self.threshold_s, "Give seconds above 0.")


class Guard:
    """A watchdog at work, in a thread of its own."""

    def __init__(self, options: Watchdog, root: Cell) -> None:
        """Prepare; must be made in the loop's thread.

        Args:
            options: When to report, and to whom.
            root: The root of the tree.
        """
        self._options = options
        self._root = root
        self._loop = root.runtime.loop
        self._looped = threading.get_ident()
        self._stopped = threading.Event()
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervision-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; the thread has ended when this returns."""
        self._stopped.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._options.threshold_s / 2):
            self._news.clear()
            asked = machine_seconds()
            try:
                self._loop.call_soon_threadsafe(self._news.set)
            except RuntimeError:  # the loop is closed
                return
            if not self._news.wait(self._options.threshold_s):
                self._blocked(asked)

    def _blocked(self, since: float) -> None:
        found = self._look(machine_seconds() - since)
        wait = self._options.threshold_s
        while True:
            self._report(found)
            if self._news.wait(wait):
                break
            wait *= 2
            found = self._look(machine_seconds() - since)
        if not self._stopped.is_set():
            final = replace(found, blocked_s=machine_seconds() - since)
            self._loop.call_soon_threadsafe(self._root.runtime.tell, final)

    def _report(self, found: LoopBlocked) -> None:
        if self._options.report is None:
            return
        try:
            self._options.report(found)
        except Exception as error:  # noqa: BLE001 - the host's; the watch goes on
            tell = self._root.runtime.report
            self._loop.call_soon_threadsafe(tell, "the watchdog's report failed", error)

    def _look(self, blocked_s: float) -> LoopBlocked:
        stack = _stack(sys._current_frames().get(self._looped))  # noqa: SLF001 - the only way to see another thread
        task = asyncio.current_task(self._loop)
        if task is None:
            return LoopBlocked("", 0, blocked_s, stack)
        cell = cell_of_task(self._root, task)
        incarnation = 0 if cell is None else cell.incarnation
        return LoopBlocked(task.get_name(), incarnation, blocked_s, stack)


def _stack(frame: FrameType | None) -> tuple[str, ...]:
    lines: list[str] = []
    while frame is not None and frame.f_code is not asyncio.Handle._run.__code__:  # noqa: SLF001 - where the loop begins
        code = frame.f_code
        lines.append(f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return tuple(reversed(lines))
