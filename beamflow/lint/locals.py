"""What can be told of a function's own variables: which are sets, which are paths."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beamflow.lint.names import Names

__all__ = ["Locals"]

_SET_METHODS = {"union", "intersection", "difference", "symmetric_difference", "copy"}
_SET_TYPES = {
    "set",
    "frozenset",
    "typing.Set",
    "typing.FrozenSet",
    "typing.AbstractSet",
    "collections.abc.Set",
    "collections.abc.MutableSet",
}
_PATH_METHODS = {"absolute", "resolve", "with_name", "with_suffix", "joinpath", "expanduser"}
_PATHS = {"pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath"}


class Locals:
    """The variables of one function that are sets or paths wherever they are bound.

    Args:
        function: the function, or the class whose methods are looked at.
        names: those of its module.
        shadowed: names that it binds for itself.
    """

    def __init__(self, function: ast.AST, names: Names, shadowed: frozenset[str]) -> None:
        """Look at each binding; a variable that is something else somewhere is neither."""
        self._names = names
        self._shadowed = shadowed
        self._kinds: dict[str, str] = {}
        bindings = [found for node in ast.walk(function) for found in _bindings(node)]
        for _ in range(2):  # once more, for what is made of what was found
            kinds: dict[str, set[str]] = {}
            for name, value, annotation in bindings:
                kind = self._annotated(annotation) if annotation is not None else ""
                kind = kind or (self._kind(value) if value is not None else "")
                kinds.setdefault(name, set()).add(kind)
            self._kinds = {name: one for name, (one, *more) in kinds.items() if not more}

    def is_set(self, node: ast.expr) -> bool:
        """Whether an expression is a set whose order is not the same in every process."""
        return self._kind(node) == "set"

    def is_path(self, node: ast.expr) -> bool:
        """Whether an expression is a path of the file system."""
        return self._kind(node) == "path"

    def _kind(self, node: ast.expr) -> str:
        match node:
            case ast.Set(elts=elements):
                # small whole numbers hash by themselves
                return "" if all(_is_int(each) for each in elements) else "set"
            case ast.SetComp():
                return "set"
            case ast.Name(id=name):
                return self._kinds.get(name, "")
            case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                return "set" if "set" in (self._kind(node.left), self._kind(node.right)) else ""
            case ast.BinOp(op=ast.Div()):
                return "path" if "path" in (self._kind(node.left), self._kind(node.right)) else ""
            case ast.Call(func=ast.Attribute(value=owner, attr=method)) if self._kind(owner):
                kind = self._kind(owner)
                return kind if method in (_SET_METHODS if kind == "set" else _PATH_METHODS) else ""
            case ast.Call(func=function):
                named = self._names.of(function, self._shadowed)
                if named in {"set", "frozenset"}:
                    return "set" if node.args else ""
                return "path" if named in _PATHS else ""
            case _:
                return ""

    def _annotated(self, annotation: ast.expr) -> str:
        if isinstance(annotation, ast.Subscript):
            annotation = annotation.value
        named = self._names.of(annotation, self._shadowed)
        return "set" if named in _SET_TYPES else "path" if named in _PATHS else ""


def _bindings(node: ast.AST) -> list[tuple[str, ast.expr | None, ast.expr | None]]:
    """Return the names that a node binds, each with its value and its annotation."""
    match node:
        case ast.Assign(targets=targets, value=value):
            return [(each.id, value, None) for each in targets if isinstance(each, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [(name, node.value, node.annotation)]
        case ast.NamedExpr(target=ast.Name(id=name)):
            return [(name, node.value, None)]
        case ast.arg():
            return [(node.arg, None, node.annotation)]
        case _:
            return []


def _is_int(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int)
