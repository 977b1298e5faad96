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

import asyncio
import inspect
from asyncio import CancelledError
from contextvars import Context
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec import Raw

from beamflow.authoring.renewal import ContinueAsNew
from beamflow.authoring.saga import current_saga
from beamflow.engine.child_call import ChildCall
from beamflow.engine.conditions import Conditions
from beamflow.engine.failure import raised
from beamflow.engine.history import origin_of_tasks
from beamflow.engine.inbox import Inbox
from beamflow.engine.notes import Notes
from beamflow.engine.patches import Patches
from beamflow.engine.saga import Rollback, Unwinding, saga_of
from beamflow.engine.step_call import StepCall
from beamflow.engine.workflow_loop import MICROSECONDS, LoopTimer, WorkflowLoop
from beamflow.errors import (
    DefinitionError,
    NondeterminismError,
    ReadOnlyError,
    UnknownHandlerError,
)
from beamflow.model.commands import (
    CancelChild,
    CancelStep,
    CancelTimer,
    Command,
    RunStep,
    StartChild,
    StartTimer,
    TakeNote,
)
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
    Note,
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
from beamflow.model.ids import child_id

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Coroutine, Sequence

    from beamflow.authoring.handlers import Handler
    from beamflow.authoring.idempotency import SharedKey
    from beamflow.authoring.saga import Saga
    from beamflow.authoring.step import Step
    from beamflow.authoring.workflow import Workflow
    from beamflow.engine.workflow_task import WorkflowTask
    from beamflow.model.codec import Payload

__all__ = ["Execution", "StepCall", "new_execution", "replay"]

_UNDECODED = object()
_READ_ONLY = (
    "{!r} has {}: a query or a validator may read everything and change nothing. Put what acts into "
    "the workflow's function, a signal or an update"
)


