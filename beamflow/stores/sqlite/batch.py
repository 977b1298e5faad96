"""What one commit writes: the appends that came while the last one was in flight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from beamflow.model.codec import checksum
from beamflow.stores.projection import (
    LabelsChanged,
    LetterClosed,
    LetterOpened,
    Projection,
    ResultKept,
    WorkflowMoved,
    WorkflowOpened,
    WorkflowUpdated,
    project,
)
from beamflow.stores.sqlite.labels import labels_change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow.model.events import Event
    from beamflow.stores.base import Sleep

__all__ = ["Append", "Batch"]

_ROWS_MAX = 500
"""Small enough that there is a batch to commit while the loop is busy with those it has woken: one
that holds everybody makes the loop and the writer take turns."""
_BYTES_MAX = 8 * 1024 * 1024
_ROW_BYTES = 250
"""What a row costs beside its data: its place, and whoever waits."""
_EVENT, _WORKFLOW_OPENED, _WORKFLOW_MOVED, _LETTER_OPENED, _LETTER_CLOSED = range(5)
_WORKFLOW_UPDATED, _LABELS_CHANGED, _RESULT_KEPT, _SLEPT = range(5, 9)
_REMOVED, _CLEARED = range(9, 11)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(tuple[int, str, int, int, int, int, int, int])

Place = tuple[int, str, int, int, int, int]
"""kind, stream, seq, time, epoch, checksum"""


class Append(msgspec.Struct, frozen=True, gc=False):
    """One append, and who waits for it."""

    stream: str
    expected: int
    time: int
    epoch: int
    waiter: asyncio.Future[None]


class Batch:
    """Appends that are committed together, ready to be handed to SQLite as two values."""

    __slots__ = ("_bytes", "_data", "_ends", "_rows", "appends")

    def __init__(self) -> None:
        self.appends: list[Append] = []
        self._ends: list[int] = []
        self._rows: list[bytes] = []
        self._data: list[bytes] = []
        self._bytes = 0

    @property
    def weight(self) -> int:
        """How many bytes it holds, about."""
        return self._bytes + _ROW_BYTES * len(self._rows)

    @property
    def is_full(self) -> bool:
        """Whether the next append belongs into another batch."""
        return len(self._rows) >= _ROWS_MAX or self._bytes >= _BYTES_MAX

    def add(
        self,
        append: Append,
        events: Sequence[Event],
        data: Sequence[bytes],
        sleep: Sleep | None = None,
    ) -> None:
        """Add an append: a row for each event and for each change that it makes to the indexes."""
        stream, seq, time, epoch = append.stream, append.expected, append.time, append.epoch
        for event, item in zip(events, data, strict=True):
            seq += 1
            self._put((_EVENT, stream, seq, time, epoch, checksum(stream, seq, item)), item)
            self.index(stream, seq, time, event)
        if sleep is not None:
            self._put((_SLEPT, stream, int(sleep.is_watched), sleep.until, epoch, 0), b"")
        self.appends.append(append)
        self._ends.append(len(self._rows))

    def remove(self, append: Append, events_max: int) -> None:
        """Add the removal of a workflow whose log ends at ``expected``, with so many of its events."""
        stream, seq, epoch = append.stream, append.expected, append.epoch
        self._put((_REMOVED, stream, seq, append.time, epoch, 0), b"")
        self._put((_CLEARED, stream, min(seq, events_max), 0, epoch, 0), b"")
        self.appends.append(append)
        self._ends.append(len(self._rows))

    def clear(self, append: Append) -> None:
        """Add that the events of a removed workflow go, up to ``expected``."""
        self._put((_CLEARED, append.stream, append.expected, 0, append.epoch, 0), b"")
        self.appends.append(append)
        self._ends.append(len(self._rows))

    def index(self, stream: str, seq: int, time: int, event: Event) -> None:
        """Add a row for each change that an event makes to the indexes."""
        for change in project(stream, seq, time, event):
            kind, key, document = _change(change)
            self._put((kind, key, 0, time, 0, 0), document)

    def parameters(self) -> dict[str, object]:
        """Return the rows as JSON, and the data that they point into."""
        return {"rows": f"[{b','.join(self._rows).decode()}]", "data": b"".join(self._data)}

    def halves(self) -> tuple[Batch, Batch]:
        """Split the batch, to find the append that cannot be committed; it has two or more."""
        middle = len(self.appends) // 2
        return self._part(0, middle), self._part(middle, len(self.appends))

    def _part(self, first: int, end: int) -> Batch:
        part = Batch()
        for index in range(first, end):
            for row in range(self._ends[index - 1] if index else 0, self._ends[index]):
                kind, stream, seq, time, epoch, crc, *_ = _decoder.decode(self._rows[row])
                part._put((kind, stream, seq, time, epoch, crc), self._data[row])
            part.appends.append(self.appends[index])
            part._ends.append(len(part._rows))
        return part

    def _put(self, place: Place, item: bytes) -> None:
        size = len(item)
        self._rows.append(_encoder.encode((*place, self._bytes + 1, size)))
        self._data.append(item)
        self._bytes += size


def _change(change: Projection) -> tuple[int, str, bytes]:
    match change:
        case WorkflowOpened(summary=summary):
            return _WORKFLOW_OPENED, summary.id, _encoder.encode(summary)
        case WorkflowMoved():
            return _WORKFLOW_MOVED, change.id, _encoder.encode(change)
        case WorkflowUpdated():
            return _WORKFLOW_UPDATED, change.id, _encoder.encode(change)
        case LabelsChanged():
            return _LABELS_CHANGED, change.id, _encoder.encode(labels_change(change))
        case ResultKept(kept=kept):
            return _RESULT_KEPT, kept.workflow_id, _encoder.encode(kept)
        case LetterOpened(letter=letter):
            return _LETTER_OPENED, letter.workflow_id, _encoder.encode(letter)
        case LetterClosed():
            return _LETTER_CLOSED, change.workflow_id, _encoder.encode(change)
