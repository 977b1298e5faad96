"""Events to write, of each kind that stores tell apart."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from beamflow.model.events import (
    CompensationFailed,
    DeadLettered,
    DeadLetterReason,
    Failure,
    StepCompleted,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowStarted,
)

__all__ = [
    "SECOND",
    "START",
    "completed",
    "failed",
    "failure",
    "not_compensated",
    "parked",
    "shared",
    "started",
    "stepped",
]

START = 1_700_000_000_000_000
SECOND = 1_000_000


def started(workflow: str = "onboard", **fields: object) -> WorkflowStarted:
    """Make an event that opens a workflow."""
    return msgspec.convert(
        {"type": "workflow_started", "workflow": workflow, "version": 1, "input": Raw(b"[]")}
        | fields,
        WorkflowStarted,
    )


def stepped(op: int = 1, result: bytes = b"null") -> StepCompleted:
    """Make an event that changes no index."""
    return StepCompleted(op=op, name="reserve", digest="d", result=Raw(result), started_at=START)


def completed() -> WorkflowCompleted:
    """Make an event that ends a workflow well."""
    return WorkflowCompleted(result=Raw(b'{"policy": 1}'))


def failure(message: str = "no money") -> Failure:
    """Make a failure."""
    return Failure(type="builtins.ValueError", message=message, args=Raw(b'["no money"]'))


def failed(workflow: str = "onboard", step: str | None = "reserve") -> WorkflowFailed:
    """Make an event that ends a workflow badly and opens a dead letter."""
    return WorkflowFailed(
        workflow=workflow,
        error=failure(),
        op=1,
        step=step,
        attempts=3,
        input=Raw(b'{"a" : [1.50]}'),
    )


def parked(workflow_id: str, reason: DeadLetterReason = DeadLetterReason.POISON) -> DeadLettered:
    """Make an event of the dead letters' own stream."""
    return DeadLettered(
        workflow_id=workflow_id, workflow="onboard", reason=reason, error=failure("stuck")
    )


def not_compensated(retry_at: int | None = None) -> CompensationFailed:
    """Make an event that opens a dead letter of a workflow that goes on, if it is for good."""
    return CompensationFailed(
        op=1,
        name="give_back",
        error=failure("no way back"),
        started_at=START,
        retry_at=retry_at,
        workflow="onboard",
        step="reserve",
        input=Raw(b"[7]"),
    )


def shared(key: str, result: bytes, expires_at: int) -> StepCompleted:
    """Make an event whose result all workflows share."""
    return StepCompleted(
        op=1,
        name="reserve",
        digest="d",
        result=Raw(result),
        started_at=START,
        key=key,
        expires_at=expires_at,
    )
