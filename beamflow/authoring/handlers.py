"""Handlers: the functions of a workflow that are called from outside, by name.

A signal tells, a query asks, an update does both. In a workflow function they are registered here,
in a workflow class they are methods. Either way an execution gets the same `Handler`.
"""

from __future__ import annotations

import inspect
import sys
from typing import (
    TYPE_CHECKING,
    Any,
    ParamSpec,
    TypeVar,
)

import msgspec

from beamflow.authoring.namespace import local_names
from beamflow.authoring.runtime import required_runtime
from beamflow.authoring.signature import Signature
from beamflow.authoring.step import exception_name, is_exception
from beamflow.errors import DefinitionError
from beamflow.model.ids import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from msgspec import Raw

__all__ = [
    "Handler",
    "check_function",
    "checked_signature",
    "on_query",
    "on_signal",
    "on_update",
    "signal_arguments",
    "types_by_name",
]

_array = msgspec.json.Decoder(list[msgspec.Raw])

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Handler:
    """A function that one execution has registered.

    Attributes:
        kind: ``signal``, ``query`` or ``update``.
        name: what it is called by.
        call: the function.
        check: the validator of an update, if it has one.
        raises: exception types that reach the caller as themselves, by name.
    """

    __slots__ = ("_make_signature", "_signature", "call", "check", "kind", "name", "raises")

    def __init__(
        self,
        kind: str,
        name: str,
        call: Callable[..., Any],
        *,
        signature: Callable[[], Signature],
        check: Callable[..., Any] | None = None,
        raises: dict[str, type[Exception]] | None = None,
    ) -> None:
        """Keep them; annotations are resolved when somebody calls."""
        self.kind = kind
        self.name = name
        self.call = call
        self.check = check
        self.raises = raises or {}
        self._make_signature = signature
        self._signature: Signature | None = None

    @property
    def signature(self) -> Signature:
        """Its payloads; raises `DefinitionError` if its annotations are wrong."""
        if self._signature is None:
            try:
                self._signature = self._make_signature()
            except DefinitionError:
                raise
            except (TypeError, ValueError) as error:
                message = f"{self}: {error}. Give it a function of your own"
                raise DefinitionError(message) from error
        return self._signature

    def arguments(self, payload: Raw) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read what it is called with; raises `PayloadError`."""
        arguments = self.signature.arguments
        if self.kind == "signal":
            return arguments.decode(signal_arguments(self.signature, payload))
        given = _array.decode(payload)
        if len(given) == arguments.count:
            return arguments.decode(payload)
        # whoever calls by name leaves out what has a default
        return arguments.decode(arguments.encode(tuple(given), {}))

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


def signal_arguments(signature: Signature, payload: Raw | bytes) -> bytes:
    """Turn the one payload of a signal into the array of its handler's arguments."""
    return b"[%b]" % bytes(payload) if signature.arguments.count else b"[]"


def on_signal(name: str, function: Callable[..., Any]) -> None:
    """Have a function take the signals of that name, from now on; those that were kept come first.

    ``def`` or ``async def``, with one parameter for the payload or with none. What it raises ends
    the workflow.

    Raises:
        DefinitionError: the name has a handler already, the code waits to ``receive`` it, or this is
            no workflow.
    """
    _register("signal", name, function, local_names(sys._getframe(1)))  # noqa: SLF001 - for annotations


def on_query(name: str, function: Callable[..., Any]) -> None:
    """Have a plain function answer the queries of that name, from now on.

    It may read everything and change nothing: a step, a timer or a published value in it is refused.

    Raises:
        DefinitionError: the name has a handler already, or this is no workflow.
    """
    _register("query", name, function, local_names(sys._getframe(1)))  # noqa: SLF001 - for annotations


def on_update(
    name: str,
    function: Callable[..., Any],
    *,
    validator: Callable[..., Any] | None = None,
    raises: Sequence[type[Exception]] = (),
) -> None:
    """Have a function answer the updates of that name, durably, from now on.

    Args:
        name: what ``handle.update`` is called with.
        function: ``def`` or ``async def``; what it returns or raises is the reply.
        validator: a plain function with the same parameters, which looks at a request before it is
            accepted and changes nothing; what it raises reaches the caller as
            `UpdateRejectedError`.
        raises: exception types that reach the caller as themselves, beside the builtin ones.

    Raises:
        DefinitionError: the name has a handler already, or this is no workflow.
    """
    if validator is not None:
        check_function(validator, "validator", name)
    namespace = local_names(sys._getframe(1))  # noqa: SLF001 - for annotations
    _register("update", name, function, namespace, check=validator, raises=raises)


def _register(
    kind: str,
    name: str,
    function: Callable[..., Any],
    namespace: dict[str, Any] | None,
    *,
    check: Callable[..., Any] | None = None,
    raises: Sequence[type[Exception]] = (),
) -> None:
    runtime = required_runtime(f"on_{kind}")
    where = f"{kind} {checked_name(name, kind)!r}"
    check_function(function, kind, name)
    runtime.handle(
        Handler(
            kind,
            name,
            function,
            signature=lambda: checked_signature(Signature(function, where, namespace), kind, where),
            check=check,
            raises=types_by_name(raises, where),
        )
    )


def checked_signature(signature: Signature, kind: str, where: str) -> Signature:
    """Return the payloads of a handler; raises `DefinitionError` for a signal with several."""
    if kind == "signal" and signature.arguments.count > 1:
        message = f"{where}: a signal has one payload; take one parameter, such as a dataclass"
        raise DefinitionError(message)
    return signature


def check_function(function: Any, kind: str, name: str) -> None:
    """Raise `DefinitionError` for what cannot be a handler of that kind."""
    if not callable(function):
        message = f"{kind} {name!r}: a function is needed, not {function!r}"
        raise DefinitionError(message)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        message = f"{kind} {name!r}: {function!r} is a generator; return one value"
        raise DefinitionError(message)
    if kind in {"query", "validator"} and inspect.iscoroutinefunction(function):
        message = (
            f"{kind} {name!r} must be a plain `def`: it reads what there is and waits for nothing. "
            f"An update may wait"
        )
        raise DefinitionError(message)


def types_by_name(raises: Sequence[type[Exception]], where: str) -> dict[str, type[Exception]]:
    """Return exception types by the names that they have in a log; raises `DefinitionError`."""
    for kind in raises:
        if not is_exception(kind):
            message = f"{where}: raises={raises!r} must list exception types"
            raise DefinitionError(message)
    return {exception_name(kind): kind for kind in raises}
