"""An attempt of the compensation of a step: handed the step's result, and counted by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Raw

from beamflow.engine.attempt import Attempt, Attempted
from beamflow.engine.failure import describe
from beamflow.model.events import CompensationCompleted, CompensationFailed
from beamflow.model.ids import idempotency_key

if TYPE_CHECKING:
    from beamflow.engine.attempt import AttemptHost
    from beamflow.engine.saga import Undo
    from beamflow.engine.services import Services

__all__ = ["CompensationAttempt"]


class CompensationAttempt(Attempt):
    """An attempt of the compensation of a completed step."""

    __slots__ = ("_workflow",)

    def __init__(self, host: AttemptHost, services: Services, workflow_id: str, undo: Undo) -> None:
        """Prepare the attempt that is next."""
        compensation = undo.call.step.compensated_by
        assert compensation is not None
        super().__init__(host, services, workflow_id, undo.call, compensation, number=undo.attempt)
        self._workflow = undo.workflow

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts, and not that of the step."""
        return f"{idempotency_key(self._workflow_id, self.call.op, self.run)}/compensation"

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
