"""What the body of a step can know of itself, and tell: `current_step`, `heartbeat`."""

from __future__ import annotations

import abc
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from beamflow.model.codec import encode_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "Borrowed",
    "RunningStep",
    "StepInfo",
    "current_step",
    "heartbeat",
    "running_step",
    "step_info",
]


class StepInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a running step can know of itself; see `current_step`."""

    workflow_id: str
    step: str
    op: int
    attempt: int
    """From 1. An attempt that a kill of the process cut off has the same number again."""
    idempotency_key: str
    """The same over all attempts and restarts: hand it to whatever the step changes outside."""
    last_heartbeat: Any = None
    """Details of the last recorded `heartbeat` of an attempt before this one, as plain JSON data."""


class Borrowed(Protocol):
    """A transaction of the store in the hands of a step."""

    async def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Execute one statement and return its rows."""

    async def executemany(
        self, sql: str, rows: Iterable[Sequence[Any] | Mapping[str, Any]]
    ) -> None:
        """Execute one statement for each of the rows."""

    def seal(self) -> None:
        """End the block: what was written is to be committed with the step."""

    def abandon(self) -> None:
        """Roll back; harmless when it is over."""


class RunningStep(abc.ABC):
    """One attempt of a step, as its own body sees it; made by whatever runs the body."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def info(self) -> StepInfo:
        """What is known of it."""

    @abc.abstractmethod
    def beat(self, details: bytes) -> None:
        """Take a sign of life, with details as JSON; from any thread.

        Raises:
            asyncio.CancelledError: the attempt is over.
        """

    @abc.abstractmethod
    async def borrow(self, limit_s: float) -> Borrowed:
        """Wait for the store's transaction, for so many seconds at most once it is there.

        Raises:
            TransactionError: there is none to be had.
            DefinitionError: the step runs somewhere else.
        """


running_step: ContextVar[RunningStep] = ContextVar("beamflow_running_step")
"""The attempt that the code at hand is the body of."""

step_info: ContextVar[StepInfo] = ContextVar("beamflow_step")
"""What `current_step` returns where no engine runs the step: for tests."""


def current_step() -> StepInfo:
    """Return what is known of the running step.

    Outside a workflow, where a step is a plain function, the info says ``workflow_id=""`` and the
    idempotency key is the same for every call; set `step_info` in a test that needs others.
    """
    running = running_step.get(None)
    return step_info.get(_OUTSIDE) if running is None else running.info


_OUTSIDE = StepInfo(workflow_id="", step="", op=0, attempt=1, idempotency_key="outside-a-workflow")


def heartbeat(details: object = None) -> None:
    """Say that this attempt is alive; call it from the body of a step, in any thread. Never waits.

    With ``@step(heartbeat_timeout=...)`` an attempt that says nothing for so long is cut off. The
    last details that are not None are handed to the next attempt as
    ``current_step().last_heartbeat``, also after a restart. They are recorded at once when an attempt
    fails, else about twice in each ``heartbeat_timeout``; a kill of the process loses what was said
    since.

    In a step without that option, and outside a workflow, it keeps nothing.

    Args:
        details: how far the attempt is, as plain data.

    Raises:
        PayloadError: the details cannot be written as JSON.
        asyncio.CancelledError: the attempt is over (timed out, or nobody waits for it any more), and
            whatever it comes to is ignored: let it pass. For a thread this is the only way to know.
    """
    running = running_step.get(None)
    if running is not None:
        running.beat(encode_json(details, "details of a heartbeat"))
