"""Parking: a workflow that cannot go on stands still, its log untouched, until the cause is mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw

from beamflow import log
from beamflow.engine.dead_letters import PARKED, find_letter
from beamflow.engine.failure import describe
from beamflow.errors import (
    BeamflowError,
    CorruptLogError,
    DefinitionError,
    HostLoopError,
    NondeterminismError,
    PayloadError,
    WorkflowParkedError,
)
from beamflow.model.events import DeadLettered, DeadLetterReason, DeadLetterRetried
from beamflow.stores.base import LIMIT_MAX, DeadLetterQuery, DeadLetterState

if TYPE_CHECKING:
    from beamflow.engine.saga import Undo
    from beamflow.engine.services import Services
    from beamflow.model.events import Recorded
    from beamflow.model.status import WorkflowState

__all__ = [
    "MENDED_BY_A_RESTART",
    "PARKED_BY",
    "PoisonError",
    "is_to_be_looked_at",
    "leave_parking",
    "letter_of",
    "letter_of_compensation",
    "park",
    "parked_error",
    "reason_of",
    "sent_round",
]


class PoisonError(BeamflowError):
    """The workflow has crashed its actor, or the process, again and again."""

    def __init__(self, times: int, *, killed: str = "its actor crashed") -> None:
        """Say how often, and what."""
        super().__init__(f"{killed} {times} times in a row without its getting on")


_REASONS: tuple[tuple[type[BeamflowError], DeadLetterReason], ...] = (
    (NondeterminismError, DeadLetterReason.NONDETERMINISM),
    (PayloadError, DeadLetterReason.UNDECODABLE),
    (DefinitionError, DeadLetterReason.CODE_GONE),
    (CorruptLogError, DeadLetterReason.CORRUPT_LOG),
    (HostLoopError, DeadLetterReason.HOST_LOOP),
    (PoisonError, DeadLetterReason.POISON),
)

PARKED_BY = tuple(kind for kind, _ in _REASONS)
"""Errors that park the workflow whose actor meets them."""

MENDED_BY_A_RESTART = frozenset(
    {
        DeadLetterReason.NONDETERMINISM,
        DeadLetterReason.CODE_GONE,
        DeadLetterReason.HOST_LOOP,
        DeadLetterReason.UNDECODABLE,
        DeadLetterReason.CORRUPT_LOG,
    }
)
"""Reasons that are looked at again at each start: by then there may be other code, or another file."""


def reason_of(error: BaseException) -> DeadLetterReason:
    """Return the reason for which one of `PARKED_BY` parks a workflow."""
    return next(reason for kind, reason in _REASONS if isinstance(error, kind))


def letter_of(workflow_id: str, workflow: str, error: BaseException) -> DeadLettered:
    """Make the dead letter of a workflow that met one of `PARKED_BY`."""
    return DeadLettered(
        workflow_id=workflow_id,
        workflow=workflow,
        reason=reason_of(error),
        error=describe(error),
    )


def letter_of_compensation(workflow_id: str, workflow: str, undo: Undo) -> DeadLettered:
    """Make the dead letter of a workflow that has a compensation which failed for good."""
    failure = undo.failure
    assert failure is not None
    return DeadLettered(
        workflow_id=workflow_id,
        workflow=workflow,
        reason=DeadLetterReason.COMPENSATION_FAILED,
        error=failure.error,
        step=undo.call.step.name,
        attempts=failure.attempt,
        input=Raw(undo.call.input),
    )


async def park(services: Services, letter: DeadLettered) -> WorkflowParkedError:
    """Have the letter recorded; return what those who wait for the workflow are to be told."""
    await _tell_queue(services, letter)
    log.error(
        "workflow_parked",
        workflow_id=letter.workflow_id,
        reason=letter.reason.value,
        step=letter.step,
        error=letter.error.message,
    )
    return WorkflowParkedError(
        letter.workflow_id, reason=letter.reason.value, detail=letter.error.message
    )


async def is_to_be_looked_at(services: Services, workflow_id: str) -> bool:
    """Tell whether a parked workflow may go on since the engine was started, and nobody has looked.

    What it was parked for is what an engine has found that is gone by now.
    """
    if not services.recovering:
        return False
    letter = await find_letter(services, workflow_id, among=PARKED)
    return letter is not None and letter.reason in MENDED_BY_A_RESTART


async def leave_parking(services: Services, workflow_id: str, state: WorkflowState) -> None:
    """Close the dead letter of a workflow whose cause is mended, before anything happens in it.

    Args:
        services: what the engine's actors share.
        workflow_id: which workflow.
        state: what it goes back to.
    """
    await _tell_queue(
        services,
        DeadLetterRetried(workflow_id=workflow_id, retried_as=workflow_id, state=state.value),
    )


async def sent_round(services: Services, failed: list[Undo], history: list[Recorded]) -> list[Undo]:
    """Return the compensations that somebody let be made again, and a crash came in between.

    That they may be is in the dead letters' log alone: the letter was closed after they had failed.
    """
    query = DeadLetterQuery(
        states=frozenset({DeadLetterState.RETRIED}),
        workflow_id=history[0].stream,
        limit=LIMIT_MAX,
    )
    letters = (await services.store.dead_letters(query)).items
    closed_at = max((letter.closed_at or 0 for letter in letters), default=0)
    failed_at = {id(one.event): one.time for one in history}
    return [undo for undo in failed if failed_at[id(undo.failure)] <= closed_at]


async def parked_error(
    services: Services, workflow_id: str, not_done: str = ""
) -> WorkflowParkedError:
    """Make the error for a workflow that is parked; its letter says why."""
    _ = services.opened
    letter = await find_letter(services, workflow_id, states=None, among=PARKED)
    assert letter is not None
    detail = f"{not_done}{letter.error.message}"
    return WorkflowParkedError(workflow_id, reason=letter.reason.value, detail=detail)


async def _tell_queue(services: Services, event: DeadLettered | DeadLetterRetried) -> None:
    queue = services.dead_letters
    assert queue is not None
    await queue.call(event, timeout=None)
