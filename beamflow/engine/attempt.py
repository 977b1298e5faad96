"""One attempt of a step or a compensation: run the function, turn what comes out into an event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from beamflow.authoring.step import StepInfo, step_info
from beamflow.engine.failure import describe
from beamflow.errors import StepTimeoutError
from beamflow.model.events import (
    CompensationCompleted,
    CompensationFailed,
    StepCompleted,
    StepFailed,
)
from beamflow.model.ids import idempotency_key

if TYPE_CHECKING:
    from beamflow.authoring.step import Compensation, Step
    from beamflow.engine.execution import StepCall
    from beamflow.engine.services import Services
    from beamflow.policies.retry import Retry

__all__ = ["Attempted", "attempt_compensation", "attempt_step"]


class Attempted:
    """What an attempt came to: the event to record, and the step's decoded result."""

    __slots__ = ("event", "value")

    def __init__(
        self,
        event: StepCompleted | StepFailed | CompensationCompleted | CompensationFailed,
        value: object = None,
    ) -> None:
        """Keep the event and the value."""
        self.event = event
        self.value = value


async def attempt_step(services: Services, workflow_id: str, call: StepCall) -> Attempted:
    """Run a step once.

    The result goes through its encoding, so nothing reaches the workflow that a restart would not
    bring back. Raises nothing but `asyncio.CancelledError`, when the task was cancelled.
    """
    step = call.step
    started_at = services.now()
    args, kwargs = step.signature.arguments.decode(call.input)
    _announce(workflow_id, step, call, idempotency_key(workflow_id, call.op), call.attempt)
    try:
        result = await _bounded(step, args, kwargs)
        payload = step.signature.result.encode(result)
        value = step.signature.result.decode(payload)
    except BaseException as error:
        if _is_for_us(error):
            raise
        retry_at = _retry_at(services, step.retry, error, call.attempt)
        event = StepFailed(
            op=call.op,
            name=step.name,
            digest=call.digest,
            error=describe(error, step),
            started_at=started_at,
            attempt=call.attempt,
            retry_at=retry_at,
            input=Raw(call.input) if retry_at is None else Raw(b"null"),
        )
        return Attempted(event)
    completed = StepCompleted(
        op=call.op,
        name=step.name,
        digest=call.digest,
        result=Raw(payload),
        started_at=started_at,
        attempt=call.attempt,
    )
    return Attempted(completed, value)


async def attempt_compensation(
    services: Services, workflow_id: str, call: StepCall, attempt: int
) -> Attempted:
    """Run the compensation of a completed step once; like `attempt_step`."""
    compensation = call.step.compensated_by
    assert compensation is not None
    assert call.result is not None
    started_at = services.now()
    key = f"{idempotency_key(workflow_id, call.op)}/compensation"
    _announce(workflow_id, compensation, call, key, attempt)
    try:
        args, kwargs = call.step.signature.arguments.decode(call.input)
        result = call.step.signature.result.decode(call.result)
        await _bounded(compensation, (result, *args), kwargs)
    except BaseException as error:
        if _is_for_us(error):
            raise
        failed = CompensationFailed(
            op=call.op,
            name=compensation.name,
            error=describe(error),
            started_at=started_at,
            attempt=attempt,
            retry_at=_retry_at(services, compensation.retry, error, attempt),
        )
        return Attempted(failed)
    return Attempted(
        CompensationCompleted(
            op=call.op, name=compensation.name, started_at=started_at, attempt=attempt
        )
    )


async def _bounded(
    step: Step[..., Any] | Compensation[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if step.timeout is None:
        return await step.run(*args, **kwargs)
    limit = asyncio.timeout(step.timeout)
    try:
        async with limit:
            return await step.run(*args, **kwargs)
    except TimeoutError as error:
        if limit.expired():
            raise StepTimeoutError(step.name, step.timeout) from error
        raise


def _announce(
    workflow_id: str,
    step: Step[..., Any] | Compensation[..., Any],
    call: StepCall,
    key: str,
    attempt: int,
) -> None:
    info = StepInfo(
        workflow_id=workflow_id, step=step.name, op=call.op, attempt=attempt, idempotency_key=key
    )
    step_info.set(info)


def _is_for_us(error: BaseException) -> bool:
    """Tell a cancellation of our task, or Ctrl-C, from an error of the step's own."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


def _retry_at(services: Services, retry: Retry, error: BaseException, attempt: int) -> int | None:
    delay_s = retry.delay_s(error, attempt=attempt, draw=services.random.random())
    return None if delay_s is None else services.now() + round(delay_s * 1e6)
