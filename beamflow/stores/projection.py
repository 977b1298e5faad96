"""What an event changes in the indexes of a store, derived from the event alone.

A store applies the changes in the order in which it commits the events, in the same transaction;
applied again to empty indexes in that order they come to the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from beamflow.errors import said
from beamflow.model.codec import decode_event
from beamflow.model.events import (
    Attribute,
    AttributesChanged,
    CancelRequested,
    CompensationFailed,
    CompensationStarted,
    DeadLettered,
    DeadLetterReason,
    DeadLetterResolved,
    DeadLetterRetried,
    Event,
    Failure,
    ProgressReported,
    StepCompleted,
    WorkflowBegan,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowForked,
    WorkflowPaused,
    WorkflowResumed,
    WorkflowRetried,
    WorkflowStarted,
)
from beamflow.model.status import WorkflowState
from beamflow.stores.base import DeadLetter, DeadLetterState, Kept, Progress, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "LabelsChanged",
    "LetterClosed",
    "LetterOpened",
    "Projection",
    "ResultKept",
    "WorkflowMoved",
    "WorkflowOpened",
    "WorkflowUpdated",
    "project",
]


class WorkflowOpened(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A summary appears, without tags and attributes."""

    summary: Summary


class WorkflowMoved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The summary of ``id`` gets another state. ``closed_at``: it is told to end no more."""

    id: str
    state: WorkflowState
    closed_at: int | None = None
    error: str | UnsetType | None = UNSET


class WorkflowUpdated(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The summary of ``id`` changes in what is given here."""

    id: str
    cancelling: bool | UnsetType = UNSET
    progress: Progress | UnsetType = UNSET
    run: int | UnsetType = UNSET
    run_seq: int | UnsetType = UNSET


class LabelsChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The summary of ``id`` gets other tags and attributes; None takes an attribute away."""

    id: str
    attributes: dict[str, Attribute | None]
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()


class LetterOpened(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A dead letter appears; it gets the next number among those of its workflow."""

    letter: DeadLetter


class LetterClosed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The latest open dead letter of a workflow is retried or resolved, if there is one.

    Only that with ``number``, unless it is 0, and only one that left the workflow in ``outcome``.
    """

    workflow_id: str
    state: DeadLetterState
    closed_at: int
    note: str = ""
    retried_as: str = ""
    number: int = 0
    outcome: WorkflowState | None = None


class ResultKept(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The result of a step is shared from here on; those that have expired need not be kept."""

    kept: Kept
    time: int


Projection = (
    WorkflowOpened
    | WorkflowMoved
    | WorkflowUpdated
    | LabelsChanged
    | LetterOpened
    | LetterClosed
    | ResultKept
)


def project(stream: str, seq: int, time: int, event: Event) -> tuple[Projection, ...]:
    """Derive what an event changes in the indexes. Pure: no state but the event is looked at.

    Args:
        stream: where it is recorded.
        seq: its position there.
        time: when it was recorded.
        event: the event.
    """
    if type(event) is StepCompleted:  # most events are, and hardly any of them is shared
        return (_kept(stream, time, event),) if event.key else ()
    derive = _DERIVED.get(type(event))
    return () if derive is None else tuple(derive(stream, seq, time, event))


def _kept(stream: str, time: int, event: StepCompleted) -> ResultKept:
    return ResultKept(
        time=time,
        kept=Kept(
            step=event.name,
            key=event.key,
            workflow_id=stream,
            result=event.result,
            expires_at=event.expires_at,
        ),
    )


def _started(stream: str, _seq: int, time: int, event: WorkflowStarted) -> Iterator[Projection]:
    pending = event.begin_at is not None
    yield WorkflowOpened(
        summary=Summary(
            id=stream,
            workflow=event.workflow,
            version=event.version,
            state=WorkflowState.PENDING if pending else WorkflowState.RUNNING,
            started_at=time,
            begin_at=event.begin_at,
            deadline=event.deadline,
            parent=event.parent or None,
            on_close=event.on_close,
        )
    )
    if event.tags or event.attributes:
        yield LabelsChanged(id=stream, attributes={**event.attributes}, add_tags=event.tags)


