"""The reception of a workflow: what others send becomes events, each once, or is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw

from beamflow.authoring.renewal import renewal_of
from beamflow.authoring.step import exception_name
from beamflow.engine.ledger import Ledger
from beamflow.engine.messages import Signal, Update, reject
from beamflow.errors import (
    BeamflowError,
    ReadOnlyError,
    UpdateRejectedError,
    WorkflowClosedError,
)
from beamflow.model.events import SignalReceived, UpdateAccepted, UpdateCompleted

if TYPE_CHECKING:
    import asyncio
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

    Attributes:
        ledger: what the log has acknowledged; None while nobody has sent what may be in it.
    """

    __slots__ = ("_asked_by", "_for_next_run", "_services", "_workflow_id", "ledger")

    def __init__(self, services: Services, workflow_id: str) -> None:
        """Begin without a ledger."""
        self._services = services
        self._workflow_id = workflow_id
        self._asked_by: dict[str, list[asyncio.Future[UpdateCompleted]]] | None = None
        self._for_next_run: tuple[Update, ...] = ()
        self.ledger: Ledger | None = None

    def asks(self, messages: Iterable[object]) -> bool:
        """Tell whether the ledger is needed and not there."""
        if self.ledger is None:
            for message in messages:
                kind = type(message)
                if kind is Update or (kind is Signal and message.may_be_known):  # type: ignore[attr-defined]
                    return True
        return False

    @property
    def owes(self) -> bool:
        """Whether somebody waits for a reply that the code has not given yet."""
        return bool(self._asked_by or self._for_next_run)

    async def prepare(self) -> None:
        """Read the log for the ledger; raises `StoreError`."""
        self.ledger = Ledger(await self._services.store.read(self._workflow_id))

    def signal(self, code: Execution, message: Signal) -> tuple[Event, ...]:
        """Return what a signal comes to: nothing when the log has it, or its handler refuses it."""
        ledger = self.ledger
        if ledger is not None and ledger.has(message.id, message.name, message.key):
            return ()
        payload = Raw(message.payload)
        try:
            code.check_signal(message.name, payload)
        except BeamflowError as error:
            reject(message.acknowledged, error)
            return ()
        event = SignalReceived(id=message.id, name=message.name, payload=payload, key=message.key)
        if ledger is not None:
            ledger.add(event)
        return (event,)

    def update(self, code: Execution, message: Update) -> tuple[Event, ...]:
        """Return what a request comes to: nothing when the log has it, or it is refused.

        Raises:
            ReadOnlyError: its validator has done more than look; the code is spoilt.
        """
        ledger = self.ledger
        assert ledger is not None
        if code.ending and _begins_anew(code):
            self._for_next_run += (message,)
            return ()
        try:
            known = ledger.accepted(self._workflow_id, message.id, message.name, message.input)
            event = None if known else self._accepted(code, message)
        except BeamflowError as error:
            reject(message.acknowledged, error)
            if isinstance(error, ReadOnlyError):
                raise
            return ()
        reply = ledger.replies.get(message.id)
        if reply is None:
            if self._asked_by is None:
                self._asked_by = {}
            self._asked_by.setdefault(message.id, []).append(message.acknowledged)
        elif not message.acknowledged.done():
            message.acknowledged.set_result(reply)
        if event is None:
            return ()
        ledger.add(event)
        return (event,)

    def forget(self, request: Update) -> None:
        """Owe nothing any more to whoever has made this request; others may wait for its reply too."""
        self._for_next_run = tuple(held for held in self._for_next_run if held is not request)
        asked_by = self._asked_by or {}
        waiting = asked_by.get(request.id, ())
        if request.acknowledged in waiting:
            asked_by[request.id].remove(request.acknowledged)
            if not waiting:
                del asked_by[request.id]

    def take_held(self) -> tuple[Update, ...]:
        """Return the requests that came while a new run was about to begin."""
        held, self._for_next_run = self._for_next_run, ()
        return held

    def replied(self, events: Iterable[Event]) -> None:
        """Tell those who asked of the replies that are in the log now."""
        assert self.ledger is not None
        for event in events:
            if isinstance(event, UpdateCompleted):
                self.ledger.add(event)
                for future in (self._asked_by or {}).pop(event.id, ()):
                    if not future.done():
                        future.set_result(event)

    def _accepted(self, code: Execution, message: Update) -> UpdateAccepted:
        if code.ending:
            text = (
                f"workflow {self._workflow_id!r} is ending and takes no update {message.name!r}; "
                f"start another one under a new id"
            )
            raise WorkflowClosedError(self._workflow_id, text)
        handler = code.handler("update", message.name)
        data = Raw(message.input)
        args, kwargs = handler.arguments(data)
        if handler.check is not None:
            try:
                code.aside(handler.check, args, **kwargs)
            except ReadOnlyError:
                raise
            except Exception as error:
                raise UpdateRejectedError(
                    self._workflow_id,
                    "validator of update",
                    name=message.name,
                    error_type=exception_name(type(error)),
                    error_message=str(error),
                ) from error
        return UpdateAccepted(id=message.id, name=message.name, input=data)


def _begins_anew(code: Execution) -> bool:
    failure = code.failure
    return failure is not None and code.told_to_end is None and renewal_of(failure) is not None
