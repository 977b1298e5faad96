"""What one workflow may have done with another one: begin it, wait for its end, tell it something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw

from beamflow.engine.handle import WorkflowHandle
from beamflow.errors import WorkflowNotFoundError, WorkflowParkedError, WorkflowStateError
from beamflow.model.codec import encode_json
from beamflow.model.events import SignalReceived, WorkflowCancelled
from beamflow.model.status import WorkflowState

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from beamflow.engine.services import Services
    from beamflow.engine.workflows import Workflows
    from beamflow.model.events import Event, WorkflowStarted

__all__ = ["OtherWorkflows"]


class OtherWorkflows:
    """The other workflows of the engine, for the actor of one of them.

    Args:
        services: what the engine's actors share.
        workflows: the workflows in memory.
    """

    def __init__(self, services: Services, workflows: Workflows) -> None:
        """Keep both."""
        self._services = services
        self._workflows = workflows

    async def exists(self, workflow_id: str) -> bool:
        """Tell whether there is such a workflow."""
        return await self._services.opened.summary(workflow_id) is not None

    async def is_child(self, workflow_id: str, parent: str) -> bool:
        """Tell whether there is such a workflow, and it is a child of that one."""
        summary = await self._services.opened.summary(workflow_id)
        return summary is not None and summary.parent == parent

    async def begin(self, workflow_id: str, started: WorkflowStarted) -> None:
        """Start a workflow, as `Workflows.begin` does: the same start twice is one."""
        await self._workflows.begin(workflow_id, started)

    async def end(
        self, workflow_id: str, waits: Callable[[asyncio.Future[Event]], object]
    ) -> Event:
        """Wait for the end of a workflow and return its last event; one that is parked may go on.

        Args:
            workflow_id: which workflow.
            waits: called with what its end will settle, once it is known to be still open.

        Raises:
            WorkflowNotFoundError: there is none; it has ended and was removed.
        """
        services = self._services
        while True:
            end = services.wait_for_end(workflow_id)
            try:
                actor = services.actors.get(workflow_id)
                if actor is None or not actor.alive:
                    summary = await services.opened.summary(workflow_id)
                    if summary is None or not summary.state.is_open:
                        history = await services.store.read(workflow_id)
                        if summary is None or not history:
                            raise WorkflowNotFoundError(workflow_id, _REMOVED)
                        return history[-1].event
                waits(end)
                return await end
            except WorkflowParkedError:
                continue
            finally:
                services.wait_no_more(workflow_id, end)

    async def signal(self, workflow_id: str, signal_id: str, name: str, payload: object) -> None:
        """Send a signal, once for each id."""
        data = Raw(encode_json(payload, f"signal {name!r}"))
        await self._handle(workflow_id).send_again(
            SignalReceived(id=signal_id, name=name, payload=data)
        )

    async def cancel(self, workflow_id: str, reason: str) -> None:
        """Tell a workflow to end; harmless when it has ended, or is none."""
        try:
            await self._handle(workflow_id).cancel(reason)
        except (WorkflowStateError, WorkflowNotFoundError):
            return

    async def was_terminated(self, workflow_id: str) -> bool:
        """Tell whether a workflow was ended where it stood, so that nobody saw to its children."""
        store = self._services.opened
        summary = await store.summary(workflow_id)
        if summary is None or summary.state is not WorkflowState.CANCELLED:
            return False
        history = await store.read(workflow_id, summary.run_seq - 1)
        last = history[-1].event if history else None
        return isinstance(last, WorkflowCancelled) and last.terminated

    def _handle(self, workflow_id: str) -> WorkflowHandle[object]:
        return WorkflowHandle(self._services, self._workflows, workflow_id, None)


_REMOVED = "it has ended long ago, and was removed"
