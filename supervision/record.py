"""What a supervisor keeps about one child through all its lives: OTP's child record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervision.child import ChildSpec, ChildState
from supervision.management import ChildInfo
from supervision.ref import ref_of
from supervision.stash import RestartStash

if TYPE_CHECKING:
    from contextvars import Context

    from supervision.cell import Cell
    from supervision.reasons import ExitReason

__all__ = ["Child", "Retry"]


class Child:
    """What a supervisor keeps about one child through all its lives. Internal to this package."""

    __slots__ = (
        "attempt",
        "cell",
        "context",
        "failure",
        "failures",
        "link",
        "restarts",
        "spec",
        "stash",
        "state",
    )

    def __init__(self, spec: ChildSpec) -> None:
        """Keep a child that has not been started."""
        self.spec = spec
        self.state = ChildState.UNDEFINED
        self.cell: Cell | None = None
        self.restarts = 0
        self.failures = 0
        self.failure: ExitReason = None
        self.attempt = 0
        self.stash: RestartStash | None = None
        self.link: Cell | None = None
        self.context: Context | None = None

    @property
    def info(self) -> ChildInfo:
        """What `which_children` tells of it."""
        running = self.state is ChildState.RUNNING and self.cell is not None
        ref = ref_of(self.cell) if running and self.cell is not None else None
        return ChildInfo(self.spec.id, ref, self.state, self.spec.type)

    def end_for_now(self) -> None:
        """Keep no messages for a next life."""
        if self.stash is not None:
            self.stash.close(self.cell)

    def hand_over(self, cell: Cell) -> None:
        """Give what was kept between its lives to a new one."""
        if self.stash is None:
            self.stash = RestartStash(cell.path, self.spec.restart_stash)
        cell.stash_between_lives = self.stash
        self.stash.hand_over(cell)

    def forget_start(self) -> None:
        """Let go of the start function, and so of what it holds, because it is never needed again."""
        self.spec = self.spec.without_start()


class Retry:
    """A supervisor's message to itself: try again to restart a child."""

    __slots__ = ("attempt", "child", "counted")

    def __init__(self, child: Child, attempt: int, *, counted: bool) -> None:
        """Say which child, and whether the attempt is in the restart window already."""
        self.child = child
        self.attempt = attempt
        self.counted = counted
