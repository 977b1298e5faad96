"""Where workflows go before they are removed: a file of JSON lines, or the application's own function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import anyio
import anyio.to_thread
import msgspec
from msgspec import Raw

from beamflow import log
from beamflow.model.codec import encode_event
from beamflow.stores.base import Summary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from beamflow.model.events import Recorded

__all__ = ["Archive", "ArchivedEvent", "ArchivedWorkflow", "Ended", "FileArchive", "OwnArchive"]

_encoder = msgspec.json.Encoder()


class Ended(NamedTuple):
    """A workflow that has ended, and all of its log."""

    summary: Summary
    history: list[Recorded]


class ArchivedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as an archive file holds it."""

    seq: int
    time: int
    """Microseconds since the Unix epoch."""
    event: Raw
    """As it stood in the log."""


class ArchivedWorkflow(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an archive file: ``msgspec.json.decode(line, type=ArchivedWorkflow)`` reads it."""

    summary: Summary
    events: tuple[ArchivedEvent, ...]


class Archive(Protocol):
    """Keeps what is about to be removed."""

    async def keep(self, ended: Sequence[Ended]) -> set[str]:
        """Keep these; return the ids of those that are kept for good."""


class FileArchive:
    """A file to which each workflow is a line of JSON. Lines are synced before anything is removed.

    It is opened anew each time, so it can be renamed or moved away at any moment.

    Args:
        path: the file; made when missing, its directory is not.
    """

    def __init__(self, path: str | Path) -> None:
        """Touch nothing yet."""
        self._path = Path(path)

    async def keep(self, ended: Sequence[Ended]) -> set[str]:
        """Append a line for each, and sync; raises OSError, and then nothing may be removed."""
        lines = b"".join(_line(each) for each in ended)
        # a limiter of its own: that of the host's threads is the host's
        await anyio.to_thread.run_sync(self._append, lines, limiter=anyio.CapacityLimiter(1))
        return {each.summary.id for each in ended}

    def _append(self, lines: bytes) -> None:
        is_new = not self._path.exists()
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":  # a power cut has torn the last line: let it stand alone
                    lines = b"\n" + lines
            view = memoryview(lines)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        if is_new:
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


class OwnArchive:
    """An async function of the application's, called with each workflow."""

    def __init__(self, function: Callable[[Summary, list[Recorded]], Awaitable[object]]) -> None:
        """Keep the function."""
        self._function = function

    async def keep(self, ended: Sequence[Ended]) -> set[str]:
        """Call it for each; those for which it raises stay in the store."""
        kept: set[str] = set()
        for each in ended:
            try:
                await self._function(each.summary, each.history)
            except Exception as error:  # noqa: BLE001 - one that cannot be kept holds up no other
                log.error("workflow_not_archived", workflow_id=each.summary.id, error=repr(error))
            else:
                kept.add(each.summary.id)
        return kept


def _line(ended: Ended) -> bytes:
    events = tuple(
        ArchivedEvent(seq=one.seq, time=one.time, event=Raw(encode_event(one.event)))
        for one in ended.history
    )
    return _encoder.encode(ArchivedWorkflow(summary=ended.summary, events=events)) + b"\n"
