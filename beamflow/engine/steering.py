"""What has been decided about a workflow from outside: begun, paused, told to end. Pure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

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

__all__ = ["GRACE_S", "UNSTEERED", "Alarm", "Steering", "refusal"]

GRACE_S = 30.0
"""Seconds that a workflow's ``finally`` blocks have after it was told to end, unless said."""


class Alarm(enum.Enum):
    """What a workflow is woken for by the clock, beside its own timers."""

    BEGIN = -1
    DEADLINE = -2
    FORCE = -3


class Steering(msgspec.Struct, frozen=True, gc=False):
    """Turns requests and alarms into events, and knows from events where the workflow stands."""

    paused: bool = False
    """Whether nothing new may be begun."""
    cancel: CancelRequested | None = None
    """The request to end, once there is one."""
    forced: bool = False
    """Whether the code had not ended in time, and was taken away."""
    begin_at: int | None = None
    """When its code may begin, while it is pending."""
    deadline: int | None = None
    """When it must have ended."""

    def after(self, event: Event) -> Steering:
        """Return where the workflow stands after an event of its log."""
        match event:
            case WorkflowStarted(begin_at=None, deadline=None):
                return self
            case WorkflowStarted():
                return replace(self, begin_at=event.begin_at, deadline=event.deadline)
            case WorkflowBegan():
                return replace(self, begin_at=None)
            case WorkflowContinued(start=WorkflowStarted(deadline=deadline)):
                return replace(self, deadline=deadline)
            case WorkflowPaused():
                return replace(self, paused=True)
            case WorkflowResumed():
                return replace(self, paused=False)
            case CancelRequested():
                return replace(self, paused=False, begin_at=None, cancel=event)
            case CancelForced():
                return replace(self, forced=True)
            case _:
                return self

    def state(self, *, compensating: bool) -> WorkflowState:
        """Return where the workflow stands; it has not ended."""
        if self.paused:
            return WorkflowState.PAUSED
        return self._unpaused(compensating=compensating)

    def alarms(self) -> dict[Alarm, int]:
        """Return what it is to be woken for, and when, microseconds since the epoch."""
        alarms: dict[Alarm, int] = {}
        if self.begin_at is not None:
            alarms[Alarm.BEGIN] = self.begin_at
        if self.cancel is None:
            if self.deadline is not None:
                alarms[Alarm.DEADLINE] = self.deadline
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
        told_to_end = self.cancel is not None
        if not allows(state, control) or (told_to_end and control is Control.PAUSE):
            raise refusal(workflow_id, state, control, told_to_end=told_to_end)
        match control:
            case Control.PAUSE:
                return (WorkflowPaused(note=reason),)
            case Control.RESUME:
                back_to = self._unpaused(compensating=compensating)
                resumed = WorkflowResumed(state=back_to.value, note=reason)
                due = back_to is WorkflowState.PENDING and now >= (self.begin_at or 0)
                return (resumed, WorkflowBegan()) if due else (resumed,)
            case Control.CANCEL if self.cancel is not None:
                back_to = self._unpaused(compensating=compensating)
                resumed = WorkflowResumed(state=back_to.value, note=reason)
                return (resumed,) if self.paused else ()
            case Control.CANCEL:
                if state is WorkflowState.PENDING or self.begin_at is not None:
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
        if self.begin_at is not None:
            return WorkflowState.PENDING
        return WorkflowState.RUNNING


UNSTEERED = Steering()
"""Nothing has been decided: all that most workflows ever need."""


def refusal(
    workflow_id: str, state: WorkflowState, control: Control, *, told_to_end: bool = False
) -> WorkflowStateError:
    """Make the error for something that a workflow's state does not allow."""
    allowed = [one for one in Control if allows(state, one)]
    if told_to_end:  # within a bound, which a pause would take from it
        allowed = [one for one in allowed if one is not Control.PAUSE]
    message = (
        f"workflow {workflow_id!r} is {state.value}{', and told to end' if told_to_end else ''}: "
        f"{control.value}() is refused, nothing was done "
        f"(it allows: {', '.join(one.value for one in allowed) or 'nothing'})"
    )
    return WorkflowStateError(workflow_id, message)
