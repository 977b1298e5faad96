"""Would everything that is open go on with this code? Replays every open log, and runs no step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from beamflow.engine.consequences import check_outcome
from beamflow.engine.parking import PARKED_BY, reason_of
from beamflow.engine.replay import replay
from beamflow.errors import CorruptLogError, NondeterminismError, said
from beamflow.model.events import DeadLetterReason, Ended, WorkflowStarted
from beamflow.model.status import WorkflowState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from beamflow.engine.definitions import Definitions
    from beamflow.model.events import Recorded
    from beamflow.stores.base import Reader, Summary

__all__ = ["Verdict", "check"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of one open workflow."""

    id: str
    workflow: str
    version: int
    state: WorkflowState
    problem: DeadLetterReason | None = None
    """Why it would be parked; None: it would go on."""
    message: str = ""
    seq: int | None = None
    """The event that the code does not come to, if that is the problem."""
    recorded: str = ""
    issued: str = ""
    place: str = ""
    """The line of the author's code that does something else, ``"app.py:12, in order"``."""
    lacks: tuple[str, ...] = ()
    """The patches to whose old branch it keeps."""


async def check(reader: Reader, definitions: Definitions) -> AsyncIterator[Verdict]:
    """Give a verdict on every open workflow. Only its own code is run, nothing is written.

    Raises:
        StoreError: the store cannot be read.
    """
    async for summary in reader.unfinished():
        try:
            history = await reader.read(summary.id)
        except CorruptLogError as error:
            yield _parked(summary, error)
        else:
            if not (history and isinstance(history[-1].event, Ended)):  # it has ended just now
                yield _verdict(summary, history, definitions)


def _verdict(summary: Summary, history: list[Recorded], definitions: Definitions) -> Verdict:
    try:
        started = _start_of(summary, history)
        definition = definitions.get(started.workflow, started.version)
        execution = replay(definition, summary.id, history)
        try:
            check_outcome(execution)
            answers = {} if execution.patches is None else execution.patches.answers
            lacks = tuple(name for name, taken in answers.items() if not taken)
        finally:
            execution.close()
    except Exception as error:  # noqa: BLE001 - one workflow's trouble says nothing of the others
        return _parked(summary, error)
    return Verdict(
        id=summary.id,
        workflow=summary.workflow,
        version=summary.version,
        state=summary.state,
        lacks=lacks,
    )


def _start_of(summary: Summary, history: list[Recorded]) -> WorkflowStarted:
    started = history[0].event if history else None
    if isinstance(started, WorkflowStarted):
        return started
    raise CorruptLogError(summary.id, 1, "it is not the start of a workflow")


def _parked(summary: Summary, error: Exception) -> Verdict:
    known = isinstance(error, PARKED_BY)
    verdict = Verdict(
        id=summary.id,
        workflow=summary.workflow,
        version=summary.version,
        state=summary.state,
        problem=reason_of(error) if known else DeadLetterReason.POISON,
        message=str(error) if known else said(type(error).__qualname__, str(error)),
    )
    if not isinstance(error, NondeterminismError):
        return verdict
    return msgspec.structs.replace(
        verdict, seq=error.seq, recorded=error.recorded, issued=error.issued, place=error.place
    )
