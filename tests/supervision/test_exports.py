"""The facade."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import supervision


def sort_key(name):
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_facade_is_sorted_and_complete():
    """`__all__` is sorted, and names exactly what the facade imports."""
    assert sorted(supervision.__all__, key=sort_key) == supervision.__all__
    tree = ast.parse(Path(supervision.__file__).read_text())
    imported = [
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    ]
    assert sorted(imported) == sorted(supervision.__all__)


def test_every_public_module_is_sorted_and_documented():
    """Each module's `__all__` is there, and each public class and function has a docstring."""
    folder = Path(supervision.__file__).parent
    for path in folder.glob("*.py"):
        module = import_module(
            f"supervision.{path.stem}" if path.stem != "__init__" else "supervision"
        )
        assert sorted(module.__all__, key=sort_key) == module.__all__, path.name
        for name in module.__all__:
            thing = getattr(module, name)
            if getattr(thing, "__module__", None) == module.__name__:
                assert thing.__doc__, f"{path.name}: {name}"
