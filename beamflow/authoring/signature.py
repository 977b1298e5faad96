"""A function's parameters and result as payloads: bound, checked, written and read back."""

from __future__ import annotations

import inspect
import re
import typing
from typing import Any

import msgspec

from beamflow.errors import DefinitionError, PayloadError
from beamflow.model.codec import Payload, encode_json, problem_of

if typing.TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Arguments", "Signature"]

_SHORT = re.compile(r"Expected `array` of at least length \d+, got (\d+)")
_POSITION = re.compile(r"`\$\[(\d+)\]")


class Signature:
    """What a workflow or step takes and returns, compiled from its annotations.

    Annotations are resolved at the first use, so they may name classes defined further down.

    Args:
        function: the author's function.
        where: how messages name it, such as ``"step 'charge'"``.
        namespace: the local names at the place of definition, for functions defined in functions.
        method: whether the first parameter is the object that the function is called on.
    """

    __slots__ = ("arguments", "result")

    def __init__(
        self,
        function: Callable[..., Any],
        where: str,
        namespace: dict[str, Any] | None,
        *,
        method: bool = False,
    ) -> None:
        """Resolve the annotations; raises `DefinitionError` for those that cannot be used."""
        try:
            hints = typing.get_type_hints(function, localns=namespace, include_extras=True)
        except Exception as error:  # an annotation is code, and may raise anything
            message = (
                f"{where}: {error}. Annotations must be resolvable: define the type in the module "
                f"(not under TYPE_CHECKING), or before the function"
            )
            raise DefinitionError(message) from error
        if hints.get("return") in {typing.NoReturn, typing.Never}:
            del hints["return"]
        signature = inspect.signature(function)
        if method:
            _, *parameters = signature.parameters.values()
            signature = signature.replace(parameters=parameters)
        self.arguments = Arguments(signature, hints, where)
        try:
            self.result: Payload[Any] = Payload(hints.get("return", Any), f"result of {where}")
        except TypeError as error:
            message = f"{where}: its result annotation cannot be read from JSON: {error}"
            raise DefinitionError(message) from error


class Arguments:
    """The parameters of one function, as a JSON array in their order."""

    __slots__ = ("_bind", "_decoder", "_keyword_names", "_names", "_positional", "_where")

    def __init__(self, signature: inspect.Signature, hints: dict[str, Any], where: str) -> None:
        """Compile a struct from the parameters; raises `DefinitionError`."""
        self._where = f"arguments of {where}"
        parameters = list(signature.parameters.values())
        for parameter in parameters:
            if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
                message = (
                    f"{where}: parameter '{parameter}' is refused: a log needs named parameters. "
                    f"Take a list or a dict instead"
                )
                raise DefinitionError(message)
        keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        positional = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self._positional = len(positional)
        self._names = tuple(p.name for p in (*positional, *keyword_only))
        self._keyword_names = tuple(p.name for p in keyword_only)
        fields = [(p.name, hints.get(p.name, Any)) for p in (*positional, *keyword_only)]
        try:
            struct = msgspec.defstruct("Arguments", fields, array_like=True, frozen=True)
            self._decoder = msgspec.json.Decoder(struct)
        except TypeError as error:
            message = f"{where}: its parameters cannot be read from JSON: {error}"
            raise DefinitionError(message) from error
        self._bind = signature.bind

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._names)

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Bind and write the arguments; raises `PayloadError`."""
        return encode_json(self._bound(args, kwargs), self._where)

    def decode(self, data: bytes | msgspec.Raw) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read the arguments by their annotations; raises `PayloadError` with the path."""
        try:
            values = msgspec.structs.astuple(self._decoder.decode(data))
        except Exception as error:  # __post_init__ and the like are the author's code
            raise PayloadError(self._where, self._named(problem_of(error))) from error
        if not self._keyword_names:
            return values, {}
        keywords = dict(zip(self._keyword_names, values[self._positional :], strict=True))
        return values[: self._positional], keywords

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) == len(self._names) and not kwargs and not self._keyword_names:
            return args
        try:
            bound = self._bind(*args, **kwargs)
        except TypeError as error:
            raise PayloadError(self._where, f"{error}") from error
        bound.apply_defaults()
        arguments = bound.arguments
        return [arguments[name] for name in self._names]

    def _named(self, problem: str) -> str:
        """Turn ``$[0].income`` into ``application.income``; name what is missing."""
        short = _SHORT.fullmatch(problem)
        if short is not None:
            return f"missing {', '.join(map(repr, self._names[int(short[1]) :]))}"
        return _POSITION.sub(lambda match: f"`{self._names[int(match[1])]}", problem)
