"""What beamflow says at the end: its log and its dead letters, written down for the proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from beamflow import Engine
from beamflow.model.events import CompensationCompleted
from workflow import onboard

if TYPE_CHECKING:
    from beamflow import Recorded
    from folder import Folder

__all__ = ["archive"]


async def archive(folder: Folder) -> list[Recorded]:
    """Write log and dead letters to the folder; return the history with the most to undo."""
    undone: list[Recorded] = []
    async with Engine(folder.store, workflows=[onboard]) as engine:
        letters = await engine.dead_letters.list()
        with folder.dead_letters.open("wb") as file:
            file.writelines(msgspec.json.encode(letter) + b"\n" for letter in letters)
        with folder.history.open("wb") as file:
            async for summary in engine.find():
                history = await engine.handle(summary.id).history()
                file.writelines(msgspec.json.encode(recorded) + b"\n" for recorded in history)
                undone = max(undone, history, key=compensations)
    return undone


def compensations(history: list[Recorded]) -> int:
    """Count what was undone."""
    return sum(isinstance(recorded.event, CompensationCompleted) for recorded in history)
