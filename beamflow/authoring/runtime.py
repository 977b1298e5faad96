"""What authoring needs of whatever runs a workflow: the event loop that its code runs on."""

from __future__ import annotations

import abc
import asyncio
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from beamflow.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from random import Random

    from beamflow.authoring.idempotency import SharedKey
    from beamflow.model.codec import Payload
    from beamflow.model.events import CompensationFailed, Note

__all__ = ["Child", "WorkflowRuntime", "current_runtime", "required_runtime"]


class Child(Protocol):
    """A child workflow, as its parent's runtime keeps it."""

    id: str
    future: asyncio.Future[Any]
    """Its result or error; never cancelled by whoever waits for it."""


class WorkflowRuntime(asyncio.AbstractEventLoop):
    """An event loop on which workflow code runs; the context functions find it as the running one.

    Attributes:
        workflow_id: id of the workflow that runs on it.
    """

    __slots__ = ()

    workflow_id: str

    @property
    @abc.abstractmethod
    def random(self) -> Random:
        """The workflow's own source of random numbers, the same on every replay."""

    @abc.abstractmethod
    def call_step(
        self,
        step: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        shared: SharedKey | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Ask for a step; the coroutine returns its result or raises its error.

        With a key the result is shared by all workflows that ask for the step with it.
        """

    @abc.abstractmethod
    def call_child(
        self, workflow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        """Run a workflow as a child; the coroutine returns its result or raises its error."""

    @abc.abstractmethod
    def start_child(
        self, workflow: Any, args: tuple[Any, ...], *, id: str, on_close: str
    ) -> Coroutine[Any, Any, Child]:
        """Start a workflow as a child; the coroutine returns once its start is in the log."""

    @abc.abstractmethod
    def receive(self, name: str, payload: Payload[Any]) -> Coroutine[Any, Any, Any]:
        """Take the next signal of that name, waiting for one if need be."""

    @abc.abstractmethod
    def until(self, condition: Callable[[], object]) -> Coroutine[Any, Any, None]:
        """Wait until the condition holds; it is looked at whenever the code waits."""

    @abc.abstractmethod
    def handle(self, handler: Any) -> None:
        """Have a function called from outside, by kind and name."""

    @abc.abstractmethod
    def continue_as_new(self, args: tuple[Any, ...]) -> NoReturn:
        """End this run, to begin another one with these arguments."""

    @abc.abstractmethod
    def note(self, event: Note) -> None:
        """Have an event recorded, with what led to it, and go on without waiting for that."""

    @abc.abstractmethod
    def undo(self, saga: Any, *, leaving: bool) -> Awaitable[tuple[CompensationFailed, ...]]:
        """Undo the steps of a saga; return the failures for good.

        Args:
            saga: which one.
            leaving: whether its block is over; what it has left running is cancelled, then.
        """

    @abc.abstractmethod
    def patched(self, name: str) -> bool:
        """Tell whether this workflow takes the new branch of a change."""


def current_runtime() -> WorkflowRuntime | None:
    """Return the runtime of the workflow that is running, or None outside one."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 - the documented hook of event loops
    return loop if isinstance(loop, WorkflowRuntime) else None


def required_runtime(name: str) -> WorkflowRuntime:
    """Return the runtime; raises `DefinitionError` outside a workflow."""
    runtime = current_runtime()
    if runtime is None:
        _refuse(name)
    return runtime


def _refuse(name: str) -> NoReturn:
    message = (
        f"{name}() works only inside a workflow: it is called from workflow code, not from a step "
        f"and not from the host application"
    )
    raise DefinitionError(message)
