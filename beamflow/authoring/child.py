"""Child workflows: what a workflow starts, and what it can do with it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, TypeVarTuple, cast

from beamflow.authoring.context import signal_name
from beamflow.authoring.methods import SignalMethod
from beamflow.authoring.running_step import current_step
from beamflow.authoring.runtime import required_runtime
from beamflow.authoring.step import step
from beamflow.authoring.workflow import definition_of
from beamflow.errors import (
    DefinitionError,
    EngineStoppedError,
    StoreError,
    WorkflowClosedError,
    WorkflowNotFoundError,
    WorkflowParkedError,
)
from beamflow.model.ids import checked_workflow_id
from beamflow.policies.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from beamflow.authoring.runtime import Child
    from beamflow.authoring.workflow import Runs

__all__ = ["ChildHandle", "Messenger", "messenger", "start_child"]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

OnClose = Literal["wait", "cancel", "abandon"]
_POLICIES = ("wait", "cancel", "abandon")


class Messenger(Protocol):
    """Carries what one workflow has for another one."""

    async def signal(self, workflow_id: str, signal_id: str, name: str, payload: object) -> None:
        """Send a signal, once for each id."""

    async def cancel(self, workflow_id: str, reason: str) -> None:
        """Tell a workflow to end; harmless when it has."""


messenger: ContextVar[Messenger] = ContextVar("beamflow_messenger")
"""Set by the engine around the steps of a workflow."""

_UNTIL_SENT = Retry(max_attempts=1_000, max=30.0, retry_on=(EngineStoppedError, StoreError))


@step(
    name="$signal",
    retry=_UNTIL_SENT,
    raises=[WorkflowClosedError, WorkflowNotFoundError, WorkflowParkedError],
)
async def _signal(workflow_id: str, name: str, payload: Any) -> None:
    await messenger.get().signal(workflow_id, current_step().idempotency_key, name, payload)


@step(name="$cancel", retry=_UNTIL_SENT, raises=[WorkflowParkedError])
async def _cancel(workflow_id: str, reason: str) -> None:
    await messenger.get().cancel(workflow_id, reason)


class ChildHandle(Generic[R]):
    """A child workflow, in the hands of its parent. Made by `start_child`.

    Attributes:
        id: the child's id; ``engine.handle(id)`` finds it from outside.
    """

    def __init__(self, child: Child) -> None:
        """Made by `start_child`."""
        self.id = child.id
        self._child = child

    def __repr__(self) -> str:
        """Show the id."""
        return f"<{type(self).__name__} {self.id!r}>"

    async def result(self) -> R:
        """Wait for the end of the child and return its result.

        May be asked for any number of times. Cancelling the wait does nothing to the child.

        Raises:
            ChildWorkflowError: the child failed or was cancelled.
        """
        future = self._child.future
        if not future.done():
            await asyncio.wait({future})
        return cast("R", future.result())

    async def signal(self, to: str | type[Any] | SignalMethod[...], payload: Any = None) -> None:
        """Send the child a signal, exactly once; suspends until it is in the child's log.

        Args:
            to: its name, the type it is received by, or a method decorated with ``@signal``.
            payload: what it carries.

        Raises:
            PayloadError: the payload cannot be written as JSON, or the child cannot read it.
            WorkflowClosedError: the child has ended.
            WorkflowParkedError: it stands still; send the signal again when it goes on.
        """
        await _signal(self.id, _name_of(to), payload)

    async def cancel(self, reason: str = "") -> None:
        """Tell the child to end; suspends until that is in its log, not until it has ended.

        Harmless when it has ended. `result` raises `ChildWorkflowError` with ``cancelled`` then.

        Raises:
            WorkflowParkedError: the child stands still; cancel it again when it goes on.
        """
        await _cancel(self.id, reason)


def _name_of(to: str | type[Any] | SignalMethod[...]) -> str:
    if isinstance(to, SignalMethod):
        return to.name
    return to if isinstance(to, str) else signal_name(to)


async def start_child(
    workflow: Callable[[*Ts], Coroutine[Any, Any, R]]
    | type[Runs[Callable[[*Ts], Coroutine[Any, Any, R]]]],
    /,
    *args: *Ts,
    id: str | None = None,
    on_close: OnClose = "cancel",
) -> ChildHandle[R]:
    """Start a workflow as a child of this one; suspends until its start is in its log.

    There is exactly one child for each call, whatever crashes when. A wait that is cancelled
    cancels the child.

    Args:
        workflow: what to start; the engine must have been given it.
        *args: its arguments, by position.
        id: its id; ``<parent>/<number>`` by default, the same on every replay.
        on_close: what becomes of it when this workflow ends, in whatever way, or begins anew:
            with ``"wait"`` that waits for the child, with ``"cancel"`` the child is cancelled
            first, with ``"abandon"`` it goes on alone.

    Raises:
        DefinitionError: ``workflow`` is no workflow, ``id`` or ``on_close`` cannot be used.
        PayloadError: the arguments do not fit the annotations, or JSON.
        ChildWorkflowError: it could not be started; the id is taken by something else.
    """
    runtime = required_runtime("start_child")
    definition = definition_of(workflow)
    if definition is None:
        message = f"start_child({workflow!r}) is refused: decorate it with @workflow"
        raise DefinitionError(message)
    if on_close not in _POLICIES:
        message = f"start_child(on_close={on_close!r}) is refused: it must be one of {_POLICIES}"
        raise DefinitionError(message)
    given = "" if id is None else checked_workflow_id(id)
    return ChildHandle(await runtime.start_child(definition, args, id=given, on_close=on_close))
