"""What an event changes in the indexes, and the small things that stores share."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from beamflow.errors import PayloadError
from beamflow.model import events
from beamflow.model.events import (
    CompensationStarted,
    DeadLettered,
    DeadLetterReason,
    DeadLetterResolved,
    DeadLetterRetried,
    Event,
    Failure,
    StepCompleted,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowStarted,
)
from beamflow.model.status import WorkflowState
from beamflow.stores import base
from beamflow.stores.base import (
    DeadLetter,
    DeadLetterState,
    LetterClosed,
    LetterOpened,
    Summary,
    WorkflowMoved,
    WorkflowOpened,
    checked_limit,
    cursor_at,
    encoded,
    place_of,
    project,
)

ERROR = Failure(type="builtins.ValueError", message="no money")
LINE = "builtins.ValueError: no money"


def test_a_start_opens_a_summary() -> None:
    event = WorkflowStarted(workflow="onboard", version=3, input=Raw(b"[]"))
    assert project("a", 7, event) == (
        WorkflowOpened(
            summary=Summary(
                id="a", workflow="onboard", version=3, state=WorkflowState.RUNNING, started_at=7
            )
        ),
    )


def test_compensating_and_completing_move_it() -> None:
    """The end closes a workflow at its time, a compensation leaves it open with its error."""
    assert project("a", 7, CompensationStarted(error=ERROR, steps=(1,))) == (
        WorkflowMoved(id="a", state=WorkflowState.COMPENSATING, error=LINE),
    )
    assert project("a", 8, WorkflowCompleted(result=Raw(b"1"))) == (
        WorkflowMoved(id="a", state=WorkflowState.COMPLETED, closed_at=8),
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
    assert project("a", 7, event) == (
        WorkflowMoved(id="a", state=WorkflowState.FAILED, closed_at=7, error=LINE),
        LetterOpened(letter=letter),
    )
    assert letter.context == [1]


def test_parking_speaks_of_another_stream() -> None:
    """A parked workflow stays open, and its letter is about it, not about the letters' stream."""
    event = DeadLettered(
        workflow_id="a", workflow="onboard", reason=DeadLetterReason.POISON, error=ERROR
    )
    moved, opened = project("$dead-letters", 7, event)
    assert moved == WorkflowMoved(id="a", state=WorkflowState.PARKED, error=LINE)
    assert isinstance(opened, LetterOpened)
    assert (opened.letter.workflow_id, opened.letter.reason) == ("a", DeadLetterReason.POISON)


def test_a_letter_is_closed() -> None:
    """A retry under its own id lets a workflow run again; under a new id it stays as it ended."""
    closed = LetterClosed(
        workflow_id="a", state=DeadLetterState.RETRIED, closed_at=7, retried_as="a"
    )
    assert project("$", 7, DeadLetterRetried(workflow_id="a", retried_as="a")) == (
        closed,
        WorkflowMoved(id="a", state=WorkflowState.RUNNING),
    )
    assert len(project("$", 7, DeadLetterRetried(workflow_id="a", retried_as="b"))) == 1
    assert project("$", 7, DeadLetterResolved(workflow_id="a", note="by hand")) == (
        LetterClosed(workflow_id="a", state=DeadLetterState.RESOLVED, closed_at=7, note="by hand"),
    )


def test_each_event_that_project_knows_is_let_through() -> None:
    """The set of indexed events, which is there for speed, hides none that changes an index."""
    silent = {
        events.StepCompleted,
        events.StepFailed,
        events.TimerStarted,
        events.TimerFired,
        events.TimerCancelled,
        events.SignalReceived,
        events.CancelRequested,
        events.CancelForced,
        events.WorkflowContinued,
        events.WorkflowForked,
        events.ChildStarted,
        events.ChildCompleted,
        events.ChildFailed,
        events.UpdateAccepted,
        events.UpdateCompleted,
        events.StatePublished,
        events.ProgressReported,
        events.AttributesChanged,
        events.SnapshotTaken,
        events.PatchMarked,
        events.CompensationCompleted,
    }
    assert base._INDEXED | silent == set(get_args(Event))
    assert not base._INDEXED & silent


@given(st.integers(-(2**62), 2**62), st.text())
def test_a_cursor_comes_back_as_the_place_it_was_made_of(time: int, workflow_id: str) -> None:
    """Any id may stand in a cursor, colons and all."""
    assert place_of(cursor_at(time, workflow_id)) == (time, workflow_id)


def test_no_cursor_is_before_everything() -> None:
    assert place_of(None) < (-(2**62), "")


@pytest.mark.parametrize("cursor", ["", "a", ":", "1.5:a", "a:1"])
def test_what_is_no_cursor(cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor of the page before"):
        place_of(cursor)


def test_a_limit_has_bounds() -> None:
    assert [checked_limit(1), checked_limit(10_000)] == [1, 10_000]
    for limit in (0, 10_001):
        with pytest.raises(ValueError, match="1 to 10,000"):
            checked_limit(limit)


def test_an_event_that_cannot_be_written_names_its_stream() -> None:
    """What is refused is told apart from what the store failed at."""
    event = StepCompleted(op=1, name="\ud800", digest="d", result=Raw(b"1"), started_at=1)
    with pytest.raises(PayloadError, match="event for 'one'"):
        encoded("one", 0, [event])
