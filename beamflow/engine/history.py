"""From what stands in a log to what a replay delivers: one plain sequence. Pure.

Most logs are replayed as they stand. Three events turn the course of one: `WorkflowContinued`
begins a new run, `WorkflowForked` brings the events of another log in, `WorkflowRetried` takes
events back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from beamflow.model.codec import decode_event
from beamflow.model.events import (
    ChildCompleted,
    ChildFailed,
    ChildStarted,
    PatchMarked,
    Recorded,
    SignalReceived,
    StepCompleted,
    StepFailed,
    StepHeartbeat,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
    WorkflowContinued,
    WorkflowForked,
    WorkflowRetried,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow.model.events import Event

__all__ = ["effective", "expanded", "is_still_so", "origin_of_tasks"]

_TURNS = frozenset({WorkflowContinued, WorkflowForked, WorkflowRetried})
_OF_A_COMMAND = (
    StepCompleted,
    StepFailed,
    StepHeartbeat,
    TimerStarted,
    TimerFired,
    ChildStarted,
    ChildCompleted,
    ChildFailed,
)


def effective(history: Sequence[Recorded]) -> Sequence[Recorded]:
    """Return what a replay delivers: the current run, with what was taken over, without what was taken back.

    Events that come from another log have the sequence number of the `WorkflowForked` that brought
    them, and the time at which they were recorded there.
    """
    if not any(type(recorded.event) in _TURNS for recorded in history):
        return history
    events: list[Recorded] = []
    for recorded in history:
        match recorded.event:
            case WorkflowContinued():
                events = [recorded]
            case WorkflowForked(events=()):
                events.append(recorded)
            case WorkflowForked() as forked:
                mark = replace(recorded, event=replace(forked, events=()))
                events = [*effective(_taken_over(recorded, forked)), mark]
            case WorkflowRetried() as retried:
                events = [*_without(events, retried), recorded]
            case _:
                events.append(recorded)
    return events


def expanded(history: Sequence[Recorded]) -> list[Recorded]:
    """Return the log with the events that a fork has taken over behind the one that brought them.

    Their stream is the one they come from, their number that of the event which brought them.
    """
    events: list[Recorded] = []
    for recorded in history:
        events.append(recorded)
        if isinstance(recorded.event, WorkflowForked):
            events += _taken_over(recorded, recorded.event)
    return events


def origin_of_tasks(history: Sequence[Recorded]) -> str:
    """Return the id under which the tasks of a fork began, which decides their order in sets."""
    return next((one.event.origin for one in history if isinstance(one.event, WorkflowForked)), "")


def is_still_so(event: Event, retried: WorkflowRetried) -> bool:
    """Tell whether an event that was taken back is a fact all the same.

    What came from outside is, and what became of commands that had been issued by then, and which
    branch of a patch was taken.
    """
    if isinstance(event, SignalReceived | UpdateAccepted | PatchMarked):
        return True
    return isinstance(event, _OF_A_COMMAND) and event.op <= retried.ops and event.op != retried.op


def _taken_over(recorded: Recorded, forked: WorkflowForked) -> list[Recorded]:
    return [
        replace(recorded, stream=forked.source, time=time, event=decode_event(bytes(data)))
        for time, data in forked.events
    ]


def _without(events: list[Recorded], retried: WorkflowRetried) -> list[Recorded]:
    """Take back what stands from ``at`` on, and the attempts of the step that is made again."""
    return [
        one
        for one in events
        if (
            is_still_so(one.event, retried)
            if one.seq >= retried.at
            else not (isinstance(one.event, StepFailed) and one.event.op == retried.op)
        )
    ]
