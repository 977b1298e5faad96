"""Talking to a workflow: what is sent to it, and what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, overload

from msgspec import Raw

from beamflow.authoring.context import signal_name
from beamflow.authoring.handlers import Sent, SignalMethod, signal_arguments
from beamflow.engine.ledger import Ledger
from beamflow.engine.log_reader import LogReader
from beamflow.engine.messages import Signal
from beamflow.engine.parking import parked_error
from beamflow.errors import DefinitionError, WorkflowClosedError, WorkflowParkedError
from beamflow.model.codec import Payload, encode_json
from beamflow.model.events import SignalReceived
from beamflow.model.status import WorkflowState

__all__ = ["Conversation", "SignalTarget", "closed_error", "give_up", "signal_event"]

T = TypeVar("T")

SignalTarget = str | type[Any] | Callable[..., Sent]
"""What a signal is sent to: a name, a type whose signals are received, a method of a class."""


class Conversation(LogReader):
    """Signals to a workflow, awake or not."""

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
            ref = await self._workflows.wake(self.id)
            if ref is None:
                continue
            acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            monitor = ref.monitor(partial(give_up, acknowledged))
            ref.cast(Signal(signal_id, name, data, acknowledged, again=again, key=key))
            try:
                await asyncio.wait({acknowledged})
            finally:
                monitor.cancel()
                acknowledged.cancel()
            if not acknowledged.cancelled():
                return acknowledged.result()
            again = True

    async def _check_open(self, asked: str) -> None:
        summary = await self._summary()
        if summary.state is WorkflowState.PARKED:
            raise await parked_error(self._services, self.id, f"{asked} was not taken: ")
        if not summary.state.is_open:
            raise closed_error(self.id, summary.state, asked)

    async def _is_recorded(self, signal_id: str, name: str, key: str) -> bool:
        history = await self._services.opened.read(self.id)
        return Ledger(recorded.event for recorded in history).has(signal_id, name, key)


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


def give_up(acknowledged: asyncio.Future[Any], _down: object) -> None:
    """Stop waiting for an actor that has ended."""
    acknowledged.cancel()


_KEY_CHARACTERS_MAX = 512
