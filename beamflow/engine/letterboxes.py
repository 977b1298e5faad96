"""Letterboxes: how many messages may be on their way to one workflow at the same time."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from beamflow.engine.slots import Slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["MESSAGES_MAX", "Letterboxes"]

MESSAGES_MAX = 1_000


class Letterboxes:
    """Lets senders wait whose workflow has as many messages before it as it may.

    Signals and requests of operators count from the moment at which they are sent until they are
    durable. Updates do not, for their replies may wait for others; nor does what a workflow tells
    itself (the end of a step, a timer).

    Args:
        most: how many there may be for one workflow.
    """

    __slots__ = ("_boxes", "_most")

    def __init__(self, most: int = MESSAGES_MAX) -> None:
        """Begin without any."""
        self._most = most
        self._boxes: dict[str, tuple[Slots, int]] = {}

    @asynccontextmanager
    async def room(self, workflow_id: str) -> AsyncIterator[None]:
        """Wait for room, in the order of asking, and have it for as long as the block lasts."""
        slots, senders = self._boxes.get(workflow_id) or (Slots(self._most), 0)
        self._boxes[workflow_id] = slots, senders + 1
        try:
            if not slots.take_at_once():
                await slots.take()
            try:
                yield
            finally:
                slots.give_back()
        finally:
            _, senders = self._boxes[workflow_id]
            if senders > 1:
                self._boxes[workflow_id] = slots, senders - 1
            else:
                del self._boxes[workflow_id]
