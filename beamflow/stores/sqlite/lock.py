"""The lock file that tells at once whether the owner of a database is alive.

The kernel frees the lock when the process that holds it ends, however it ends. The database file
itself is never locked this way: closing another handle of it would drop SQLite's own locks.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # Windows: only the expiry of the lease tells that its owner is dead
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OwnerLock"]


class OwnerLock:
    """An exclusive lock on a file of its own, held by an object until released or dead.

    Args:
        path: the lock file; made when missing, never removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        _locks.add(self)

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._handle is not None

    def acquire(self) -> bool:
        """Take the lock if it is free; False if another object or process holds it.

        Raises:
            OSError: the file cannot be made or locked.
        """
        if self._handle is not None or fcntl is None:
            return self._handle is not None
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        return True

    def release(self) -> None:
        """Let go of the lock; harmless when it is not held."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


_locks: weakref.WeakSet[OwnerLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    for lock in list(_locks):
        lock.release()


if hasattr(os, "register_at_fork"):
    # A forked child shares the lock, and would keep it alive after the owner's death.
    os.register_at_fork(after_in_child=_forget_in_child)
