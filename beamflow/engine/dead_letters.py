"""The dead-letter queue: what failed for good, and the way back for it.

A workflow that ends by an unhandled exception leaves its letter with its last event. One that
cannot go on without having ended (code gone, log damaged, a compensation that fails for good) is
parked: its letter is an event of the queue's own stream, so that its log stays untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from beamflow import log
from beamflow.authoring.workflow import name_of
from beamflow.errors import (
    CorruptLogError,
    DeadLetterError,
    DefinitionError,
    EngineStoppedError,
    FencedError,
    NondeterminismError,
    WorkflowExistsError,
    WorkflowStateError,
)
from beamflow.model.codec import checked_text
from beamflow.model.events import DeadLettered, DeadLetterResolved, DeadLetterRetried
from beamflow.model.ids import DEAD_LETTERS
from beamflow.model.status import WorkflowState
from beamflow.stores.base import DeadLetter, DeadLetterQuery, DeadLetterState
from supervision import Actor, ActorStoppedError

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncIterator, Awaitable, Callable

    from beamflow.authoring.workflow import Workflow
    from beamflow.engine.services import Services
    from beamflow.model.events import DeadLetterReason, Event

__all__ = ["PARKED", "DeadLetterQueue", "DeadLetters", "find_letter"]

PARKED = frozenset({WorkflowState.PARKED})
_HALTED = frozenset({WorkflowState.FAILED, WorkflowState.PARKED})
_ANY = frozenset(WorkflowState)


class DeadLetterQueue(Actor):
    """The only writer of the dead letters' stream; asked with the event to append.

    An event that changes nothing (parked again for the same reason, retried twice) is not written.
    """

    def __init__(self, services: Services) -> None:
        """Keep what the engine's actors share."""
        self._services = services
        self._seq = 0
        self._time = 0

    async def init(self) -> None:
        """Find the end of the stream, and read no more of it: it never shrinks."""
        store = self._services.store
        end = await store.end(DEAD_LETTERS)
        if end:
            last = (await store.read(DEAD_LETTERS, after=end - 1))[-1]
            self._seq, self._time = last.seq, last.time
        self._services.dead_letters = self.ref

    async def terminate(self, reason: object) -> None:
        """Pass it on when the lease is lost."""
        if isinstance(reason, FencedError):
            self._services.fenced(reason)

    async def handle_call(self, request: object) -> None:
        """Append the event, if it changes anything."""
        match request:
            case DeadLettered():
                there = await find_letter(self._services, request.workflow_id, among=PARKED)
                if there is None or there.reason is not request.reason:
                    await self._append(request)
            case DeadLetterRetried() | DeadLetterResolved():
                here = getattr(request, "retried_as", "") == request.workflow_id
                closing = await find_letter(
                    self._services,
                    request.workflow_id,
                    number=request.letter,
                    among=PARKED if here else _ANY,
                )
                if closing is not None:
                    await self._append(replace(request, letter=closing.number))
            case _:
                raise TypeError(request)

    async def _append(self, event: Event) -> None:
        services = self._services
        time = max(services.now(), self._time)
        await services.store.append(
            DEAD_LETTERS, self._seq, [event], time=time, epoch=services.epoch
        )
        self._seq += 1
        self._time = time


