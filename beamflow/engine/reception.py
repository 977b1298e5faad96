"""The reception of a workflow: what others send becomes events, each once, or is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw

from beamflow.engine.ledger import Ledger
from beamflow.engine.messages import Signal
from beamflow.errors import BeamflowError
from beamflow.model.events import SignalReceived

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamflow.engine.execution import Execution
    from beamflow.engine.services import Services
    from beamflow.model.events import Event

__all__ = ["Reception"]


class Reception:
    """Stands between the mailbox of a workflow's actor and its log.

    Args:
        services: what the engine's actors share.
        workflow_id: which workflow.
    """

    __slots__ = ("_ledger", "_services", "_workflow_id")

    def __init__(self, services: Services, workflow_id: str) -> None:
        """Begin without a ledger."""
        self._services = services
        self._workflow_id = workflow_id
        self._ledger: Ledger | None = None

    async def prepare(self, messages: Iterable[object]) -> None:
        """Read the log if one of the messages may be in it; raises `StoreError`."""
        if self._ledger is not None:
            return
        for message in messages:
            if type(message) is Signal and message.may_be_known:
                history = await self._services.store.read(self._workflow_id)
                self._ledger = Ledger(recorded.event for recorded in history)
                return

    def signal(self, code: Execution, message: Signal) -> tuple[Event, ...]:
        """Return what a signal comes to: nothing when the log has it, or its handler refuses it."""
        ledger = self._ledger
        if ledger is not None and ledger.has(message.id, message.name, message.key):
            return ()
        payload = Raw(message.payload)
        try:
            code.check_signal(message.name, payload)
        except BeamflowError as error:
            if not message.acknowledged.done():
                message.acknowledged.set_exception(error)
            return ()
        event = SignalReceived(id=message.id, name=message.name, payload=payload, key=message.key)
        if ledger is not None:
            ledger.add(event)
        return (event,)
