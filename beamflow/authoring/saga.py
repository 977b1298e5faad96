"""Sagas: blocks of a workflow that are undone as a whole when they fail."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Self

from beamflow.authoring.renewal import renewal_of
from beamflow.authoring.running_step import current_step
from beamflow.authoring.runtime import current_runtime
from beamflow.errors import DefinitionError

if TYPE_CHECKING:
    from types import TracebackType

    from beamflow.authoring.runtime import WorkflowRuntime

__all__ = ["Saga", "current_saga", "saga"]


class Saga:
    """A block of a workflow, made by `saga`.

    Attributes:
        parallel: whether its steps are undone at the same time.
        parent: the saga that it stands in, if it stands in one.
        is_open: whether its block is running, or being undone.
    """

    __slots__ = ("_runtime", "is_open", "parallel", "parent")

    def __init__(self, *, parallel: bool) -> None:
        """Prepare; it begins when its block is entered."""
        self.parallel = parallel
        self.parent: Saga | None = None
        self.is_open = False
        self._runtime: WorkflowRuntime | None = None

    async def __aenter__(self) -> Self:
        """Begin the block; never suspends."""
        if self.is_open or self._runtime is not None:
            message = "a saga is one block: make another one, `async with saga():`, for another"
            raise DefinitionError(message)
        self._runtime = current_runtime()
        if self._runtime is None and current_step().workflow_id:
            message = (
                f"saga() was entered in step {current_step().step!r}: it undoes the steps of a "
                f"workflow, so it belongs into workflow code"
            )
            raise DefinitionError(message)
        self.parent = current_saga.get()
        self.is_open = True
        current_saga.set(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hand what was done to the saga around this one, or undo it if an exception leaves."""
        current_saga.set(self.parent)
        runtime = self._runtime
        try:
            if error is None or isinstance(error, _NO_FAILURE) or renewal_of(error) is not None:
                return
            if runtime is not None and not runtime.is_closed():
                for failed in await runtime.undo(self, leaving=True):
                    error.add_note(
                        f"step {failed.step!r} (op {failed.op}) could not be undone: "
                        f"{failed.error.type}: {failed.error.message}"
                    )
        finally:
            self.is_open = False

    async def compensate(self) -> tuple[str, ...]:
        """Undo now what was completed in the block so far; the block goes on.

        Suspends until each compensation has returned or failed for good. A cancellation that comes
        meanwhile is raised when all is done.

        Returns:
            The names of the steps that could not be undone; each has a dead letter.

        Raises:
            DefinitionError: the block is not running.
        """
        if not self.is_open:
            message = "compensate() belongs into the block: `async with saga() as s: ...`"
            raise DefinitionError(message)
        if self._runtime is None:
            return ()
        return tuple(failed.step for failed in await self._runtime.undo(self, leaving=False))

    def holds(self, inner: Saga | None) -> bool:
        """Tell whether the other one is this one, or stands in it."""
        while inner is not None and inner is not self:
            inner = inner.parent
        return inner is self


current_saga: ContextVar[Saga | None] = ContextVar("beamflow_saga", default=None)
"""The innermost saga around the code that is running; tasks take it over from their makers."""


def saga(*, parallel: bool = False) -> Saga:
    """Make a block whose completed steps are undone when an exception leaves it.

    ::

        try:
            async with saga():
                flight = await book_flight(trip)
                hotel = await book_hotel(trip)
        except HotelFullError:
            ...  # the flight is cancelled by now

    What counts is each step with a compensation that was called in the block, by any task that was
    begun in it. When an exception leaves the block (a cancellation, too), the tasks begun in it and
    still running are cancelled, steps under way come to their end, and then the compensations run,
    in reverse order of completion; the exception goes on when all are done. Cancelling the workflow
    does not cut them off, nor does a time-out around the block: the cancellation is raised after
    them. A kill in the middle resumes in the middle.

    A compensation that fails for good leaves a dead letter, with the reason ``COMPENSATION_FAILED``;
    the others are made all the same, and the exception goes on with a note of it.

    When the block is left normally, what was done in it belongs to the saga around it; at last to
    the workflow, which undoes it if it fails as a whole.

    Args:
        parallel: undo the steps at the same time. They stay together when they are handed to the
            saga around: whatever completed after all of them is undone before, whatever completed
            before all of them is undone after.
    """
    return Saga(parallel=parallel)


_NO_FAILURE = (GeneratorExit, KeyboardInterrupt)
"""What leaves a block without anything having failed: its generator was closed, or its process."""
