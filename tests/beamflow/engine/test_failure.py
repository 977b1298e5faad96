"""Exceptions to data and back: as themselves where that is known, never by a name in the log."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from beamflow import PayloadError, StepFailedError, StepTimeoutError, step
from beamflow.engine.failure import describe, origin_of, raised
from beamflow.model.codec import decode_event, encode_event
from beamflow.model.events import Failure, StepFailed


class DeclinedError(Exception):
    """Declared; its constructor takes what a log does not have."""

    def __init__(self, code: int, *, by: str) -> None:
        super().__init__(f"declined with {code}")
        self.code = code
        self.by = by


class StolenCardError(DeclinedError):
    """A subclass of what is declared."""


class UndeclaredError(ValueError):
    """A subclass of a builtin."""


class MuteError(Exception):
    """Its text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("broken")


@step(raises=[DeclinedError])
async def charge(order: str) -> None:
    """Declares an error."""


def seen(error: BaseException) -> BaseException:
    """Return what workflow code sees of it, by way of the log."""
    event = StepFailed(
        op=3,
        name="charge",
        digest="d",
        error=describe(error, charge),
        started_at=1,
        attempt=2,
        input=Raw(b'["o"]'),
    )
    back = decode_event(encode_event(event))
    assert isinstance(back, StepFailed)
    return raised(back, charge)


def thrown(error: BaseException) -> BaseException:
    """Give it a traceback."""

    def throw() -> None:
        raise error

    try:
        throw()
    except BaseException as caught:  # noqa: BLE001 - of any kind
        return caught


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("key"),
        ConnectionError(104, "reset"),
        FileNotFoundError(2, "no such file"),
        ZeroDivisionError(),
        TimeoutError("late"),
        AssertionError({"a": [1]}),
    ],
)
def test_a_builtin_error_comes_as_itself(error: Exception) -> None:
    """Type, arguments and text."""
    back = seen(thrown(error))
    assert type(back) is type(error)
    assert (back.args, str(back)) == (error.args, str(error))


@pytest.mark.parametrize("kind", [DeclinedError, StolenCardError])
def test_a_declared_error_comes_as_what_is_declared(kind: type[DeclinedError]) -> None:
    """With its attributes; its constructor is not called. A subclass comes as the declared type."""
    error = kind(51, by="bank")
    error.add_note("at night")
    back = seen(thrown(error))
    assert type(back) is DeclinedError
    assert (str(back), back.code, back.by) == ("declined with 51", 51, "bank")
    assert back.__notes__[0] == "at night"


def test_our_own_errors_come_as_themselves() -> None:
    """A time-out of an attempt, and a value that does not fit."""
    late = seen(StepTimeoutError("charge", 3))
    assert isinstance(late, StepTimeoutError)
    assert (late.step, late.timeout_s) == ("charge", 3)
    assert isinstance(late, TimeoutError)
    misfit = seen(PayloadError("argument", "no"))
    assert isinstance(misfit, PayloadError)
    assert misfit.problem == "no"


@pytest.mark.parametrize(
    "error",
    [
        UndeclaredError("no"),
        ExceptionGroup("several", [ValueError("no")]),
        asyncio.CancelledError(),
        SystemExit(3),
        StopIteration(3),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        json.JSONDecodeError("bad", "x", 0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_error_comes_as_data(error: BaseException) -> None:
    """With the name of its type, its text and its traceback."""
    back = seen(thrown(error))
    assert isinstance(back, StepFailedError)
    assert back.error_type.rpartition(".")[2] == type(error).__name__
    assert back.error_message == str(error)
    assert "thrown" in back.traceback


def test_a_name_in_a_log_is_never_imported() -> None:
    """Whoever can write to the store cannot run code by it."""
    for name in ("os.system", "builtins.eval", "builtins.BaseException", "subprocess.Popen", "x"):
        event = StepFailed(
            op=1,
            name="charge",
            digest="d",
            error=Failure(type=name, message="m", args=Raw(b'["true"]'), raised_as=name),
            started_at=1,
        )
        assert isinstance(raised(event, charge), StepFailedError)


def test_where_it_came_from_is_noted() -> None:
    """For people as a note, for the engine as an origin, through causes and groups."""
    error = seen(ValueError("no"))
    assert error.__notes__ == ["raised by step 'charge' (op 3), attempt 2"]
    outer = RuntimeError("outer")
    outer.__cause__ = ExceptionGroup("several", [OSError(), error])
    origin = origin_of(outer)
    assert origin is not None
    assert (origin.op, origin.step, origin.attempts, bytes(origin.input)) == (
        3,
        "charge",
        2,
        b'["o"]',
    )
    assert origin_of(ValueError("own")) is None
    circle = ValueError("circle")
    circle.__cause__ = circle
    assert origin_of(circle) is None


def test_an_error_of_a_step_is_not_described_twice_over() -> None:
    """Where it came from is in the log already and no part of its state."""
    again = describe(seen(DeclinedError(51, by="bank")))
    assert set(msgspec.json.decode(again.state)) == {"code", "by", "__notes__"}


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a lone \ud800 surrogate"),
        ValueError({"a": "\udfff"}),
        ValueError(object()),
        ValueError(Raw(b"no json")),
        ValueError(float("nan")),
        ValueError([[]] * 2000),
        MuteError("x"),
        ValueError("x" * 100_000),
        ValueError(b"\xff" * 100_000),
    ],
    ids=range(9),
)
def test_whatever_an_error_holds_the_log_can_be_read(error: Exception) -> None:
    """Its text is there, as far as it can be; a log of it stays small."""
    error.extra = error.args  # type: ignore[attr-defined]
    data = encode_event(
        StepFailed(op=1, name="n", digest="d", error=describe(thrown(error)), started_at=1)
    )
    event = decode_event(data)
    assert isinstance(event, StepFailed)
    assert event.error.message
    assert len(data) < 50_000
    back = seen(thrown(error))
    assert str(back)


@given(st.text() | st.binary() | st.floats() | st.integers(), st.text(st.characters()))
def test_any_arguments_are_survived(argument: Any, text: str) -> None:
    """What cannot be kept is shown by its text."""
    back = seen(ValueError(argument, text))
    assert isinstance(back, ValueError | StepFailedError)


def test_what_cannot_be_kept_leaves_its_text() -> None:
    """The error is of the same type, its message the same."""
    error = ValueError(object())
    back = seen(error)
    assert type(back) is ValueError
    assert str(back) == str(error)


def test_a_traceback_is_kept_only_of_a_failure_for_good() -> None:
    """Of one that is tried again the text will do."""
    error = thrown(ValueError("no"))
    assert describe(error, charge, for_good=False).traceback == ""
    assert describe(error, charge).traceback.endswith("ValueError: no\n")


def test_of_a_long_traceback_the_end_is_kept() -> None:
    """That is where the error itself stands."""

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise ValueError("x" * 3000 + "the end")

    try:
        deep(30)
    except ValueError as error:
        text = describe(error).traceback
    assert "the end" in text
    assert len(text) < 4100
