"""What has been decided about a workflow from outside: begun, paused, told to end. Pure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from beamflow.errors import WorkflowStateError
from beamflow.model.events import (
    CancelForced,
    CancelRequested,
    WorkflowBegan,
    WorkflowCancelled,
    WorkflowContinued,
    WorkflowPaused,
    WorkflowResumed,
    WorkflowStarted,
)
from beamflow.model.status import Control, WorkflowState, allows

if TYPE_CHECKING:
    from beamflow.model.events import Event

__all__ = ["GRACE_S", "Alarm", "Steering", "refusal"]

GRACE_S = 30.0
"""Seconds that a workflow's ``finally`` blocks have after it was told to end, unless said."""


class Alarm(enum.Enum):
    """What a workflow is woken for by the clock, beside its own timers."""

    BEGIN = -1
    DEADLINE = -2
    FORCE = -3


class Steering:
    """Turns requests and alarms into events, and knows from events where the workflow stands.

    Attributes:
        paused: whether nothing new may be begun.
        cancel: the request to end, once there is one.
        forced: whether the code had not ended in time, and was taken away.
    """

    __slots__ = ("_begin_at", "_deadline", "cancel", "forced", "paused")

    def __init__(self) -> None:
        """Begin with nothing decided."""
        self.paused = False
        self.cancel: CancelRequested | None = None
        self._begin_at: int | None = None
        self._deadline: int | None = None
        self.forced = False

    def deliver(self, event: Event) -> None:
        """Take an event of the workflow's log; those of other concern change nothing."""
        match event:
            case WorkflowStarted():
                self._begin_at = event.begin_at
                self._deadline = event.deadline
            case WorkflowBegan():
                self._begin_at = None
            case WorkflowContinued(start=WorkflowStarted(deadline=deadline)):
                self._deadline = deadline
            case WorkflowPaused():
                self.paused = True
            case WorkflowResumed():
                self.paused = False
            case CancelRequested():
                self.paused = False
                self._begin_at = None
                self.cancel = event
            case CancelForced():
                self.forced = True
            case _:
                return

    def state(self, *, compensating: bool) -> WorkflowState:
        """Return where the workflow stands; it has not ended."""
        if self.paused:
            return WorkflowState.PAUSED
        return self._unpaused(compensating=compensating)

    def alarms(self) -> dict[Alarm, int]:
        """Return what it is to be woken for, and when, microseconds since the epoch."""
        alarms: dict[Alarm, int] = {}
        if self._begin_at is not None:
            alarms[Alarm.BEGIN] = self._begin_at
        if self.cancel is None:
            if self._deadline is not None:
                alarms[Alarm.DEADLINE] = self._deadline
        elif not self.forced:
            alarms[Alarm.FORCE] = self.cancel.deadline
        return alarms

    def rung(self, alarm: Alarm, now: int, *, compensating: bool) -> Event | None:
        """Return what an alarm comes to; None when it is out of date."""
        if alarm not in self.alarms():
            return None
        match alarm:
            case Alarm.BEGIN:
                return None if self.paused else WorkflowBegan()
            case _ if compensating:
                return None
            case Alarm.DEADLINE:
                return CancelRequested(
                    reason="its deadline has passed",
                    deadline=now + round(GRACE_S * 1e6),
                    overdue=True,
                    state=self._unpaused(compensating=compensating).value,
                )
            case Alarm.FORCE:
                return CancelForced()

    def asked(
        self,
        workflow_id: str,
        control: Control,
        now: int,
        *,
        reason: str,
        grace_s: float,
        compensating: bool,
    ) -> tuple[Event, ...]:
        """Return what a request comes to; nothing when it has been granted already.

        Raises:
            WorkflowStateError: the workflow's state does not allow it.
        """
        state = self.state(compensating=compensating)
        if not allows(state, control):
            raise refusal(workflow_id, state, control)
        match control:
            case Control.PAUSE:
                return (WorkflowPaused(note=reason),)
            case Control.RESUME:
                back_to = self._unpaused(compensating=compensating)
                resumed = WorkflowResumed(state=back_to.value, note=reason)
                due = back_to is WorkflowState.PENDING and now >= (self._begin_at or 0)
                return (resumed, WorkflowBegan()) if due else (resumed,)
            case Control.CANCEL if self.cancel is not None:
                back_to = self._unpaused(compensating=compensating)
                resumed = WorkflowResumed(state=back_to.value, note=reason)
                return (resumed,) if self.paused else ()
            case Control.CANCEL:
                if state is WorkflowState.PENDING or self._begin_at is not None:
                    back_to = WorkflowState.RUNNING
                else:
                    back_to = self._unpaused(compensating=compensating)
                return (
                    CancelRequested(
                        reason=reason,
                        deadline=now + round(grace_s * 1e6),
                        state=back_to.value,
                    ),
                )
            case Control.TERMINATE:
                return (WorkflowCancelled(reason=reason, terminated=True),)
            case _:
                raise AssertionError(control)

    def _unpaused(self, *, compensating: bool) -> WorkflowState:
        if compensating:
            return WorkflowState.COMPENSATING
        if self._begin_at is not None:
            return WorkflowState.PENDING
        return WorkflowState.RUNNING


def refusal(workflow_id: str, state: WorkflowState, control: Control) -> WorkflowStateError:
    """Make the error for something that a workflow's state does not allow."""
    allowed = ", ".join(one.value for one in Control if allows(state, one)) or "nothing"
    message = (
        f"workflow {workflow_id!r} is {state.value}: {control.value}() is refused, nothing was "
        f"done (it allows: {allowed})"
    )
    return WorkflowStateError(workflow_id, message)
