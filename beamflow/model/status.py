"""Where a workflow stands."""

from __future__ import annotations

import enum

__all__ = ["OPEN_STATES", "WorkflowState"]


class WorkflowState(enum.Enum):
    """The states of a workflow. The last two are final: nothing follows them, ever."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    """It failed; its completed steps are being undone."""
    PARKED = "parked"
    """It stands still with an open dead letter, its log untouched, until the cause is mended."""
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_open(self) -> bool:
        """Whether anything can still happen to it."""
        return self in OPEN_STATES


OPEN_STATES = frozenset({WorkflowState.RUNNING, WorkflowState.COMPENSATING, WorkflowState.PARKED})
