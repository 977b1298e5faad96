"""Undoing: which compensations of a saga, or of a whole workflow, are made and which come next. Pure."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any

from beamflow.model.events import CompensationCompleted, CompensationFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamflow.authoring.saga import Saga
    from beamflow.engine.child_call import ChildCall
    from beamflow.engine.step_call import StepCall
    from beamflow.engine.workflow_task import WorkflowTask

__all__ = ["Rollback", "Undo", "Unwinding", "saga_of"]


class Undo:
    """One compensation that is left to make."""

    __slots__ = ("attempt", "call", "failure", "retry_at", "workflow")

    def __init__(self, call: StepCall, workflow: str) -> None:
        """Begin with attempt 1, at once."""
        self.call = call
        self.workflow = workflow
        self.attempt = 1
        self.retry_at = 0
        self.failure: CompensationFailed | None = None


class Unwinding:
    """The compensations of some steps, in reverse order of completion.

    One after the other, but for steps of one parallel saga, which do not wait for each other. One
    that fails for good is set aside and the rest is still done.

    Args:
        calls: the completed steps, the last completed first.
        workflow: name of the workflow, where it goes on without those that fail for good.
    """

    __slots__ = ("_left", "_together")

    def __init__(self, calls: Iterable[StepCall], workflow: str = "") -> None:
        """Take the steps in the order in which they are undone."""
        self._left = [Undo(call, workflow) for call in calls]
        self._together = any(_is_in_parallel(undo.call) for undo in self._left)

    def deliver(self, event: CompensationCompleted | CompensationFailed) -> bool:
        """Take the outcome of an attempt; False when none of that step is due."""
        due = [*self.ready(), *self.failed]  # somebody may have sent those round again
        undo = next((each for each in due if each.call.op == event.op), None)
        if undo is None:
            return False
        match event:
            case CompensationCompleted():
                self._left.remove(undo)
            case CompensationFailed() if event.retry_at is None:
                undo.failure = event
            case CompensationFailed():
                undo.failure = None
                undo.attempt = event.attempt + 1
                undo.retry_at = event.retry_at
        return True

    def ready(self) -> list[Undo]:
        """Return the compensations to attempt now; none when none is left that has not failed."""
        left = (undo for undo in self._left if undo.failure is None)
        if not self._together:
            return list(islice(left, 1))
        ready: list[Undo] = []
        of_later: dict[Saga | None, None] = {}
        for undo in left:
            saga = undo.call.saga
            if all(_are_parallel(saga, later) for later in of_later):
                ready.append(undo)
            of_later[saga] = None
        return ready

    @property
    def done(self) -> bool:
        """Whether nothing is left to undo."""
        return not self._left

    @property
    def failed(self) -> list[Undo]:
        """The compensations that have failed for good."""
        return [undo for undo in self._left if undo.failure is not None]

    def start_over(self, failed: Iterable[Undo] | None = None) -> None:
        """Give those that have failed for good a new set of attempts.

        Args:
            failed: which of them; all by default.
        """
        for undo in self.failed if failed is None else failed:
            undo.failure = None
            undo.attempt = 1
            undo.retry_at = 0


class Rollback:
    """A saga whose steps are being undone, once what it has left running has come to its end.

    Args:
        saga: which one.
        tasks: what has to end before.
        leaving: whether its block is over; if not, only steps that were given up are waited for.
        loop: the workflow's.

    Attributes:
        unwinding: its compensations, once they are known.
        future: what the code waits for; gets the failures for good.
    """

    __slots__ = ("future", "leaving", "saga", "tasks", "unwinding")

    def __init__(
        self,
        saga: Saga,
        tasks: tuple[WorkflowTask, ...],
        loop: asyncio.AbstractEventLoop,
        *,
        leaving: bool,
    ) -> None:
        """Begin to wait."""
        self.saga = saga
        self.tasks = tasks
        self.leaving = leaving
        self.future: asyncio.Future[tuple[CompensationFailed, ...]] = _Shielded(loop=loop)
        self.unwinding: Unwinding | None = None

    def may_begin(
        self,
        calls: Iterable[StepCall],
        children: Iterable[ChildCall],
        others: Iterable[Rollback],
    ) -> bool:
        """Tell whether all that could still be done in the saga has come to its end.

        Args:
            calls: the steps without an outcome.
            children: the child workflows without one; those that were given up undo their own
                steps first.
            others: the sagas that are being undone, this one among them.
        """
        if any(not task.done() for task in self.tasks):
            return False
        if any(each.saga is self.saga and each.unwinding is not None for each in others):
            return False
        if any(
            child.cancelled and child.recorded and saga_of(child) is self.saga for child in children
        ):
            return False
        return not any(
            call.step.compensated_by is not None
            and call.is_wanted
            and (self.leaving or call.cancelled)
            and saga_of(call) is self.saga
            for call in calls
        )

    def settle(self) -> tuple[int, ...] | None:
        """Let the code go on once nothing is left that has not failed; return the ops given up."""
        if self.unwinding is None or self.unwinding.ready():
            return None
        failures = tuple(undo.failure for undo in self.unwinding.failed if undo.failure is not None)
        self.future.set_result(failures)
        return tuple(failure.op for failure in failures)


class _Shielded(asyncio.Future[Any]):
    """A future that no cancellation ends; asyncio raises it in the task once the future is done."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002 - the signature of futures
        return False


def saga_of(call: StepCall | ChildCall) -> Saga | None:
    """Return the innermost saga around a call that is still open; None for the workflow itself."""
    saga = call.saga
    while saga is not None and not saga.is_open:
        saga = saga.parent
    return saga


def _are_parallel(saga: Saga | None, other: Saga | None) -> bool:
    """Tell whether the innermost saga around the steps of both undoes them at the same time."""
    while saga is not None and not saga.holds(other):
        saga = saga.parent
    return saga is not None and saga.parallel


def _is_in_parallel(call: StepCall) -> bool:
    saga = call.saga
    while saga is not None and not saga.parallel:
        saga = saga.parent
    return saga is not None