def _forked(stream: str, seq: int, time: int, event: WorkflowForked) -> Iterator[Projection]:
    """A copy shows what its original showed at that place."""
    for _, data in event.events:
        taken = decode_event(bytes(data))
        if type(taken) in _TAKEN_OVER:
            yield from project(stream, seq, time, taken)


def _began(stream: str, _seq: int, _time: int, _event: WorkflowBegan) -> Iterator[Projection]:
    yield WorkflowMoved(id=stream, state=WorkflowState.RUNNING)


def _paused(stream: str, _seq: int, _time: int, _event: WorkflowPaused) -> Iterator[Projection]:
    yield WorkflowMoved(id=stream, state=WorkflowState.PAUSED)


def _resumed(stream: str, _seq: int, _time: int, event: WorkflowResumed) -> Iterator[Projection]:
    yield WorkflowMoved(id=stream, state=WorkflowState(event.state))


def _told_to_end(
    stream: str, _seq: int, _time: int, event: CancelRequested
) -> Iterator[Projection]:
    yield WorkflowMoved(id=stream, state=WorkflowState(event.state))
    yield WorkflowUpdated(id=stream, cancelling=True)


def _progressed(
    stream: str, _seq: int, _time: int, event: ProgressReported
) -> Iterator[Projection]:
    progress = Progress(done=event.done, total=event.total, note=event.note)
    yield WorkflowUpdated(id=stream, progress=progress)


def _labelled(stream: str, _seq: int, _time: int, event: AttributesChanged) -> Iterator[Projection]:
    yield LabelsChanged(
        id=stream,
        attributes=event.attributes,
        add_tags=event.add_tags,
        remove_tags=event.remove_tags,
    )


def _continued(stream: str, seq: int, _time: int, event: WorkflowContinued) -> Iterator[Projection]:
    yield WorkflowUpdated(id=stream, run=event.run, run_seq=seq)


def _compensating(
    stream: str, _seq: int, _time: int, event: CompensationStarted
) -> Iterator[Projection]:
    yield WorkflowMoved(id=stream, state=WorkflowState.COMPENSATING, error=_line(event.error))


def _not_compensated(
    stream: str, _seq: int, time: int, event: CompensationFailed
) -> Iterator[Projection]:
    if event.retry_at is None and event.workflow:
        yield LetterOpened(
            letter=DeadLetter(
                workflow_id=stream,
                workflow=event.workflow,
                reason=DeadLetterReason.COMPENSATION_FAILED,
                step=event.step,
                error=event.error,
                attempts=event.attempt,
                input=event.input,
                created_at=time,
                outcome=WorkflowState.RUNNING,
            )
        )


def _completed(
    stream: str, _seq: int, time: int, _event: WorkflowCompleted
) -> Iterator[Projection]:
    yield WorkflowMoved(id=stream, state=WorkflowState.COMPLETED, closed_at=time, error=None)


def _cancelled(stream: str, _seq: int, time: int, event: WorkflowCancelled) -> Iterator[Projection]:
    error = None if event.error is None else _line(event.error)
    yield WorkflowMoved(id=stream, state=WorkflowState.CANCELLED, closed_at=time, error=error)
    how = "terminated" if event.terminated else "cancelled"
    yield _over(stream, time, said(how, event.reason))


def _failed(stream: str, _seq: int, time: int, event: WorkflowFailed) -> Iterator[Projection]:
    yield WorkflowMoved(
        id=stream, state=WorkflowState.FAILED, closed_at=time, error=_line(event.error)
    )
    yield _over(stream, time, "failed")
    of_the_code = event.step is None
    reason = DeadLetterReason.WORKFLOW_ERROR if of_the_code else DeadLetterReason.STEP_FAILED
    yield _letter(stream, time, event, reason, WorkflowState.FAILED)


