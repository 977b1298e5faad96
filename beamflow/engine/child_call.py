"""A child workflow that workflow code has asked for, from the call to its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beamflow.authoring.saga import current_saga
from beamflow.errors import ChildWorkflowError
from beamflow.model.events import ChildCompleted, ChildFailed, ChildStarted
from beamflow.model.ids import digest

if TYPE_CHECKING:
    import asyncio

    from beamflow.authoring.workflow import Workflow

__all__ = ["ChildCall"]


class ChildCall:
    """A child that the code has asked for.

    Attributes:
        op: its number, 0 until the activation ends.
        workflow: which workflow.
        input: its arguments as JSON.
        digest: digest of name, arguments and given id.
        id: its id, empty until the activation ends if the author has given none.
        on_close: what becomes of it when its parent ends.
        started: settled once its start is in the log, or was refused.
        future: its outcome.
        is_named: whether the author has given it its id.
        cancelled: whether the code waits for it no longer, so that it is to end.
        recorded: whether its start is in the parent's log.
        saga: the innermost saga around the call.
    """

    __slots__ = (
        "cancelled",
        "digest",
        "future",
        "id",
        "input",
        "is_named",
        "on_close",
        "op",
        "recorded",
        "saga",
        "started",
        "workflow",
    )

    def __init__(
        self,
        workflow: Workflow[..., Any],
        payload: bytes,
        loop: asyncio.AbstractEventLoop,
        *,
        id: str,
        on_close: str,
    ) -> None:
        self.op = 0
        self.workflow = workflow
        self.input = payload
        self.digest = digest(workflow.name, b"%b%b" % (payload, id.encode()))
        self.id = id
        self.is_named = bool(id)
        self.on_close = on_close
        self.started: asyncio.Future[None] = loop.create_future()
        self.future: asyncio.Future[Any] = loop.create_future()
        self.cancelled = False
        self.recorded = False
        self.saga = current_saga.get()

    def deliver(self, event: ChildStarted | ChildCompleted | ChildFailed) -> None:
        """Take what has become of it; raises `PayloadError` for a result that does not fit."""
        match event:
            case ChildStarted():
                self.recorded = True
                self.id = event.id
                if not self.started.done():
                    self.started.set_result(None)
            case ChildCompleted():
                value = self.workflow.signature.result.decode(event.result)
                if not self.future.done():
                    self.future.set_result(value)
            case ChildFailed():
                error = _raised(event, self.workflow.name)
                for future in (self.started, self.future):
                    if not future.done():
                        future.set_exception(error)
                        future.exception()  # nobody has to ask

    def __str__(self) -> str:
        return (
            f"child workflow {self.workflow.name!r} with {self.input.decode(errors='replace')} "
            f"(op {self.op}, digest {self.digest})"
        )


def _raised(event: ChildFailed, workflow: str) -> ChildWorkflowError:
    error = event.error
    return ChildWorkflowError(
        event.id,
        workflow=workflow,
        error_type=error.type,
        error_message=error.message,
        traceback=error.traceback,
        cancelled=event.cancelled,
    )
