"""The inbox of a run: signals that are kept or awaited, and the functions that others may call."""

from __future__ import annotations

import inspect
from asyncio import CancelledError
from collections import deque
from contextvars import Context
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from msgspec import Raw

from beamflow.engine.failure import describe
from beamflow.errors import DefinitionError, HostLoopError, NondeterminismError
from beamflow.model.events import Failure, UpdateAccepted, UpdateCompleted

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Mapping

    from beamflow.authoring.handlers import Handler
    from beamflow.model.codec import Payload


__all__ = ["CUT_OFF", "Inbox"]

CUT_OFF = Failure(
    type="asyncio.exceptions.CancelledError",
    message="the workflow ended before the update had its reply",
)
"""The reply to an update whose handler was still running when its workflow ended."""


_NO_HANDLERS: Mapping[tuple[str, str], Handler] = MappingProxyType({})


class Code(Protocol):
    """What an inbox needs of the run that it belongs to."""

    workflow_id: str

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future that the code can wait for."""

    def create_task(self, coro: Any, *, name: str, context: Context) -> object:
        """Begin a task of the run."""

    def note(self, event: UpdateCompleted) -> None:
        """Have the reply to an update recorded."""

    def fail(self, error: BaseException) -> None:
        """End the workflow by an error that a handler has raised."""


class _Kept(NamedTuple):
    number: int
    payload: Raw


class Inbox:
    """What others send to one run of a workflow's code.

    A signal goes to the handler of its name if there is one, else to whoever has waited longest to
    receive it, else it is kept until somebody asks. Each goes to one, in the order of arrival.

    Args:
        code: the run.

    Attributes:
        handlers: what the code has registered, by kind and name.
    """

    __slots__ = ("_arrived", "_code", "_kept", "_waiters", "handlers")

    def __init__(self, code: Code) -> None:
        """Begin empty."""
        self._code = code
        self._arrived = 0
        self._kept: dict[str, deque[_Kept]] = {}
        self._waiters: dict[str, list[asyncio.Future[_Kept]]] = {}
        self.handlers: Mapping[tuple[str, str], Handler] = _NO_HANDLERS

    # Signals

    def offer(self, name: str, payload: Raw, *, ending: bool = False) -> None:
        """Take the next signal; whoever it is for runs when the loop is drained.

        Args:
            name: of the signal.
            payload: what it carries.
            ending: whether the function has ended: what a handler did would be lost then, so the
                signal is kept for the next run.
        """
        self._arrived += 1
        signal = _Kept(self._arrived, payload)
        handler = self.handlers.get(("signal", name))
        if handler is not None and not ending:
            self._call(handler, payload)
        elif not self._handed_over(name, signal):
            self._kept.setdefault(name, deque()).append(signal)

    def check(self, name: str, payload: Raw) -> None:
        """Raise `PayloadError` if the signal has a handler that cannot read it."""
        handler = self.handlers.get(("signal", name))
        if handler is not None:
            handler.arguments(payload)

    async def receive(self, name: str, payload: Payload[Any]) -> Any:
        """Take the next signal of that name, waiting for one if need be; return what it carries.

        Raises:
            DefinitionError: a handler takes them.
            PayloadError: it does not fit; the signal is consumed.
        """
        if ("signal", name) in self.handlers:
            message = f"signal {name!r} has a handler, which takes them all: receive another one"
            raise DefinitionError(message)
        kept = self._kept.get(name)
        if kept:
            signal = kept.popleft()
            if not kept:
                del self._kept[name]
            return payload.decode(signal.payload)
        waiter: asyncio.Future[_Kept] = self._code.create_future()
        waiters = self._waiters.setdefault(name, [])
        waiters.append(waiter)
        try:
            signal = await waiter
        except CancelledError:
            if waiter.done() and not waiter.cancelled():  # it came, and nobody is there to take it
                self._put_back(name, waiter.result())
            raise
        finally:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[name]
        return payload.decode(signal.payload)

    @property
    def awaited(self) -> tuple[str, ...]:
        """Names of the signals that the code waits to receive."""
        return tuple(self._waiters)

    @property
    def unreceived(self) -> tuple[tuple[str, Raw], ...]:
        """Name and payload of the signals that nobody has taken, oldest first."""
        kept = [(signal, name) for name, signals in self._kept.items() for signal in signals]
        kept.sort(key=lambda one: one[0].number)
        return tuple((name, signal.payload) for signal, name in kept)

    def _handed_over(self, name: str, signal: _Kept) -> bool:
        for waiter in self._waiters.get(name, ()):
            if not waiter.done():
                waiter.set_result(signal)
                return True
        return False

    def _put_back(self, name: str, signal: _Kept) -> None:
        if not self._handed_over(name, signal):
            self._kept.setdefault(name, deque()).appendleft(signal)

    def clear(self) -> None:
        """Forget what was kept: code that is being taken away receives nothing any more."""
        self._kept.clear()

    # Handlers

    def register(self, handler: Handler) -> None:
        """Have a function called from outside; signals of its name that were kept come first.

        Raises:
            DefinitionError: the name is taken, or the code waits to receive it.
        """
        key = (handler.kind, handler.name)
        if key in self.handlers:
            message = f"{handler} has a handler already; register each name once"
            raise DefinitionError(message)
        if handler.kind == "signal":
            if handler.name in self._waiters:
                message = f"{handler} is waited for by receive(): it cannot have a handler as well"
                raise DefinitionError(message)
            for signal in self._kept.pop(handler.name, ()):
                self._call(handler, signal.payload)
        self.handlers = {**self.handlers, key: handler}

    def update(self, seq: int, event: UpdateAccepted) -> None:
        """Begin what an accepted request asks for.

        Raises:
            NondeterminismError: the code has no handler of it.
            PayloadError: its arguments do not fit.
        """
        handler = self.handlers.get(("update", event.name))
        if handler is None:
            raise NondeterminismError(
                self._code.workflow_id,
                seq=seq,
                recorded=f"update {event.name!r} accepted",
                issued="nothing: the code has registered no handler of that name by now",
            )
        args, kwargs = handler.arguments(event.input)
        self._run(handler, self._updated(handler, event.id, args, kwargs))

    def _call(self, handler: Handler, payload: Raw) -> None:
        self._run(handler, self._signalled(handler, payload))

    def _run(self, handler: Handler, code: Coroutine[Any, Any, None]) -> None:
        # in a context of its own, as the function of the workflow
        _ = self._code.create_task(code, name=f"{handler}", context=Context())

    async def _signalled(self, handler: Handler, payload: Raw) -> None:
        try:
            args, kwargs = handler.arguments(payload)
            await awaited(handler.call(*args, **kwargs))
        except CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, the workflow ends by it
            self._code.fail(error)

    async def _updated(
        self, handler: Handler, request: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        try:
            result = await awaited(handler.call(*args, **kwargs))
            reply = UpdateCompleted(id=request, result=Raw(handler.signature.result.encode(result)))
        except HostLoopError as error:
            self._code.fail(error)
            return
        except CancelledError:
            reply = UpdateCompleted(id=request, error=CUT_OFF)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the reply
            reply = UpdateCompleted(id=request, error=describe(error, handler))
        except BaseException as error:  # noqa: BLE001 - not meant for the caller
            self._code.fail(error)
            return
        self._code.note(reply)


async def awaited(result: Any) -> Any:
    """Return what a handler returned, or what its coroutine comes to."""
    return await result if inspect.isawaitable(result) else result
