"""The corpus of small workflows leaves nothing out."""

from __future__ import annotations

import ast
from pathlib import Path

import beamflow

ROOT = Path(__file__).resolve().parents[2]
TREES = [ast.parse(file.read_text()) for file in sorted((ROOT / "tests" / "corpus").glob("*.py"))]
NODES = [node for tree in TREES for node in ast.walk(tree)]


def test_there_are_at_least_forty_workflows() -> None:
    """Each stands there with its end, its effects and what is undone."""
    cases = [node for node in NODES if isinstance(node, ast.Call) and _name(node.func) == "case"]
    assert len(cases) >= 40


def test_every_word_of_authors_is_in_the_corpus() -> None:
    """What a workflow's author imports is used by one that is crashed everywhere."""
    words = {name for name in beamflow.__all__ if name[0].islower()} | {"Retry"}
    imported = {
        alias.name
        for node in NODES
        if isinstance(node, ast.ImportFrom) and node.module == "beamflow"
        for alias in node.names
    }
    used = {_name(node) for node in NODES if isinstance(node, ast.Name | ast.Attribute)}
    missing = words - (imported & used)
    assert missing == set(), "add a workflow for each to tests/corpus, see decision 0032"


def test_every_verb_of_handles_is_in_the_corpus() -> None:
    """What outsiders do to a workflow is done to one that is crashed meanwhile."""
    verbs = {name for name in dir(beamflow.WorkflowHandle) if not name.startswith("_")}
    asked = {node.attr for node in NODES if isinstance(node, ast.Attribute)}
    missing = verbs - asked - {"id", "send_again"}
    assert missing == set(), "add an act for each to tests/corpus/outsiders.py"


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return node.attr
        case _:
            return ""
