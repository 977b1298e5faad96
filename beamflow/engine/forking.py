"""Forks: a new workflow that begins as a copy of another one, up to a place in its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Raw
from msgspec.structs import replace

from beamflow.engine.history import effective, expanded, origin_of_tasks
from beamflow.engine.replay import replay
from beamflow.engine.retrying import what_failed
from beamflow.errors import DefinitionError, WorkflowStateError
from beamflow.model.codec import encode_event
from beamflow.model.events import (
    CancelForced,
    CancelRequested,
    ChildCompleted,
    ChildFailed,
    ChildStarted,
    CompensationStarted,
    Ended,
    Recorded,
    SnapshotTaken,
    StepCompleted,
    StepFailed,
    StepHeartbeat,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowForked,
    WorkflowPaused,
    WorkflowResumed,
    WorkflowRetried,
    WorkflowStarted,
)
from beamflow.model.ids import child_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from beamflow.authoring.workflow import Workflow
    from beamflow.engine.execution import Execution
    from beamflow.model.events import Event

__all__ = ["Fork", "Snapshot", "fork_of", "snapshots_of"]

_ENDING = (CompensationStarted, CancelRequested, CancelForced, Ended)
_NOT_THE_CODES = (WorkflowPaused, WorkflowResumed, WorkflowRetried)


class Snapshot(NamedTuple):
    """A place that workflow code has named; see `WorkflowHandle.snapshots`."""

    name: str
    seq: int
    """Sequence number in the log of the workflow that is asked."""
    time: int
    """When it was taken, microseconds since the Unix epoch."""


class Fork(NamedTuple):
    """The first two events of a fork."""

    started: WorkflowStarted
    forked: WorkflowForked


def snapshots_of(history: Sequence[Recorded]) -> list[Snapshot]:
    """Return the snapshots of a whole log, oldest first; those it has taken over are among them."""
    return [
        Snapshot(one.event.name, one.seq, one.time)
        for one in expanded(history)
        if isinstance(one.event, SnapshotTaken)
    ]


def fork_of(
    workflow: Workflow[..., Any],
    source: str,
    history: Sequence[Recorded],
    fork_id: str,
    *,
    at: int | str | None,
    arguments: Sequence[Any] | None,
    results: Mapping[int | str, Any],
) -> Fork:
    """Make the events that begin a fork, after they were tried out: they replay.

    Args:
        workflow: the definition, of the source's version.
        source: whose log it is.
        history: the whole of it.
        fork_id: id of the workflow to begin.
        at: sequence number of the last event to take over, or name of a snapshot; None for all
            before the source began to end, or before what made it fail.
        arguments: in place of the arguments of the run.
        results: in place of those of steps, by op or name.

    Raises:
        WorkflowStateError: there is no such place, or it lies after the source began to end.
        DefinitionError: there is no such step, or more than one of the name.
        PayloadError: the input or a result does not fit its annotation, or JSON.
        NondeterminismError: the code does not do what the log says; an edit may have led it away.
    """
    taken, last, origin = _taken(source, history, at)
    started = history[0].event
    assert isinstance(started, WorkflowStarted)
    first = taken[0]
    begin = first.event
    assert isinstance(begin, WorkflowStarted | WorkflowContinued)
    if arguments is not None:
        payload = workflow.signature.arguments.encode(tuple(arguments), {})
        workflow.signature.arguments.decode(payload)
        begin = replace(begin, input=Raw(payload))
    taken[0] = replace(first, event=begin)
    taken = _edited(workflow, fork_id, taken, results, origin)
    return Fork(
        started=WorkflowStarted(
            workflow=started.workflow,
            version=started.version,
            input=begin.input,
            fingerprint=workflow.fingerprint,
            forked_from=f"{source}@{last}",
            tags=started.tags,
            attributes=started.attributes,
        ),
        forked=_forked(source, last, fork_id, origin, taken),
    )


def _forked(
    source: str, last: int, fork_id: str, origin: str, taken: Sequence[Recorded]
) -> WorkflowForked:
    return WorkflowForked(
        source=source,
        at=last,
        id=fork_id,
        origin=origin,
        events=tuple((one.time, Raw(encode_event(one.event))) for one in taken),
    )


def _taken(
    source: str, history: Sequence[Recorded], at: int | str | None
) -> tuple[list[Recorded], int, str]:
    """Return the events to take over, as a replay delivers them, the place of the last, the origin."""
    if isinstance(at, str):
        place, within = _snapshot(source, history, at)
    else:
        place, within = _default(source, history) if at is None else at, None
        if not 1 <= place <= history[-1].seq:
            message = (
                f"workflow {source!r} has no event {place}: at= must be from 1 to "
                f"{history[-1].seq}. Nothing was started"
            )
            raise WorkflowStateError(source, message)
    there = effective([one for one in history if one.seq <= place])
    events = there[:within]
    for one in events:
        if isinstance(one.event, _ENDING):
            message = (
                f"at={at!r} lies after workflow {source!r} began to end (event {one.seq}, "
                f"{type(one.event).__name__}): fork at {one.seq - 1} or before. Nothing was started"
            )
            raise WorkflowStateError(source, message)
    taken = [one for one in events if not isinstance(one.event, _NOT_THE_CODES)]
    return taken, place, origin_of_tasks(there) or source


def _default(source: str, history: Sequence[Recorded]) -> int:
    """Return the last place before the source began to end, or before what made it fail."""
    if isinstance(history[-1].event, WorkflowFailed):
        failed = what_failed(source, _current_run(history), None)
        if failed is not None:
            return failed.seq - 1
    place = history[-1].seq
    for one in reversed(history):
        if isinstance(one.event, WorkflowRetried | WorkflowContinued):
            break
        if isinstance(one.event, _ENDING):
            place = one.seq - 1
    return place


def _current_run(history: Sequence[Recorded]) -> Sequence[Recorded]:
    for place in range(len(history) - 1, -1, -1):
        if isinstance(history[place].event, WorkflowContinued):
            return history[place:]
    return history


def _snapshot(source: str, history: Sequence[Recorded], name: str) -> tuple[int, int | None]:
    """Return where the last snapshot of that name stands: its event, and how far into a fork's."""
    for one in reversed(history):
        if isinstance(one.event, SnapshotTaken) and one.event.name == name:
            return one.seq, None
        if isinstance(one.event, WorkflowForked):
            inherited = effective([history[0], one])
            for index in range(len(inherited) - 1, -1, -1):
                event = inherited[index].event
                if isinstance(event, SnapshotTaken) and event.name == name:
                    return one.seq, index + 1
    there = ", ".join(dict.fromkeys(repr(each.name) for each in snapshots_of(history))) or "none"
    message = f"workflow {source!r} has no snapshot {name!r} (it has: {there}). Nothing was started"
    raise WorkflowStateError(source, message)


