"""The dead-letter queue: what failed for good, and the way back for it.

A workflow that ends by an unhandled exception leaves its letter with its last event. One that
cannot go on without having ended (code gone, log damaged, a compensation that fails for good) is
parked: its letter is an event of the queue's own stream, so that its log stays untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow import log
from beamflow.errors import (
    CorruptLogError,
    DeadLetterError,
    DefinitionError,
    EngineStoppedError,
    FencedError,
    WorkflowExistsError,
)
from beamflow.model.events import DeadLettered, DeadLetterResolved, DeadLetterRetried
from beamflow.model.ids import DEAD_LETTERS
from beamflow.stores.base import DeadLetter, DeadLetterQuery, DeadLetterState
from supervision import Actor, ActorStoppedError

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncIterator, Awaitable, Callable

    from beamflow.engine.services import Services
    from beamflow.model.events import DeadLetterReason, Event

__all__ = ["DeadLetterQueue", "DeadLetters", "open_letter"]


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
        """Find the end of the stream."""
        history = await self._services.store.read(DEAD_LETTERS)
        if history:
            self._seq, self._time = history[-1].seq, history[-1].time
        self._services.dead_letters = self.ref

    async def terminate(self, reason: object) -> None:
        """Pass it on when the lease is lost."""
        if isinstance(reason, FencedError):
            self._services.fenced(reason)

    async def handle_call(self, request: object) -> None:
        """Append the event, if it changes anything."""
        match request:
            case DeadLettered():
                there = await open_letter(self._services, request.workflow_id)
                if there is None or there.reason is not request.reason:
                    await self._append(request)
            case DeadLetterRetried() | DeadLetterResolved():
                if await open_letter(self._services, request.workflow_id) is not None:
                    await self._append(request)
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
        workflow: str | None = None,
    ) -> list[DeadLetter]:
        """Return the dead letters, oldest first.

        Args:
            state: only those in this state; None for all.
            workflow: only those of this workflow, by its name in the log.
        """
        return [letter async for letter in self._all(state, workflow)]

    async def show(self, workflow_id: str) -> DeadLetter:
        """Return the latest dead letter of a workflow; raises `DeadLetterError` without one."""
        query = DeadLetterQuery(states=None, workflow_id=workflow_id)
        page = await self._services.opened.dead_letters(query)
        if not page.items:
            message = f"workflow {workflow_id!r} has no dead letter"
            raise DeadLetterError(message)
        return page.items[-1]

    async def retry(self, workflow_id: str) -> str:
        """Let the workflow go on after its cause was mended.

        One that was parked goes on from its log, under its own id; if the cause is still there, it
        is parked again with the letter it has. One that has ended stays as it
        is, for a workflow that has ended never runs again: a new one with the same input is
        started, as ``<id>~1`` (then ``~2`` …).

        Returns:
            The id it goes on under.

        Raises:
            DeadLetterError: the workflow has no open dead letter, or it has gone on without the
                compensation that the letter is about.
            UnknownWorkflowError: it has ended, and the engine was not given its code.
            WorkflowExistsError: it has ended, and the new id is taken by something else.
            CorruptLogError: it has ended, and its log is damaged.
        """
        return await self._again(await self._open(workflow_id))

    async def retry_all(
        self, *, workflow: str | None = None, reason: DeadLetterReason | None = None
    ) -> builtins.list[str]:
        """Let every workflow with an open dead letter go on, oldest first, each as `retry` does.

        One that cannot (its code or its log is gone) keeps its dead letter and stops no other.

        Args:
            workflow: only those of this workflow, by its name in the log.
            reason: only those with this reason.

        Returns:
            The ids under which they go on.
        """
        ids: builtins.list[str] = []
        for letter in await self.list(workflow=workflow):
            if reason is not None and letter.reason is not reason:
                continue
            try:
                ids.append(await self.retry(letter.workflow_id))
            except (
                DeadLetterError,
                DefinitionError,
                WorkflowExistsError,
                CorruptLogError,
            ) as error:
                log.warning(
                    "dead_letter_not_retried", workflow_id=letter.workflow_id, error=str(error)
                )
        return ids

    async def resolve(self, workflow_id: str, note: str) -> None:
        """Close a dead letter that was dealt with by hand; the workflow stays as it is.

        Raises:
            DeadLetterError: the workflow has no open dead letter.
        """
        await self._open(workflow_id)
        await self._tell(DeadLetterResolved(workflow_id=workflow_id, note=note))

    async def retried(self, workflow_id: str, retried_as: str) -> None:
        """Close a dead letter whose workflow goes on under an id; called by the engine."""
        await self._tell(DeadLetterRetried(workflow_id=workflow_id, retried_as=retried_as))

    async def _tell(self, event: DeadLetterRetried | DeadLetterResolved) -> None:
        queue = self._services.dead_letters
        if queue is None:
            raise EngineStoppedError(_NOT_UP)
        try:
            await queue.call(event, timeout=None)
        except ActorStoppedError as error:
            raise EngineStoppedError(_NOT_UP) from error

    async def _open(self, workflow_id: str) -> DeadLetter:
        _ = self._services.opened
        letter = await open_letter(self._services, workflow_id)
        if letter is None:
            message = (
                f"workflow {workflow_id!r} has no open dead letter; "
                f"engine.dead_letters.list(state=None) shows those that are closed too"
            )
            raise DeadLetterError(message)
        return letter

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


async def open_letter(services: Services, workflow_id: str) -> DeadLetter | None:
    """Return the open dead letter of a workflow, or None."""
    query = DeadLetterQuery(states=frozenset({DeadLetterState.OPEN}), workflow_id=workflow_id)
    page = await services.store.dead_letters(query)
    return page.items[0] if page.items else None


_NOT_UP = (
    "the engine is restarting after a failure, or stopping; whether the dead letter was closed shows "
    "in its state"
)
