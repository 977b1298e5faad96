"""The workflows that the command line is told of: ``module``, or ``module:name``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from beamflow.authoring.workflow import definition_of
from beamflow.engine.definitions import Definitions
from beamflow.engine.engine import Engine
from beamflow.errors import DefinitionError

__all__ = ["workflows_of"]


def workflows_of(target: str) -> Definitions:
    """Import what the target names and return its workflows.

    ``module:name`` is an `Engine`, a workflow or a list of workflows; ``module`` alone stands for
    all the workflows in it. Modules are found from the current directory on.

    Raises:
        DefinitionError: there is no such thing, or it is something else.
        Exception: whatever importing the module raises.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    name, _, path = target.partition(":")
    if not all(part.isidentifier() for part in name.split(".")):
        raise DefinitionError(
            f"{target!r} names no module: write module:engine, such as app:engine"
        )
    if Path(target).is_file():
        module_name = Path(target).stem
        raise DefinitionError(
            f"{target!r} is a file: write its module, such as {module_name}:engine"
        )
    module = import_module(name)
    if not path:
        found = [each for each in vars(module).values() if definition_of(each) is not None]
        if not found:
            raise DefinitionError(f"module {name!r} has no workflow: write {name}:engine")
        return Definitions(found)
    value: Any = module
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            raise DefinitionError(f"module {name!r} has no {path!r}") from error
    return _definitions(target, value)


def _definitions(target: str, value: object) -> Definitions:
    match value:
        case Engine():
            return Definitions(value.workflows)
        case _ if definition_of(value) is not None:
            return Definitions([value])
        case Iterable() if not isinstance(value, str | bytes):
            return Definitions(value)
        case _:
            raise DefinitionError(
                f"{target!r} is {value!r}: name an Engine, a workflow, or a list of workflows"
            )