def _retried(stream: str, _seq: int, time: int, event: WorkflowRetried) -> Iterator[Projection]:
    yield WorkflowMoved(id=stream, state=WorkflowState.RUNNING, error=None)
    yield LetterClosed(
        workflow_id=stream,
        state=DeadLetterState.RETRIED,
        closed_at=time,
        note=event.note,
        retried_as=stream,
        outcome=WorkflowState.FAILED,
    )


def _parked(_stream: str, _seq: int, time: int, event: DeadLettered) -> Iterator[Projection]:
    workflow_id = event.workflow_id
    yield WorkflowMoved(id=workflow_id, state=WorkflowState.PARKED, error=_line(event.error))
    # parked for another reason than before: it was tried again, by a restart, and came this far
    yield LetterClosed(
        workflow_id=workflow_id,
        state=DeadLetterState.RETRIED,
        closed_at=time,
        retried_as=workflow_id,
        outcome=WorkflowState.PARKED,
    )
    yield _letter(workflow_id, time, event, event.reason, WorkflowState.PARKED)


def _letter_retried(
    _stream: str, _seq: int, time: int, event: DeadLetterRetried
) -> Iterator[Projection]:
    yield LetterClosed(
        workflow_id=event.workflow_id,
        state=DeadLetterState.RETRIED,
        closed_at=time,
        retried_as=event.retried_as,
        number=event.letter,
    )
    if event.retried_as == event.workflow_id:
        yield WorkflowMoved(id=event.workflow_id, state=WorkflowState(event.state), error=None)


def _letter_resolved(
    _stream: str, _seq: int, time: int, event: DeadLetterResolved
) -> Iterator[Projection]:
    yield LetterClosed(
        workflow_id=event.workflow_id,
        state=DeadLetterState.RESOLVED,
        closed_at=time,
        note=event.note,
        number=event.letter,
    )


_DERIVED: dict[type[Event], Callable[..., Iterator[Projection]]] = {
    WorkflowStarted: _started,
    WorkflowForked: _forked,
    WorkflowBegan: _began,
    WorkflowPaused: _paused,
    WorkflowResumed: _resumed,
    CancelRequested: _told_to_end,
    ProgressReported: _progressed,
    AttributesChanged: _labelled,
    WorkflowContinued: _continued,
    CompensationStarted: _compensating,
    CompensationFailed: _not_compensated,
    WorkflowCompleted: _completed,
    WorkflowCancelled: _cancelled,
    WorkflowFailed: _failed,
    WorkflowRetried: _retried,
    DeadLettered: _parked,
    DeadLetterRetried: _letter_retried,
    DeadLetterResolved: _letter_resolved,
}

_TAKEN_OVER = frozenset({ProgressReported, AttributesChanged})


def _letter(
    workflow_id: str,
    time: int,
    event: WorkflowFailed | DeadLettered,
    reason: DeadLetterReason,
    outcome: WorkflowState,
) -> LetterOpened:
    """Open the letter of a workflow that has come to a stop."""
    return LetterOpened(
        letter=DeadLetter(
            workflow_id=workflow_id,
            workflow=event.workflow,
            reason=reason,
            step=event.step,
            error=event.error,
            attempts=event.attempts,
            input=event.input,
            created_at=time,
            outcome=outcome,
        )
    )


def _over(workflow_id: str, time: int, note: str) -> LetterClosed:
    """Close the letter of a workflow that has ended while it was parked."""
    return LetterClosed(
        workflow_id=workflow_id,
        state=DeadLetterState.RESOLVED,
        closed_at=time,
        note=note,
        outcome=WorkflowState.PARKED,
    )


def _line(failure: Failure) -> str:
    return said(failure.type, failure.message)
