"""What an event changes in the indexes."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from msgspec import UNSET, Raw

from beamflow.model import events
from beamflow.model.codec import encode_event
from beamflow.model.events import (
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
from beamflow.stores import projection
from beamflow.stores.base import DeadLetter, DeadLetterState, Kept, Progress, Summary
from beamflow.stores.projection import (
    LabelsChanged,
    LetterClosed,
    LetterOpened,
    ResultKept,
    WorkflowMoved,
    WorkflowOpened,
    WorkflowUpdated,
    project,
)

ERROR = Failure(type="builtins.ValueError", message="no money")
LINE = "builtins.ValueError: no money"


def test_a_start_opens_a_summary() -> None:
    event = WorkflowStarted(workflow="onboard", version=3, input=Raw(b"[]"))
    assert project("a", 2, 7, event) == (
        WorkflowOpened(
            summary=Summary(
                id="a", workflow="onboard", version=3, state=WorkflowState.RUNNING, started_at=7
            )
        ),
    )


def test_compensating_and_completing_move_it() -> None:
    """The end closes a workflow at its time, a compensation leaves it open with its error."""
    assert project("a", 2, 7, CompensationStarted(error=ERROR, steps=(1,))) == (
        WorkflowMoved(id="a", state=WorkflowState.COMPENSATING, error=LINE),
    )
    assert project("a", 3, 8, WorkflowCompleted(result=Raw(b"1"))) == (
        WorkflowMoved(id="a", state=WorkflowState.COMPLETED, closed_at=8, error=None),
    )


@pytest.mark.parametrize(
    ("step", "reason"),
    [(None, DeadLetterReason.WORKFLOW_ERROR), ("pay", DeadLetterReason.STEP_FAILED)],
)
def test_a_failure_closes_it_and_opens_a_letter(step: str | None, reason: DeadLetterReason) -> None:
    """A failed workflow lands in the dead letters, with the step if it came from one."""
    event = WorkflowFailed(
        workflow="onboard", error=ERROR, step=step, attempts=2, input=Raw(b"[1]")
    )
    letter = DeadLetter(
        workflow_id="a",
        workflow="onboard",
        reason=reason,
        step=step,
        error=ERROR,
        attempts=2,
        input=Raw(b"[1]"),
        created_at=7,
    )
    assert project("a", 2, 7, event) == (
        WorkflowMoved(id="a", state=WorkflowState.FAILED, closed_at=7, error=LINE),
        ended_while_parked("failed"),
        LetterOpened(letter=letter),
    )
    assert letter.context == [1]


def test_parking_speaks_of_another_stream() -> None:
    """A parked workflow stays open, and its letter is about it, not about the letters' stream."""
    event = DeadLettered(
        workflow_id="a", workflow="onboard", reason=DeadLetterReason.POISON, error=ERROR
    )
    moved, closed, opened = project("$dead-letters", 1, 7, event)
    assert moved == WorkflowMoved(id="a", state=WorkflowState.PARKED, error=LINE)
    assert isinstance(opened, LetterOpened)
    assert (opened.letter.workflow_id, opened.letter.reason) == ("a", DeadLetterReason.POISON)
    assert opened.letter.outcome is WorkflowState.PARKED
    assert isinstance(closed, LetterClosed)
    assert (closed.state, closed.outcome) == (DeadLetterState.RETRIED, WorkflowState.PARKED)


def test_a_letter_is_closed() -> None:
    """A retry under its own id lets a workflow run again; under a new id it stays as it ended."""
    closed = LetterClosed(
        workflow_id="a", state=DeadLetterState.RETRIED, closed_at=7, retried_as="a"
    )
    assert project("$", 1, 7, DeadLetterRetried(workflow_id="a", retried_as="a")) == (
        closed,
        WorkflowMoved(id="a", state=WorkflowState.RUNNING, error=None),
    )
    back = DeadLetterRetried(workflow_id="a", retried_as="a", state="compensating", letter=3)
    closing, moved = project("$", 1, 7, back)
    assert isinstance(closing, LetterClosed)
    assert closing.number == 3
    assert moved == WorkflowMoved(id="a", state=WorkflowState.COMPENSATING, error=None)
    assert len(project("$", 1, 7, DeadLetterRetried(workflow_id="a", retried_as="b"))) == 1
    assert project("$", 1, 7, DeadLetterResolved(workflow_id="a", note="by hand")) == (
        LetterClosed(workflow_id="a", state=DeadLetterState.RESOLVED, closed_at=7, note="by hand"),
    )


def ended_while_parked(note: str) -> LetterClosed:
    return LetterClosed(
        workflow_id="a",
        state=DeadLetterState.RESOLVED,
        closed_at=7,
        note=note,
        outcome=WorkflowState.PARKED,
    )


def test_a_start_that_waits_is_pending_and_keeps_what_it_is_found_by() -> None:
    """Times, parent and closing policy stand in the summary; tags and attributes follow."""
    event = WorkflowStarted(
        workflow="onboard",
        version=1,
        input=Raw(b"[]"),
        begin_at=9,
        deadline=99,
        parent="p",
        on_close="cancel",
        tags=("vip",),
        attributes={"city": "Bonn"},
    )
    opened, labelled = project("a", 1, 7, event)
    assert isinstance(opened, WorkflowOpened)
    assert opened.summary == Summary(
        id="a",
        workflow="onboard",
        version=1,
        state=WorkflowState.PENDING,
        started_at=7,
        begin_at=9,
        deadline=99,
        parent="p",
        on_close="cancel",
    )
    assert labelled == LabelsChanged(id="a", attributes={"city": "Bonn"}, add_tags=("vip",))


