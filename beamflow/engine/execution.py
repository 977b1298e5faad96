"""One run of a workflow's code: events in, commands out. No input or output, no clock, no await.

The same class serves the live workflow and its replay. Every event of the stream is delivered, in
log order, one at a time; those that the code waits for (a step's outcome, a timer, a signal) start
an activation: the loop's time is set to the event's, the code runs until it waits again, and what
it has asked for meanwhile gets its numbers. Nothing else can influence the code, which is why a
replay repeats it.

On replay each recorded command is compared with the one that the code issues under the same number;
a difference raises `NondeterminismError`.
"""

from __future__ import annotations

from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from beamflow.engine.code import Code
from beamflow.engine.failure import raised
from beamflow.engine.history import origin_of_tasks
from beamflow.engine.saga import Unwinding, saga_of
from beamflow.engine.step_call import StepCall
from beamflow.engine.workflow_loop import MICROSECONDS, LoopTimer
from beamflow.errors import HostLoopError, NondeterminismError
from beamflow.model.commands import CancelStep, CancelTimer
from beamflow.model.events import (
    AttributesChanged,
    CancelForced,
    CancelRequested,
    ChildCompleted,
    ChildFailed,
    ChildStarted,
    CompensationCompleted,
    CompensationFailed,
    CompensationStarted,
    Event,
    PatchMarked,
    ProgressReported,
    Recorded,
    SignalReceived,
    SnapshotTaken,
    StatePublished,
    StepCompleted,
    StepFailed,
    StepHeartbeat,
    TimerCancelled,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
    UpdateCompleted,
    WorkflowBegan,
    WorkflowContinued,
    WorkflowForked,
    WorkflowRetried,
    WorkflowStarted,
)

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from beamflow.authoring.workflow import Workflow
    from beamflow.engine.workflow_task import WorkflowTask

__all__ = ["Execution", "StepCall", "new_execution", "replay"]

_UNDECODED = object()


