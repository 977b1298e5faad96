"""A fingerprint follows what code does, not how it is written down."""

from __future__ import annotations

import importlib.util
import sys
from textwrap import dedent, indent
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import workflow
from beamflow.authoring.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ORDER = '''
async def order(what: str, count: int = 1) -> str:
    """Doc."""
    for each in range(count):
        if each > 2 and what != "tea":
            await pack(f"{what!r:>10} {each}", key=0.5, data=b"x", none=None)  # why
    return what
'''
SAME = {
    "comments": ORDER.replace("  # why", "").replace("    return", "    # end\n    return"),
    "docstring": ORDER.replace('    """Doc."""\n', ""),
    "layout": ORDER.replace("(f", "(\n    f")
    .replace(", key", ",\n    key")
    .replace('"tea"', "'tea'"),
    "parentheses": ORDER.replace('each > 2 and what != "tea"', '(each > 2) and (what != "tea")'),
    "name": ORDER.replace("def order", "def order_v1"),
    "decorator": f"def decorated(x): return x\n@decorated{ORDER}",
    "inside another": f"def outer():\n{indent(ORDER, '    ')}\n    return order\norder = outer()",
    "raw text": ORDER.replace('b"x"', r'b"\x78"'),
}
OTHER = {
    "a call more": ORDER.replace("    return", "    await pack(1)\n    return"),
    "a literal": ORDER.replace('"tea"', '"coffee"'),
    "a type of literal": ORDER.replace("key=0.5", "key=0"),
    "an order": ORDER.replace('each > 2 and what != "tea"', 'what != "tea" and each > 2'),
    "a default": ORDER.replace("= 1", "= 2"),
    "an annotation": ORDER.replace("what: str", "what: object"),
    "a name it uses": ORDER.replace("await pack(", "await send("),
    "none for nothing": ORDER.replace("none=None", "none=()"),
    "an operator": ORDER.replace("each > 2", "each >= 2"),
}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Make a function called order (or order_v1) from source in a file."""

    def make(source: str) -> Any:
        file = tmp_path / f"made_{len(list(tmp_path.iterdir()))}.py"
        file.write_text(dedent(source))
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, file.stem, module)
        spec.loader.exec_module(module)
        return getattr(module, "order", None) or module.order_v1

    return make


@pytest.mark.parametrize("how", SAME)
def test_it_stays_when_nothing_changes_but(how: str, made: Callable[[str], Any]) -> None:
    assert fingerprint(made(SAME[how])) == fingerprint(made(ORDER)) != ""


@pytest.mark.parametrize("what", OTHER)
def test_it_changes_with(what: str, made: Callable[[str], Any]) -> None:
    assert OTHER[what] != ORDER
    assert fingerprint(made(OTHER[what])) != fingerprint(made(ORDER))


def test_it_is_what_it_was_in_every_python(made: Callable[[str], Any]) -> None:
    """Logs keep it: this value changes never, whatever Python makes of its syntax trees."""
    assert fingerprint(made(ORDER)) == "aeea53bdeca2aca4"


def test_a_class_has_one_too(made: Callable[[str], Any]) -> None:
    """Of all its methods, without their docstrings."""
    source = 'class order:\n    """One."""\n    async def run(self):\n        """Two."""\n        return 1'
    same = source.replace('"""One."""', "").replace('"""Two."""', '"""Three."""')
    other = source.replace("return 1", "return 2")
    assert fingerprint(made(source)) == fingerprint(made(same)) != fingerprint(made(other))


def test_code_without_a_source_has_none() -> None:
    """Typed in, or made at run time."""
    names: dict[str, Any] = {}
    exec("async def typed_in(): ...", names)
    assert fingerprint(names["typed_in"]) == ""
    assert fingerprint(sys.exit) == ""
    assert workflow(names["typed_in"]).fingerprint == ""
