"""The loop that workflow code runs on, as authoring sees it."""

from __future__ import annotations

import asyncio

import pytest

from beamflow import DefinitionError, workflow
from beamflow.authoring.runtime import current_runtime, required_runtime
from tests.beamflow.engine.driver import Driver


async def test_there_is_none_outside_a_workflow() -> None:
    """Neither in the host application nor where no loop runs."""
    assert current_runtime() is None
    assert await asyncio.to_thread(current_runtime) is None
    with pytest.raises(DefinitionError, match="receive"):
        required_runtime("receive")


def test_within_it_is_the_running_loop() -> None:
    """With the workflow's id."""

    async def code() -> bool:
        return required_runtime("it") is asyncio.get_running_loop()

    driver = Driver.start(workflow(code), id="one")
    assert driver.result is True
    assert driver.execution.workflow_id == "one"
