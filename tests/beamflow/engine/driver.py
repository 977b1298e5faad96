"""A workflow without an engine: what happens to it, and when, is the test's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Raw

from beamflow import workflow
from beamflow.engine.execution import Execution, StepCall, new_execution, replay
from beamflow.engine.failure import describe
from beamflow.model.codec import decode_event, encode_event
from beamflow.model.commands import CancelTimer, Command, StartTimer, TakeNote
from beamflow.model.events import (
    Event,
    Recorded,
    SignalReceived,
    StepCompleted,
    StepFailed,
    TimerCancelled,
    TimerFired,
    TimerStarted,
    WorkflowStarted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from beamflow import Workflow

START = 1_750_000_000_000_000
SECOND = 1_000_000


class Driver:
    """Does to one execution what its actor does, and keeps the log in a list.

    Attributes:
        log: what has happened.
        commands: all that the code has asked for.
    """

    def __init__(self, execution: Execution, log: Sequence[Recorded] = ()) -> None:
        self.execution = execution
        self.log = list(log)
        self.commands: list[Command] = []
        self.time = log[-1].time if log else START
        self._unrecorded: list[Event] = []

    @classmethod
    def start(cls, workflow: Workflow[..., Any], *args: Any, id: str = "wf") -> Driver:
        driver = cls(new_execution(workflow, id))
        payload = workflow.signature.arguments.encode(args, {})
        driver.take(WorkflowStarted(workflow=workflow.name, version=1, input=Raw(payload)))
        return driver

    @classmethod
    def resume(
        cls, workflow: Workflow[..., Any], log: Sequence[Recorded], *, id: str = "wf"
    ) -> Driver:
        """Replay the log, then do what an actor does that comes back."""
        driver = cls(replay(workflow, id, log), log)
        code = driver.execution
        driver.commands += code.take_commands()
        for op, timer in tuple(code.timers.items()):
            if timer.cancelled():
                driver._give_up_timer(op)
            elif not timer.recorded:
                driver._unrecorded.append(TimerStarted(op=op, due=timer.due))
        if code.notes is not None:
            driver._unrecorded += code.notes.unrecorded
        return driver

    def take(self, *events: Event, after: int = 0) -> None:
        """Record the events at once, behind what waits to be recorded; then deliver them."""
        self.time += after
        news = [decode_event(encode_event(event)) for event in (*self._unrecorded, *events)]
        self._unrecorded.clear()
        first = len(self.log)
        for event in news:
            seq = len(self.log) + 1
            self.log.append(Recorded(stream="wf", seq=seq, time=self.time, epoch=1, event=event))
        for recorded in self.log[first:]:
            self.execution.deliver(recorded.seq, recorded.time, recorded.event)
        for command in self.execution.take_commands():
            self.commands.append(command)
            match command:
                case StartTimer(op=op):
                    timer = self.execution.timers.get(op)
                    if timer is not None and not timer.cancelled():
                        self._unrecorded.append(TimerStarted(op=op, due=timer.due))
                case CancelTimer(op=op):
                    self._give_up_timer(op)
                case TakeNote(event=note):
                    self._unrecorded.append(note)
                case _:
                    pass

    def _give_up_timer(self, op: int) -> None:
        code = self.execution
        if op not in code.timers:
            return
        unrecorded = [each for each in self._unrecorded if getattr(each, "op", 0) == op]
        if not unrecorded and code.timers[op].recorded:
            self._unrecorded.append(TimerCancelled(op=op))
            return
        self._unrecorded = [each for each in self._unrecorded if each not in unrecorded]
        del code.timers[op]

    # What may happen

    @property
    def calls(self) -> list[StepCall]:
        """Steps that may have an outcome, cancelled ones too: they may be too far to be stopped."""
        return [call for call in self.execution.calls.values() if not call.is_idle]

    @property
    def timers(self) -> list[int]:
        return [op for op, timer in self.execution.timers.items() if not timer.cancelled()]

    def call(self, name: str) -> StepCall:
        """Return the oldest open call of a step."""
        return next(call for call in self.calls if call.step.name == name)

    def completed(self, call: StepCall, result: object) -> StepCompleted:
        return StepCompleted(
            op=call.op,
            name=call.step.name,
            digest=call.digest,
            result=Raw(call.step.signature.result.encode(result)),
            started_at=self.time,
            attempt=call.attempt,
        )

    def failed(
        self, call: StepCall, error: BaseException, retry_at: int | None = None
    ) -> StepFailed:
        return StepFailed(
            op=call.op,
            name=call.step.name,
            digest=call.digest,
            error=describe(error, call.step),
            started_at=self.time,
            attempt=call.attempt,
            retry_at=retry_at,
        )

    # Shorthands

    def complete(self, name: str, result: object = None) -> None:
        self.take(self.completed(self.call(name), result))

    def fail(self, name: str, error: BaseException) -> None:
        self.take(self.failed(self.call(name), error))

    def fire(self, op: int | None = None) -> None:
        """Let the timer that is due first fire, or the one named."""
        timers = self.execution.timers
        op = op or min(self.timers, key=lambda each: (timers[each].due, each))
        self.time = max(self.time, timers[op].due)
        self.take(TimerFired(op=op))

    def signal(self, name: str, payload: bytes = b"null") -> None:
        self.take(SignalReceived(id=f"{name}-{len(self.log)}", name=name, payload=Raw(payload)))

    @property
    def result(self) -> Any:
        """What the workflow returned, or raised."""
        assert self.execution.ended
        return self.execution.outcome()


def running(code: Callable[[], Any], **options: Any) -> Driver:
    """Start a coroutine function as a workflow; with options as `Driver.start` has them."""
    return Driver.start(workflow(name="code")(code), **options)