class Execution(WorkflowLoop):
    """Runs one workflow's code against its events.

    Args:
        workflow: the definition.
        workflow_id: the id.
        origin: the id under which the first of its events were recorded, for a fork.

    Attributes:
        run: number of the run, 0 for the first.
        calls: steps without a recorded outcome, by op.
        children: child workflows without a recorded outcome, by op.
        timers: timers that have neither fired nor been given up in the log, by op.
        notes: what the code has noted and the log does not have yet; None before the first.
        told_to_end: the request to end, once there is one.
        to_compensate: completed steps whose compensation may still have to be made, in order of
            completion.
        rollbacks: the sagas that are being undone.
        way_back: the compensations of the workflow as a whole, once it has failed.
        patches: what the code was answered about its patches; None before it asks.
        replayed: the log while it is being replayed, None when the code runs live.
        conditions: what the code waits until; None before the first time.
    """

    __slots__ = (
        "_broken_by",
        "_commands",
        "_inbox",
        "_main",
        "_main_ended",
        "_ops",
        "_random",
        "_seed",
        "_taken_away",
        "calls",
        "children",
        "conditions",
        "input",
        "notes",
        "patches",
        "replayed",
        "rollbacks",
        "run",
        "timers",
        "to_compensate",
        "told_to_end",
        "way_back",
        "workflow",
    )

    def __init__(self, workflow: Workflow[..., Any], workflow_id: str, origin: str = "") -> None:
        """Prepare a run; deliver `WorkflowStarted` or `WorkflowContinued` to begin it."""
        super().__init__(workflow_id, origin)
        self.run = 0
        self._seed = origin or workflow_id
        self.workflow = workflow
        self.input = Raw(b"null")
        self.calls: dict[int, StepCall] = {}
        self.children: dict[int, ChildCall] = {}
        self.timers: dict[int, LoopTimer] = {}
        self.to_compensate: tuple[StepCall, ...] = ()
        self.notes: Notes | None = None
        self.rollbacks: tuple[Rollback, ...] = ()
        self.way_back: Unwinding | None = None
        self.patches: Patches | None = None
        self.replayed: Sequence[Recorded] | None = None
        self._commands: list[Command] = []
        self._ops = 0
        self._main: WorkflowTask | None = None
        self._main_ended = False
        self._taken_away = False
        self.told_to_end: CancelRequested | None = None
        self._random: Random | None = None
        self._inbox: Inbox | None = None
        self.conditions: Conditions | None = None
        self._broken_by: BaseException | None = None

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

    def take_commands(self) -> list[Command]:
        """Return what the code has asked for since the last call, in order of issue."""
        commands, self._commands = self._commands, []
        return commands

    def close(self) -> None:
        """Take the code out of memory; see `WorkflowLoop.close`."""
        if self._inbox is not None:
            self._inbox.clear()
        super().close()
        self.rollbacks = ()
        self._inbox = None
        self.conditions = None
        self._main = None  # it has this loop: what has ended is not left to the collector

    @property
    def ended(self) -> bool:
        """Whether the function has returned or raised, and every task that it left behind too."""
        return self._main_ended and not self.tasks_by_number

    @property
    def failure(self) -> BaseException | None:
        """What the function has raised; None while it runs, or when it has returned."""
        main = self._main
        if not self._main_ended:
            return None
        if self._broken_by is not None:
            return self._broken_by
        if main is None or self._taken_away or main.cancelled():
            return CancelledError()
        return main.exception()

    @property
    def ending(self) -> bool:
        """Whether the function has ended, though what it left behind may still run."""
        return self._main_ended

    def outcome(self) -> Any:
        """Return what the function returned, or raise what it raised; only once it has `ended`."""
        assert self._main is not None
        if self._broken_by is not None:
            raise self._broken_by
        return self._main.result()

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

    @property
    def inbox(self) -> Inbox:
        """What others send to the code."""
        if self._inbox is None:
            self._inbox = Inbox(self)
        return self._inbox

    # For workflow code, by way of the context functions

    @property
    def random(self) -> Random:
        """The workflow's own generator."""
        if self._random is None:
            self._random = Random(self._seed)  # noqa: S311 - repeatable on purpose
        return self._random

    async def call_step(
        self,
        step: Step[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        shared: SharedKey | None = None,
    ) -> Any:
        """Issue a step and wait for its outcome."""
        arguments = step.signature.arguments
        payload = arguments.encode(args, kwargs)
        call = StepCall(step, payload, arguments.decode(payload), self.create_future())
        call.shared = shared
        if step.deadline is not None:
            call.deadline = self.now + round(step.deadline * MICROSECONDS)
        self.issued.append(call)
        try:
            return await call.future
        except CancelledError:
            if call.future.cancelled() and not call.cancelled:
                call.cancelled = True
                if call.op:
                    self._commands.append(CancelStep(op=call.op))
            raise

    async def call_child(
        self, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Issue a child and wait for its outcome."""
        call = self._issue_child(workflow, args, kwargs)
        return await self._awaited(call, call.future)

    async def start_child(
        self, workflow: Workflow[..., Any], args: tuple[Any, ...], *, id: str, on_close: str
    ) -> ChildCall:
        """Issue a child and wait for its start."""
        call = self._issue_child(workflow, args, {}, id=id, on_close=on_close)
        await self._awaited(call, call.started)
        return call

    async def receive(self, name: str, payload: Payload[Any]) -> Any:
        """Take the next signal of that name, waiting for one if need be."""
        return payload.decode(await self.inbox.receive(name))

    def until(self, condition: Callable[[], object]) -> Coroutine[Any, Any, None]:
        """Wait until the condition holds."""
        if self.conditions is None:
            self.conditions = Conditions(self)
        return self.conditions.wait(condition)

    def handle(self, handler: Handler) -> None:
        """Have a function called from outside."""
        self.inbox.register(handler)

    def handler(self, kind: str, name: str) -> Handler:
        """Return what the code has registered; raises `UnknownHandlerError`."""
        handlers = {} if self._inbox is None else self._inbox.handlers
        found = handlers.get((kind, name))
        if found is None:
            known = tuple(name for of, name in handlers if of == kind)
            raise UnknownHandlerError(self.workflow_id, kind, name, known)
        return found

    def aside(self, function: Callable[..., Any], args: tuple[Any, ...], **kwargs: Any) -> Any:
        """Call a function of the author's that may look at all and change nothing.

        Raises:
            ReadOnlyError: it has asked for something. This run has seen that, and is to be closed.
        """
        before, drawn = self._footprint(), None if self._random is None else self._random.getstate()
        result, problem = None, None
        try:
            result = self.inside(partial(Context().run, function, *args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at first
            problem = error
        if drawn is None:
            self._random = None
        elif self._random is not None:
            self._random.setstate(drawn)
        if inspect.iscoroutine(result):
            result.close()
            raise ReadOnlyError(_READ_ONLY.format(function, "returned a coroutine"))
        if self._footprint() != before:
            raise ReadOnlyError(_READ_ONLY.format(function, "asked for something")) from problem
        if problem is not None:
            raise problem
        return result

    def check_signal(self, name: str, payload: Raw) -> None:
        """Raise `PayloadError` if the signal has a handler that cannot read it."""
        if self._inbox is not None:
            self._inbox.check(name, payload)

    def fail(self, error: BaseException) -> None:
        """A handler has raised: the workflow ends by that, as by an error of its own."""
        if self._closed or self._main_ended or self._broken_by is not None:
            return
        self._broken_by = error
        if self._main is not None:
            self._main.cancel()

    @property
    def ops(self) -> int:
        """Number of the last command that the code has issued."""
        return self._ops

    @property
    def unreceived(self) -> tuple[tuple[str, Raw], ...]:
        """Name and payload of the signals that nobody has taken, oldest first."""
        return () if self._inbox is None else self._inbox.unreceived

    def continue_as_new(self, args: tuple[Any, ...]) -> NoReturn:
        """End this run, to begin another one with these arguments."""
        if asyncio.current_task(self) is not self._main:
            message = (
                "continue_as_new() was called in a task that the workflow has started; call it in "
                "the function itself, when the tasks have come to their end"
            )
            raise DefinitionError(message)
        arguments = self.workflow.signature.arguments
        payload = arguments.encode(args, {})
        arguments.decode(payload)
        raise ContinueAsNew(payload)

    def note(self, event: Note) -> None:
        """Have an event recorded with what led to it."""
        if not self._closed:
            self._noted.add(event)
            self._commands.append(TakeNote(event=event))

    def undo(self, saga: Saga, *, leaving: bool) -> asyncio.Future[tuple[CompensationFailed, ...]]:
        """Have the steps of a saga undone, once what it has left running has ended."""
        left: tuple[WorkflowTask, ...] = ()
        if leaving:
            own = asyncio.current_task(self)
            left = tuple(
                task
                for task in self.tasks
                if task is not own and saga.holds(task.context.get(current_saga))
            )
            for task in left:
                task.cancel()
        rollback = Rollback(saga, left, self, leaving=leaving)
        self.rollbacks += (rollback,)
        return rollback.future

    def patched(self, name: str) -> bool:
        """Tell whether this workflow takes the new branch of a change."""
        if self.patches is None:
            self.patches = Patches()
        answer = self.patches.answers.get(name)
        if answer is None:
            if self.replayed is None:
                self.note(PatchMarked(name=name))
            answer = self.patches.answer(name, self.replayed)
        return answer

    def _issue_child(
        self,
        workflow: Workflow[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        id: str = "",
        on_close: str = "cancel",
    ) -> ChildCall:
        arguments = workflow.signature.arguments
        payload = arguments.encode(args, kwargs)
        arguments.decode(payload)
        call = ChildCall(workflow, payload, self, id=id, on_close=on_close)
        self.issued.append(call)
        return call

    async def _awaited(self, call: ChildCall, future: asyncio.Future[Any]) -> Any:
        """Wait for a child; whoever gives the wait up gives the child up."""
        try:
            return await future
        except CancelledError:
            if future.cancelled() and not call.cancelled:
                call.cancelled = True
                if call.op:
                    self._commands.append(CancelChild(op=call.op))
            raise

    def _footprint(self) -> tuple[int, ...]:
        """Return what changes when code asks for anything."""
        return (
            len(self.ready),
            len(self.issued),
            len(self._commands),
            len(self.timers_cancelled),
            self._tasks_made,
            0 if self._inbox is None else len(self._inbox.handlers),
        )

    # Deliveries

    @property
    def _noted(self) -> Notes:
        if self.notes is None:
            self.notes = Notes(self.workflow_id)
        return self.notes

    def _extend_deadlines(self, time: int) -> None:
        """Give the steps that are made again, in a fork or after a failure, all of their time."""
        for call in self.calls.values():
            if call.step.deadline is not None:
                call.deadline = time + round(call.step.deadline * MICROSECONDS)

    def _begin(self, time: int) -> None:
        self.now = time
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
                call.cancelled = True
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
        del self.calls[event.op]
        if call.step.compensated_by is not None:
            call.result = event.result
            self.to_compensate += (call,)
        if not call.future.done():
            call.future.set_result(value)
        self._activate()

    def _deliver_failure(self, seq: int, time: int, event: StepFailed) -> None:
        call = self._issued_call(seq, event)
        if event.retry_at is not None:
            call.attempt = event.attempt + 1
            call.retry_at = event.retry_at
            if call.cancelled:  # nobody waits for another attempt, and this one has done nothing
                del self.calls[event.op]
                if self.rollbacks:
                    self.now = time
                    self._activate()
            return
        self.now = time
        del self.calls[event.op]
        if not call.future.done():
            call.future.set_exception(raised(event, call.step))
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
        call.deliver(event)
        self._activate()

    def _activate(self) -> None:
        """Let the code run, then number what it has asked for."""
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
            for task in self.tasks:
                task.cancel()
            self._run()
        if not self.tasks_by_number and self.generators:
            for generator in self.generators:
                _ = self.create_task(generator.aclose())
            self._run()

    def _number_issued(self) -> None:
        for item in self.issued:
            if isinstance(item, StepCall):
                if not item.cancelled:
                    self._ops += 1
                    item.op = self._ops
                    self.calls[item.op] = item
                    self._commands.append(
                        RunStep(op=item.op, name=item.step.name, digest=item.digest)
                    )
            elif isinstance(item, ChildCall):
                if not item.cancelled:
                    self._number_child(item)
            elif not item.cancelled():
                self._ops += 1
                item.op = self._ops
                self.timers[item.op] = item
                self._commands.append(StartTimer(op=item.op, due=item.due))
        self.issued.clear()

    def _number_child(self, call: ChildCall) -> None:
        self._ops += 1
        call.op = self._ops
        call.id = call.id or child_id(self.workflow_id, call.op, self.run)
        self.children[call.op] = call
        workflow = call.workflow
        self._commands.append(
            StartChild(
                op=call.op,
                name=workflow.name,
                version=workflow.version,
                digest=call.digest,
                id=call.id,
            )
        )

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

    def _issued_as(self, op: int) -> str:
        call = self.calls.get(op) or self.children.get(op)
        if call is not None:
            return str(call)
        if op in self.timers:
            return f"a timer (op {op})"
        if op <= self._ops:
            return f"something else as op {op}, which has its outcome already"
        if self.ended:
            return f"nothing: the workflow ended after {self._ops} commands"
        waits = max((*self.calls, *self.timers, *self.children), default=0)
        last = f", the last one {self._issued_as(waits)}" if waits else ""
        return f"nothing: the code waits after {self._ops} commands{last}"


def new_execution(workflow: Workflow[..., Any], workflow_id: str, origin: str = "") -> Execution:
    """Return an execution that waits for its first event, the beginning of a run."""
    # What the loop refuses is set on its class by name, which a type checker cannot see.
    return Execution(workflow, workflow_id, origin)  # type: ignore[abstract]


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
        for recorded in history:
            execution.deliver(recorded.seq, recorded.time, recorded.event)
    except BaseException:
        execution.close()
        raise
    execution.replayed = None
    return execution
