"""Handlers: the functions of a workflow that are called from outside, by name.

A signal tells, a query asks, an update does both. In a workflow class they are methods, decorated
here; in a workflow function they are registered by ``on_signal``, ``on_query`` and ``on_update``.
Either way an execution gets the same `Handler`.
"""

from __future__ import annotations

import functools
import inspect
import sys
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

import msgspec

from beamflow.authoring.namespace import local_names
from beamflow.authoring.runtime import required_runtime
from beamflow.authoring.signature import Signature
from beamflow.authoring.step import exception_name, is_exception
from beamflow.errors import DefinitionError
from beamflow.model.ids import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from msgspec import Raw

__all__ = [
    "Answer",
    "Handler",
    "HandlerMethod",
    "QueryMethod",
    "Reply",
    "Sent",
    "SignalMethod",
    "UpdateMethod",
    "on_query",
    "on_signal",
    "on_update",
    "query",
    "signal",
    "update",
]

_array = msgspec.json.Decoder(list[msgspec.Raw])

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Sent:
    """What a type checker takes ``Order.pay`` for: something that a signal is sent to."""


class Answer(Generic[R_co]):
    """What a type checker takes ``Order.total`` for: something that a query asks."""


class Reply(Generic[R_co]):
    """What a type checker takes ``Order.add`` for: something that an update asks for."""


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


# In a workflow class


class HandlerMethod:
    """A method of a workflow class that is called from outside.

    On an instance it is the method that it was; on the class it stands for the name it is called by.

    Attributes:
        function: the author's function.
        name: its name in the log.
        check: the validator of an update, if it has one.
        raises: exception types that reach the caller as themselves, by name.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None,
        raises: Sequence[type[Exception]] = (),
    ) -> None:
        """Declare it; the class around it is not known yet."""
        self.name = checked_name(
            getattr(function, "__name__", "") if name is None else name, self.kind
        )
        _check_function(function, self.kind, self.name)
        self.function = function
        self.check: Callable[..., Any] | None = None
        self.raises = _by_name(raises, f"{self.kind} {self.name!r}")
        self.namespace: dict[str, Any] | None = None
        functools.update_wrapper(self, function)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Return the method, or this declaration when it is asked of the class."""
        return self if instance is None else MethodType(self.function, instance)

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refuse: on the class it is a name, not a function."""
        message = (
            f"{self.kind} {self.name!r} was called on the class: call it on an instance, or from "
            f"outside with handle.{self.kind}(...)"
        )
        raise DefinitionError(message)

    @functools.cached_property
    def signature(self) -> Signature:
        """Its payloads, without the instance; raises `DefinitionError`."""
        where = f"{self.kind} {self.name!r}"
        return _checked(
            Signature(self.function, where, self.namespace, method=True), self.kind, where
        )

    def bound_to(self, instance: object) -> Handler:
        """Return the handler that one execution registers."""
        check = self.check
        return Handler(
            self.kind,
            self.name,
            MethodType(self.function, instance),
            signature=lambda: self.signature,
            check=None if check is None else MethodType(check, instance),
            raises=self.raises,
        )


class SignalMethod(HandlerMethod, Generic[P]):
    """A method decorated with ``@signal``."""

    kind = "signal"

    @overload
    def __get__(self, instance: None, owner: Any = None) -> SignalMethod[P]: ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> Callable[P, Any]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Return the method, or this declaration when it is asked of the class."""
        return super().__get__(instance, owner)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Sent:
        """Refuse: on the class it is a name, not a function."""
        return super().__call__(*args, **kwargs)  # type: ignore[no-any-return]


class QueryMethod(HandlerMethod, Generic[P, R_co]):
    """A method decorated with ``@query``."""

    kind = "query"

    @overload
    def __get__(self, instance: None, owner: Any = None) -> QueryMethod[P, R_co]: ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> Callable[P, R_co]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Return the method, or this declaration when it is asked of the class."""
        return super().__get__(instance, owner)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Answer[R_co]:
        """Refuse: on the class it is a name, not a function."""
        return super().__call__(*args, **kwargs)  # type: ignore[no-any-return]


class UpdateMethod(HandlerMethod, Generic[P, R_co]):
    """A method decorated with ``@update``."""

    kind = "update"

    @overload
    def __get__(self, instance: None, owner: Any = None) -> UpdateMethod[P, R_co]: ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> Callable[P, Any]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Return the method, or this declaration when it is asked of the class."""
        return super().__get__(instance, owner)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Reply[R_co]:
        """Refuse: on the class it is a name, not a function."""
        return super().__call__(*args, **kwargs)  # type: ignore[no-any-return]

    def validator(
        self, function: Callable[Concatenate[C, P], None]
    ) -> Callable[Concatenate[C, P], None]:
        """Declare what looks at a request before it is accepted: ``@add.validator``.

        A plain method with the parameters of the update. It may read everything and change nothing;
        what it raises reaches the caller as `UpdateRejectedError`, and nothing is recorded.
        """
        _check_function(function, "validator", self.name)
        self.check = function
        return function


