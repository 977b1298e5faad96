"""The open children of one workflow: begun, waited for, told to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw

from beamflow.engine.failure import describe
from beamflow.engine.messages import ChildNews, ChildrenRest
from beamflow.errors import (
    DefinitionError,
    PayloadError,
    WorkflowCancelledError,
    WorkflowExistsError,
    WorkflowNotFoundError,
    WorkflowParkedError,
)
from beamflow.model.events import (
    ChildCompleted,
    ChildFailed,
    ChildStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowRetried,
    WorkflowStarted,
)
from beamflow.model.ids import checked_workflow_id

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from beamflow.engine.child_call import ChildCall
    from beamflow.engine.services import Others, Services
    from beamflow.model.events import Event, Recorded
    from supervision import Actor

__all__ = ["Children", "is_orphan"]


class Children:
    """Sees each child through to its end; whatever comes of it is cast to the actor.

    Beginning a child is idempotent, so after a restart each one without an outcome in the parent's
    log is simply begun again: there is never a second one, and none that nobody waits for.

    Args:
        actor: whose tasks wait for the children, and who is told.
        services: what the engine's actors share.
        workflow_id: the parent.
    """

    __slots__ = (
        "_actor",
        "_begun",
        "_given_up",
        "_never",
        "_services",
        "_tasks",
        "_telling",
        "_waits",
        "_workflow_id",
    )

    def __init__(self, actor: Actor, services: Services, workflow_id: str) -> None:
        """Begin with none."""
        self._actor = actor
        self._services = services
        self._workflow_id = workflow_id
        self._tasks: dict[int, tuple[ChildCall, asyncio.Task[None]]] = {}
        self._begun: set[int] = set()
        self._given_up: set[int] = set()
        self._never: set[int] = set()
        self._waits: dict[int, asyncio.Future[Event]] = {}
        self._telling = 0

    @property
    def rest(self) -> bool:
        """Whether all that is left to do is to wait for ends."""
        return not self._telling and len(self._waits) == len(self._tasks)

    @property
    def hears(self) -> bool:
        """Whether one of the ends has come, and is not told to the actor yet."""
        return any(end.done() for end in self._waits.values())

    @property
    def any(self) -> bool:
        """Whether one is open."""
        return bool(self._tasks)

    @property
    def busy(self) -> bool:
        """Whether a child is under way that has to end before its parent does."""
        return any(call.on_close != "abandon" or call.cancelled for call, _ in self._tasks.values())

    def start(self, call: ChildCall) -> None:
        """Begin a child, or find the one there is; raises `UnknownWorkflowError`.

        What the code has come to by now is in the log. Later on, while the child is begun, the code
        may have given it up and the log not have it yet: `cancel` tells.
        """
        if call.op not in self._tasks and call.op not in self._never:
            workflow = call.workflow
            _ = self._services.definitions.get(workflow.name, workflow.version)
            if call.cancelled:
                self._given_up.add(call.op)
            self._tasks[call.op] = call, self._actor.spawn(self._see_through(call))

    def cancel(self, call: ChildCall) -> None:
        """Have a child that the code has given up end; one that has not begun does not begin."""
        call.cancelled = True
        self._given_up.add(call.op)
        if call.op in self._begun:
            self._telling += 1
            _ = self._actor.spawn(self._told(call))

    def close(self, *, forced: bool) -> None:
        """Have those end that end with their parent: its code has ended.

        Args:
            forced: whether it was taken away, so that nothing is waited for any more.
        """
        for call, _ in tuple(self._tasks.values()):
            ends = call.on_close == "cancel" or (forced and call.on_close == "wait")
            if ends and not call.cancelled:
                self.cancel(call)

    def leave(self) -> None:
        """Wait no longer for any of them: a new run of their parent begins, or it leaves memory."""
        for _, task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._waits.clear()
        self._begun.clear()
        self._given_up.clear()
        self._never.clear()

    def events_of(self, news: ChildNews) -> tuple[Event, ...]:
        """Return what is to be recorded; nothing for one that never was, or is of an earlier run."""
        call, event = news.call, news.event
        there = self._tasks.get(call.op)
        if there is None or there[0] is not call:
            return ()
        if not isinstance(event, ChildStarted):
            del self._tasks[call.op]
            self._waits.pop(call.op, None)
            self._begun.discard(call.op)
            self._given_up.discard(call.op)
        if event is None:
            self._never.add(call.op)
            return ()
        return (event,)

    async def _see_through(self, call: ChildCall) -> None:
        others = self._others
        given_up = self._given_up
        if call.op in given_up and not call.recorded and not await others.exists(call.id):
            self._report(call, None)
            return
        # a child that sleeps is let sleep
        if not (call.recorded and await others.is_child(call.id, self._workflow_id)):
            try:
                await others.begin(checked_workflow_id(call.id), self._started(call))
            except (WorkflowExistsError, DefinitionError, PayloadError) as error:
                self._report(call, self._failed(call, error))
                return
        self._begun.add(call.op)
        if not call.recorded:
            self._report(
                call,
                ChildStarted(
                    op=call.op, workflow=call.workflow.name, id=call.id, digest=call.digest
                ),
            )
        if call.op in given_up:
            await self._tell(call)
        self._report(call, self._outcome(call, await self._end_of(call)))

    async def _end_of(self, call: ChildCall) -> Event:
        """Return a child's last event; one that had ended long ago, and was removed, is begun anew."""

        def waits(end: asyncio.Future[Event]) -> None:
            self._waits[call.op] = end
            if call.recorded:  # else its start is still to be told, and that is looked at
                self._come_to_rest()

        while True:
            try:
                return await self._others.end(call.id, waits)
            except WorkflowNotFoundError:
                await self._others.begin(call.id, self._started(call))

    async def _told(self, call: ChildCall) -> None:
        try:
            await self._tell(call)
        finally:
            self._telling -= 1
        self._come_to_rest()

    async def _tell(self, call: ChildCall) -> None:
        """Have a child end; one that is parked is told as soon as it goes on."""
        reason = f"its parent {self._workflow_id!r} waits for it no longer"
        while True:
            grown = self._services.follow(call.id)
            try:
                return await self._others.cancel(call.id, reason)
            except WorkflowParkedError:
                await grown.wait()
            finally:
                self._services.unfollow(call.id, grown)

    def _come_to_rest(self) -> None:
        """Have the actor look whether it rests now, for no news may come for long."""
        if self.rest:
            self._actor.ref.cast(ChildrenRest())

    def _report(self, call: ChildCall, event: Event | None) -> None:
        self._actor.ref.cast(ChildNews(call, event))

    @property
    def _others(self) -> Others:
        others = self._services.others
        assert others is not None
        return others

    def _started(self, call: ChildCall) -> WorkflowStarted:
        return WorkflowStarted(
            workflow=call.workflow.name,
            version=call.workflow.version,
            fingerprint=call.workflow.fingerprint,
            input=Raw(call.input),
            parent=self._workflow_id,
            on_close=call.on_close,
        )

    def _outcome(self, call: ChildCall, event: Event) -> ChildCompleted | ChildFailed:
        match event:
            case WorkflowCompleted():
                return ChildCompleted(
                    op=call.op,
                    id=call.id,
                    result=event.result,
                    workflow=call.workflow.name,
                    digest=call.digest,
                )
            case WorkflowFailed():
                return ChildFailed(
                    op=call.op,
                    id=call.id,
                    error=event.error,
                    workflow=call.workflow.name,
                    digest=call.digest,
                )
            case WorkflowCancelled():
                error = WorkflowCancelledError(
                    call.id, reason=event.reason, terminated=event.terminated
                )
                return self._failed(call, error, cancelled=True)
            case _:
                raise TypeError(event)

    def _failed(self, call: ChildCall, error: Exception, *, cancelled: bool = False) -> ChildFailed:
        return ChildFailed(
            op=call.op,
            id=call.id,
            error=describe(error),
            cancelled=cancelled,
            workflow=call.workflow.name,
            digest=call.digest,
        )


async def is_orphan(
    services: Services, history: Sequence[Recorded], started: WorkflowStarted
) -> bool:
    """Tell whether a child that comes back is to end: its parent was terminated.

    One that somebody has sent round again since goes on alone.
    """
    if not started.parent or started.on_close == "abandon" or services.others is None:
        return False
    if any(isinstance(one.event, WorkflowRetried) for one in history):
        return False
    return await services.others.was_terminated(started.parent)
