"""Letterboxes: how many messages may be on their way to one workflow at the same time."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from beamflow.engine.slots import KeyedSlots

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

    __slots__ = ("_boxes",)

    def __init__(self, most: int = MESSAGES_MAX) -> None:
        """Begin without any."""
        self._boxes: KeyedSlots[str] = KeyedSlots(most)

    @asynccontextmanager
    async def room(self, workflow_id: str) -> AsyncIterator[None]:
        """Wait for room, in the order of asking, and have it for as long as the block lasts."""
        await self._boxes.take(workflow_id)
        try:
            yield
        finally:
            self._boxes.give_back(workflow_id)
