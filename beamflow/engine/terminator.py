"""The actor that ends a parked workflow: in its place, as the writer of its stream, without its code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow.engine.stream import Stream
from beamflow.model.events import Ended, WorkflowCancelled, WorkflowStarted
from supervision import IGNORE, Actor, Continue, Ignore, Stop

if TYPE_CHECKING:
    import asyncio

    from beamflow.engine.services import Services

__all__ = ["Terminator"]


class Terminator(Actor):
    """Appends the end of a workflow that nobody runs, which closes its dead letter too.

    Args:
        services: what the engine's actors share.
        workflow_id: which workflow.
        reason: why it is ended.
        acknowledged: settled once the end is in the log, or cannot be.
    """

    def __init__(
        self,
        services: Services,
        workflow_id: str,
        reason: str,
        acknowledged: asyncio.Future[None],
    ) -> None:
        """Prepare; nothing happens before `init`."""
        self._services = services
        self._workflow_id = workflow_id
        self._reason = reason
        self._acknowledged = acknowledged

    async def init(self) -> Continue | Ignore:
        """Take the workflow's place in memory, unless it is taken."""
        return Continue(None) if self._services.come(self._workflow_id, self.ref) else IGNORE

    async def handle_continue(self, _term: object) -> None:
        """Append the end."""
        try:
            await self._end()
        except Exception as error:  # noqa: BLE001 - whoever asks is told; nobody else is concerned
            if not self._acknowledged.done():
                self._acknowledged.set_exception(error)
        raise Stop("normal")

    async def terminate(self, _reason: object) -> None:
        """Give the place back."""
        self._services.leave(self._workflow_id, self.ref)

    async def _end(self) -> None:
        services = self._services
        history = await services.store.read(self._workflow_id)
        first, last = history[0].event, history[-1]
        if not isinstance(last.event, Ended):
            stream = Stream(services, self._workflow_id)
            stream.begin_after(last)
            end = WorkflowCancelled(reason=self._reason, terminated=True)
            await stream.record(end)
            services.ended(self._workflow_id, end)
            if isinstance(first, WorkflowStarted) and first.parent:
                services.sleepers.wake(first.parent)
        if not self._acknowledged.done():
            self._acknowledged.set_result(None)
