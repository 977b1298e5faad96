"""One source file: its workflow functions, what they call in it, and what breaks their replay."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from typing import TYPE_CHECKING

import msgspec

from beamflow.lint.code import look_through
from beamflow.lint.names import Names, bound_in
from beamflow.lint.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Finding", "lint_source"]

_WORKFLOW = {"beamflow.workflow", "beamflow.authoring.workflow.workflow"}
_STEP = {"beamflow.step", "beamflow.authoring.step.step"}
_IGNORE = re.compile(r"#\s*beamflow:\s*ignore\[([^\]]*)\]")
_Code = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Finding(msgspec.Struct, frozen=True, order=True):
    """One place that breaks replay."""

    path: str
    line: int
    column: int
    """From 1, in characters."""
    code: str
    message: str


def lint_source(path: str, source: str) -> list[Finding]:
    """Return what breaks the replay of the workflows in a source text, in order of place."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        return [Finding(path, line, 1, "syntax-error", f"{RULES['syntax-error'].why}: {error}")]
    lines = source.splitlines()
    ignored = _ignored(source)
    found = {
        Finding(path, node.lineno, _column(lines, node), code, message)
        for node, code, message in _found(tree)
        if code not in ignored.get(node.lineno, ())
    }
    unknown = {
        Finding(path, line, 1, "unknown-code", f"{code!r} {RULES['unknown-code'].why}")
        for line, codes in ignored.items()
        for code in codes
        if code not in RULES
    }
    return sorted(found | unknown)


def _found(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    """Give all findings: of the workflows, then of the functions that they use, each once."""
    names = Names(tree)
    around = _bound_around(tree)
    pending: list[tuple[_Code, str]] = [(node, node.name) for node in _workflows(tree, names)]
    seen: set[_Code] = set()
    while pending:
        code, workflow = pending.pop(0)
        if code in seen:
            continue
        seen.add(code)
        own = bound_in(code) | around.get(code, frozenset())
        for node, rule, what in look_through(code, names, own, is_apart=_is_apart):
            where = "" if code.name == workflow else f", in a function that it calls, {code.name!r}"
            message = f"{what} {rule.why} (workflow {workflow!r}{where}). Use {rule.instead}"
            yield node, rule.code, message
        used = [names.functions[name] for name in _used(code, names, own)]
        pending += [(each, workflow) for each in used if not _is_apart(each, names)]


def _workflows(tree: ast.Module, names: Names) -> Iterator[_Code]:
    """Give what is made a workflow: by the decorator, or by calling it."""
    made: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if any(_named(each, names) in _WORKFLOW for each in node.decorator_list):
                    yield node
            case ast.Call(func=function, args=[ast.Name(id=name)]):
                if _named(function, names) in _WORKFLOW:
                    made.add(name)
            case _:
                pass
    for node in ast.walk(tree):
        if isinstance(node, _Code) and node.name in made:
            yield node


def _is_apart(node: _Code, names: Names) -> bool:
    """Whether a function is a step, a compensation or a workflow of its own."""
    for each in node.decorator_list:
        called = each.func if isinstance(each, ast.Call) else each
        if isinstance(called, ast.Attribute) and called.attr == "compensation":
            return True
        if _named(each, names) in _STEP | _WORKFLOW:
            return True
    return False


def _named(node: ast.expr, names: Names) -> str:
    return names.of(node.func if isinstance(node, ast.Call) else node, frozenset())


def _bound_around(tree: ast.Module) -> dict[_Code, frozenset[str]]:
    """Return, for what is defined in a function, the names that the functions around it bind."""
    around: dict[_Code, frozenset[str]] = {}
    for outer in ast.walk(tree):
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
            bound = bound_in(outer)
            for node in ast.walk(outer):
                if isinstance(node, _Code) and node is not outer:
                    around[node] = around.get(node, frozenset()) | bound
    return around


def _used(code: _Code, names: Names, own: frozenset[str]) -> list[str]:
    """Return the functions of this file that the code names."""
    return [
        node.id
        for node in ast.walk(code)
        if isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Load)
        and node.id in names.functions
        and node.id not in own
        and names.functions[node.id] is not code
    ]


def _ignored(source: str) -> dict[int, set[str]]:
    """Return the codes that a comment lets pass, by line."""
    ignored: dict[int, set[str]] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (found := _IGNORE.search(token.string)):
            codes = {code.strip() for code in found[1].split(",")}
            ignored.setdefault(token.start[0], set()).update(codes)
    return ignored


def _column(lines: list[str], node: ast.expr | ast.stmt) -> int:
    before = lines[node.lineno - 1].encode()[: node.col_offset]
    return len(before.decode(errors="replace")) + 1
