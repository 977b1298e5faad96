"""Handlers: what may be one, and what is refused at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DefinitionError,
    on_query,
    on_signal,
    on_update,
    receive,
    workflow,
)
from tests.beamflow.engine.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Callable


async def waits() -> None: ...


def generates() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("register", "said"),
    [
        (lambda: on_query("x", waits), "query 'x' must be a plain `def`"),
        (lambda: on_signal("x", generates), "is a generator"),
        (lambda: on_signal("", waits), "signal name '' is refused"),
        (lambda: on_update("x", waits, validator=waits), "validator 'x' must be a plain `def`"),
        (lambda: on_update("x", waits, raises=[int]), "must list exception types"),
    ],
)
def test_a_registration_that_makes_no_sense_is_an_error_at_the_call(
    register: Callable[[], None], said: str
) -> None:
    """In the workflow's code."""

    @workflow
    async def code() -> None:
        register()

    driver = Driver.start(code)
    with pytest.raises(DefinitionError, match=said):
        _ = driver.result


@pytest.mark.parametrize("register", [on_signal, on_query, on_update])
def test_handlers_belong_into_a_workflow(register: Callable[..., None]) -> None:
    """Nobody would call them elsewhere."""
    with pytest.raises(DefinitionError, match="only inside a workflow"):
        register("x", print)


def test_a_function_whose_parameters_nobody_knows_is_refused_to_the_caller() -> None:
    """Some builtins have no signature; the workflow goes on."""

    @workflow
    async def code() -> None:
        on_query("most", max)
        await receive("never")

    driver = Driver.start(code)
    with pytest.raises(DefinitionError, match="query 'most': .* Give it a function of your own"):
        _ = driver.execution.handler("query", "most").signature
    driver.execution.close()
