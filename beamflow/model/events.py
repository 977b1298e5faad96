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
import re

import msgspec
from msgspec import Raw

__all__ = [
    "Attribute",
    "AttributesChanged",
    "CancelForced",
    "CancelRequested",
    "ChildCompleted",
    "ChildFailed",
    "ChildStarted",
    "CompensationCompleted",
    "CompensationFailed",
    "CompensationStarted",
    "DeadLetterReason",
    "DeadLetterResolved",
    "DeadLetterRetried",
    "DeadLettered",
    "Ended",
    "Event",
    "Failure",
    "Note",
    "PatchMarked",
    "ProbationBegan",
    "ProgressReported",
    "Recorded",
    "RecoveryBegan",
    "SignalReceived",
    "SnapshotTaken",
    "StatePublished",
    "StepCompleted",
    "StepFailed",
    "StepHeartbeat",
    "TimerCancelled",
    "TimerFired",
    "TimerStarted",
    "UpdateAccepted",
    "UpdateCompleted",
    "WorkflowBegan",
    "WorkflowCancelled",
    "WorkflowCompleted",
    "WorkflowContinued",
    "WorkflowFailed",
    "WorkflowForked",
    "WorkflowPaused",
    "WorkflowResumed",
    "WorkflowRetried",
    "WorkflowStarted",
]


Attribute = str | int | float | bool
"""What a workflow can be found by: the value of a search attribute."""


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
    """The workflow crashed its actor, or the process, again and again."""


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


def _tag(name: str) -> str:
    """Write ``StepCompleted`` as ``step_completed``."""
    return re.sub("(?<!^)(?=[A-Z])", "_", name).lower()


class Fact(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag=_tag):
    """What all events have in common: frozen, told apart by ``type``, defaults left out."""


class WorkflowStarted(Fact, frozen=True, kw_only=True):
    """A start was acknowledged. Always event 1."""

    workflow: str
    version: int
    input: Raw
    """The arguments, a JSON array in the order of the parameters."""
    retry_of: str = ""
    """Id of the failed workflow that this one does again, if it does."""
    fingerprint: str = ""
    """Of the code's structure, to tell whether it has changed since."""
    begin_at: int | None = None
    """When its code may begin; None: at once."""
    deadline: int | None = None
    """When it must have ended."""
    parent: str = ""
    """Id of the workflow that it is a child of, if it is."""
    on_close: str = ""
    """What becomes of a child when its parent ends: ``wait``, ``cancel`` or ``abandon``."""
    tags: tuple[str, ...] = ()
    attributes: dict[str, Attribute] = {}
    """What it can be found by."""
    forked_from: str = ""
    """Source and place, ``<id>@<seq>``, of a workflow that begins as a copy of another one."""


class WorkflowBegan(Fact, frozen=True, kw_only=True):
    """A workflow that was pending begins: its time has come."""


class WorkflowPaused(Fact, frozen=True, kw_only=True):
    """From here on nothing new is begun: the code's commands wait, what happens is kept."""

    note: str = ""


class WorkflowResumed(Fact, frozen=True, kw_only=True):
    """The commands that waited are carried out."""

    state: str = "running"
    """The state that it goes back to."""
    note: str = ""


class CancelRequested(Fact, frozen=True, kw_only=True):
    """The code was told to end: ``CancelledError`` is raised where it waits."""

    reason: str = ""
    deadline: int
    """When its ``finally`` blocks must have ended; then the code is taken away."""
    overdue: bool = False
    """Whether it is the workflow's own deadline that has passed: it fails, then."""
    state: str = "running"
    """The state that it goes on in: one that was paused is not any more."""


class CancelForced(Fact, frozen=True, kw_only=True):
    """The code had not ended in time after it was told to, and was taken away."""


class StepCompleted(Fact, frozen=True, kw_only=True):
    """A step returned. Its body never runs again."""

    op: int
    name: str
    digest: str
    """Digest of name and arguments, to notice code that asks for something else on replay."""
    result: Raw
    started_at: int
    """When the attempt that completed began."""
    attempt: int = 1
    key: str = ""
    """The key under which all workflows share the result, if they do."""
    expires_at: int = 0
    """Until when they do."""
    taken_from: str = ""
    """Id of the workflow whose result it is: the body did not run here."""


class StepFailed(Fact, frozen=True, kw_only=True):
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


