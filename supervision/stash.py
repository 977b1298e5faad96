"""Where the messages for a child wait while it is between two lives."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from supervision.errors import ActorStoppedError, MailboxFullError
from supervision.mailbox import Put
from supervision.messages import Call
from supervision.reasons import SHUTDOWN

if TYPE_CHECKING:
    from supervision.mailbox import Mailbox

__all__ = ["RestartStash"]


class Life(Protocol):
    """What is needed of a cell."""

    mailbox: Mailbox
    reason: object

    def refused(self, refused: Put, item: object) -> None:
        """Settle what its mailbox did not simply accept."""

    def dead_letter(self, item: object, why: str) -> None:
        """Tell of a message that reached nobody."""


class RestartStash:
    """Belongs to a child through all its lives; see `ChildSpec.restart_stash`."""

    __slots__ = ("_cell", "_closed", "_items", "_limit", "_path")

    def __init__(self, path: str, limit: int) -> None:
        """Be empty, for a child that does not run yet.

        Args:
            path: The child's place in the tree.
            limit: How many messages may wait.
        """
        self._path = path
        self._limit = limit
        self._items: deque[object] = deque()
        self._cell: Life | None = None
        self._closed = False

    @property
    def mailbox(self) -> Mailbox | None:
        """That of the life which takes messages now; None while there is none."""
        cell = self._cell
        return None if cell is None or cell.mailbox.closed else cell.mailbox

    def take(self, item: object) -> bool:
        """Take a message that a life could not; tells whether somebody will see to it.

        Raises:
            MailboxFullError: It is a call, and too many wait.
        """
        if self._closed:
            return False
        cell, mailbox = self._cell, self.mailbox
        if cell is not None and mailbox is not None:
            refused = mailbox.put(item)
            if refused is Put.FULL and mailbox.patient and type(item) is Call:
                mailbox.queue(item, item.future)
            elif refused is not None:
                cell.refused(refused, item)
            return True
        if len(self._items) < self._limit:
            self._items.append(item)
            return True
        if type(item) is Call:
            raise MailboxFullError(self._path, self._limit)
        return False

    def inherit(self, items: list[object]) -> list[object]:
        """Take what a life left behind, ahead of all that came later; gives what finds no room."""
        self._cell = None
        if self._closed:
            return items
        room = max(0, self._limit - len(self._items))
        self._items.extendleft(reversed(items[:room]))
        for item in items[:room]:
            if type(item) is Call:
                item.deferred = False
        return items[room:]

    def hand_over(self, cell: Life) -> None:
        """Give all to a new life, whose init has not begun; from now on it gets everything."""
        self._closed = False
        self._cell = cell
        cell.mailbox.lane.extend(self._items)
        self._items.clear()

    def close(self, cell: Life | None) -> None:
        """Give up on what waits: there is no next life for now.

        Args:
            cell: The last life.
        """
        self._closed = True
        items, self._items = list(self._items), deque()
        for item in items:
            if type(item) is Call:
                item.fail(ActorStoppedError(self._path, SHUTDOWN if cell is None else cell.reason))
            elif cell is not None:
                cell.dead_letter(item, "stopped")
