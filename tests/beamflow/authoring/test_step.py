"""Steps outside a workflow, their declarations, and what undoes them."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import DefinitionError, Retry, StepInfo, current_step, step
from beamflow.authoring.running_step import step_info

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@step
async def double(number: int) -> int:
    """Doubles."""
    return number * 2


@step
def thread_of(number: int) -> str:
    """Tells where it runs."""
    return threading.current_thread().name


async def test_outside_a_workflow_a_step_is_a_function() -> None:
    """A coroutine function runs here, a plain one in a worker thread; no engine, no conversion."""
    assert await double(2) == 4
    assert await double.run(number=3) == 6
    assert await thread_of(1) != threading.current_thread().name
    assert await asyncio.gather(double(1), double(2)) == [2, 4]


def test_a_step_looks_like_its_function() -> None:
    """Name, docstring and signature are those of the function."""
    assert (double.name, double.__name__, double.__doc__) == ("double", "double", "Doubles.")
    assert double.__wrapped__ is double.function  # type: ignore[attr-defined]


async def test_the_step_info_has_a_value_everywhere() -> None:
    """Outside a workflow it says so; a test may set another."""
    assert current_step().workflow_id == ""
    assert current_step().idempotency_key == "outside-a-workflow"
    info = StepInfo(workflow_id="w", step="s", op=1, attempt=2, idempotency_key="w/1")
    token = step_info.set(info)
    assert current_step() is info
    step_info.reset(token)


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Callable:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    "function",
    [generator, async_generator, Callable, Callable(), functools.partial(print), 3, double],
)
def test_only_functions_become_steps(function: Any) -> None:
    """A generator has no one value; what has no name of its own cannot be in a log."""
    with pytest.raises(DefinitionError, match="a step"):
        step(function)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": -1}, "timeout=-1"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"timeout": float("inf")}, "timeout=inf"),
        ({"timeout": "10"}, "timeout='10'"),
        ({"retry": 3}, "retry=3"),
        ({"raises": ValueError}, "raises="),
        ({"raises": ["ValueError"]}, "raises="),
        ({"raises": [KeyboardInterrupt]}, "raises="),
        ({"name": ""}, "name ''"),
        ({"name": "a\nb"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": 7}, "name 7"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], problem: str) -> None:
    """At the declaration, with the value."""

    async def f() -> None: ...

    with pytest.raises(DefinitionError) as caught:
        step(**options)(f)
    assert problem in str(caught.value)


# Compensations


def test_a_compensation_stays_a_function() -> None:
    """It is called with the result and the arguments; it has a policy of its own."""

    @step
    async def book(number: int, *, at: str) -> str:
        return f"{number}{at}"

    @book.compensation(retry=Retry(max_attempts=2), timeout=3)
    def unbook(booking: str, number: int, *, at: str) -> str:
        return f"{booking} {number} {at}"

    assert unbook("1x", 1, at="x") == "1x 1 x"
    compensation = book.compensated_by
    assert compensation is not None
    assert (compensation.name, compensation.retry.max_attempts, compensation.timeout) == (
        "unbook",
        2,
        3,
    )


async def a_step(number: int, *, at: str = "x") -> str: ...


def fits(result: str, number: int, *, at: str) -> None: ...


def has_more_with_defaults(result: str, number: int, more: int = 3, *, at: str) -> None: ...


def takes_all(*args: Any, **kwargs: Any) -> None: ...


def names_them_otherwise(booking: str, _number: int, *, at: str) -> None: ...


@pytest.mark.parametrize(
    "function", [fits, has_more_with_defaults, takes_all, names_them_otherwise]
)
def test_a_compensation_that_can_be_called_is_taken(function: Any) -> None:
    """What counts is the result first, then the arguments; positional names are free."""
    declared = step(a_step)
    declared.compensation(function)
    assert declared.compensated_by is not None


def no_result(number: int, *, at: str) -> None: ...


def only_result(result: str) -> None: ...


def wants_more(result: str, number: int, more: int, *, at: str) -> None: ...


def other_keyword(result: str, number: int, *, where: str) -> None: ...


@pytest.mark.parametrize("function", [no_result, only_result, wants_more, other_keyword])
def test_a_compensation_that_cannot_be_called_is_refused(function: Any) -> None:
    """At the declaration: at night, when it is needed, is too late."""
    declared = step(a_step)
    with pytest.raises(DefinitionError, match="the step's result, number, at=") as caught:
        declared.compensation(function)
    assert repr(function.__name__) in str(caught.value)
    assert declared.compensated_by is None


def test_a_step_has_one_compensation() -> None:
    """Two are a mistake."""
    declared = step(a_step)
    declared.compensation(fits)
    with pytest.raises(DefinitionError, match="already"):
        declared.compensation(fits)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"retry": None}, {"retry": 3}])
def test_options_of_a_compensation_are_checked(options: dict[str, Any]) -> None:
    """As those of a step."""
    with pytest.raises(DefinitionError, match="compensation 'fits'"):
        step(a_step).compensation(**options)(fits)