class StepHeartbeat(Fact, frozen=True, kw_only=True):
    """An attempt of a step has told how far it is; the next one is handed that."""

    op: int
    details: Raw


class TimerStarted(Fact, frozen=True, kw_only=True):
    """A timer outlived the activation that set it."""

    op: int
    due: int


class TimerFired(Fact, frozen=True, kw_only=True):
    """A timer's time has come; recorded not before ``due``."""

    op: int


class TimerCancelled(Fact, frozen=True, kw_only=True):
    """The code has given up a started timer."""

    op: int


class SignalReceived(Fact, frozen=True, kw_only=True):
    """A signal was acknowledged to its sender."""

    id: str
    """Minted by the sender's side, so that one whose acknowledgement got lost is not sent twice."""
    name: str
    payload: Raw
    key: str = ""
    """The sender's own, if it gave one: of two with the same key the second is not taken."""


class CompensationStarted(Fact, frozen=True, kw_only=True):
    """The workflow failed and what its completed steps did is being undone. No way back."""

    error: Failure
    steps: tuple[int, ...]
    """Ops of the steps to compensate, in the order in which they are: last completed first."""


class CompensationCompleted(Fact, frozen=True, kw_only=True):
    """The compensation of step ``op`` returned. It never runs again."""

    op: int
    name: str
    started_at: int
    attempt: int = 1


class CompensationFailed(Fact, frozen=True, kw_only=True):
    """An attempt of the compensation of step ``op`` raised or timed out."""

    op: int
    name: str
    error: Failure
    started_at: int
    attempt: int = 1
    retry_at: int | None = None
    """When the next attempt may begin; None: failed for good."""
    workflow: str = ""
    """Name of the workflow, where it goes on without: the dead letter is all that is left, then."""
    step: str = ""
    """Name of the step, on the failure for good."""
    input: Raw = Raw(b"null")
    """The step's arguments, on the failure for good."""


class WorkflowCompleted(Fact, frozen=True, kw_only=True):
    """The workflow returned. Always the last event of its stream."""

    result: Raw


class WorkflowFailed(Fact, frozen=True, kw_only=True):
    """The workflow ended by an unhandled exception, compensated.

    Always the last event, unless somebody sends it round again.
    """

    workflow: str
    error: Failure
    op: int | None = None
    """Op of the step it came from, if it came from one."""
    step: str | None = None
    attempts: int = 0
    input: Raw = Raw(b"null")
    """The failed step's arguments, or the workflow's."""


class WorkflowCancelled(Fact, frozen=True, kw_only=True):
    """The workflow ended because it was told to. Always the last event of its stream."""

    reason: str = ""
    error: Failure | None = None
    """What the code raised on the way out, where that is not ``CancelledError``."""
    terminated: bool = False
    """Whether it was ended where it stood: no code ran on, nothing was compensated."""


class WorkflowContinued(Fact, frozen=True, kw_only=True):
    """The code has asked to begin anew, with another input. A new run, ops begin at 1 again."""

    run: int
    """Number of the run that begins; the first one of a workflow is 0."""
    input: Raw
    signals: tuple[tuple[str, Raw], ...] = ()
    """Name and payload of those that were acknowledged and not received, oldest first."""
    start: WorkflowStarted | None = None
    """How the workflow was started, so that nothing before this event has to be read."""


class WorkflowForked(Fact, frozen=True, kw_only=True):
    """The workflow begins as a copy of another one, up to a place in its log."""

    source: str
    at: int
    """Sequence number of the last event that is taken over."""
    id: str = ""
    """That of the workflow which begins."""
    origin: str = ""
    """Where the first of the events was recorded: the source, or what that is a fork of."""
    events: tuple[tuple[int, Raw], ...] = ()
    """Time and JSON of each event of the source, from the beginning of its run."""


class WorkflowRetried(Fact, frozen=True, kw_only=True):
    """Somebody sent a failed workflow round again from a step. A new run of the same log."""

    at: int
    """Sequence number of the event from which on the log is taken back."""
    op: int = 0
    """The command whose outcome is taken back, to be carried out again; 0 for none."""
    ops: int = 0
    """Number of the last command that had been issued before ``at``."""
    note: str = ""


class ChildStarted(Fact, frozen=True, kw_only=True):
    """The start of a child workflow was acknowledged."""

    op: int
    workflow: str
    id: str
    digest: str = ""
    """Digest of name and arguments, as that of a step."""