class Execution(Code):
    """Runs one workflow's code against its events.

    Args:
        workflow: the definition.
        workflow_id: the id.
        origin: the id under which the first of its events were recorded, for a fork.

    Attributes:
        input: the arguments of the run.
        told_to_end: the request to end, once there is one.
        to_compensate: completed steps whose compensation may still have to be made, in order of
            completion.
        way_back: the compensations of the workflow as a whole, once it has failed.
    """

    __slots__ = ("input", "to_compensate", "told_to_end", "way_back")

    def __init__(self, workflow: Workflow[..., Any], workflow_id: str, origin: str = "") -> None:
        """Prepare a run; deliver `WorkflowStarted` or `WorkflowContinued` to begin it."""
        super().__init__(workflow, workflow_id, origin)
        self.input = Raw(b"null")
        self.told_to_end: CancelRequested | None = None
        self.to_compensate: tuple[StepCall, ...] = ()
        self.way_back: Unwinding | None = None

    # For whoever drives it

    def deliver(self, seq: int, time: int, event: Event, value: object = _UNDECODED) -> None:
        """Take the next event of the stream; the code runs on if it waits for that.

        Args:
            seq: position of the event, for messages.
            time: when it was recorded, microseconds.
            event: the event.
            value: the step's decoded result, where the caller has decoded it already.

        Raises:
            NondeterminismError: the code has not issued what the event is about.
            PayloadError: a recorded payload does not fit its annotation.
        """
        match event:
            case StepCompleted():
                self._deliver_result(seq, time, event, value)
            case StepFailed():
                self._deliver_failure(seq, time, event)
            case TimerFired():
                timer = self._started_timer(seq, event)
                self.now = time
                del self.timers[event.op]
                self.fire(timer)
                self._activate()
            case TimerStarted():
                timer = self._started_timer(seq, event)
                timer.due = event.due
                timer.recorded = True
            case TimerCancelled():
                if not self._started_timer(seq, event).cancelled():
                    raise self._diverged(seq, event.op, f"timer (op {event.op}) given up")
                del self.timers[event.op]
            case SignalReceived():
                self.now = time
                self.rests = False
                self.inbox.offer(event.name, event.payload, ending=self._main_ended)
                self._activate()
            case WorkflowStarted():
                self.input = event.input
                if event.begin_at is None:
                    self._begin(time)
            case (
                StatePublished()
                | ProgressReported()
                | AttributesChanged()
                | SnapshotTaken()
                | PatchMarked()
                | UpdateCompleted()
            ):
                self._noted.recorded(seq, event)
            case UpdateAccepted():
                self.now = time
                self.rests = False
                self.inbox.update(seq, event)
                self._activate()
            case WorkflowBegan():
                self._begin(time)
            case CancelRequested():
                if self._main_ended and event.overdue:
                    return
                self.now = time
                self.told_to_end = event
                if self._main is None:
                    self._main_ended = True
                elif not self._main.done():
                    self.rests = False
                    self._main.cancel()
                    self._activate()
            case CancelForced():
                self.now = time
                self._take_away()
            case CompensationCompleted() | CompensationFailed():
                self._deliver_compensation(seq, time, event)
            case CompensationStarted():
                self._begin_way_back(seq, event)
            case StepHeartbeat():
                self._calling(seq, event).heartbeat = event.details
            case ChildStarted() | ChildCompleted() | ChildFailed():
                self._deliver_child(seq, time, event)
            case WorkflowContinued():
                self.run = event.run
                self._seed = f"{self._seed}#{event.run}"
                self.input = event.input
                for name, payload in event.signals:
                    self.inbox.offer(name, payload)
                self._begin(time)
            case WorkflowForked():
                self._seed = event.id
                self._random = None
                self.to_compensate = ()
                self._extend_deadlines(time)
            case WorkflowRetried():
                self._extend_deadlines(time)
            case _:
                return

    def close(self) -> None:
        """Take the code out of memory; see `WorkflowLoop.close`."""
        if self._inbox is not None:
            self._inbox.clear()
        super().close()
        self.rollbacks = ()
        self._inbox = None
        self.conditions = None
        # each has this loop: what has ended is not left to the collector
        self._main = None
        self.calls.clear()
        self.children.clear()
        self.timers.clear()

    @property
    def unwindings(self) -> list[Unwinding]:
        """What is being undone: the steps of sagas, or those of the workflow as a whole."""
        if self.way_back is not None:
            return [self.way_back]
        return [each.unwinding for each in self.rollbacks if each.unwinding is not None]

    @property
    def awaited_signals(self) -> tuple[str, ...]:
        """Names of the signals that the code waits for."""
        return () if self._inbox is None else self._inbox.awaited

    # Deliveries

    def _extend_deadlines(self, time: int) -> None:
        """Give the steps that are made again, in a fork or after a failure, all of their time."""
        for call in self.calls.values():
            if call.step.deadline is not None:
                call.deadline = time + round(call.step.deadline * MICROSECONDS)

    def _begin(self, time: int) -> None:
        self.now = time
        self.rests = False
        args, kwargs = self.workflow.signature.arguments.decode(self.input)
        code = self.workflow.begin(args, kwargs)
        # in a context of its own: what the host has set in its own is not in the log
        self._main = self.create_task(code, name="main", context=Context())
        self._activate()

    def _take_away(self) -> None:
        """End the code where it stands: it was told to end, and has not in time."""
        if self.ended:
            return
        self.end_coroutines()
        self.rollbacks = ()
        self._main_ended = self._taken_away = True
        for call in self.calls.values():
            if not call.cancelled:
                call.cancelled = call.is_idle = True
                self._commands.append(CancelStep(op=call.op))
        for timer in self.timers.values():
            if not timer.cancelled():
                timer.cancel()
                self._commands.append(CancelTimer(op=timer.op))

    def _deliver_result(self, seq: int, time: int, event: StepCompleted, value: object) -> None:
        call = self._issued_call(seq, event)
        if value is _UNDECODED:
            value = call.step.signature.result.decode(event.result)
        self.now = time
        self._close_call(event.op)
        if call.step.compensated_by is not None:
            call.result = event.result
            self.to_compensate += (call,)
        if not call.future.done():
            self.rests = False
            call.future.set_result(value)
        self._activate()

    def _close_call(self, op: int) -> None:
        del self.calls[op]
        if not self.calls:
            self.calls = {}  # an emptied one keeps its table

    def _deliver_failure(self, seq: int, time: int, event: StepFailed) -> None:
        call = self._issued_call(seq, event)
        if event.retry_at is not None:
            call.attempt = event.attempt + 1
            call.retry_at = event.retry_at
            if call.cancelled:  # nobody waits for another attempt, and this one has done nothing
                self._close_call(event.op)
                if self.rollbacks:
                    self.now = time
                    self._activate()
            return
        self.now = time
        self._close_call(event.op)
        if not call.future.done():
            self.rests = False
            call.future.set_exception(raised(event, call.step))
        del call  # what comes out of the code has this frame, and it has that
        self._activate()

    def _deliver_compensation(
        self, seq: int, time: int, event: CompensationCompleted | CompensationFailed
    ) -> None:
        if not any(unwinding.deliver(event) for unwinding in self.unwindings):
            raise self._diverged(seq, event.op, f"compensation {event.name!r} of op {event.op}")
        if isinstance(event, CompensationCompleted):
            self._forget({event.op})
        if self.way_back is None:
            self.now = time
            self._activate()

    def _begin_way_back(self, seq: int, event: CompensationStarted) -> None:
        calls = {call.op: call for call in self.to_compensate}
        failed = self.ended and self.failure is not None
        if not failed or calls.keys() != {*event.steps}:
            raise NondeterminismError(
                self.workflow_id,
                seq=seq,
                recorded=f"the workflow failed, compensating steps {event.steps}",
                issued="the code has not failed, or completed other steps",
            )
        self.rollbacks = ()
        self.way_back = Unwinding([calls[op] for op in event.steps])

    def _forget(self, ops: Container[int]) -> None:
        self.to_compensate = tuple(call for call in self.to_compensate if call.op not in ops)

    def _deliver_child(
        self, seq: int, time: int, event: ChildStarted | ChildCompleted | ChildFailed
    ) -> None:
        call = self.children.get(event.op)
        if call is None or (call.workflow.name, call.digest) != (event.workflow, event.digest):
            recorded = f"child workflow {event.workflow!r} (op {event.op}, digest {event.digest})"
            raise self._diverged(seq, event.op, recorded)
        if not isinstance(event, ChildStarted):
            del self.children[event.op]
        self.now = time
        self.rests = False
        call.deliver(event)
        del call  # as above
        self._activate()

    def _activate(self) -> None:
        """Let the code run, then number what it has asked for."""
        if self.trespass:
            raise HostLoopError(self.trespass)
        self.rests = False
        self._run()
        if self._main is not None and self._main.done():
            self._wind_up(self._main)
        while self.rollbacks and self._roll_back():
            self._run()
            if self._main is not None and self._main.done():
                self._wind_up(self._main)
        if self.issued:
            self._number_issued()
        if self.timers_cancelled:
            self._commands.extend(CancelTimer(op=timer.op) for timer in self.timers_cancelled)
            self.timers_cancelled = ()
        self.rests = True

    def _roll_back(self) -> bool:
        """Begin to undo the sagas that have come to rest; tell whether code runs on after one."""
        for rollback in self.rollbacks:
            if rollback.unwinding is None and rollback.may_begin(
                self.calls.values(), self.children.values(), self.rollbacks
            ):
                calls = [call for call in self.to_compensate if saga_of(call) is rollback.saga]
                rollback.unwinding = Unwinding(reversed(calls), self.workflow.name)
            given_up = rollback.settle()
            if given_up is not None:
                self.rollbacks = tuple(each for each in self.rollbacks if each is not rollback)
                self._forget(given_up)
                return True
        return False

    def _run(self) -> None:
        self.drain()
        if self.conditions is not None:
            self.conditions.look()

    def _wind_up(self, main: WorkflowTask) -> None:
        """The function has ended: cancel what it left running, then close its generators."""
        if not self._main_ended:
            self._main_ended = True
            if not main.cancelled():
                main.exception()
            left = self.tasks
            for task in left:
                task.cancel()
            if left:
                self._run()
        if not self.tasks_by_number and self.generators:
            for generator in self.generators:
                _ = self.create_task(generator.aclose())
            self._run()

    # Comparing the code with the log

    def _issued_call(self, seq: int, event: StepCompleted | StepFailed) -> StepCall:
        call = self.calls.get(event.op)
        if call is not None and call.step.name == event.name and call.digest == event.digest:
            return call
        recorded = f"step {event.name!r} (op {event.op}, digest {event.digest})"
        raise self._diverged(seq, event.op, recorded)

    def _calling(self, seq: int, event: StepHeartbeat) -> StepCall:
        call = self.calls.get(event.op)
        if call is not None:
            return call
        raise self._diverged(seq, event.op, f"a heartbeat of a step (op {event.op})")

    def _started_timer(
        self, seq: int, event: TimerStarted | TimerFired | TimerCancelled
    ) -> LoopTimer:
        timer = self.timers.get(event.op)
        if timer is not None:
            return timer
        raise self._diverged(seq, event.op, f"a timer (op {event.op})")

    def _diverged(self, seq: int, op: int, recorded: str) -> NondeterminismError:
        return NondeterminismError(
            self.workflow_id, seq=seq, recorded=recorded, issued=self._issued_as(op)
        )


def new_execution(workflow: Workflow[..., Any], workflow_id: str, origin: str = "") -> Execution:
    """Return an execution that waits for its first event, the beginning of a run."""
    # What the loop refuses is set on its class by name, which a type checker cannot see.
    return Execution(workflow, workflow_id, origin)  # type: ignore[abstract]


def _deliver_all(execution: Execution, history: Sequence[Recorded]) -> None:
    for recorded in history:
        execution.deliver(recorded.seq, recorded.time, recorded.event)


def replay(
    workflow: Workflow[..., Any], workflow_id: str, history: Sequence[Recorded]
) -> Execution:
    """Run the code against its log, up to the last event; what is left open is in the result.

    Raises:
        NondeterminismError: the code does not do what the log says.
        PayloadError: a recorded payload does not fit its annotation.
    """
    execution = new_execution(workflow, workflow_id, origin_of_tasks(history))
    execution.replayed = history
    try:
        execution.inside(partial(_deliver_all, execution, history))
    except BaseException:
        execution.close()
        raise
    execution.replayed = None
    return execution
