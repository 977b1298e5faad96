"""The events of a workflow's log, for whoever reads ``handle.history()`` or ``handle.events()``."""

from __future__ import annotations

from beamflow.model.events import (
    CompensationCompleted,
    CompensationFailed,
    CompensationStarted,
    DeadLettered,
    DeadLetterReason,
    DeadLetterResolved,
    DeadLetterRetried,
    Event,
    Failure,
    Recorded,
    SignalReceived,
    StepCompleted,
    StepFailed,
    TimerCancelled,
    TimerFired,
    TimerStarted,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowStarted,
)

__all__ = [
    "CompensationCompleted",
    "CompensationFailed",
    "CompensationStarted",
    "DeadLetterReason",
    "DeadLetterResolved",
    "DeadLetterRetried",
    "DeadLettered",
    "Event",
    "Failure",
    "Recorded",
    "SignalReceived",
    "StepCompleted",
    "StepFailed",
    "TimerCancelled",
    "TimerFired",
    "TimerStarted",
    "WorkflowCompleted",
    "WorkflowFailed",
    "WorkflowStarted",
]
