"""Notes: events that workflow code records and does not wait for, in the order in which it does. Pure.

They have no ops. On replay, as live, each that the log has is compared with the oldest one that the
code has taken and the log did not have yet. After a replay those that are left over are recorded.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from beamflow.errors import NondeterminismError
from beamflow.model.events import (
    AttributesChanged,
    PatchMarked,
    ProgressReported,
    SnapshotTaken,
    StatePublished,
    UpdateCompleted,
)

if TYPE_CHECKING:
    from beamflow.model.events import Note

__all__ = ["Notes"]

_SHOWN_MAX = 200


class Notes:
    """The notes that one run of a workflow has taken and the log does not have yet.

    Args:
        workflow_id: which workflow, for messages.
    """

    __slots__ = ("_left", "_workflow_id")

    def __init__(self, workflow_id: str) -> None:
        """Begin with none."""
        self._workflow_id = workflow_id
        self._left: deque[Note] = deque()

    def add(self, event: Note) -> None:
        """The code has taken a note."""
        self._left.append(event)

    def recorded(self, seq: int, event: Note) -> None:
        """The log has a note at ``seq``.

        A marker of a patch that the code does not ask for any more is let pass: that is how patches
        retire.

        Raises:
            NondeterminismError: it is not the one that the code has taken in its place.
        """
        if isinstance(event, PatchMarked):
            if event in self._left:
                self._left.remove(event)
        elif self._left and _same(self._left[0], event):
            self._left.popleft()
        else:
            issued = _shown(self._left[0]) if self._left else "nothing to be recorded here"
            raise NondeterminismError(
                self._workflow_id, seq=seq, recorded=_shown(event), issued=issued
            )

    @property
    def unrecorded(self) -> list[Note]:
        """What the log does not have yet, oldest first."""
        return list(self._left)


def _same(issued: Note, recorded: Note) -> bool:
    if isinstance(issued, UpdateCompleted) and isinstance(recorded, UpdateCompleted):
        # the text of an error may hold an address, and its traceback lines that have moved
        return (issued.id, issued.result, _kind(issued)) == (
            recorded.id,
            recorded.result,
            _kind(recorded),
        )
    return issued == recorded


def _kind(reply: UpdateCompleted) -> str:
    return "" if reply.error is None else reply.error.type


def _shown(note: Note) -> str:
    text = _text(note)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def _text(note: Note) -> str:
    match note:
        case StatePublished():
            return f"publish({note.name!r}, {bytes(note.value).decode(errors='replace')})"
        case ProgressReported():
            return f"progress({note.done:g}, {note.total}, {note.note!r})"
        case AttributesChanged(attributes=attributes, add_tags=add, remove_tags=remove):
            return f"change of attributes {attributes}, tags +{add} -{remove}"
        case SnapshotTaken():
            return f"snapshot({note.name!r})"
        case PatchMarked():
            return f"patched({note.name!r})"
        case UpdateCompleted():
            reply = _kind(note) or bytes(note.result).decode(errors="replace")
            return f"reply to update {note.id!r}: {reply}"