class _SignalDecorator(Protocol):
    def __call__(self, function: Callable[Concatenate[C, P], Any], /) -> SignalMethod[P]: ...


class _QueryDecorator(Protocol):
    def __call__(self, function: Callable[Concatenate[C, P], R], /) -> QueryMethod[P, R]: ...


class _UpdateDecorator(Protocol):
    @overload
    def __call__(
        self, function: Callable[Concatenate[C, P], Coroutine[Any, Any, R]], /
    ) -> UpdateMethod[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[C, P], R], /) -> UpdateMethod[P, R]: ...


@overload
def signal(function: Callable[Concatenate[C, P], Any], /) -> SignalMethod[P]: ...
@overload
def signal(*, name: str | None = ...) -> _SignalDecorator: ...
def signal(function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Make a method of a workflow class take the signals of its name.

    ``def`` or ``async def``, with one parameter for the payload or with none. It begins in the order
    in which the signals were acknowledged, and may await steps. What it raises ends the workflow,
    like an exception of ``run``.

    Args:
        function: the method, when the decorator is used without parentheses.
        name: the name of the signal; the method's own by default.
    """
    return _declared(SignalMethod, function, name)


@overload
def query(function: Callable[Concatenate[C, P], R], /) -> QueryMethod[P, R]: ...
@overload
def query(*, name: str | None = ...) -> _QueryDecorator: ...
def query(function: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Make a plain method of a workflow class answer the queries of its name.

    It may read everything and change nothing: a step, a timer or a published value in it is refused.

    Args:
        function: the method, when the decorator is used without parentheses.
        name: the name of the query; the method's own by default.
    """
    return _declared(QueryMethod, function, name)


@overload
def update(
    function: Callable[Concatenate[C, P], Coroutine[Any, Any, R]], /
) -> UpdateMethod[P, R]: ...
@overload
def update(function: Callable[Concatenate[C, P], R], /) -> UpdateMethod[P, R]: ...
@overload
def update(
    *, name: str | None = ..., raises: Sequence[type[Exception]] = ...
) -> _UpdateDecorator: ...
def update(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    raises: Sequence[type[Exception]] = (),
) -> Any:
    """Make a method of a workflow class answer the updates of its name, durably.

    ``def`` or ``async def``; it may await steps. What it returns or raises is the reply.

    Args:
        function: the method, when the decorator is used without parentheses.
        name: the name of the update; the method's own by default.
        raises: exception types that reach the caller as themselves, beside the builtin ones; others
            arrive as `UpdateFailedError`.
    """
    return _declared(UpdateMethod, function, name, raises)


def _declared(kind: Callable[..., Any], function: Any, *options: Any) -> Any:
    if function is None:
        return lambda function: kind(function, *options)
    return kind(function, *options)


# In a workflow function


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
        _check_function(validator, "validator", name)
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
    _check_function(function, kind, name)
    runtime.handle(
        Handler(
            kind,
            name,
            function,
            signature=lambda: _checked(Signature(function, where, namespace), kind, where),
            check=check,
            raises=_by_name(raises, where),
        )
    )


def _checked(signature: Signature, kind: str, where: str) -> Signature:
    if kind == "signal" and signature.arguments.count > 1:
        message = f"{where}: a signal has one payload; take one parameter, such as a dataclass"
        raise DefinitionError(message)
    return signature


def _check_function(function: Any, kind: str, name: str) -> None:
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


def _by_name(raises: Sequence[type[Exception]], where: str) -> dict[str, type[Exception]]:
    for kind in raises:
        if not is_exception(kind):
            message = f"{where}: raises={raises!r} must list exception types"
            raise DefinitionError(message)
    return {exception_name(kind): kind for kind in raises}
