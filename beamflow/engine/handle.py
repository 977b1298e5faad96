"""Handles: how the host talks to a workflow, awake or not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from beamflow.engine.conversation import Conversation, closed_error
from beamflow.engine.forking import Snapshot, fork_of, snapshots_of
from beamflow.engine.messages import ControlRequest, Waiting
from beamflow.engine.parking import PARKED_BY, parked_error
from beamflow.engine.retrying import Retrial, what_failed
from beamflow.engine.search import find
from beamflow.engine.steering import GRACE_S, refusal
from beamflow.engine.time_limit import TimeLimit
from beamflow.errors import (
    WorkflowCancelledError,
    WorkflowClosedError,
    WorkflowFailedError,
    WorkflowTimeoutError,
)
from beamflow.model.codec import checked_text
from beamflow.model.events import (
    Attribute,
    ChildFailed,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowRetried,
    WorkflowStarted,
)
from beamflow.model.ids import checked_workflow_id
from beamflow.model.status import ACTIVE_STATES, OPEN_STATES, Control, WorkflowState, allows
from beamflow.stores.base import Progress, WorkflowQuery
from supervision import ActorStoppedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from beamflow.authoring.workflow import Workflow
    from beamflow.engine.services import Services
    from beamflow.engine.workflows import Workflows
    from beamflow.model.events import Event, Recorded

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
    """``"step charge"``, ``"retry of step charge"`` between two attempts, ``"timer"``, ``"child …"``,
    ``"signal approval"`` and the like; nothing of one that is parked."""


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
                summary, ref = await self._summary(), None
        if summary.state in ACTIVE_STATES and ref is None:
            with suppress(*PARKED_BY):
                waiting = await self._workflows.queries.waiting_for(self.id)
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
            PayloadError: the reason is no text.
            StoreError: the request may not be in the log; ask for the status to know.
            EngineStoppedError: likewise, the engine is stopping.
        """
        await self._control(Control.PAUSE, WorkflowState.PAUSED, reason)

    async def resume(self, reason: str = "") -> None:
        """Let a paused workflow go on where it was; returns once that is in the log.

        Raises:
            WorkflowStateError: it is not paused.
            WorkflowNotFoundError: there is no such workflow.
            PayloadError: the reason is no text.
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
            PayloadError: the reason is no text.
            StoreError: the request may not be in the log; the same call again settles it.
            EngineStoppedError: likewise, the engine is stopping.
        """
        if not 0 <= grace <= _GRACE_S_MAX:
            raise ValueError(f"grace={grace!r} must be seconds, 0 to {_GRACE_S_MAX:,}")
        await self._control(Control.CANCEL, None, reason, grace)

    async def terminate(self, reason: str = "") -> None:
        """End the workflow where it stands, the hard way; returns once its end is in the log.

        No code of it runs on, nothing is compensated, steps under way are cut off. Its children end
        with it, down to the last, but for abandoned ones. It works on any
        workflow that has not ended, also on one whose code is gone. Prefer `cancel`.

        Raises:
            WorkflowClosedError: it has ended already.
            WorkflowNotFoundError: there is no such workflow.
            CorruptLogError: its log is damaged.
            PayloadError: the reason is no text.
            StoreError: the end may not be in the log; the same call again settles it.
            EngineStoppedError: likewise, the engine is stopping.
        """
        await self._control(Control.TERMINATE, None, reason)
        query = WorkflowQuery(states=OPEN_STATES, parent=self.id)
        async for child in find(self._services, query):
            if child.on_close != "abandon":
                with suppress(WorkflowClosedError):
                    await self._of(child.id).terminate(f"its parent {self.id!r} was terminated")

    # Behind it

    async def fork(
        self,
        id: str | None = None,
        *,
        at: int | str | None = None,
        input: Sequence[Any] | None = None,
        results: Mapping[int | str, Any] | None = None,
    ) -> WorkflowHandle[R]:
        """Start a new workflow that begins as a copy of this one; returns once it is in the log.

        It has what this one had recorded up to a place, times included, and goes on from there by
        itself. Steps that had completed by then do not run again; those that had not are made anew,
        with idempotency keys of the new id. What it has taken over it does not compensate: that is
        the source's. The source may be in any state, and nothing happens to it.

        Args:
            id: that of the new workflow; a new UUID by default. The same fork twice is one.
            at: sequence number of the last event to take over, or the name of a snapshot. By
                default everything up to now; of one that has ended, everything before it began to
                end; of one that failed by a step, everything before that.
            input: other arguments. What is taken over has to follow from them all the same.
            results: other results of steps, by op or by name, also of one that has none by then.

        Raises:
            WorkflowStateError: there is no such place, or it lies after the workflow began to end.
            NondeterminismError: the code does not follow what is taken over, with these edits.
            DefinitionError: no step, or more than one, is meant by a name in ``results``.
            PayloadError: the input or a result does not fit its annotation, or JSON.
            UnknownWorkflowError: the engine was not given this workflow's code.
            WorkflowExistsError: the id is taken by something else.
            WorkflowNotFoundError: there is no such workflow.
            StoreError: the start may not be in the log.
            EngineStoppedError: likewise, the engine is stopping.
        """
        services = self._services
        history = await self._stored()
        definition = self._definition_in(history)
        fork_id = services.mint_id() if id is None else checked_workflow_id(id)
        fork = fork_of(
            definition,
            self.id,
            history,
            fork_id,
            at=at,
            arguments=input,
            results=results or {},
        )
        await self._workflows.begin(fork_id, fork.started, fork.forked)
        return WorkflowHandle(services, self._workflows, fork_id, definition)

    async def snapshots(self) -> list[Snapshot]:
        """Return the places that the workflow's code has named, oldest first; see `fork`.

        Raises:
            WorkflowNotFoundError: there is no such workflow.
            CorruptLogError: an event is damaged.
            EngineStoppedError: the engine is not running.
        """
        return snapshots_of(await self._stored())

    async def retry_from(self, step: str | int | None = None, *, note: str = "") -> None:
        """Let a failed workflow go on, in place, from a step; returns once that is in the log.

        Everything before the step's first outcome stays. The step is made again, with a new set of
        attempts and the same idempotency key, and so is what had followed from it. Signals stay, and
        outcomes of what had been begun before. The dead letter is closed. A child that failed is
        sent round again first.

        Args:
            step: its name or op, or those of a child; by default the one that made it fail. A
                workflow whose own code raised goes on from its end, with the code as it is now.
            note: for the log.

        Raises:
            WorkflowStateError: it has not failed, has compensated something, or made no such step.
            NondeterminismError: its code does not do what its log says up to there.
            UnknownWorkflowError: the engine was not given its code.
            WorkflowNotFoundError: there is no such workflow.
            PayloadError: the note is no text.
            StoreError: it may not be in the log; the state tells.
            EngineStoppedError: likewise, the engine is stopping.
        """
        checked_text(note, "note of retry_from()")
        failed_at: int | None = None
        while True:
            state = (await self._summary()).state
            if failed_at is not None and await self._was_retried(failed_at):
                return
            if not allows(state, Control.RETRY):
                raise refusal(self.id, state, Control.RETRY)
            failed_at = await self._retry_child(step, note)
            if failed_at is None or await self._workflows.retry(self.id, Retrial(step, note)):
                return

    async def _was_retried(self, after: int) -> bool:
        """Tell whether it has gone on since that event, whatever has become of it by now."""
        news = await self._services.opened.read(self.id, after)
        return any(isinstance(one.event, WorkflowRetried) for one in news)

    async def _retry_child(self, step: str | int | None, note: str) -> int | None:
        """Send the child round again that the workflow is to wait for once more, if it failed.

        Returns:
            The number of the event by which the workflow failed; None where somebody else has let it
            go on meanwhile.
        """
        summary = await self._summary()
        history = await self._services.opened.read(self.id, summary.run_seq - 1)
        if not isinstance(history[-1].event, WorkflowFailed):
            return None
        place = what_failed(self.id, history, step)
        if place is not None and isinstance(place.event, ChildFailed):
            child = self._of(place.event.id)
            summary_of_child = await self._services.opened.summary(child.id)
            if summary_of_child is not None and allows(summary_of_child.state, Control.RETRY):
                await child.retry_from(note=note)
        return history[-1].seq

    def _of(self, workflow_id: str) -> WorkflowHandle[Any]:
        return WorkflowHandle(self._services, self._workflows, workflow_id, None)

    async def _stored(self) -> list[Recorded]:
        """Return the log as it stands."""
        history = await self._services.opened.read(self.id)
        if not history:
            self._not_found()
        return history

    def _definition_in(self, history: Sequence[Recorded]) -> Workflow[..., R]:
        started = history[0].event
        assert isinstance(started, WorkflowStarted)
        return self._services.definitions.get(started.workflow, started.version)

    async def _control(
        self,
        control: Control,
        state_then: WorkflowState | None,
        reason: str,
        grace_s: float = GRACE_S,
    ) -> None:
        """Have a request recorded; one whose acknowledgement got lost is not granted twice."""
        checked_text(reason, f"reason of {control.value}()")
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
                if state is WorkflowState.PARKED and await self._workflows.goes_on(self.id):
                    continue
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
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        request = ControlRequest(control, acknowledged, reason=reason, grace_s=grace_s)
        if await self._taken(request):
            acknowledged.result()
            return True
        if (await self._summary()).state is WorkflowState.PARKED:
            raise await parked_error(
                self._services, self.id, f"{control.value}() was not taken, terminate() ends it: "
            )
        return False

    async def _last_event(self) -> Event:
        services = self._services
        while True:
            end = services.wait_for_end(self.id)
            try:
                actor = services.actors.get(self.id)
                if actor is not None and actor.alive:
                    return await end
                summary = await self._summary()
                if not summary.state.is_open:
                    return (await self._stored())[-1].event
                if summary.state is not WorkflowState.PARKED or self.id in services.actors:
                    return await end
            finally:
                services.wait_no_more(self.id, end)
            if not await self._workflows.goes_on(self.id):
                raise await parked_error(services, self.id)

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
