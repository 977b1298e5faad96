"""From a log to what a replay delivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw

from beamflow.engine.history import effective, expanded, origin_of_tasks
from beamflow.model.codec import encode_event
from beamflow.model.events import (
    ChildFailed,
    ChildStarted,
    Failure,
    PatchMarked,
    Recorded,
    SignalReceived,
    StatePublished,
    StepCompleted,
    StepFailed,
    TimerCancelled,
    TimerFired,
    TimerStarted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowForked,
    WorkflowRetried,
    WorkflowStarted,
)

if TYPE_CHECKING:
    from beamflow.model.events import Event

ERROR = Failure(type="builtins.KeyError", message="x")
START = WorkflowStarted(workflow="w", version=1, input=Raw(b"[]"))


def completed(op: int) -> StepCompleted:
    return StepCompleted(op=op, name=f"s{op}", digest="d", result=Raw(b"1"), started_at=0)


def failed(op: int, retry_at: int | None = None) -> StepFailed:
    return StepFailed(
        op=op, name=f"s{op}", digest="d", error=ERROR, started_at=0, retry_at=retry_at
    )


def signal(name: str) -> SignalReceived:
    return SignalReceived(id=name, name=name, payload=Raw(b"null"))


def log(*events: Event) -> list[Recorded]:
    return [
        Recorded(stream="wf", seq=seq, time=seq * 10, epoch=1, event=event)
        for seq, event in enumerate(events, 1)
    ]


END = WorkflowFailed(workflow="w", error=ERROR, op=2, step="s2")


def test_most_logs_are_delivered_as_they_stand() -> None:
    history = log(START, completed(1), failed(2, retry_at=5))
    assert effective(history) is history
    assert expanded(history) == history
    assert origin_of_tasks(history) == ""


def test_a_run_begins_with_the_event_that_continued_the_workflow() -> None:
    again = WorkflowContinued(run=1, input=Raw(b"[]"))
    history = log(START, completed(1), again, completed(1))
    assert effective(history) == history[2:]


def test_a_retry_takes_back_the_failure_and_all_attempts_of_its_step() -> None:
    history = log(
        START,
        completed(1),
        failed(2, retry_at=5),
        failed(2),
        END,
        WorkflowRetried(at=4, op=2, ops=2),
    )
    assert effective(history) == [*history[:2], history[5]]


def test_what_came_from_outside_or_had_begun_before_is_still_so() -> None:
    """And what the code did, or began, because of what is taken back is not."""
    stays = [
        signal("word"),
        completed(3),
        TimerStarted(op=4, due=9),
        TimerFired(op=4),
        ChildStarted(op=5, workflow="c", id="wf/5"),
        ChildFailed(op=5, id="wf/5", error=ERROR),
        PatchMarked(name="p"),
    ]
    goes = [
        completed(2),
        completed(6),
        TimerStarted(op=7, due=9),
        TimerCancelled(op=4),
        StatePublished(name="n", value=Raw(b"1")),
        END,
    ]
    history = log(START, failed(2), *stays, *goes, WorkflowRetried(at=2, op=2, ops=5))
    assert [one.event for one in effective(history)] == [
        START,
        *stays,
        WorkflowRetried(at=2, op=2, ops=5),
    ]


def test_retries_follow_one_another() -> None:
    first, second = WorkflowRetried(at=3, op=2, ops=2), WorkflowRetried(at=6, op=2, ops=2)
    history = log(START, completed(1), failed(2), END, first, failed(2), END, second, completed(2))
    kept = [one.event for one in effective(history)]
    assert kept == [START, completed(1), first, second, completed(2)]
    assert effective(effective(history)) == effective(history)


def test_a_fork_begins_with_what_it_has_taken_over() -> None:
    """In the place of its own start, with the times of the source; a mark tells where it ends."""
    taken = [START, completed(1), signal("word")]
    forked = WorkflowForked(
        source="source",
        at=9,
        id="wf",
        origin="first",
        events=tuple((time, Raw(encode_event(event))) for time, event in enumerate(taken, 1)),
    )
    own = WorkflowStarted(workflow="w", version=1, input=Raw(b"[]"), forked_from="source@9")
    history = log(own, forked, completed(2))
    there = effective(history)
    assert [one.event for one in there[:3]] == taken
    assert [(one.seq, one.time) for one in there[:3]] == [(2, 1), (2, 2), (2, 3)]
    assert isinstance(there[3].event, WorkflowForked)
    assert there[4] == history[2]
    assert origin_of_tasks(there) == "first"
    assert effective(there) == there
    shown = expanded(history)
    assert [one.event for one in shown] == [own, forked, *taken, completed(2)]
    assert {one.stream for one in shown[2:5]} == {"source"}


def test_a_fork_of_a_later_run_begins_with_that_run() -> None:
    again = WorkflowContinued(run=3, input=Raw(b"[]"))
    forked = WorkflowForked(source="source", at=9, id="wf", events=((1, Raw(encode_event(again))),))
    there = effective(log(START, forked, completed(1)))
    assert [type(one.event) for one in there] == [WorkflowContinued, WorkflowForked, StepCompleted]
