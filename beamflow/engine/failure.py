"""Exceptions to data and back. No name found in a log is ever imported."""

from __future__ import annotations

import builtins
import traceback
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Raw

from beamflow.authoring.step import exception_name
from beamflow.errors import (
    PayloadError,
    StepFailedError,
    StepProcessError,
    StepTimeoutError,
    TransactionError,
)
from beamflow.model.codec import encode_json
from beamflow.model.events import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from beamflow.authoring.step import Step
    from beamflow.model.events import StepFailed

__all__ = ["DescribedError", "StepOrigin", "describe", "origin_of", "raised", "rebuilt"]

_FRAMES_MAX = 12
_TEXT_MAX = 4_000
_DATA_BYTES_MAX = 16_000
_ORIGIN = "__beamflow_origin__"


class DescribedError(Exception):
    """An exception of another process, which is here as data only."""

    def __init__(self, failure: Failure, *, is_worth_another: bool) -> None:
        """Keep the data, and whether the step's policy retries such an error."""
        super().__init__(failure.message)
        self.failure = failure
        self.is_worth_another = is_worth_another


class Declares(Protocol):
    """Something whose exceptions may arrive as themselves."""

    @property
    def raises(self) -> Mapping[str, type[Exception]]:
        """The types, by name."""


class StepOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """Which step an exception in workflow code came out of."""

    op: int
    step: str
    attempts: int
    failure: Failure
    input: Raw


def describe(
    error: BaseException, step: Declares | None = None, *, for_good: bool = True
) -> Failure:
    """Turn an exception into data, for the log. Whatever it holds, the log can be read again.

    Args:
        error: the exception.
        step: the step, or the handler, it came out of, for the types that it declares.
        for_good: whether nothing is tried again; only then its traceback is worth keeping.
    """
    if isinstance(error, DescribedError):
        return error.failure if for_good else msgspec.structs.replace(error.failure, traceback="")
    message = _clean(_text(error))
    state = {key: value for key, value in vars(error).items() if key != _ORIGIN}
    return Failure(
        type=exception_name(type(error)),
        message=message,
        args=_json(list(error.args)) or _json([message]) or Raw(b"[]"),
        state=_json(state) or Raw(b"{}"),
        traceback=_formatted(error) if for_good else "",
        raised_as=_raised_as(error, step),
    )


def raised(event: StepFailed, step: Step[..., Any]) -> BaseException:
    """Return the exception that workflow code sees for a step that failed for good.

    Its own type when that is a builtin, one that beamflow itself raises in a step, or declared by
    the step (also by a base of it, which then is the type); `StepFailedError` otherwise. Made from
    the log alone, so it is the same live and on replay.
    """
    failure = event.error
    error = rebuilt(failure, step.raises)
    if error is None:
        error = StepFailedError(
            event.name,
            error_type=failure.type,
            error_message=failure.message,
            traceback=failure.traceback,
        )
    error.add_note(f"raised by step {event.name!r} (op {event.op}), attempt {event.attempt}")
    origin = StepOrigin(
        op=event.op,
        step=event.name,
        attempts=event.attempt,
        failure=failure,
        input=event.input,
    )
    setattr(error, _ORIGIN, origin)
    return error


def origin_of(error: BaseException) -> StepOrigin | None:
    """Return the step an exception came out of: itself, its cause, or the first of its group."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        origin: StepOrigin | None = getattr(current, _ORIGIN, None)
        if origin is not None:
            return origin
        if isinstance(current, BaseExceptionGroup):
            pending.extend(current.exceptions)
        pending.append(current.__cause__)
    return None


def rebuilt(failure: Failure, declared: Mapping[str, type[Exception]]) -> BaseException | None:
    """Return the exception in its own type; None where that is neither builtin nor declared."""
    kind = _known_type(failure.raised_as, declared)
    if kind is None:
        return None
    try:
        args = msgspec.json.decode(failure.args, type=list)
        state = msgspec.json.decode(failure.state, type=dict)
        error: BaseException
        if kind.__module__ == "builtins":
            error = kind(*args)
        else:
            error = kind.__new__(kind, *args)
            error.args = tuple(args)
            error.__dict__.update(state)
    except Exception:  # noqa: BLE001 - whatever its constructor dislikes: shown as data instead
        return None
    return error


def _known_type(name: str, declared: Mapping[str, type[Exception]]) -> type[BaseException] | None:
    known = _OWN.get(name) or declared.get(name)
    if known is not None:
        return known
    module, _, kind = name.rpartition(".")
    found = getattr(builtins, kind, None) if module == "builtins" else None
    if not isinstance(found, type) or not issubclass(found, Exception):
        return None
    return None if found is StopIteration else found  # which no future takes


_OWN: dict[str, type[BaseException]] = {
    exception_name(kind): kind
    for kind in (StepTimeoutError, StepProcessError, PayloadError, TransactionError)
}


def _raised_as(error: BaseException, step: Declares | None) -> str:
    if step is None or not isinstance(error, Exception):
        return ""
    for kind in type(error).__mro__:
        name = exception_name(kind)
        if name in step.raises or name in _OWN:
            return name
    name = exception_name(type(error))
    return name if name.startswith("builtins.") else ""


def _json(value: object) -> Raw | None:
    """Write the value; None for what cannot be written, be read again, or is too much to keep."""
    try:
        data = encode_json(value, "exception")
        msgspec.json.decode(data)
    except (PayloadError, msgspec.DecodeError):
        return None
    return Raw(data) if len(data) <= _DATA_BYTES_MAX else None


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure
        return "(its text could not be made)"


def _formatted(error: BaseException) -> str:
    """Return the traceback; of a long one its end, where the error itself stands."""
    try:
        text = "".join(traceback.format_exception(error, limit=-_FRAMES_MAX))
    except Exception:  # noqa: BLE001 - the texts of an exception are anybody's code
        return ""
    return _clean(text if len(text) <= _TEXT_MAX else f"…{text[-_TEXT_MAX:]}")


def _clean(text: str) -> str:
    """Return the text without lone surrogates, which no log can hold; cut when it is long."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _TEXT_MAX + 1 else f"{text[:_TEXT_MAX]}… ({len(text):,} characters)"
