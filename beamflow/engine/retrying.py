"""Sending a failed workflow round again, in place: what of its log is taken back, and what stays so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from beamflow.authoring.step import exception_name
from beamflow.engine.history import effective
from beamflow.engine.replay import replay
from beamflow.errors import ChildWorkflowError, NondeterminismError, WorkflowStateError
from beamflow.model.events import (
    ChildCompleted,
    ChildFailed,
    CompensationCompleted,
    CompensationFailed,
    CompensationStarted,
    Recorded,
    StepCompleted,
    StepFailed,
    UpdateAccepted,
    WorkflowFailed,
    WorkflowForked,
    WorkflowRetried,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow.authoring.workflow import Workflow

__all__ = ["Retrial", "retried", "what_failed"]

_OF_COMPENSATION = (CompensationStarted, CompensationCompleted, CompensationFailed)
_OVERDUE = "beamflow.errors.WorkflowTimeoutError"
_CHILD_ERROR = exception_name(ChildWorkflowError)

_Outcome = StepCompleted | StepFailed | ChildCompleted | ChildFailed


class Retrial:
    """A request to go on from a step.

    Attributes:
        step: its name or op; None for the one that failed.
        note: for the log.
    """

    __slots__ = ("note", "step")

    def __init__(self, step: str | int | None, note: str) -> None:
        """Keep both."""
        self.step = step
        self.note = note


def what_failed(
    workflow_id: str, history: Sequence[Recorded], step: str | int | None
) -> Recorded | None:
    """Return the event from which on a failed workflow's log is taken back.

    Args:
        workflow_id: which workflow.
        history: its current run.
        step: name or op of the step or child whose first outcome it is; None for what made the
            workflow fail.

    Returns:
        The outcome; None where the workflow's own code raised and no step is named.

    Raises:
        WorkflowStateError: the log has no such outcome.
    """
    outcomes = [one for one in effective(history) if _is_outcome(one.event)]
    if step is None:
        return _fatal(history[-1].event, outcomes)
    for one in outcomes:
        if step in {_op_of(one), _name_of(one)}:
            return one
    there = ", ".join(dict.fromkeys(f"{_name_of(one)!r} ({_op_of(one)})" for one in outcomes))
    message = (
        f"workflow {workflow_id!r} has no outcome of a step {step!r} in its current run; it has: "
        f"{there or 'none'}. Nothing was done"
    )
    raise WorkflowStateError(workflow_id, message)


def retried(
    workflow: Workflow[..., Any],
    workflow_id: str,
    history: Sequence[Recorded],
    request: Retrial,
) -> WorkflowRetried:
    """Return the event that sends a failed workflow round again.

    Args:
        workflow: the definition.
        workflow_id: the id.
        history: its current run, whose last event is `WorkflowFailed`.
        request: from where.

    Raises:
        WorkflowStateError: something was compensated, or there is nothing to go on from.
        NondeterminismError: the code does not do what the log says up to there.
        PayloadError: a recorded payload does not fit its annotation.
    """
    end = history[-1]
    assert isinstance(end.event, WorkflowFailed)
    place = what_failed(workflow_id, history, request.step)
    at = end.seq if place is None else place.seq
    op = 0 if place is None else _op_of(place)
    _check_nothing_undone(workflow_id, history, at)
    if end.event.error.type == _OVERDUE:
        message = (
            f"workflow {workflow_id!r} failed because its deadline has passed, which it would do "
            f"again: nothing was done. fork() begins one without a deadline"
        )
        raise WorkflowStateError(workflow_id, message)
    if any(isinstance(one.event, WorkflowForked) and one.seq >= at for one in history):
        message = (
            f"workflow {workflow_id!r} has taken that step over from another one and did not make "
            f"it: nothing was done. Fork the source from there"
        )
        raise WorkflowStateError(workflow_id, message)
    before = [one for one in history if one.seq < at]
    event = WorkflowRetried(at=at, op=op, note=request.note)
    event = replace(event, ops=_tried(workflow, before, end, event))
    try:
        _tried(workflow, history, end, event)
    except NondeterminismError as error:
        requests = [one for one in history if one.seq > at and type(one.event) is UpdateAccepted]
        if not requests:
            raise
        message = (
            f"workflow {workflow_id!r} has accepted updates since (event {requests[0].seq}) that it "
            f"could not take before: nothing was done. Go on from a later step, or fork(at=...)"
        )
        raise WorkflowStateError(workflow_id, message) from error
    return event


def _tried(
    workflow: Workflow[..., Any], history: Sequence[Recorded], end: Recorded, event: WorkflowRetried
) -> int:
    """See that the code follows its log when it is sent round again; return how far it gets."""
    last = replace(end, seq=end.seq + 1, event=event)
    code = replay(workflow, end.stream, [*history, last])
    code.close()
    return code.ops


def _check_nothing_undone(workflow_id: str, history: Sequence[Recorded], at: int) -> None:
    if any(isinstance(one.event, _OF_COMPENSATION) and one.seq >= at for one in history):
        message = (
            f"workflow {workflow_id!r} has undone what it had completed, and cannot go on from "
            f"there: nothing was done. engine.dead_letters.retry({workflow_id!r}) starts it anew "
            f"under another id, fork(at=...) begins a copy from before"
        )
        raise WorkflowStateError(workflow_id, message)


def _fatal(failed: object, outcomes: Sequence[Recorded]) -> Recorded | None:
    """Return the failure that the workflow did not handle, where it is that of a step or child."""
    assert isinstance(failed, WorkflowFailed)
    for one in reversed(outcomes):
        event = one.event
        if isinstance(event, StepFailed) and event.op == failed.op:
            return one
        if (
            isinstance(event, ChildFailed)
            and failed.error.type == _CHILD_ERROR
            and f"({event.id!r})" in failed.error.message
        ):
            return one
    return None


def _is_outcome(event: object) -> bool:
    if isinstance(event, StepFailed):
        return event.retry_at is None
    return isinstance(event, StepCompleted | ChildCompleted | ChildFailed)


def _op_of(one: Recorded) -> int:
    assert isinstance(one.event, _Outcome)
    return one.event.op


def _name_of(one: Recorded) -> str:
    event = one.event
    assert isinstance(event, _Outcome)
    return event.name if isinstance(event, StepCompleted | StepFailed) else event.workflow