def test_control_moves_it_and_leaves_its_error() -> None:
    """Beginning, pausing and resuming are states; being told to end is a mark beside the state."""
    moved = WorkflowMoved(id="a", state=WorkflowState.RUNNING)
    assert project("a", 2, 7, WorkflowBegan()) == (moved,)
    assert moved.error is UNSET
    assert project("a", 2, 7, WorkflowPaused()) == (
        WorkflowMoved(id="a", state=WorkflowState.PAUSED),
    )
    assert project("a", 2, 7, WorkflowResumed(state="compensating")) == (
        WorkflowMoved(id="a", state=WorkflowState.COMPENSATING),
    )
    assert project("a", 2, 7, CancelRequested(deadline=9, state="compensating")) == (
        WorkflowMoved(id="a", state=WorkflowState.COMPENSATING),
        WorkflowUpdated(id="a", cancelling=True),
    )


def test_a_cancelled_workflow_is_parked_no_more() -> None:
    """Its letter is resolved, and says why; letters that it went on from stay open."""
    moved = WorkflowMoved(id="a", state=WorkflowState.CANCELLED, closed_at=7, error=None)
    assert project("a", 2, 7, WorkflowCancelled()) == (moved, ended_while_parked("cancelled"))
    terminated = WorkflowCancelled(terminated=True, reason="given up")
    assert project("a", 2, 7, terminated) == (moved, ended_while_parked("terminated: given up"))


def test_what_the_code_reports_is_in_the_summary() -> None:
    assert project("a", 2, 7, ProgressReported(done=1, total=3, note="x")) == (
        WorkflowUpdated(id="a", progress=Progress(done=1, total=3, note="x")),
    )
    changed = AttributesChanged(attributes={"n": None}, add_tags=("x",), remove_tags=("y",))
    assert project("a", 2, 7, changed) == (
        LabelsChanged(id="a", attributes={"n": None}, add_tags=("x",), remove_tags=("y",)),
    )


def test_a_new_run_says_where_it_begins() -> None:
    assert project("a", 5, 7, WorkflowContinued(run=3, input=Raw(b"[]"))) == (
        WorkflowUpdated(id="a", run=3, run_seq=5),
    )


def test_a_retry_in_place_closes_the_letter_of_the_end() -> None:
    """The workflow is open again, without error or end."""
    moved, closed = project("a", 5, 7, WorkflowRetried(at=3, note="mended"))
    assert moved == WorkflowMoved(id="a", state=WorkflowState.RUNNING, closed_at=None, error=None)
    assert closed == LetterClosed(
        workflow_id="a",
        state=DeadLetterState.RETRIED,
        closed_at=7,
        note="mended",
        retried_as="a",
        outcome=WorkflowState.FAILED,
    )


def test_a_compensation_that_the_workflow_goes_on_from_leaves_a_letter() -> None:
    """Only a failure for good of a workflow that is named, with what it was called with."""
    event = CompensationFailed(
        op=2,
        name="refund",
        error=ERROR,
        started_at=1,
        attempt=3,
        workflow="onboard",
        step="pay",
        input=Raw(b"[1]"),
    )
    (opened,) = project("a", 5, 7, event)
    assert isinstance(opened, LetterOpened)
    letter = opened.letter
    assert (letter.reason, letter.step) == (DeadLetterReason.COMPENSATION_FAILED, "pay")
    assert (letter.attempts, letter.context, letter.outcome) == (3, [1], WorkflowState.RUNNING)
    again = CompensationFailed(
        op=2, name="pay", error=ERROR, started_at=1, retry_at=9, workflow="onboard"
    )
    assert project("a", 5, 7, again) == ()
    assert project("a", 5, 7, CompensationFailed(op=2, name="pay", error=ERROR, started_at=1)) == ()


def test_a_shared_result_is_kept() -> None:
    """One that was taken from another workflow, or is not shared at all, changes nothing."""

    def completed(**fields: Any) -> StepCompleted:
        return StepCompleted(op=1, name="pay", digest="d", result=Raw(b"1"), started_at=1, **fields)

    (kept,) = project("a", 2, 7, completed(key="k", expires_at=9))
    assert isinstance(kept, ResultKept)
    assert kept.time == 7
    assert kept.kept == Kept(step="pay", key="k", workflow_id="a", result=Raw(b"1"), expires_at=9)
    assert project("a", 2, 7, completed(taken_from="b")) == ()
    assert project("a", 2, 7, completed()) == ()


def test_a_copy_shows_what_its_original_had_reported() -> None:
    """Progress, tags and attributes are taken over; states and letters are its own."""
    taken = (
        ProgressReported(done=2),
        AttributesChanged(add_tags=("x",)),
        CancelRequested(deadline=9),
        WorkflowFailed(workflow="onboard", error=ERROR),
    )
    event = WorkflowForked(
        source="b", at=5, events=tuple((3, Raw(encode_event(one))) for one in taken)
    )
    assert project("a", 2, 7, event) == (
        WorkflowUpdated(id="a", progress=Progress(done=2)),
        LabelsChanged(id="a", attributes={}, add_tags=("x",)),
    )


def test_each_event_changes_an_index_or_is_known_not_to() -> None:
    """A new event cannot be forgotten here."""
    silent = {
        events.StepFailed,
        events.StepHeartbeat,
        events.RecoveryBegan,
        events.ProbationBegan,
        events.TimerStarted,
        events.TimerFired,
        events.TimerCancelled,
        events.SignalReceived,
        events.CancelForced,
        events.ChildStarted,
        events.ChildCompleted,
        events.ChildFailed,
        events.UpdateAccepted,
        events.UpdateCompleted,
        events.StatePublished,
        events.SnapshotTaken,
        events.PatchMarked,
        events.CompensationCompleted,
    }
    loud = {*projection._DERIVED, StepCompleted}
    assert loud | silent == set(get_args(Event))
    assert not loud & silent
