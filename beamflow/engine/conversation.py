"""Talking to a workflow: what is sent to it, and what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, overload

from msgspec import Raw

from beamflow.authoring.context import signal_name
from beamflow.authoring.handlers import signal_arguments
from beamflow.authoring.methods import (
    Answer,
    HandlerMethod,
    QueryMethod,
    Reply,
    Sent,
    SignalMethod,
    UpdateMethod,
)
from beamflow.engine.failure import rebuilt
from beamflow.engine.inbox import CUT_OFF
from beamflow.engine.ledger import Ledger
from beamflow.engine.log_reader import LogReader
from beamflow.engine.messages import ControlRequest, Signal, Unasked, Update
from beamflow.engine.parking import parked_error
from beamflow.errors import (
    DefinitionError,
    UpdateFailedError,
    WorkflowClosedError,
    WorkflowParkedError,
)
from beamflow.model.codec import Payload, encode_json
from beamflow.model.events import SignalReceived, UpdateCompleted
from beamflow.model.status import WorkflowState

__all__ = ["Conversation", "SignalTarget", "closed_error", "signal_event"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SignalTarget = str | type[Any] | Callable[..., Sent]
"""What a signal is sent to: a name, a type whose signals are received, a method of a class."""


class Conversation(LogReader):
    """Signals, queries and updates of a workflow, awake or not."""

    @overload
    async def signal(self, to: str, /, payload: Any = ..., *, key: str = ...) -> None: ...
    @overload
    async def signal(self, to: Callable[[], Sent], /, *, key: str = ...) -> None: ...
    @overload
    async def signal(self, to: Callable[[T], Sent], /, payload: T, *, key: str = ...) -> None: ...
    @overload
    async def signal(self, to: type[T], /, payload: T, *, key: str = ...) -> None: ...
    async def signal(self, to: Any, /, payload: Any = None, *, key: str = "") -> None:
        """Send a signal; returns once it is in the log, from where the workflow receives it.

        Signals that one task sends one after the other are received in that order. A workflow that
        does not ask for it yet finds it when it does; one that is paused keeps it, and one that
        begins a new run takes it along.

        Args:
            to: the signal's name, a method of a workflow class (``Order.pay``), or a type whose
                signals the workflow receives.
            payload: what the signal carries.
            key: the sender's own name of this signal. A second one of the same name and key is
                acknowledged and not taken, whatever it carries: after a restart, in a new run, and
                when the workflow has ended.

        Raises:
            PayloadError: the payload cannot be written as JSON, or its handler cannot read it.
            WorkflowClosedError: the workflow has ended.
            WorkflowParkedError: it stands still; send the signal again when it goes on.
            WorkflowNotFoundError: there is no such workflow.
            StoreError: the signal may not be in the log.
            EngineStoppedError: likewise, the engine is stopping.
        """
        name, data = signal_payload(to, payload)
        checked_key(key)
        await self._send(self._services.mint_id(), name, data, key=key)

    @overload
    async def query(self, to: str, /, *args: Any, type: type[T]) -> T: ...
    @overload
    async def query(self, to: str, /, *args: Any) -> Any: ...
    @overload
    async def query(self, to: Callable[[*Ts], Answer[T]], /, *args: *Ts) -> T: ...
    async def query(self, to: Any, /, *args: Any, type: Any = Any) -> Any:  # type: ignore[misc] # *Ts has no Any
        """Ask the workflow something; nothing is recorded and nothing moves.

        It is asked as its log stands now, with all that was acknowledged before: awake, asleep,
        paused, parked (where the code fits its log) or ended.

        Args:
            to: the query's name, or a method of a workflow class (``Order.total``).
            *args: its arguments, by position.
            type: what to convert the answer to, for a query by name; plain JSON data without it.

        Raises:
            UnknownHandlerError: the code has no such query, or not yet.
            QueryFailedError: its handler raised.
            ReadOnlyError: its handler has done more than look.
            PayloadError: the arguments, or the answer, do not fit their annotations.
            NondeterminismError: the code no longer does what its log says.
            UnknownWorkflowError: the engine was not given its code.
            WorkflowNotFoundError: there is no such workflow.
            StoreError: its log cannot be read.
            EngineStoppedError: the engine is not running.
        """
        name, data = _request(to, args, QueryMethod)
        answer = await self._workflows.queries.ask(self.id, name, data)
        return _converted(to, type, f"answer of query {name!r}", answer)

    @overload
    async def update(self, to: str, /, *args: Any, id: str | None = ..., type: type[T]) -> T: ...
    @overload
    async def update(self, to: str, /, *args: Any, id: str | None = ...) -> Any: ...
    @overload
    async def update(
        self, to: Callable[[*Ts], Reply[T]], /, *args: *Ts, id: str | None = ...
    ) -> T: ...
    async def update(self, to: Any, /, *args: Any, id: str | None = None, type: Any = Any) -> Any:  # type: ignore[misc] # *Ts has no Any
        """Have the workflow do something, and return its reply once that is durable.

        A request that its validator lets pass is in the log before its handler begins, and has one
        effect and one reply, whatever crashes when. The same call again, with the same id, gives
        the same reply, also after the end of the workflow. Cancelling the wait does nothing to the
        handler. A workflow that is paused takes the request; steps of its handler wait.

        Args:
            to: the update's name, or a method of a workflow class (``Order.add``).
            *args: its arguments, by position.
            id: the request's own id, for whoever may have to ask again; a new UUID by default.
            type: what to convert the reply to, for an update by name; plain JSON data without it.

        Raises:
            UpdateRejectedError: its validator refused it; nothing was recorded.
            UpdateFailedError: its handler raised, or its workflow ended first. Builtin types, and
                those that the update declares, arrive as themselves.
            UpdateExistsError: the id is that of another request.
            UnknownHandlerError: the code has no such update, or not yet.
            ReadOnlyError: its validator has done more than look.
            PayloadError: the arguments do not fit their annotations.
            WorkflowClosedError: the workflow has ended, or is ending.
            WorkflowParkedError: it stands still; the same call again when it goes on.
            WorkflowNotFoundError: there is no such workflow.
            StoreError: the request may be in the log; the same call again settles it.
            EngineStoppedError: likewise, the engine is stopping.
        """
        name, data = _request(to, args, UpdateMethod)
        if id is not None:
            checked_key(id)
        reply = await self._reply(id or self._services.mint_id(), name, data)
        if reply.error is None:
            return _converted(to, type, f"reply to update {name!r}", reply.result)
        declared = to.raises if isinstance(to, UpdateMethod) else {}
        problem = rebuilt(reply.error, declared) or UpdateFailedError(
            self.id,
            name=name,
            error_type=reply.error.type,
            error_message=reply.error.message,
            traceback=reply.error.traceback,
        )
        raise problem

    async def _reply(self, request: str, name: str, data: bytes) -> UpdateCompleted:
        """Ask until there is a reply; who asks again after a crash asks for the same."""
        while True:
            if self.id not in self._services.actors:
                reply = await self._recorded_reply(request, name, data)
                if reply is not None:
                    return reply
            answered: asyncio.Future[UpdateCompleted] = asyncio.get_running_loop().create_future()
            if await self._taken(Update(request, name, data, answered)):
                return answered.result()

    async def _recorded_reply(self, request: str, name: str, data: bytes) -> UpdateCompleted | None:
        """Return the reply that the log has; None where the workflow can still be asked."""
        summary = await self._summary()
        ledger = Ledger(await self._services.opened.read(self.id))
        if not ledger.accepted(self.id, request, name, data):
            await self._check_open(f"update {name!r}")
            return None
        reply = ledger.replies.get(request)
        if reply is None and summary.state is WorkflowState.PARKED:
            if await self._workflows.goes_on(self.id):
                return None
            raise await parked_error(
                self._services, self.id, f"update {name!r} was accepted and has no reply yet: "
            )
        if reply is None and not summary.state.is_open:
            return UpdateCompleted(id=request, error=CUT_OFF)
        return reply

    async def send_again(self, event: SignalReceived) -> None:
        """Send a signal that may be in the log already, as that of a start; see `signal`."""
        await self._send(event.id, event.name, bytes(event.payload), key=event.key, again=True)

    async def _send(
        self, signal_id: str, name: str, data: bytes, *, key: str, again: bool = False
    ) -> None:
        """Send until it is acknowledged; ``again``: it may be in the log already."""
        while True:
            if again and await self._is_recorded(signal_id, name, key):
                return None
            if self.id not in self._services.actors:
                try:
                    await self._check_open(f"signal {name!r}")
                except (WorkflowClosedError, WorkflowParkedError):
                    if key and await self._is_recorded(signal_id, name, key):
                        return None
                    raise
            acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            message = Signal(signal_id, name, data, acknowledged, again=again, key=key)
            if await self._taken(message):
                return acknowledged.result()
            again = True

    async def _taken(self, message: Signal | Update | ControlRequest) -> bool:
        """Hand a message to the workflow; False when whoever got it has ended without an answer."""
        if isinstance(message, Update):  # its reply may need a signal that would wait behind it
            return await self._answered(message)
        async with self._services.letterboxes.room(self.id):
            return await self._answered(message)

    async def _answered(self, message: Signal | Update | ControlRequest) -> bool:
        acknowledged = message.acknowledged
        try:
            ref = await self._workflows.tell(self.id, message)
            if ref is None:
                return False
            monitor = ref.monitor(partial(_give_up, acknowledged))
            try:
                await asyncio.wait({acknowledged})
            except asyncio.CancelledError:
                if isinstance(message, Update):
                    ref.cast(Unasked(message))
                raise
            finally:
                monitor.cancel()
        finally:
            acknowledged.cancel()
        return not acknowledged.cancelled()

    async def _check_open(self, asked: str) -> None:
        summary = await self._summary()
        if summary.state is WorkflowState.PARKED:
            if await self._workflows.goes_on(self.id):
                return
            raise await parked_error(self._services, self.id, f"{asked} was not taken: ")
        if not summary.state.is_open:
            raise closed_error(self.id, summary.state, asked)

    async def _is_recorded(self, signal_id: str, name: str, key: str) -> bool:
        return Ledger(await self._services.opened.read(self.id)).has(signal_id, name, key)


def _request(to: Any, args: tuple[Any, ...], kind: type[HandlerMethod]) -> tuple[str, bytes]:
    """Return the name of a query or an update, and its arguments as JSON."""
    if isinstance(to, str):
        return to, encode_json(list(args), f"arguments of {kind.kind} {to!r}")
    if isinstance(to, kind):
        arguments = to.signature.arguments
        data = arguments.encode(args, {})
        arguments.decode(data)
        return to.name, data
    message = f"{to!r} is no {kind.kind}: give a name, or a method decorated with @{kind.kind}"
    raise DefinitionError(message)


def _converted(to: Any, type: Any, where: str, data: bytes | Raw) -> Any:
    if isinstance(to, HandlerMethod):
        return to.signature.result.decode(data)
    return Payload[Any](type, where).decode(data)


def signal_event(signal_id: str, signal: Any) -> SignalReceived:
    """Return the event of a signal that is given as ``(to, payload)`` or ``(to, payload, key)``.

    Raises:
        PayloadError: the payload cannot be written, or does not fit what it is sent to.
        DefinitionError: it is none of these.
    """
    if not isinstance(signal, tuple) or len(signal) not in {2, 3}:
        message = f"signal={signal!r} is refused: give (name, payload), or (name, payload, key)"
        raise DefinitionError(message)
    to, payload, key = (*signal, "")[:3]
    name, data = signal_payload(to, payload)
    checked_key(key)
    return SignalReceived(id=signal_id, name=name, payload=Raw(data), key=key)


def signal_payload(to: Any, payload: Any) -> tuple[str, bytes]:
    """Return a signal's name and its payload as JSON.

    Raises:
        PayloadError: the payload cannot be written, or does not fit what it is sent to.
        DefinitionError: it is sent to nothing that takes signals.
    """
    if isinstance(to, str):
        encode_json(to, "name of a signal")
        return to, encode_json(payload, f"signal {to!r}")
    if isinstance(to, SignalMethod):
        data = encode_json(payload, f"{to.kind} {to.name!r}")
        to.signature.arguments.decode(signal_arguments(to.signature, data))
        return to.name, data
    if isinstance(to, type):
        typed: Payload[Any] = Payload(to, f"signal {signal_name(to)!r}")
        data = typed.encode(payload)
        typed.decode(data)
        return signal_name(to), data
    message = f"{to!r} takes no signals: give a name, a method decorated with @signal, or a type"
    raise DefinitionError(message)


def checked_key(key: object) -> None:
    """Raise `DefinitionError` for a key that no log can hold."""
    if not isinstance(key, str) or not (key.isprintable() and len(key) <= _KEY_CHARACTERS_MAX):
        message = (
            f"key={key!r} is refused: it must be a str of at most {_KEY_CHARACTERS_MAX} printable "
            f"characters"
        )
        raise DefinitionError(message)


def closed_error(workflow_id: str, state: WorkflowState, asked: str) -> WorkflowClosedError:
    """Make the error for something that is asked of a workflow which has ended."""
    message = (
        f"workflow {workflow_id!r} is {state.value} and takes no {asked}; start another one under "
        f"a new id"
    )
    return WorkflowClosedError(workflow_id, message)


def _give_up(acknowledged: asyncio.Future[Any], _down: object) -> None:
    """Stop waiting for an actor that has ended."""
    acknowledged.cancel()


_KEY_CHARACTERS_MAX = 512
