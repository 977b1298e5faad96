"""The structure of a function as a short text: the same for code that does the same."""

from __future__ import annotations

import ast
import inspect
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["fingerprint"]

_Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def fingerprint(code: Any) -> str:
    """Return 16 hex digits that change when the code of a function or class does.

    Comments, docstrings, layout, decorators and the name are left out, and so is all in which one
    version of Python writes a syntax tree differently from another. What the function calls is not
    looked into. Empty where the source cannot be read, as for code that was typed in.
    """
    try:
        source = inspect.getsource(code)
        # a line above, so that code which is indented, as in a function, can be read as it stands
        tree = ast.parse(f"if True:\n{source}" if source[:1].isspace() else source)
    except (OSError, TypeError, SyntaxError):
        return ""
    found = next((node for node in ast.walk(tree) if isinstance(node, _Named)), None)
    if found is None:
        return ""
    found.name = ""
    found.decorator_list = []
    structure = "".join(_written(found))
    return blake2b(structure.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _written(node: object) -> Iterator[str]:
    """Write a node as ``(Kind field=...)``; fields that are empty or not there are the same."""
    match node:
        case ast.AST():
            yield f"({type(node).__name__}"
            for name, value in ast.iter_fields(_bare(node)):
                if value not in (None, []) and name not in _LEFT_OUT:
                    yield f" {name}="
                    yield from _written(value)
            yield ")"
        case list():
            yield "["
            for each in node:
                yield from _written(each)
            yield "]"
        case int() if not isinstance(node, bool):
            yield hex(node)
        case _:
            yield repr(node)


def _bare(node: ast.AST) -> ast.AST:
    """Take the docstring away, which stands first in a body."""
    if isinstance(node, _Named) and ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:]
    return node


_LEFT_OUT = frozenset({"ctx", "kind", "type_comment"})
