"""Exceptions to data and back. No name found in a log is ever imported."""

from __future__ import annotations

import builtins
import traceback
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from beamflow.authoring.step import exception_name
from beamflow.errors import PayloadError, StepFailedError, StepTimeoutError
from beamflow.model.codec import encode_json
from beamflow.model.events import Failure

if TYPE_CHECKING:
    from beamflow.authoring.step import Step
    from beamflow.model.events import StepFailed

__all__ = ["StepOrigin", "describe", "origin_of", "raised"]

_FRAMES_MAX = 12
_TEXT_MAX = 4_000


class StepOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """Which step an exception in workflow code came out of."""

    op: int
    step: str
    attempts: int
    failure: Failure
    input: Raw


def describe(error: BaseException, step: Step[..., Any] | None = None) -> Failure:
    """Turn an exception into data, for the log.

    Args:
        error: the exception.
        step: the step it came out of, for the types that it declares.
    """
    return Failure(
        type=exception_name(type(error)),
        message=_cut(_text(error)),
        args=_json(list(error.args), b"[]"),
        state=_json(getattr(error, "__dict__", {}), b"{}"),
        traceback=_cut("".join(traceback.format_exception(error, limit=-_FRAMES_MAX))),
        raised_as=_raised_as(error, step),
    )


def raised(event: StepFailed, step: Step[..., Any]) -> BaseException:
    """Return the exception that workflow code sees for a step that failed for good.

    Its own type when that is a builtin or declared by the step, `StepFailedError` otherwise; made
    from the log alone, so it is the same live and on replay.
    """
    failure = event.error
    error = _rebuilt(failure, step)
    if error is None:
        error = StepFailedError(
            event.name,
            error_type=failure.type,
            error_message=failure.message,
            traceback=failure.traceback,
        )
    error.add_note(f"raised by step {event.name!r} (op {event.op}), attempt {event.attempt}")
    error.__beamflow_origin__ = StepOrigin(  # type: ignore[attr-defined]
        op=event.op,
        step=event.name,
        attempts=event.attempt,
        failure=failure,
        input=event.input,
    )
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
        origin: StepOrigin | None = getattr(current, "__beamflow_origin__", None)
        if origin is not None:
            return origin
        if isinstance(current, BaseExceptionGroup):
            pending.extend(current.exceptions)
        pending.append(current.__cause__)
    return None


def _rebuilt(failure: Failure, step: Step[..., Any]) -> BaseException | None:
    kind = _known_type(failure.raised_as, step)
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


def _known_type(name: str, step: Step[..., Any]) -> type[BaseException] | None:
    own = _OWN.get(name)
    if own is not None:
        return own
    declared = step.raises.get(name)
    if declared is not None:
        return declared
    module, _, kind = name.rpartition(".")
    found = getattr(builtins, kind, None) if module == "builtins" else None
    return found if isinstance(found, type) and issubclass(found, Exception) else None


_OWN: dict[str, type[BaseException]] = {
    exception_name(kind): kind for kind in (StepTimeoutError, PayloadError)
}


def _raised_as(error: BaseException, step: Step[..., Any] | None) -> str:
    if step is None or not isinstance(error, Exception):
        return ""
    for kind in type(error).__mro__:
        name = exception_name(kind)
        if name in step.raises or name in _OWN:
            return name
    name = exception_name(type(error))
    return name if name.startswith("builtins.") else ""


def _json(value: object, fallback: bytes) -> Raw:
    try:
        return Raw(encode_json(value, "exception"))
    except PayloadError:
        return Raw(fallback)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the failure
        return "(its text could not be made)"


def _cut(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}… ({len(text):,} characters)"
