"""Gates in front of the attempts of workflows that were woken after the death of a process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Quarantine"]


class Quarantine:
    """Holds attempts until it is known who may go on.

    Args:
        epoch: of the lease that was taken from a dead owner.

    Attributes:
        epoch: that epoch.
        held: the workflows that have attempts to make, with the last event of their log.
        is_full: whether those who were at work wait for places that the held have.
        all_have_come: whether everybody was woken who was at work.
        news: called when any of these has changed.
    """

    def __init__(self, epoch: int) -> None:
        """Let nobody pass."""
        self.epoch = epoch
        self.held: dict[str, int] = {}
        self._arrived: dict[str, int] = {}
        self.is_full = False
        self.all_have_come = False
        self.news: Callable[[], object] = bool
        self._gates: dict[str, asyncio.Event] = {}
        self._free: set[str] = set()
        self._is_closed = True

    async def passes(self, workflow_id: str, seq: int) -> None:
        """Wait until the workflow may begin attempts.

        Args:
            workflow_id: which workflow.
            seq: the last event of its log when it was woken.
        """
        if workflow_id in self._gates or (self._is_closed and workflow_id not in self._free):
            if workflow_id not in self.held:
                self.held[workflow_id] = self._arrived[workflow_id] = seq
                self.news()
            await self._gates.setdefault(workflow_id, asyncio.Event()).wait()

    def take_arrived(self) -> dict[str, int]:
        """Return those who have come to be held since the last time."""
        arrived, self._arrived = self._arrived, {}
        return arrived

    def judge_anew(self) -> None:
        """Have all who are held count as just arrived."""
        self._arrived = {**self.held}

    def fill(self) -> None:
        """Say that there is no place left for others."""
        if not self.is_full:
            self.is_full = True
            self.news()

    def complete(self) -> None:
        """Say that everybody was woken who was at work."""
        self.all_have_come = True
        self.news()

    def hold_no_more(self) -> None:
        """Let whoever comes from here on pass; those who are held still are."""
        self._is_closed = False

    def open(self, workflow_ids: Iterable[str]) -> None:
        """Let these go on, now and later."""
        for workflow_id in workflow_ids:
            self._free.add(workflow_id)
            self.held.pop(workflow_id, None)
            gate = self._gates.pop(workflow_id, None)
            if gate is not None:
                gate.set()
