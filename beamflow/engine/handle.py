"""Handles: how the host talks to a workflow, awake or not."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

import msgspec

from beamflow.engine.messages import Signal, Waiting
from beamflow.engine.parking import parked_error
from beamflow.engine.time_limit import TimeLimit
from beamflow.errors import (
    StoreUnavailableError,
    WorkflowClosedError,
    WorkflowFailedError,
    WorkflowNotFoundError,
)
from beamflow.model.codec import encode_json
from beamflow.model.events import SignalReceived, WorkflowCompleted, WorkflowFailed
from beamflow.model.status import WorkflowState
from supervision import ActorStoppedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from beamflow.authoring.workflow import Workflow
    from beamflow.engine.services import Services
    from beamflow.engine.workflows import Workflows
    from beamflow.model.events import Event, Recorded
    from beamflow.stores.base import Summary

__all__ = ["WorkflowHandle", "WorkflowStatus"]

R = TypeVar("R")


class WorkflowStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where a workflow stands.

    Times are microseconds since the Unix epoch.
    """

    id: str
    workflow: str
    version: int
    state: WorkflowState
    started_at: int
    closed_at: int | None
    error: str | None
    """Of a workflow that failed, compensates or is parked."""
    waiting_for: tuple[str, ...]
    """``"step charge"``, ``"timer"``, ``"signal approval"`` …, while it is in memory."""


