"""An attempt of a step: its arguments, its result, its failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from beamflow.engine.attempt import Attempt, Attempted
from beamflow.engine.failure import describe
from beamflow.model.events import StepCompleted, StepFailed
from beamflow.model.ids import idempotency_key, shared_idempotency_key

if TYPE_CHECKING:
    from beamflow.engine.attempt import AttemptHost
    from beamflow.engine.services import Services
    from beamflow.engine.step_call import StepCall

__all__ = ["StepAttempt"]


class StepAttempt(Attempt):
    """An attempt of a step.

    The result goes through its encoding, so nothing reaches the workflow that a restart would not
    bring back.
    """

    __slots__ = ()

    def __init__(
        self, host: AttemptHost, services: Services, workflow_id: str, call: StepCall
    ) -> None:
        """Prepare the attempt that is next."""
        super().__init__(host, services, workflow_id, call, call.step, number=call.attempt)

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts, and for all workflows that share the result."""
        if self.call.shared is not None:
            return shared_idempotency_key(self.call.step.name, self.call.shared.key)
        return idempotency_key(self._workflow_id, self.call.op, self.run)

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
        if call.shared is not None:
            expires_at = self._services.now() + round(call.shared.ttl_s * 1e6)
            event = msgspec.structs.replace(event, key=call.shared.key, expires_at=expires_at)
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
