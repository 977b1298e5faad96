"""What the names in a source file stand for, without importing anything."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Names", "bound_in"]

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Names:
    """The names of one module: what it imports, defines and keeps.

    Attributes:
        functions: the functions that it defines at its top.
        variables: the names that it binds to values there.
    """

    def __init__(self, tree: ast.Module) -> None:
        """Look through the whole file: an import in a function counts for the file."""
        self.functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        self.variables: set[str] = set()
        self._classes: set[str] = set()
        self._aliases: dict[str, str] = {}
        for node in ast.walk(tree):
            self._import(node)
        for node in _top(tree.body):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self.functions[node.name] = node
                case ast.ClassDef():
                    self._classes.add(node.name)
                case ast.Assign() | ast.AnnAssign():
                    self._assign(node)
                case _:
                    pass

    def of(self, node: ast.expr, shadowed: frozenset[str]) -> str:
        """Return what an expression names, in full, such as ``datetime.datetime.now``; empty if nothing.

        Args:
            node: the expression.
            shadowed: names that mean something else where it stands.
        """
        match node:
            case ast.Attribute():
                owner = self.of(node.value, shadowed)
                return f"{owner}.{node.attr}" if owner else ""
            case ast.Name(id=name) if name not in shadowed:
                if name in self._aliases:
                    return self._aliases[name]
                mine = name in self.functions or name in self.variables or name in self._classes
                return name if not mine and hasattr(builtins, name) else ""
            case _:
                return ""

    def _import(self, node: ast.AST) -> None:
        match node:
            case ast.Import():
                for alias in node.names:
                    if alias.asname:
                        self._aliases[alias.asname] = alias.name
                    else:
                        top = alias.name.partition(".")[0]
                        self._aliases[top] = top
            case ast.ImportFrom(module=str() as module, level=0):
                for alias in node.names:
                    self._aliases[alias.asname or alias.name] = f"{module}.{alias.name}"
            case _:
                pass

    def _assign(self, node: ast.Assign | ast.AnnAssign) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if not isinstance(target, ast.Name):
                continue
            named = self.of(node.value, frozenset()) if node.value is not None else ""
            if named and isinstance(node.value, ast.Attribute | ast.Name):
                self._aliases[target.id] = named  # pause = time.sleep
            else:
                self.variables.add(target.id)


def bound_in(function: _Function | ast.ClassDef) -> frozenset[str]:
    """Return the names that a function, with those in it, binds for itself; imports are none."""
    bound: set[str] = set()
    shared: set[str] = set()
    for node in ast.walk(function):
        match node:
            case ast.Name(ctx=ast.Store() | ast.Del()):
                bound.add(node.id)
            case ast.arg():
                bound.add(node.arg)
            case ast.ExceptHandler(name=str() as name):
                bound.add(name)
            case ast.MatchAs(name=str() as name) | ast.MatchStar(name=str() as name):
                bound.add(name)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if node is not function:
                    bound.add(node.name)
            case ast.Global():
                shared.update(node.names)
            case _:
                pass
    return frozenset(bound - shared)


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Give the statements of a module, also those below `if` and `try`."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _top(getattr(node, inner, []))
