"""One attempt of a step or a compensation: run the function, turn what comes out into an event."""

from __future__ import annotations

import abc
import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from beamflow.authoring.step import StepInfo, current_step, step_info
from beamflow.engine.failure import describe
from beamflow.engine.time_limit import TimeLimit
from beamflow.errors import StepTimeoutError
from beamflow.model.events import (
    CompensationCompleted,
    CompensationFailed,
    StepCompleted,
    StepFailed,
)
from beamflow.model.ids import idempotency_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow.authoring.step import Compensation, Step
    from beamflow.engine.saga import Undo
    from beamflow.engine.services import Services
    from beamflow.engine.step_call import StepCall

__all__ = ["GRACE_S", "Attempt", "Attempted", "CompensationAttempt", "StepAttempt"]

GRACE_S = 5.0
"""Seconds that a body has to end after its time-out, before the workflow goes on without it."""


class Attempted(msgspec.Struct, gc=False):
    """What an attempt came to: the event to record, and the step's decoded result."""

    event: StepCompleted | StepFailed | CompensationCompleted | CompensationFailed
    value: object = None


class Attempt(abc.ABC):
    """One attempt, made once.

    Args:
        services: what the engine's actors share.
        workflow_id: which workflow.
        call: which step of it.
        function: what to run, with its policy.
        number: number of the attempt, from 1.

    Attributes:
        abandoned: whether the workflow goes on without it; what it comes to is ignored then.
        task: what makes it, once it is being made.
    """

    __slots__ = (
        "_services",
        "_started_at",
        "_workflow_id",
        "abandoned",
        "call",
        "function",
        "number",
        "task",
    )

    def __init__(
        self,
        services: Services,
        workflow_id: str,
        call: StepCall,
        function: Step[..., Any] | Compensation[..., Any],
        number: int,
    ) -> None:
        """Prepare; nothing runs yet."""
        self._services = services
        self._workflow_id = workflow_id
        self._started_at = 0
        self.call = call
        self.function = function
        self.number = number
        self.abandoned = False
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Cancel the task that makes it."""
        assert self.task is not None
        self.task.cancel()

    async def make(self, give_up: Callable[[Attempt], object]) -> Attempted:
        """Run the function once; raises `asyncio.CancelledError` only, when the task was cancelled.

        Args:
            give_up: called when the function has not ended `GRACE_S` after its time-out.
        """
        self._started_at = self._services.now()
        step_info.set(
            StepInfo(
                workflow_id=self._workflow_id,
                step=self.function.name,
                op=self.call.op,
                attempt=self.number,
                idempotency_key=self.idempotency_key,
            )
        )
        try:
            args, kwargs = self._arguments()
            return self._completed(await self._bounded(args, kwargs, give_up))
        except BaseException as error:
            if _is_for_us(error):
                raise
            return self.failed(error)

    def timed_out(self) -> Attempted:
        """Return what it comes to when its time is up."""
        return self.failed(self._time_out())

    def failed(self, error: BaseException) -> Attempted:
        """Return what it comes to when it raises."""
        draw = self._services.random.random()
        delay_s = self.function.retry.delay_s(error, attempt=self.number, draw=draw)
        retry_at = None if delay_s is None else self._services.now() + round(delay_s * 1e6)
        return Attempted(self._failure(error, retry_at))

    async def _bounded(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], give_up: Callable[[Attempt], object]
    ) -> Any:
        function = self.function
        if function.timeout is None:
            return await self._run(args, kwargs)
        limit = TimeLimit(
            self._services.clock, function.timeout, grace_s=GRACE_S, give_up=lambda: give_up(self)
        )
        try:
            with limit:
                return await self._run(args, kwargs)
        except TimeoutError as error:
            if limit.expired:
                raise self._time_out() from error
            raise

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        around = self._services.around_step
        if around is None:
            return self.function.run(*args, **kwargs)
        run = partial(self.function.run, *args, **kwargs)
        return around(current_step(), self.function.retry, run)

    def _time_out(self) -> StepTimeoutError:
        assert self.function.timeout is not None
        return StepTimeoutError(self.function.name, self.function.timeout)

    @property
    @abc.abstractmethod
    def idempotency_key(self) -> str:
        """The name of its effect."""

    @abc.abstractmethod
    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]: ...

    @abc.abstractmethod
    def _completed(self, result: Any) -> Attempted: ...

    @abc.abstractmethod
    def _failure(
        self, error: BaseException, retry_at: int | None
    ) -> StepFailed | CompensationFailed: ...


class StepAttempt(Attempt):
    """An attempt of a step.

    The result goes through its encoding, so nothing reaches the workflow that a restart would not
    bring back.
    """

    __slots__ = ()

    def __init__(self, services: Services, workflow_id: str, call: StepCall) -> None:
        """Prepare the attempt that is next."""
        super().__init__(services, workflow_id, call, call.step, call.attempt)

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts."""
        return idempotency_key(self._workflow_id, self.call.op)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self.call.take_arguments()

    def _completed(self, result: Any) -> Attempted:
        call = self.call
        annotated = call.step.signature.result
        payload = annotated.encode(result)
        value = annotated.decode(payload)
        event = StepCompleted(
            op=call.op,
            name=call.step.name,
            digest=call.digest,
            result=Raw(payload),
            started_at=self._started_at,
            attempt=self.number,
        )
        return Attempted(event, value)

    def _failure(self, error: BaseException, retry_at: int | None) -> StepFailed:
        call = self.call
        return StepFailed(
            op=call.op,
            name=call.step.name,
            digest=call.digest,
            error=describe(error, call.step, for_good=retry_at is None),
            started_at=self._started_at,
            attempt=self.number,
            retry_at=retry_at,
            input=Raw(call.input) if retry_at is None else Raw(b"null"),
        )


class CompensationAttempt(Attempt):
    """An attempt of the compensation of a completed step."""

    __slots__ = ("_workflow",)

    def __init__(self, services: Services, workflow_id: str, undo: Undo) -> None:
        """Prepare the attempt that is next."""
        compensation = undo.call.step.compensated_by
        assert compensation is not None
        super().__init__(services, workflow_id, undo.call, compensation, undo.attempt)
        self._workflow = undo.workflow

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts, and not that of the step."""
        return f"{idempotency_key(self._workflow_id, self.call.op)}/compensation"

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        call = self.call
        assert call.result is not None
        args, kwargs = call.take_arguments()
        return (call.step.signature.result.decode(call.result), *args), kwargs

    def _completed(self, _result: Any) -> Attempted:
        return Attempted(
            CompensationCompleted(
                op=self.call.op,
                name=self.function.name,
                started_at=self._started_at,
                attempt=self.number,
            )
        )

    def _failure(self, error: BaseException, retry_at: int | None) -> CompensationFailed:
        call = self.call
        for_good = retry_at is None
        return CompensationFailed(
            op=call.op,
            name=self.function.name,
            error=describe(error, for_good=for_good),
            started_at=self._started_at,
            attempt=self.number,
            retry_at=retry_at,
            workflow=self._workflow if for_good else "",
            step=call.step.name if for_good else "",
            input=Raw(call.input) if for_good else Raw(b"null"),
        )


def _is_for_us(error: BaseException) -> bool:
    """Tell a cancellation of our task, or Ctrl-C, from an error of the step's own."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)