class WorkflowHandle(Generic[R]):
    """A workflow, addressed by its id. Made by ``engine.start`` and ``engine.handle``.

    A handle keeps nothing of the workflow: make as many as you like, at any time.

    Attributes:
        id: the workflow's id.
    """

    def __init__(
        self,
        services: Services,
        workflows: Workflows,
        workflow_id: str,
        definition: Workflow[..., R] | None,
    ) -> None:
        """Made by the engine."""
        self.id = workflow_id
        self._services = services
        self._workflows = workflows
        self._definition = definition

    def __repr__(self) -> str:
        """Show the id."""
        return f"<{type(self).__name__} {self.id!r}>"

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the end and return what the workflow returned, converted by its annotation.

        Cancelling the wait does nothing to the workflow.

        Args:
            timeout: seconds to wait, by the engine's clock; None for as long as it takes.

        Raises:
            WorkflowFailedError: it failed.
            WorkflowParkedError: it stands still until somebody mends something.
            WorkflowNotFoundError: there is no such workflow.
            EngineStoppedError: the engine stopped before the workflow ended.
            TimeoutError: it has not ended in time.
        """
        with TimeLimit(self._services.clock, timeout):
            return self._returned(await self._last_event())

    async def status(self) -> WorkflowStatus:
        """Return where the workflow stands now; raises `WorkflowNotFoundError`."""
        summary = await self._summary()
        waiting: tuple[str, ...] = ()
        ref = self._services.actors.get(self.id)
        if summary.state.is_open and ref is not None:
            try:
                waiting = cast("tuple[str, ...]", await ref.call(Waiting(), timeout=None))
            except ActorStoppedError:
                summary = await self._summary()
        return WorkflowStatus(
            id=summary.id,
            workflow=summary.workflow,
            version=summary.version,
            state=summary.state,
            started_at=summary.started_at,
            closed_at=summary.closed_at,
            error=summary.error,
            waiting_for=waiting,
        )

    async def signal(self, name: str, payload: Any = None) -> None:
        """Send a signal; returns once it is in the log, from where the workflow receives it.

        Signals that one task sends one after the other are received in that order. A workflow that
        does not ask for it yet finds it when it does.

        Raises:
            PayloadError: the payload cannot be written as JSON.
            WorkflowClosedError: the workflow has ended.
            WorkflowParkedError: it stands still; send the signal again when it goes on.
            WorkflowNotFoundError: there is no such workflow.
            StoreError: the signal may not be in the log.
            EngineStoppedError: likewise, the engine is stopping.
        """
        services = self._services
        encode_json(name, "name of a signal")
        data = encode_json(payload, f"signal {name!r}")
        again = False
        signal_id = services.mint_id()
        while True:
            if self.id not in services.actors:
                await self._check_open(name)
            ref = await self._workflows.wake(self.id)
            if ref is None:
                continue
            acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            monitor = ref.monitor(partial(_give_up, acknowledged))
            ref.cast(Signal(signal_id, name, data, acknowledged, again=again))
            try:
                await asyncio.wait({acknowledged})
            finally:
                monitor.cancel()
                acknowledged.cancel()
            if not acknowledged.cancelled():
                return acknowledged.result()
            if await self._is_recorded(signal_id):
                return None
            again = True

    async def history(self) -> list[Recorded]:
        """Return the workflow's events so far, oldest first.

        Raises:
            WorkflowNotFoundError: there is no such workflow.
            CorruptLogError: an event is damaged.
            EngineStoppedError: the engine is not running.
        """
        history = await self._services.opened.read(self.id)
        if not history:
            self._not_found()
        return history

    async def events(self, after: int = 0) -> AsyncIterator[Recorded]:
        """Follow the log: all events after a sequence number, then each new one, to the last.

        Suspends while nothing is new. Ends with the workflow's last event, or with the engine.
        Nothing is left out or repeated.

        Raises:
            WorkflowNotFoundError: there is no such workflow.
            CorruptLogError: an event is damaged.
            EngineStoppedError: the engine is not running.
        """
        services = self._services
        closed = not (await self._summary()).state.is_open
        follower = services.follow(self.id)
        try:
            while True:
                follower.clear()
                for recorded in await self._news(after):
                    yield recorded
                    after = recorded.seq
                    if isinstance(recorded.event, WorkflowCompleted | WorkflowFailed):
                        return
                if closed or services.stopped:
                    return
                await follower.wait()
        finally:
            services.unfollow(self.id, follower)

    # Behind it

    async def _news(self, after: int) -> list[Recorded]:
        """Return what follows a sequence number; nothing while the store is being opened again."""
        services = self._services
        if services.lease is None:
            return []
        try:
            return await services.store.read(self.id, after)
        except StoreUnavailableError:
            if services.lease is None:
                return []
            raise

    async def _last_event(self) -> Event:
        services = self._services
        end = services.wait_for_end(self.id)
        try:
            actor = services.actors.get(self.id)
            if actor is not None and actor.alive:
                return await end
            summary = await self._summary()
            if summary.state is WorkflowState.PARKED and self.id not in services.actors:
                raise await parked_error(services, self.id)
            if summary.state.is_open:
                return await end
        finally:
            services.wait_no_more(self.id, end)
        return (await services.store.read(self.id))[-1].event

    def _returned(self, event: Event) -> R:
        match event:
            case WorkflowCompleted():
                if self._definition is None:
                    return cast("R", msgspec.json.decode(event.result))
                return cast("R", self._definition.signature.result.decode(event.result))
            case WorkflowFailed():
                raise WorkflowFailedError(
                    self.id,
                    error_type=event.error.type,
                    error_message=event.error.message,
                    traceback=event.error.traceback,
                    step=event.step,
                )
            case _:
                raise AssertionError(event)

    async def _check_open(self, signal: str) -> None:
        summary = await self._summary()
        if summary.state is WorkflowState.PARKED:
            raise await parked_error(self._services, self.id, f"signal {signal!r} was not taken: ")
        if not summary.state.is_open:
            message = (
                f"workflow {self.id!r} has {summary.state.value} and takes no signal {signal!r}; "
                f"start another one under a new id"
            )
            raise WorkflowClosedError(self.id, message)

    async def _summary(self) -> Summary:
        summary = await self._services.opened.summary(self.id)
        if summary is None:
            self._not_found()
        return summary

    async def _is_recorded(self, signal_id: str) -> bool:
        return any(
            isinstance(recorded.event, SignalReceived) and recorded.event.id == signal_id
            for recorded in await self._services.opened.read(self.id)
        )

    def _not_found(self) -> NoReturn:
        message = f"no workflow has the id {self.id!r}; start it with engine.start(..., id=...)"
        raise WorkflowNotFoundError(self.id, message)


def _give_up(acknowledged: asyncio.Future[None], _down: object) -> None:
    acknowledged.cancel()
