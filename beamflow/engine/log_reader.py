"""Reading a workflow's log: the events themselves, and what was published in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from beamflow.engine.history import expanded
from beamflow.engine.time_limit import TimeLimit
from beamflow.errors import StoreUnavailableError, WorkflowClosedError, WorkflowNotFoundError
from beamflow.model.codec import Payload
from beamflow.model.events import Ended, StatePublished

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from beamflow.engine.services import Services
    from beamflow.engine.workflows import Workflows
    from beamflow.model.events import Recorded
    from beamflow.stores.base import Summary

__all__ = ["LogReader"]

T = TypeVar("T")


class LogReader:
    """What can be read of a workflow, whatever its state.

    Attributes:
        id: the workflow's id.
    """

    def __init__(self, services: Services, workflows: Workflows, workflow_id: str) -> None:
        """Made by the engine."""
        self.id = workflow_id
        self._services = services
        self._workflows = workflows

    def __repr__(self) -> str:
        """Show the id."""
        return f"<{type(self).__name__} {self.id!r}>"

    async def history(self) -> list[Recorded]:
        """Return the workflow's events so far, oldest first.

        Those that a fork has taken over follow the `WorkflowForked` that brought them: with its
        number, the time at which they were recorded, and the id of the source as their stream.

        Raises:
            WorkflowNotFoundError: there is no such workflow.
            CorruptLogError: an event is damaged.
            EngineStoppedError: the engine is not running.
        """
        history = await self._services.opened.read(self.id)
        if not history:
            self._not_found()
        return expanded(history)

    async def events(self, after: int = 0) -> AsyncIterator[Recorded]:
        """Follow the log: all events after a sequence number, then each new one, to the last.

        Suspends while nothing is new. Ends with the workflow's last event, or with the engine; a
        new run of the workflow, and another try of a failed one, are part of the same log. Nothing
        is left out or repeated.

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
                news = await self._news(after)
                for recorded in news:
                    yield recorded
                    after = recorded.seq
                # one in the middle is that of a try that was not the last
                if news and isinstance(news[-1].event, Ended):
                    return
                if closed or services.stopped:
                    return
                await follower.wait()
        finally:
            services.unfollow(self.id, follower)

    @overload
    async def published(self, name: str, *, timeout: float | None = ...) -> Any: ...
    @overload
    async def published(self, name: str, type: type[T], *, timeout: float | None = ...) -> T: ...
    async def published(self, name: str, type: Any = Any, *, timeout: float | None = None) -> Any:
        """Return the value that the workflow has published last under a name; wait for the first.

        Works on any workflow, awake or not, and after its end.

        Args:
            name: what `publish` was called with.
            type: what to convert the value to; plain JSON data without it.
            timeout: seconds to wait, by the engine's clock; None for as long as it takes.

        Raises:
            PayloadError: the value does not fit the type.
            WorkflowClosedError: the workflow has ended and never published it.
            WorkflowNotFoundError: there is no such workflow.
            TimeoutError: there was none in time.
            EngineStoppedError: the engine stopped before there was one.
        """
        with TimeLimit(self._services.clock, timeout):
            found = _latest(name, await self.history())
            if found is None:
                found = await self._first_published(name)
        return Payload(type, f"published {name!r}").decode(found.value)

    @overload
    def watch(self, name: str) -> AsyncIterator[Any]: ...
    @overload
    def watch(self, name: str, type: type[T]) -> AsyncIterator[T]: ...
    async def watch(self, name: str, type: Any = Any) -> AsyncIterator[Any]:
        """Follow what the workflow publishes under a name, from the first value on.

        Each value once, in order, to the end of the workflow. Suspends while there is none.

        Raises:
            PayloadError: a value does not fit the type.
            WorkflowNotFoundError: there is no such workflow.
            EngineStoppedError: the engine is not running.
        """
        payload: Payload[Any] = Payload(type, f"published {name!r}")
        async for recorded in self.events():
            event = recorded.event
            if isinstance(event, StatePublished) and event.name == name:
                yield payload.decode(event.value)

    # Behind it

    async def _first_published(self, name: str) -> StatePublished:
        async for recorded in self.events():
            event = recorded.event
            if isinstance(event, StatePublished) and event.name == name:
                return event
        _ = self._services.opened
        message = f"workflow {self.id!r} has ended and never published {name!r}"
        raise WorkflowClosedError(self.id, message)

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

    async def _summary(self) -> Summary:
        summary = await self._services.opened.summary(self.id)
        if summary is None:
            self._not_found()
        return summary

    def _not_found(self) -> NoReturn:
        message = f"no workflow has the id {self.id!r}; start it with engine.start(..., id=...)"
        raise WorkflowNotFoundError(self.id, message)


def _latest(name: str, history: list[Recorded]) -> StatePublished | None:
    for recorded in reversed(history):
        event = recorded.event
        if isinstance(event, StatePublished) and event.name == name:
            return event
    return None
