"""A step that workflow code has asked for, from the call to its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beamflow.authoring.saga import current_saga
from beamflow.model.ids import digest

if TYPE_CHECKING:
    import asyncio

    from msgspec import Raw

    from beamflow.authoring.idempotency import SharedKey
    from beamflow.authoring.saga import Saga
    from beamflow.authoring.step import Step

__all__ = ["StepCall"]

_Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_SHOWN_MAX = 200


class StepCall:
    """A step that the code has asked for.

    Attributes:
        op: its number, 0 until the activation ends.
        step: which step.
        input: its arguments as JSON.
        digest: digest of name and arguments.
        attempt: number of the attempt to make next or being made.
        retry_at: when it may be made, microseconds; 0 at once.
        cancelled: whether the code waits for it no longer.
        is_idle: whether that came between two attempts, so that none of it can do anything any more.
        result: its result as JSON, once it has completed.
        deadline: when it must be done, microseconds; None for no limit.
        heartbeat: what an attempt has told last of how far it is, as JSON.
        saga: the innermost saga around the call, for a step with a compensation.
        shared: the key under which all workflows share the result, if they do.
    """

    __slots__ = (
        "_arguments",
        "attempt",
        "cancelled",
        "deadline",
        "digest",
        "future",
        "heartbeat",
        "input",
        "is_idle",
        "op",
        "result",
        "retry_at",
        "saga",
        "shared",
        "step",
    )

    def __init__(
        self,
        step: Step[..., Any],
        payload: bytes,
        arguments: _Arguments,
        future: asyncio.Future[Any],
    ) -> None:
        self.op = 0
        self.step = step
        self.input = payload
        self._arguments: _Arguments | None = arguments
        self.digest = digest(step.name, payload)
        self.future = future
        self.attempt = 1
        self.retry_at = 0
        self.cancelled = False
        self.is_idle = False
        self.result: Raw | None = None
        self.saga: Saga | None = None if step.compensated_by is None else current_saga.get()
        self.deadline: int | None = None
        self.heartbeat: Raw | None = None
        self.shared: SharedKey | None = None

    def give_up(self, now: int) -> None:
        """Take note that the code waits for it no longer, from that time on."""
        self.cancelled = True
        self.is_idle = now < self.retry_at

    @property
    def is_wanted(self) -> bool:
        """Whether attempts are made: what one of them may have done has to be known, to be undone."""
        return not self.cancelled or (self.step.compensated_by is not None and not self.is_idle)

    def take_arguments(self) -> _Arguments:
        """Return the arguments for the body: nobody else has these objects, or gets them again."""
        arguments, self._arguments = self._arguments, None
        return self.step.signature.arguments.decode(self.input) if arguments is None else arguments

    def __str__(self) -> str:
        arguments = self.input.decode(errors="replace")
        shown = arguments if len(arguments) <= _SHOWN_MAX else f"{arguments[:_SHOWN_MAX]}…"
        return f"step {self.step.name!r} with {shown} (op {self.op}, digest {self.digest})"
