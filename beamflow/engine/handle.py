"""Handles: how the host talks to a workflow, awake or not."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import msgspec

from beamflow.engine.conversation import Conversation, closed_error, give_up
from beamflow.engine.messages import ControlRequest, Waiting
from beamflow.engine.parking import parked_error
from beamflow.engine.steering import GRACE_S, refusal
from beamflow.engine.time_limit import TimeLimit
from beamflow.errors import (
    WorkflowCancelledError,
    WorkflowFailedError,
    WorkflowTimeoutError,
)
from beamflow.model.codec import encode_json
from beamflow.model.events import (
    Attribute,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
)
from beamflow.model.status import Control, WorkflowState, allows
from beamflow.stores.base import Progress
from supervision import ActorStoppedError

if TYPE_CHECKING:
    from beamflow.authoring.workflow import Workflow
    from beamflow.engine.services import Services
    from beamflow.engine.workflows import Workflows
    from beamflow.model.events import Event

__all__ = ["WorkflowHandle", "WorkflowStatus"]

R = TypeVar("R")

_GRACE_S_MAX = 7 * 86_400
_OVERDUE = f"{WorkflowTimeoutError.__module__}.{WorkflowTimeoutError.__qualname__}"


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
    begin_at: int | None
    """When its code may begin, if not at once."""
    deadline: int | None
    """When it must have ended."""
    cancelling: bool
    """Whether it was told to end and has not ended yet."""
    parent: str | None
    """Id of the workflow that it is a child of."""
    progress: Progress | None
    """What its code has told of how far it is."""
    tags: tuple[str, ...]
    """What it can be found by, sorted."""
    attributes: dict[str, Attribute]
    """Likewise, by name."""
    waiting_for: tuple[str, ...]
    """``"step charge"``, ``"timer"``, ``"signal approval"`` …, while it is in memory."""


class WorkflowHandle(Conversation, Generic[R]):
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
        super().__init__(services, workflows, workflow_id)
        self._definition = definition

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the end and return what the workflow returned, converted by its annotation.

        Cancelling the wait does nothing to the workflow.

        Args:
            timeout: seconds to wait, by the engine's clock; None for as long as it takes.

        Raises:
            WorkflowFailedError: it failed.
            WorkflowTimeoutError: it failed, for it had not ended by its deadline.
            WorkflowCancelledError: it was cancelled or terminated.
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
            begin_at=summary.begin_at,
            deadline=summary.deadline,
            cancelling=summary.cancelling,
            parent=summary.parent,
            progress=summary.progress,
            tags=summary.tags,
            attributes=summary.attributes,
            waiting_for=waiting,
        )

    async def pause(self, reason: str = "") -> None:
        """Begin nothing new: returns once that is in the log.

        Steps under way come to their end, signals and timers are kept and reach the code; what the
        code asks for then, and its end, wait until `resume`.

        Raises:
            WorkflowStateError: it is paused already, parked, or has ended (`WorkflowClosedError`).
            WorkflowNotFoundError: there is no such workflow.
            StoreError: the request may not be in the log; ask for the status to know.
            EngineStoppedError: likewise, the engine is stopping.
        """
        await self._control(Control.PAUSE, WorkflowState.PAUSED, reason)

    async def resume(self, reason: str = "") -> None:
        """Let a paused workflow go on where it was; returns once that is in the log.

        Raises:
            WorkflowStateError: it is not paused.
            WorkflowNotFoundError: there is no such workflow.
            StoreError: the request may not be in the log; ask for the status to know.
            EngineStoppedError: likewise, the engine is stopping.
        """
        await self._control(Control.RESUME, None, reason)

    async def cancel(self, reason: str = "", *, grace: float = GRACE_S) -> None:
        """Tell the workflow to end; returns once that is in the log, `result` tells of the end.

        The code sees ``asyncio.CancelledError`` where it waits; steps that it waits for are
        cancelled at once. Its ``finally`` blocks run, steps and all; then what was completed is
        compensated. Code that has not ended when the grace is over is taken away where it stands,
        and compensated all the same. A workflow that returns all the same has completed; a second
        request changes nothing.

        Args:
            reason: for the log, and for whoever waits for the result.
            grace: seconds that the code may take to end; they go on over a restart.

        Raises:
            WorkflowClosedError: it has ended already.
            WorkflowParkedError: it cannot be run as it is; `terminate` ends it.
            WorkflowNotFoundError: there is no such workflow.
            StoreError: the request may not be in the log; the same call again settles it.
            EngineStoppedError: likewise, the engine is stopping.
        """
        if not 0 <= grace <= _GRACE_S_MAX:
            raise ValueError(f"grace={grace!r} must be seconds, 0 to {_GRACE_S_MAX:,}")
        await self._control(Control.CANCEL, None, reason, grace)

    async def terminate(self, reason: str = "") -> None:
        """End the workflow where it stands, the hard way; returns once its end is in the log.

        No code of it runs on, nothing is compensated, steps under way are cut off. It works on any
        workflow that has not ended, also on one whose code is gone. Prefer `cancel`.

        Raises:
            WorkflowClosedError: it has ended already.
            WorkflowNotFoundError: there is no such workflow.
            CorruptLogError: its log is damaged.
            StoreError: the end may not be in the log; the same call again settles it.
            EngineStoppedError: likewise, the engine is stopping.
        """
        await self._control(Control.TERMINATE, None, reason)

    # Behind it

    async def _control(
        self,
        control: Control,
        state_then: WorkflowState | None,
        reason: str,
        grace_s: float = GRACE_S,
    ) -> None:
        """Have a request recorded; one whose acknowledgement got lost is not granted twice."""
        encode_json(reason, f"reason of {control.value}()")
        again = False
        while True:
            state = (await self._summary()).state
            if again and state is state_then:
                return
            if not state.is_open:
                if again and control is Control.TERMINATE:
                    return
                raise closed_error(self.id, state, control.value)
            if not allows(state, control):
                raise refusal(self.id, state, control)
            if state is WorkflowState.PARKED and control is Control.TERMINATE:
                if await self._workflows.terminate(self.id, reason):
                    return
                continue
            if await self._asked(control, state, reason, grace_s):
                return
            again = True

    async def _asked(
        self, control: Control, state: WorkflowState, reason: str, grace_s: float
    ) -> bool:
        """Ask the workflow's actor; False when it has ended without an answer."""
        if state is WorkflowState.PARKED:
            await self._workflows.unpark(self.id)
        ref = await self._workflows.wake(self.id)
        if ref is None:
            return False
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        monitor = ref.monitor(partial(give_up, acknowledged))
        ref.cast(ControlRequest(control, acknowledged, reason=reason, grace_s=grace_s))
        try:
            await asyncio.wait({acknowledged})
        finally:
            monitor.cancel()
            acknowledged.cancel()
        if not acknowledged.cancelled():
            acknowledged.result()
            return True
        if (await self._summary()).state is WorkflowState.PARKED:
            raise await parked_error(
                self._services, self.id, f"{control.value}() was not taken, terminate() ends it: "
            )
        return False

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
                kind = WorkflowTimeoutError if event.error.type == _OVERDUE else WorkflowFailedError
                raise kind(
                    self.id,
                    error_type=event.error.type,
                    error_message=event.error.message,
                    traceback=event.error.traceback,
                    step=event.step,
                )
            case WorkflowCancelled():
                raise WorkflowCancelledError(
                    self.id, reason=event.reason, terminated=event.terminated
                )
            case _:
                raise AssertionError(event)
