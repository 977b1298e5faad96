"""What the author's code of one workflow may ask for, and the numbers that it gets.

The functions and the context functions that workflow code calls end here, in its loop. What is asked
for in an activation is numbered when the code waits again, in the order in which it was issued: the
commands. They are open until the log has their outcome.
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio import CancelledError
from contextvars import Context
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from beamflow.authoring.renewal import ContinueAsNew
from beamflow.authoring.saga import current_saga
from beamflow.engine.child_call import ChildCall
from beamflow.engine.conditions import Conditions
from beamflow.engine.inbox import Inbox
from beamflow.engine.notes import Notes
from beamflow.engine.patches import Patches
from beamflow.engine.saga import Rollback
from beamflow.engine.step_call import StepCall
from beamflow.engine.workflow_loop import MICROSECONDS, LoopTimer, WorkflowLoop
from beamflow.errors import DefinitionError, ReadOnlyError, UnknownHandlerError
from beamflow.model.commands import (
    CancelChild,
    CancelStep,
    Command,
    RunStep,
    StartChild,
    StartTimer,
    TakeNote,
)
from beamflow.model.events import Note, PatchMarked
from beamflow.model.ids import child_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from msgspec import Raw

    from beamflow.authoring.handlers import Handler
    from beamflow.authoring.idempotency import SharedKey
    from beamflow.authoring.saga import Saga
    from beamflow.authoring.step import Step
    from beamflow.authoring.workflow import Workflow
    from beamflow.engine.workflow_task import WorkflowTask
    from beamflow.model.codec import Payload
    from beamflow.model.events import CompensationFailed, Recorded

__all__ = ["Code"]

_READ_ONLY = (
    "{!r} has {}: a query or a validator may read everything and change nothing. Put what acts into "
    "the workflow's function, a signal or an update"
)


class Code(WorkflowLoop):
    """The code of one workflow on its loop, with what it has asked for.

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
        rollbacks: the sagas that are being undone.
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
        "notes",
        "patches",
        "replayed",
        "rollbacks",
        "run",
        "timers",
        "workflow",
    )

    def __init__(self, workflow: Workflow[..., Any], workflow_id: str, origin: str = "") -> None:
        """Begin with nothing asked for."""
        super().__init__(workflow_id, origin)
        self.workflow = workflow
        self.run = 0
        self.calls: dict[int, StepCall] = {}
        self.children: dict[int, ChildCall] = {}
        self.timers: dict[int, LoopTimer] = {}
        self.notes: Notes | None = None
        self.rollbacks: tuple[Rollback, ...] = ()
        self.patches: Patches | None = None
        self.replayed: Sequence[Recorded] | None = None
        self.conditions: Conditions | None = None
        self._commands: list[Command] = []
        self._ops = 0
        self._main: WorkflowTask | None = None
        self._main_ended = False
        self._taken_away = False
        self._broken_by: BaseException | None = None
        self._seed = origin or workflow_id
        self._random: Random | None = None
        self._inbox: Inbox | None = None

    # What it has come to

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

    def take_commands(self) -> list[Command]:
        """Return what the code has asked for since the last call, in order of issue."""
        commands, self._commands = self._commands, []
        return commands

    @property
    def inbox(self) -> Inbox:
        """What others send to the code."""
        if self._inbox is None:
            self._inbox = Inbox(self)
        return self._inbox

    @property
    def _noted(self) -> Notes:
        if self.notes is None:
            self.notes = Notes(self.workflow_id)
        return self.notes

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
                call.give_up(self.now)
                if call.op:
                    self._commands.append(CancelStep(op=call.op))
            raise
        finally:
            del call  # what it failed by has this frame: no cycle is left to the collector

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

    def receive(self, name: str, payload: Payload[Any]) -> Coroutine[Any, Any, Any]:
        """Take the next signal of that name, waiting for one if need be."""
        return self.inbox.receive(name, payload)

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

    # Numbers

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
