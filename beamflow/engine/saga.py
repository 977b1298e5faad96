"""The way back: which compensations of a failed workflow are done, and which comes next. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow.model.events import CompensationCompleted, CompensationFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamflow.engine.execution import StepCall
    from beamflow.model.events import CompensationStarted

__all__ = ["Undo", "Unwinding"]


class Undo:
    """One compensation that is left to do."""

    __slots__ = ("attempt", "call", "failure", "retry_at")

    def __init__(self, call: StepCall) -> None:
        """Begin with attempt 1, at once."""
        self.call = call
        self.attempt = 1
        self.retry_at = 0
        self.failure: CompensationFailed | None = None


class Unwinding:
    """The compensations of one workflow, in reverse order of completion, one at a time.

    One that fails for good is set aside and the rest is still done.

    Args:
        plan: the event that began it.
        completed: the completed steps that have a compensation.
    """

    def __init__(self, plan: CompensationStarted, completed: Iterable[StepCall]) -> None:
        """Take the steps in the order of the plan."""
        calls = {call.op: call for call in completed}
        self._left = [Undo(calls[op]) for op in plan.steps]

    def deliver(self, event: CompensationCompleted | CompensationFailed) -> None:
        """Take the outcome of an attempt."""
        undo = next(undo for undo in self._left if undo.call.op == event.op)
        match event:
            case CompensationCompleted():
                self._left.remove(undo)
            case CompensationFailed() if event.retry_at is None:
                undo.failure = event
            case CompensationFailed():
                undo.failure = None
                undo.attempt = event.attempt + 1
                undo.retry_at = event.retry_at

    def next(self) -> Undo | None:
        """Return the compensation to attempt next; None when none is left that has not failed."""
        return next((undo for undo in self._left if undo.failure is None), None)

    @property
    def done(self) -> bool:
        """Whether nothing is left to undo."""
        return not self._left

    @property
    def failed(self) -> list[Undo]:
        """The compensations that have failed for good."""
        return [undo for undo in self._left if undo.failure is not None]

    def start_over(self) -> None:
        """Give those that have failed for good a new set of attempts."""
        for undo in self.failed:
            undo.failure = None
            undo.attempt = 1
            undo.retry_at = 0
