"""What happened: the facts of a workflow's log, in past tense.

One stream per workflow, gapless sequence from 1. An event is a frozen struct of one tagged union
(``Event``) and holds facts only; where and when it was recorded stands in its envelope,
``Recorded``. Payloads (inputs, results, signals) are kept as raw JSON inside the event and decoded
by the annotation of whoever receives them, so reading a log needs none of the user's types.

Times are integers, microseconds since the Unix epoch. ``op`` numbers the commands of a workflow in
the order in which its code issued them, from 1.
"""

from __future__ import annotations

import enum

import msgspec
from msgspec import Raw

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


class DeadLetterReason(enum.Enum):
    """Why a workflow needs somebody's attention."""

    STEP_FAILED = "step_failed"
    """A step failed for good (attempts exhausted, or an error that is not retried), unhandled."""
    WORKFLOW_ERROR = "workflow_error"
    """The workflow's own code raised."""
    COMPENSATION_FAILED = "compensation_failed"
    """A compensation failed for good; what it should have undone may still stand."""
    NONDETERMINISM = "nondeterminism"
    """The code no longer does what the log says."""
    CODE_GONE = "code_gone"
    """The engine was not given the workflow that the log names."""
    HOST_LOOP = "host_loop"
    """The code awaited or called what belongs to the host's event loop, or never waited at all."""
    UNDECODABLE = "undecodable"
    """A recorded payload, or what the workflow returned, does not fit its annotation, or JSON."""
    CORRUPT_LOG = "corrupt_log"
    """A stored event is damaged."""
    POISON = "poison"
    """The workflow crashed its actor again and again."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """An exception, as data: enough to show it and, for known types, to raise it again."""

    type: str
    """Qualified name, ``builtins.ValueError``."""
    message: str
    """``str(exception)``."""
    args: Raw = Raw(b"[]")
    """The exception's ``args`` as a JSON array, where they can be written as JSON."""
    state: Raw = Raw(b"{}")
    """The exception's attributes as a JSON object, where they can be written as JSON."""
    traceback: str = ""
    """The formatted traceback, of a failure for good; for people, never parsed."""
    raised_as: str = ""
    """Qualified name of the declared or builtin type that workflow code sees, if any."""


class WorkflowStarted(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="workflow_started"
):
    """A start was acknowledged. Always event 1."""

    workflow: str
    version: int
    input: Raw
    """The arguments, a JSON array in the order of the parameters."""
    retry_of: str = ""
    """Id of the failed workflow that this one does again, if it does."""


class StepCompleted(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="step_completed"
):
    """A step returned. Its body never runs again."""

    op: int
    name: str
    digest: str
    """Digest of name and arguments, to notice code that asks for something else on replay."""
    result: Raw
    started_at: int
    """When the attempt that completed began."""
    attempt: int = 1


class StepFailed(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="step_failed"
):
    """An attempt of a step raised or timed out."""

    op: int
    name: str
    digest: str
    error: Failure
    started_at: int
    attempt: int = 1
    retry_at: int | None = None
    """When the next attempt may begin; None: failed for good, the workflow sees the error."""
    input: Raw = Raw(b"null")
    """The arguments, on the failure for good: somebody will want to see them."""


class TimerStarted(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="timer_started"
):
    """A timer outlived the activation that set it."""

    op: int
    due: int


class TimerFired(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="timer_fired"
):
    """A timer's time has come; recorded not before ``due``."""

    op: int


class TimerCancelled(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="timer_cancelled"
):
    """The code has given up a started timer."""

    op: int


class SignalReceived(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="signal_received"
):
    """A signal was acknowledged to its sender."""

    id: str
    """Minted by the sender's side, so that one whose acknowledgement got lost is not sent twice."""
    name: str
    payload: Raw


class CompensationStarted(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    omit_defaults=True,
    tag="compensation_started",
):
    """The workflow failed and what its completed steps did is being undone. No way back."""

    error: Failure
    steps: tuple[int, ...]
    """Ops of the steps to compensate, in the order in which they are: last completed first."""


class CompensationCompleted(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    omit_defaults=True,
    tag="compensation_completed",
):
    """The compensation of step ``op`` returned. It never runs again."""

    op: int
    name: str
    started_at: int
    attempt: int = 1


class CompensationFailed(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    omit_defaults=True,
    tag="compensation_failed",
):
    """An attempt of the compensation of step ``op`` raised or timed out."""

    op: int
    name: str
    error: Failure
    started_at: int
    attempt: int = 1
    retry_at: int | None = None
    """When the next attempt may begin; None: failed for good."""


class WorkflowCompleted(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    omit_defaults=True,
    tag="workflow_completed",
):
    """The workflow returned. Always the last event of its stream."""

    result: Raw


class WorkflowFailed(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="workflow_failed"
):
    """The workflow ended by an unhandled exception, compensated. Always the last event."""

    workflow: str
    error: Failure
    op: int | None = None
    """Op of the step it came from, if it came from one."""
    step: str | None = None
    attempts: int = 0
    input: Raw = Raw(b"null")
    """The failed step's arguments, or the workflow's."""


class DeadLettered(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="dead_lettered"
):
    """A workflow that has not ended was parked. Recorded in the dead letters' own stream."""

    workflow_id: str
    workflow: str
    reason: DeadLetterReason
    error: Failure
    step: str | None = None
    attempts: int = 0
    input: Raw = Raw(b"null")


class DeadLetterRetried(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    omit_defaults=True,
    tag="dead_letter_retried",
):
    """Somebody (or a restart with mended code) sent a dead letter round again."""

    workflow_id: str
    retried_as: str
    """The id it goes on under: its own when it was parked, a new one when it had ended."""


class DeadLetterResolved(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    omit_defaults=True,
    tag="dead_letter_resolved",
):
    """Somebody has dealt with a dead letter by hand."""

    workflow_id: str
    note: str


Event = (
    WorkflowStarted
    | StepCompleted
    | StepFailed
    | TimerStarted
    | TimerFired
    | TimerCancelled
    | SignalReceived
    | CompensationStarted
    | CompensationCompleted
    | CompensationFailed
    | WorkflowCompleted
    | WorkflowFailed
    | DeadLettered
    | DeadLetterRetried
    | DeadLetterResolved
)


class Recorded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event in its place: the envelope that the store puts around it."""

    stream: str
    """Id of the workflow."""
    seq: int
    """Position in the stream, from 1, gapless."""
    time: int
    """When it was recorded, microseconds since the Unix epoch; never decreases in a stream."""
    epoch: int
    """Epoch of the lease under which it was written."""
    event: Event