class ChildCompleted(Fact, frozen=True, kw_only=True):
    """A child workflow returned."""

    op: int
    id: str
    result: Raw
    workflow: str = ""
    digest: str = ""


class ChildFailed(Fact, frozen=True, kw_only=True):
    """A child workflow failed, was cancelled, or could not be started."""

    op: int
    id: str
    error: Failure
    cancelled: bool = False
    workflow: str = ""
    digest: str = ""


class UpdateAccepted(Fact, frozen=True, kw_only=True):
    """A request passed its validator; its handler begins."""

    id: str
    name: str
    input: Raw


class UpdateCompleted(Fact, frozen=True, kw_only=True):
    """A request has its reply: a result, or the error that the handler raised."""

    id: str
    result: Raw = Raw(b"null")
    error: Failure | None = None


class StatePublished(Fact, frozen=True, kw_only=True):
    """The code has shown a value to those outside."""

    name: str
    value: Raw


class ProgressReported(Fact, frozen=True, kw_only=True):
    """The code has told how far it is."""

    done: float
    total: float | None = None
    note: str = ""


class AttributesChanged(Fact, frozen=True, kw_only=True):
    """The code has changed what the workflow can be found by."""

    attributes: dict[str, Attribute | None] = {}
    """New values by name; None takes one away."""
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()


class SnapshotTaken(Fact, frozen=True, kw_only=True):
    """The code has named this place in the log."""

    name: str


class PatchMarked(Fact, frozen=True, kw_only=True):
    """The code has taken the new branch of a patch."""

    name: str


class RecoveryBegan(Fact, frozen=True, kw_only=True):
    """An engine has taken over from one that died. Recorded in a stream of its own."""

    under_way: dict[str, tuple[int, int, int]]
    """Of each workflow with an attempt under way then: the last event of its log, how often in a row
    this was so with nothing new in its log, and in how many of the last of these it was alone."""


class ProbationBegan(Fact, frozen=True, kw_only=True):
    """Of those suspected to have killed the process, these go on now, and no others yet."""

    workflows: tuple[str, ...]
    """Empty: all of them have."""


class DeadLettered(Fact, frozen=True, kw_only=True):
    """A workflow that has not ended was parked. Recorded in the dead letters' own stream."""

    workflow_id: str
    workflow: str
    reason: DeadLetterReason
    error: Failure
    step: str | None = None
    attempts: int = 0
    input: Raw = Raw(b"null")


class DeadLetterRetried(Fact, frozen=True, kw_only=True):
    """Somebody (or a restart with mended code) sent a dead letter round again."""

    workflow_id: str
    retried_as: str
    """The id it goes on under: its own when it was parked, a new one when it had ended."""
    letter: int = 0
    """Number of the letter among those of the workflow; 0: the latest open one."""
    state: str = "running"
    """The state that a parked workflow goes back to."""


class DeadLetterResolved(Fact, frozen=True, kw_only=True):
    """Somebody has dealt with a dead letter by hand."""

    workflow_id: str
    note: str
    letter: int = 0
    """Number of the letter among those of the workflow; 0: the latest open one."""


Event = (
    WorkflowStarted
    | WorkflowBegan
    | WorkflowPaused
    | WorkflowResumed
    | CancelRequested
    | CancelForced
    | WorkflowCancelled
    | WorkflowContinued
    | WorkflowForked
    | WorkflowRetried
    | ChildStarted
    | ChildCompleted
    | ChildFailed
    | UpdateAccepted
    | UpdateCompleted
    | StatePublished
    | ProgressReported
    | AttributesChanged
    | SnapshotTaken
    | PatchMarked
    | StepCompleted
    | StepFailed
    | StepHeartbeat
    | TimerStarted
    | TimerFired
    | TimerCancelled
    | SignalReceived
    | CompensationStarted
    | CompensationCompleted
    | CompensationFailed
    | WorkflowCompleted
    | WorkflowFailed
    | RecoveryBegan
    | ProbationBegan
    | DeadLettered
    | DeadLetterRetried
    | DeadLetterResolved
)

Ended = WorkflowCompleted | WorkflowFailed | WorkflowCancelled
"""The last event of a run; a failed workflow may be sent round again, the others never move."""

Note = (
    StatePublished
    | ProgressReported
    | AttributesChanged
    | SnapshotTaken
    | PatchMarked
    | UpdateCompleted
)
"""What the code has recorded and does not wait for."""


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
