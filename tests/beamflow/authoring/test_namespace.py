"""Local names at a place of definition."""

from __future__ import annotations

import sys

from beamflow.authoring.namespace import local_names

AT_MODULE_LEVEL = local_names(sys._getframe())


def test_only_functions_have_local_names() -> None:
    """A module's names are found without help; a function's are copied."""
    name = 1
    there = local_names(sys._getframe())
    assert AT_MODULE_LEVEL is None
    assert there == {"name": 1}
    name = 2
    assert there == {"name": 1} != {"name": name}
