"""The public surface: complete, sorted, documented, and small."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING

import pytest

import beamflow
import beamflow.events
import supervision

if TYPE_CHECKING:
    from types import ModuleType

MODULES = sorted(
    {package.__name__ for package in (beamflow, supervision)}
    | {
        info.name
        for package in (beamflow, supervision)
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not info.name.endswith(".__main__")
    }
)
FACADES = [beamflow, beamflow.events, supervision]
PUBLIC_METHODS_MAX = 12


def by_kind(name: str) -> tuple[int, list[str | int]]:
    """Constants, then classes, then functions, each in natural order: as the linter sorts them."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_and_importable(name: str) -> None:
    """Every name in ``__all__`` exists, once, in order."""
    module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", []))
    assert exported == sorted(set(exported), key=by_kind)
    assert [entry for entry in exported if not hasattr(module, entry)] == []


@pytest.mark.parametrize("facade", FACADES, ids=lambda module: module.__name__)
def test_a_facade_holds_its_exports_and_nothing_else(facade: ModuleType) -> None:
    """``dir(beamflow)`` shows the API: submodules and exports, no stray import."""
    visible = {
        key
        for key, value in vars(facade).items()
        if not key.startswith("_") and key != "annotations" and not inspect.ismodule(value)
    }
    assert visible == {entry for entry in facade.__all__ if not entry.startswith("_")}


@pytest.mark.parametrize("facade", FACADES, ids=lambda module: module.__name__)
def test_every_public_name_has_a_docstring(facade: ModuleType) -> None:
    """So has every public method and property of every public class."""
    bare = []
    for name in facade.__all__:
        value = getattr(facade, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        if not inspect.getdoc(value):
            bare.append(name)
        if inspect.isclass(value):
            bare += [
                f"{name}.{member}"
                for member, attribute in vars(value).items()
                if not member.startswith("_")
                and isinstance(attribute, property | classmethod | staticmethod | type(by_kind))
                and not inspect.getdoc(getattr(value, member))
            ]
    assert bare == []


def test_no_public_class_grows_into_a_heap() -> None:
    """At most a dozen methods to call; the next one belongs to a sub-object named by a noun."""
    heaps = {
        name: len(methods)
        for name in beamflow.__all__
        if inspect.isclass(cls := getattr(beamflow, name))
        and len(
            methods := [
                member
                for member, attribute in vars(cls).items()
                if inspect.isfunction(attribute) and not member.startswith("_")
            ]
        )
        > PUBLIC_METHODS_MAX
    }
    assert heaps == {}
