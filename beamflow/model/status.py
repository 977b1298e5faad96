"""Where a workflow stands, and what may be done with it there.

::

    pending ──▶ running ◀──▶ paused        any open state ──▶ cancelled
                  │  ▲         ▲
                  │  └ parked  ▼
                  ├──▶ compensating ──▶ failed, cancelled
                  └──▶ completed

Names and rules are those of erlmcp's workflow state machine, with the way back (``compensating``)
and the dead-letter queue (``parked``) beside them.
"""

from __future__ import annotations

import enum

__all__ = ["ACTIVE_STATES", "OPEN_STATES", "Control", "WorkflowState", "allows"]


class WorkflowState(enum.Enum):
    """The states of a workflow. The last three are final: nothing follows them by itself, ever."""

    PENDING = "pending"
    """Its start is in the log; its code begins when its time has come."""
    RUNNING = "running"
    PAUSED = "paused"
    """What happens to it is kept; nothing new is begun until it is resumed."""
    COMPENSATING = "compensating"
    """It failed or was cancelled; its completed steps are being undone."""
    PARKED = "parked"
    """It stands still with an open dead letter, its log untouched, until the cause is mended."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        """Whether anything can still happen to it."""
        return self in OPEN_STATES


OPEN_STATES = frozenset(
    {
        WorkflowState.PENDING,
        WorkflowState.RUNNING,
        WorkflowState.PAUSED,
        WorkflowState.COMPENSATING,
        WorkflowState.PARKED,
    }
)

ACTIVE_STATES = (
    WorkflowState.RUNNING,
    WorkflowState.COMPENSATING,
    WorkflowState.PAUSED,
    WorkflowState.PENDING,
)
"""The open states but for ``parked``: an engine has to see to what is in one of them."""


class Control(enum.Enum):
    """What an operator may do with a workflow."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    TERMINATE = "terminate"
    RETRY = "retry"


_ALLOWED: dict[Control, frozenset[WorkflowState]] = {
    Control.PAUSE: frozenset(
        {WorkflowState.PENDING, WorkflowState.RUNNING, WorkflowState.COMPENSATING}
    ),
    Control.RESUME: frozenset({WorkflowState.PAUSED}),
    Control.CANCEL: OPEN_STATES,
    Control.TERMINATE: OPEN_STATES,
    Control.RETRY: frozenset({WorkflowState.FAILED}),
}


def allows(state: WorkflowState, control: Control) -> bool:
    """Tell whether a workflow in that state may be paused, resumed, and so on."""
    return state in _ALLOWED[control]
