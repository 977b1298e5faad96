"""Asking for a patch."""

from __future__ import annotations

from typing import Any

import pytest

from beamflow import DefinitionError, patched, workflow
from tests.beamflow.engine.driver import Driver


def test_only_workflow_code_can_ask() -> None:
    """A step or the host has no log to keep the answer in."""
    with pytest.raises(DefinitionError, match=r"patched\(\) works only inside a workflow"):
        patched("bill")


@pytest.mark.parametrize("name", ["", "a\nb", 7, None])
def test_a_name_is_printable_text(name: Any) -> None:
    """It stands in the log and in what the command line prints."""

    async def code() -> bool:
        return patched(name)

    with pytest.raises(DefinitionError, match="patch name"):
        _ = Driver.start(workflow(code)).result
