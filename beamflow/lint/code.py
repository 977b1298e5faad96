"""The code of one workflow function, or of one that it calls, looked through against the rules."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from beamflow.lint.locals import Locals
from beamflow.lint.rules import RULES, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from beamflow.lint.names import Names
    from beamflow.lint.rules import Rule

__all__ = ["look_through"]

_Code = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Found = tuple[ast.expr | ast.stmt, "Rule", str]

_TAKES_IN_ORDER = {"list", "tuple", "iter", "enumerate", "zip", "map", "filter", "next", "reversed"}
_PATH_IO = """
    read_text write_text read_bytes write_bytes open exists is_file is_dir is_symlink stat lstat
    iterdir glob rglob mkdir rmdir touch unlink rename replace resolve chmod symlink_to hardlink_to
    samefile owner group walk"""
_MUTATORS = """
    append appendleft extend extendleft insert add update setdefault pop popleft popitem remove
    discard clear sort reverse rotate subtract"""
_PATH_IO_METHODS = frozenset(_PATH_IO.split())
_MUTATING_METHODS = frozenset(_MUTATORS.split())
_SHOWN_MAX = 40


def look_through(
    code: _Code, names: Names, shadowed: frozenset[str], *, is_apart: Callable[[_Code, Names], bool]
) -> Iterator[_Found]:
    """Give each node that breaks replay, the rule against it, and what it is.

    Args:
        code: a function, or a class with all its methods.
        names: those of its module.
        shadowed: names that mean something else in it.
        is_apart: tells whether a function in it is a step, and may do what it likes.
    """
    look = _Look(names, shadowed, Locals(code, names, shadowed))
    for node in _inside(code, names, is_apart):
        yield from look.at(node)


class _Look:
    def __init__(self, names: Names, shadowed: frozenset[str], variables: Locals) -> None:
        self._names = names
        self._shadowed = shadowed
        self._variables = variables
        self._told: set[ast.expr] = set()

    def at(self, node: ast.AST) -> Iterator[_Found]:
        match node:
            case ast.Call():
                yield from self._call(node)
            case ast.Name(ctx=ast.Load()) | ast.Attribute(ctx=ast.Load()):
                yield from self._name(node, called=False)
            case ast.For(iter=each) | ast.comprehension(iter=each) | ast.Starred(value=each):
                yield from self._in_order(each)
            case ast.Assign(targets=[ast.Tuple() | ast.List()], value=value):
                yield from self._in_order(value)
            case ast.Global():
                yield node, RULES["global-state"], f"`global {', '.join(node.names)}`"
            case _:
                pass
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
            yield from self._stores(node)

    def _call(self, node: ast.Call) -> Iterator[_Found]:
        yield from self._name(node.func, called=True, has_arguments=bool(node.args))
        named = self._names.of(node.func, self._shadowed)
        if named in _TAKES_IN_ORDER:
            for each in node.args:
                yield from self._in_order(each)
        if not isinstance(node.func, ast.Attribute):
            return
        owner, method = node.func.value, node.func.attr
        what = f"{ast.unparse(node.func)}()"
        if method == "join" and isinstance(owner, ast.Constant):
            for each in node.args:
                yield from self._in_order(each)
        elif method == "pop" and self._variables.is_set(owner):
            yield node, RULES["set-order"], what
        elif method in _PATH_IO_METHODS and self._variables.is_path(owner):
            yield node, RULES["files"], what
        elif method in _MUTATING_METHODS and self._is_shared(owner):
            yield node, RULES["global-state"], what
        elif method == "run_in_executor":
            yield node, RULES["threads"], what
        elif method == "run_until_complete":
            yield node, RULES["event-loop"], what

    def _name(
        self, node: ast.expr, *, called: bool, has_arguments: bool = False
    ) -> Iterator[_Found]:
        if node in self._told:
            return
        part = node
        while isinstance(part, ast.Attribute):
            self._told.add(part := part.value)
        self._told.add(node)
        named = self._names.of(node, self._shadowed)
        if not named or (named == "random.Random" and (has_arguments or not called)):
            return
        rule = rule_of(named, called=called)
        if rule is not None:
            yield node, rule, f"{named}()" if called else named

    def _in_order(self, node: ast.expr) -> Iterator[_Found]:
        if self._variables.is_set(node):
            yield node, RULES["set-order"], f"iterating over {_short(node)}"

    def _stores(
        self, node: ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete
    ) -> Iterator[_Found]:
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
        for target in targets:
            if isinstance(target, ast.Subscript | ast.Attribute) and self._is_shared(target.value):
                yield node, RULES["global-state"], f"changing {_short(target)}"

    def _is_shared(self, node: ast.expr) -> bool:
        """Whether an expression is, or lies in, a variable of the module."""
        while isinstance(node, ast.Subscript | ast.Attribute):
            node = node.value
        return (
            isinstance(node, ast.Name)
            and node.id in self._names.variables
            and node.id not in self._shadowed
        )


def _inside(
    code: _Code, names: Names, is_apart: Callable[[_Code, Names], bool]
) -> Iterator[ast.AST]:
    """Give all nodes of the body, outer ones first, without annotations and without steps."""
    pending: list[ast.AST] = list(code.body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, _Code):
            if not is_apart(node, names):
                pending[:0] = node.body
            continue
        yield node
        if isinstance(node, ast.AnnAssign):
            pending[:0] = [each for each in (node.target, node.value) if each is not None]
        else:
            pending[:0] = ast.iter_child_nodes(node)


def _short(node: ast.AST) -> str:
    text = ast.unparse(node)
    return f"`{text}`" if len(text) <= _SHOWN_MAX else f"`{text[:_SHOWN_MAX]}…`"
