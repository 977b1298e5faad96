"""Patches: which of its two branches a workflow takes where its code was changed under it. Pure.

The answer is the same in every life. Where the code asks for the first time live, it is yes, and a
marker goes into the log in the same append as the event that the code acts on; so a log with that
event and without the marker was written by code that did not ask, and a replay of it answers no.
That holds for its last event as well: the old code may have acted on it already. An answer once
given stays, for the code may ask again, in a loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow.model.events import PatchMarked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamflow.model.events import Recorded

__all__ = ["Patches"]


class Patches:
    """What one run of a workflow has been answered.

    Attributes:
        answers: by the name of the patch, in the order in which the code asked.
    """

    __slots__ = ("answers",)

    def __init__(self) -> None:
        """Begin without answers."""
        self.answers: dict[str, bool] = {}

    def answer(self, name: str, replayed: Iterable[Recorded] | None) -> bool:
        """Decide for good whether the new branch is taken, where the code asks for the first time.

        Args:
            name: of the patch.
            replayed: the whole log that is being replayed, None when the code runs live.
        """
        answer = replayed is None or any(
            isinstance(recorded.event, PatchMarked) and recorded.event.name == name
            for recorded in replayed
        )
        self.answers[name] = answer
        return answer
