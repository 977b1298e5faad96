"""What follows for the log from what a workflow's code has asked for or come to. Pure."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING

from msgspec import Raw

from beamflow.authoring.renewal import renewal_of
from beamflow.engine.failure import describe, origin_of
from beamflow.errors import HostLoopError, WorkflowTimeoutError
from beamflow.model.commands import CancelTimer, RunStep, StartTimer, TakeNote
from beamflow.model.events import (
    CompensationStarted,
    Failure,
    TimerCancelled,
    TimerStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from beamflow.engine.execution import Execution
    from beamflow.model.commands import Command
    from beamflow.model.events import Event

__all__ = ["check_outcome", "consequences"]


def consequences(
    code: Execution, commands: Sequence[Command], *, idle: Callable[[], bool]
) -> Iterable[Event]:
    """Give what the code's commands add to the log; at its end, what it came to.

    Args:
        code: the workflow's code.
        commands: what the code has asked for.
        idle: tells whether nothing is under way or paused; a workflow does not end before that.

    Raises:
        HostLoopError: it has ended the code.
        PayloadError: the result does not fit its annotation, or JSON.
    """
    if not code.ending and all(type(command) is RunStep for command in commands):
        return ()
    return _consequences(code, commands, idle)


def _consequences(
    code: Execution, commands: Sequence[Command], idle: Callable[[], bool]
) -> Iterator[Event]:
    _check_host_loop(code)
    for command in commands:
        match command:
            case RunStep():
                pass
            case StartTimer(op=op):
                timer = code.timers.get(op)
                if timer is not None and not timer.cancelled():
                    yield TimerStarted(op=op, due=timer.due)
            case CancelTimer(op=op):
                timer = code.timers.get(op)
                if timer is not None and timer.recorded:
                    yield TimerCancelled(op=op)
                else:
                    code.timers.pop(op, None)
            case TakeNote(event=event):
                yield event
            case _:
                pass
    if code.ended and idle():
        yield from _outcome(code)


def check_outcome(code: Execution) -> None:
    """See after a replay that what the code came to, if it has ended, can be recorded.

    Raises:
        HostLoopError: it has ended the code.
        PayloadError: the result does not fit its annotation, or JSON.
    """
    _check_host_loop(code)
    if code.ended and code.failure is None:
        _result(code)


def _outcome(code: Execution) -> Iterator[Event]:
    """Give the event that the end of the code comes to: the last one, or the way back."""
    error = code.failure
    if error is None:
        yield WorkflowCompleted(result=_result(code))
    elif isinstance(error, KeyboardInterrupt):
        raise error
    elif code.told_to_end is None and (renewal := renewal_of(error)) is not None:
        yield WorkflowContinued(run=code.run + 1, input=Raw(renewal.input), signals=code.unreceived)
    elif code.way_back is not None:
        if code.way_back.done:
            yield _end(code, error)
    elif code.to_compensate:
        steps = tuple(call.op for call in reversed(code.to_compensate))
        yield CompensationStarted(error=describe(error), steps=steps)
    else:
        yield _end(code, error)


def _check_host_loop(code: Execution) -> None:
    """Raise the `HostLoopError` that has ended the code: it is the code that is to be mended."""
    error = code.failure
    while isinstance(error, BaseExceptionGroup):
        error = next(iter((error.subgroup(HostLoopError) or error).exceptions))
    if isinstance(error, HostLoopError):
        raise error
    if isinstance(error, RuntimeError) and str(error).endswith(_BOUND_ELSEWHERE):
        message = (
            f"{error}, that of the host application or of another workflow, for which workflow code "
            f"cannot wait: replay could not repeat it. Make it in the workflow, or use it in a step"
        )
        raise HostLoopError(message) from error


def _result(code: Execution) -> Raw:
    """Return what the code returned, as JSON that its annotation can read."""
    annotated = code.workflow.signature.result
    recorded = annotated.encode(code.outcome())
    annotated.decode(recorded)
    return Raw(recorded)


def _end(code: Execution, error: BaseException) -> WorkflowFailed | WorkflowCancelled:
    told = code.told_to_end
    if told is None:
        return _failed(code, error)
    if told.overdue:
        return WorkflowFailed(workflow=code.workflow.name, error=_OVERDUE, input=code.input)
    is_own = isinstance(error, CancelledError) or renewal_of(error) is not None
    raised = None if is_own else describe(error)
    return WorkflowCancelled(reason=told.reason, error=raised)


_BOUND_ELSEWHERE = "is bound to a different event loop"
_OVERDUE = Failure(
    type=f"{WorkflowTimeoutError.__module__}.{WorkflowTimeoutError.__qualname__}",
    message="it had not ended by its deadline",
)


def _failed(code: Execution, error: BaseException) -> WorkflowFailed:
    origin = origin_of(error)
    workflow = code.workflow.name
    if origin is None:
        return WorkflowFailed(workflow=workflow, error=describe(error), input=code.input)
    return WorkflowFailed(
        workflow=workflow,
        error=origin.failure,
        op=origin.op,
        step=origin.step,
        attempts=origin.attempts,
        input=origin.input,
    )
