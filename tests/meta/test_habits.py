"""Habits that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    file for package in ("beamflow", "supervision") for file in (ROOT / package).rglob("*.py")
)

TASK_HOMES = {
    "supervision/cell.py",  # the task of a child
    "supervision/spawned.py",  # those that an actor spawns
    "supervision/virtual.py",  # the first task of what a test may cut off
    "beamflow/engine/execution.py",  # the main task of a workflow, on the workflow's own loop
    "beamflow/engine/inbox.py",  # the handlers of a workflow, on the same loop
    "beamflow/engine/replay.py",  # the same tasks, made once more to see which line makes them
    "beamflow/testing/store_suite/served.py",  # what serves the store under test
    "beamflow/testing/store_suite/lifecycle.py",  # the writers of a test
    "beamflow/testing/store_suite/log.py",
    "beamflow/testing/store_suite/removal.py",
    "beamflow/testing/chaos_engine.py",  # who starts the engine again
}
EXEMPTION = re.compile(r"# noqa(?P<codes>:[ A-Z0-9,]+)?(?P<reason>.*)")


def test_every_task_has_a_supervisor() -> None:
    """Tasks are made in one place, where somebody notices their end."""
    homes = {
        str(file.relative_to(ROOT))
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"create_task", "ensure_future", "start_soon"}
    }
    assert homes - TASK_HOMES == set()


def test_every_exemption_has_its_reason() -> None:
    """An ignored rule is named, and what speaks for ignoring it stands on the same line."""
    bare = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in SOURCES
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if (found := EXEMPTION.search(line))
        and (not found["codes"] or len(found["reason"].strip(" -")) < len("why"))
    ]
    assert bare == []
