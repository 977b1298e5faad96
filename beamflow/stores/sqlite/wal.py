"""The write-ahead log beside the file: written from its beginning again before it grows large.

SQLite moves what was committed into the file every thousand pages, as far as readers let it, and
begins the log anew at the next commit that meets no reader at all. Under a constant load with constant
readers that moment may never come. So when the log has grown too large, those who want to read wait for a
moment: until those who do have ended, and the log has begun anew. A reader of somebody else's cannot
be made to wait; the log goes on growing for as long as it reads, and a warning says so.

In bytes: where only this store reads, the log is never larger than twice `WAL_BYTES_MAX` and what is
written between two looks, for commits wait too when it comes to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beamflow import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from beamflow.stores.sqlite.readers import Readers

__all__ = ["CHECKPOINT_PAGES", "WAL_BYTES_MAX", "Wal"]

CHECKPOINT_PAGES = 1_000
"""How many pages of the log SQLite lets come together before it moves them into the file."""

WAL_BYTES_MAX = 32 * 1024 * 1024
"""From here on readers wait for the log to begin anew."""

_COMMITS_BETWEEN_LOOKS = 64
_BYTES_BETWEEN_LOOKS = 2 * 1024 * 1024
_AT_ONCE = "PRAGMA busy_timeout = 0"
_RESTART = "PRAGMA wal_checkpoint(RESTART)"


class Wal:
    """Looks how large the log is, now and then, and has it begin anew when it is too large.

    Args:
        store: how messages name the store.
        path: the log's file.
        execute: has the writer execute a statement, and returns the first row.
        readers: those who may have to wait.
        busy_timeout_s: what the writer waits at other times.
        bytes_max: how large is too large.
    """

    def __init__(
        self,
        store: str,
        path: Path,
        execute: Callable[[str, dict[str, object]], Awaitable[Any]],
        readers: Readers,
        *,
        busy_timeout_s: float,
        bytes_max: int,
    ) -> None:
        """Begin with a log that is small."""
        self._store = store
        self._path = path
        self._execute = execute
        self._readers = readers
        self._patient = f"PRAGMA busy_timeout = {round(busy_timeout_s * 1000)}"
        self._bytes_max = bytes_max
        self._threshold = bytes_max
        self._commits = 0
        self._bytes = 0
        self._is_held = False
        self._is_overdue = False
        self.look_again: Callable[[], object] = lambda: None

    @property
    def is_due(self) -> bool:
        """Whether the log is too large and nobody of ours reads any more."""
        return self._is_held and self._readers.are_still

    @property
    def is_overdue(self) -> bool:
        """Whether commits had better wait for those who read."""
        return self._is_held and self._is_overdue

    def written(self, size: int) -> None:
        """Take note of a commit of so many bytes; look at the file now and then."""
        self._commits += 1
        self._bytes += size
        if self._commits < _COMMITS_BETWEEN_LOOKS and self._bytes < _BYTES_BETWEEN_LOOKS:
            return
        self._commits = self._bytes = 0
        try:
            size = self._path.stat().st_size
        except OSError:  # somebody has closed the file in the meantime, or moved it: not our affair
            return
        self._is_overdue = size > 2 * self._bytes_max
        if self._is_held:
            return
        if size <= self._bytes_max:
            self._threshold = self._bytes_max
        elif size > self._threshold:
            self._is_held = True
            self._readers.hold(self.look_again)

    def give_up(self) -> None:
        """Let those read who have to wait; it is tried again later."""
        if self._is_held:
            self._is_held = False
            self._readers.let_go()

    async def shorten(self) -> None:
        """Have the log begin anew, unless somebody else reads what stands in it."""
        try:
            await self._execute(_AT_ONCE, {})
            (busy, *_) = await self._execute(_RESTART, {})
            await self._execute(self._patient, {})
        finally:
            self.give_up()
        if busy:
            size = self._path.stat().st_size
            self._threshold = 2 * size
            log.warning("wal_held_up", store=self._store, wal_bytes=size)
