"""Gates in front of the attempts of workflows that were woken after the death of a process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Quarantine"]


class Quarantine:
    """Holds attempts until it is known who may go on.

    Args:
        epoch: of the lease that was taken from a dead owner.

    Attributes:
        epoch: that epoch.
        held: the workflows that have attempts to make, with the last event of their log.
    """

    def __init__(self, epoch: int) -> None:
        """Let nobody pass."""
        self.epoch = epoch
        self.held: dict[str, int] = {}
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
            self.held[workflow_id] = seq
            await self._gates.setdefault(workflow_id, asyncio.Event()).wait()

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
