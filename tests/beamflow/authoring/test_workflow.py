"""Workflows as functions, and their declarations."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from beamflow import DefinitionError, Workflow, step, workflow
from beamflow.model.commands import StartChild
from tests.beamflow.engine.driver import Driver


@step
async def increment(number: int) -> int:
    return number + 1


@workflow
async def count(number: int) -> int:
    """Counts."""
    return sum(await asyncio.gather(increment(number), increment(number)))


async def test_called_directly_it_just_runs() -> None:
    """Good for a unit test: no engine, no log."""
    assert await count(1) == 4


def test_it_looks_like_its_function() -> None:
    """With a name and a version for the log."""
    assert (count.__name__, count.__doc__) == ("count", "Counts.")
    assert (count.name, count.version) == ("count", 1)
    named = workflow(name="order", version=2)(count.function)
    assert (named.name, named.version) == ("order", 2)


def test_called_in_another_workflow_it_is_a_child() -> None:
    """It is asked for as a command, and nothing of it runs here."""

    async def outer() -> int:
        return await count(1)

    driver = Driver.start(workflow(outer))
    (command,) = driver.commands
    assert isinstance(command, StartChild)
    assert (command.name, command.version, command.id) == ("count", 1, "wf/1")
    driver.execution.close()


def plain() -> None: ...


class Class:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize("function", [plain, Class, Class(), count, increment, None.__class__, 3])
def test_only_coroutine_functions_become_workflows(function: Any) -> None:
    """A `def`, a class or a step is none."""
    with pytest.raises(DefinitionError, match="async def"):
        workflow(function)


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "\ud800"},
        {"name": 7},
        {"version": "2"},
        {"version": -1},
        {"version": 1.0},
    ],
)
def test_names_and_versions_that_no_log_can_hold_are_refused(options: dict[str, Any]) -> None:
    """A version that is no int would be written, and never read again."""
    with pytest.raises(DefinitionError):
        workflow(**options)(count.function)


def test_annotations_are_resolved_where_the_workflow_is_defined() -> None:
    """Types local to a function are found."""

    @dataclass
    class Local:
        x: int

    @workflow
    async def nested(a: Local) -> Local:
        return a

    assert isinstance(nested, Workflow)
    assert nested.signature.result.decode(b'{"x":1}') == Local(1)
