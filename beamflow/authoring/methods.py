"""Methods of a workflow class that are called from outside: ``@signal``, ``@query``, ``@update``."""

from __future__ import annotations

import functools
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

from beamflow.authoring.handlers import (
    Handler,
    check_function,
    checked_signature,
    types_by_name,
)
from beamflow.authoring.signature import Signature
from beamflow.errors import DefinitionError
from beamflow.model.ids import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

__all__ = [
    "Answer",
    "HandlerMethod",
    "QueryMethod",
    "Reply",
    "Sent",
    "SignalMethod",
    "UpdateMethod",
    "query",
    "signal",
    "update",
]

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
        check_function(function, self.kind, self.name)
        self.function = function
        self.check: Callable[..., Any] | None = None
        self.raises = types_by_name(raises, f"{self.kind} {self.name!r}")
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
        return checked_signature(
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
        check_function(function, "validator", self.name)
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