class DeadLetters:
    """What of an engine deals with dead letters: ``engine.dead_letters``."""

    def __init__(
        self,
        services: Services,
        again: Callable[[DeadLetter], Awaitable[str]],
    ) -> None:
        """Made by the engine."""
        self._services = services
        self._again = again

    async def list(
        self,
        *,
        state: DeadLetterState | None = DeadLetterState.OPEN,
        workflow: str | Workflow[..., Any] | type | None = None,
    ) -> list[DeadLetter]:
        """Return the dead letters, oldest first.

        Args:
            state: only those in this state; None for all.
            workflow: only those of this workflow, itself or its name in the log.

        Raises:
            DefinitionError: ``workflow`` is none.
        """
        name = None if workflow is None else name_of(workflow)
        return [letter async for letter in self._all(state, name)]

    async def show(self, workflow_id: str, letter: int | None = None) -> DeadLetter:
        """Return a dead letter of a workflow.

        Args:
            workflow_id: which workflow.
            letter: the ``number`` of the letter; the latest one by default.

        Raises:
            DeadLetterError: it has no dead letter, or none of that number.
        """
        services = self._services
        _ = services.opened
        found = await find_letter(services, workflow_id, states=None, number=letter or 0)
        if found is None:
            which = "no dead letter" if letter is None else f"no dead letter {letter}"
            message = f"workflow {workflow_id!r} has {which}"
            raise DeadLetterError(message)
        return found

    async def retry(self, workflow_id: str, letter: int | None = None) -> str:
        """Let the workflow go on after its cause was mended.

        One that was parked goes on from its log, under its own id; if the cause is still there, it
        is parked again with the letter it has. One that has failed goes on in place from the step
        that failed, as by ``handle.retry_from()``; what was completed before stays. But where its
        way back has begun (something was compensated, or it was told to end) it stays as it is, and
        a new one with the same input is started, as ``<id>~1`` (then ``~2`` …).

        Args:
            workflow_id: which workflow.
            letter: the ``number`` of the letter; the latest open one by default.

        Returns:
            The id it goes on under.

        Raises:
            DeadLetterError: the workflow has no open dead letter, or it has gone on without the
                compensation that the letter is about.
            WorkflowStateError: it has failed, and cannot be sent round again where it failed.
            NondeterminismError: it has failed, and its code does not follow its log up to there.
            UnknownWorkflowError: it has failed, and the engine was not given its code.
            WorkflowExistsError: it has failed, and the new id is taken by something else.
            CorruptLogError: it has failed, and its log is damaged.
        """
        among = _HALTED if letter is None else _ANY
        found = await self._find(workflow_id, letter, among) or await self._open(
            workflow_id, letter
        )
        if found.outcome not in _HALTED:
            raise _went_on(found)
        return await self._again(found)

    async def retry_all(
        self,
        *,
        workflow: str | Workflow[..., Any] | type | None = None,
        reason: DeadLetterReason | None = None,
    ) -> builtins.list[str]:
        """Let every workflow with an open dead letter go on, oldest first, each as `retry` does.

        One that cannot (its code or its log is gone) keeps its dead letter and stops no other.

        Args:
            workflow: only those of this workflow, itself or its name in the log.
            reason: only those with this reason.

        Returns:
            The ids under which they go on.

        Raises:
            DefinitionError: ``workflow`` is none.
        """
        ids: builtins.list[str] = []
        for letter in await self.list(workflow=workflow):
            if reason is not None and letter.reason is not reason:
                continue
            try:
                ids.append(await self.retry(letter.workflow_id, letter.number))
            except (
                DeadLetterError,
                DefinitionError,
                WorkflowExistsError,
                WorkflowStateError,
                NondeterminismError,
                CorruptLogError,
            ) as error:
                log.warning(
                    "dead_letter_not_retried", workflow_id=letter.workflow_id, error=str(error)
                )
        return ids

    async def resolve(self, workflow_id: str, note: str, letter: int | None = None) -> None:
        """Close a dead letter that was dealt with by hand; the workflow stays as it is.

        Args:
            workflow_id: which workflow.
            note: what was done.
            letter: the ``number`` of the letter; the latest open one by default.

        Raises:
            DeadLetterError: the workflow has no such open dead letter.
            PayloadError: the note is no text.
        """
        checked_text(note, "note of resolve()")
        number = (await self._open(workflow_id, letter)).number
        await self._tell(DeadLetterResolved(workflow_id=workflow_id, note=note, letter=number))

    async def retried(self, letter: DeadLetter, retried_as: str) -> None:
        """Close a dead letter whose workflow goes on under another id; called by the engine."""
        await self._tell(
            DeadLetterRetried(
                workflow_id=letter.workflow_id, retried_as=retried_as, letter=letter.number
            )
        )

    async def _tell(self, event: DeadLetterRetried | DeadLetterResolved) -> None:
        queue = self._services.dead_letters
        if queue is None:
            raise EngineStoppedError(_NOT_UP)
        try:
            await queue.call(event, timeout=None)
        except ActorStoppedError as error:
            raise EngineStoppedError(_NOT_UP) from error

    async def _open(self, workflow_id: str, letter: int | None) -> DeadLetter:
        found = await self._find(workflow_id, letter, _ANY)
        if found is None:
            which = "open dead letter" if letter is None else f"open dead letter {letter}"
            message = (
                f"workflow {workflow_id!r} has no {which}; "
                f"engine.dead_letters.list(state=None) shows those that are closed too"
            )
            raise DeadLetterError(message)
        return found

    async def _find(
        self, workflow_id: str, letter: int | None, among: frozenset[WorkflowState]
    ) -> DeadLetter | None:
        _ = self._services.opened
        return await find_letter(self._services, workflow_id, number=letter or 0, among=among)

    async def _all(
        self, state: DeadLetterState | None, workflow: str | None
    ) -> AsyncIterator[DeadLetter]:
        after = None
        while True:
            query = DeadLetterQuery(
                states=None if state is None else frozenset({state}),
                workflow=workflow,
                after=after,
            )
            page = await self._services.opened.dead_letters(query)
            for letter in page.items:
                yield letter
            after = page.cursor
            if after is None:
                return


async def find_letter(
    services: Services,
    workflow_id: str,
    *,
    states: frozenset[DeadLetterState] | None = frozenset({DeadLetterState.OPEN}),
    number: int = 0,
    among: frozenset[WorkflowState] = frozenset(WorkflowState),
) -> DeadLetter | None:
    """Return the latest dead letter of a workflow, or None.

    Args:
        services: what the engine's actors share.
        workflow_id: which workflow.
        states: only one in these states; None for any.
        number: only that letter, unless it is 0.
        among: only one that left the workflow in one of these states.
    """
    after, found = None, None
    while True:
        query = DeadLetterQuery(states=states, workflow_id=workflow_id, after=after)
        page = await services.store.dead_letters(query)
        for letter in page.items:
            if number in {0, letter.number} and letter.outcome in among:
                found = letter if found is None or letter.number > found.number else found
        after = page.cursor
        if after is None:
            return found


def _went_on(letter: DeadLetter) -> DeadLetterError:
    return DeadLetterError(
        f"step {letter.step!r} of workflow {letter.workflow_id!r} could not be undone, and the "
        f"workflow has gone on without: undo it by hand, then close the letter with "
        f"engine.dead_letters.resolve({letter.workflow_id!r}, note, letter={letter.number})"
    )


_NOT_UP = (
    "the engine is restarting after a failure, or stopping; whether the dead letter was closed shows "
    "in its state"
)