def _edited(
    workflow: Workflow[..., Any],
    fork_id: str,
    taken: list[Recorded],
    results: Mapping[int | str, Any],
    origin: str,
) -> list[Recorded]:
    """Return the events with the edits, and without what open steps and children have come to."""
    editor = _Editor(workflow, fork_id, origin, taken)
    for step, value in results.items():
        editor.edit(step, value)
    return editor.finished()


class _Editor:
    """Changes events that are to be taken over, by what their replay says of them."""

    def __init__(
        self, workflow: Workflow[..., Any], fork_id: str, origin: str, taken: list[Recorded]
    ) -> None:
        self._workflow = workflow
        self._fork_id = fork_id
        self._origin = origin
        self.taken = taken

    def edit(self, step: int | str, value: Any) -> None:
        """Put a result in place of that of a step, or of a step that has none yet."""
        places = [
            place
            for place, one in enumerate(self.taken)
            if isinstance(one.event, StepCompleted) and step in {one.event.op, one.event.name}
        ]
        if not places:
            self._complete(step, value)
            return
        if len(places) > 1:
            self._refuse(
                step, f"{len(places)} steps of that name have completed; name one by its op"
            )
        (place,) = places
        event = self.taken[place].event
        assert isinstance(event, StepCompleted)
        code = self._replayed(self.taken[:place])
        try:
            result = _encoded(code, event.op, value)
        finally:
            code.close()
        self.taken[place] = replace(self.taken[place], event=replace(event, result=result))

    def finished(self) -> list[Recorded]:
        """Return the events; raises `NondeterminismError` if the code does not follow them."""
        code = self._replayed(self.taken)
        try:
            open_ = {op for op, call in code.calls.items() if call.is_wanted}
            ids = {
                op: child_id(self._fork_id, op, code.run)
                for op, call in code.children.items()
                if not call.is_named
            }
        finally:
            code.close()
        taken = [
            replace(one, event=_renamed(one.event, ids))
            for one in self.taken
            if not (isinstance(one.event, StepFailed | StepHeartbeat) and one.event.op in open_)
        ]
        self._replayed(taken).close()
        return taken

    def _complete(self, step: int | str, value: Any) -> None:
        code = self._replayed(self.taken)
        try:
            open_ = [call for op, call in code.calls.items() if step in {op, call.step.name}]
            if len(open_) != 1:
                self._refuse(step, "there is none, or more than one, to be given a result by then")
            (call,) = open_
            last = self.taken[-1]
            event = StepCompleted(
                op=call.op,
                name=call.step.name,
                digest=call.digest,
                result=_encoded(code, call.op, value),
                started_at=last.time,
            )
        finally:
            code.close()
        self.taken.append(replace(last, event=event))

    def _replayed(self, taken: Sequence[Recorded]) -> Execution:
        """Run the code against what is to be taken over, as the fork will."""
        mark = replace(taken[-1], event=_forked("", 0, self._fork_id, self._origin, ()))
        return replay(self._workflow, self._fork_id, [*taken, mark])

    def _refuse(self, step: int | str, problem: str) -> None:
        message = f"results={{{step!r}: ...}} is refused: {problem}. Nothing was started"
        raise DefinitionError(message)


def _encoded(code: Execution, op: int, value: Any) -> Raw:
    annotated = code.calls[op].step.signature.result
    payload = annotated.encode(value)
    annotated.decode(payload)
    return Raw(payload)


def _renamed(event: Event, ids: Mapping[int, str]) -> Event:
    if isinstance(event, ChildStarted | ChildCompleted | ChildFailed) and event.op in ids:
        return replace(event, id=ids[event.op])
    return event
