"""Each invariant has tests that name it and a safeguard whose loss they notice; the page lists them.

``python -m tests.meta.test_invariants`` prints the table of the page.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.beamflow.test_ablation import ABLATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "internals" / "invariants.md"

INVARIANTS = {
    "I1": "What was acknowledged (a start, a signal, a step, a cancel) survives `kill -9`.",
    "I2": "In full durability it survives a power loss; in relaxed the log is an earlier moment.",
    "I3": "The events of one turn are all there or none: a cause and what follows from it.",
    "I4": "A workflow's log has no gap and no duplicate, and what is in it never changes.",
    "I5": "A replay asks for the same, in the same order, whatever it is interrupted by.",
    "I6": "A step that is recorded as completed never runs again.",
    "I7": "A step runs at least once, and beside itself only across the loss of a lease.",
    "I11": "The same start, however often and from wherever, is one workflow.",
    "I12": "A workflow that has ended never moves again.",
    "I13": "Whoever waits for something that is durable is woken.",
    "I14": "Signals are neither lost nor doubled, and keep their order for each sender.",
    "I15": "A signal before the start, after the end or between two runs is refused or kept, as said.",
    "I16": "Timers never fire early, fire once, and fire in order after a downtime.",
    "I18": "No more attempts than allowed, none too early; both are counted over restarts.",
    "I19": "Compensations run for the completed steps, in reverse order, to the end.",
    "I20": "What a step has done although nobody waits for it is recorded, or undone.",
    "I21": "A cancel reaches the code, undoes what was done and ends, within a bound.",
    "I22": "A child has one result for its parent; no orphan, and no second child.",
    "I26": "A workflow that is broken hurts no other.",
    "I27": "Whatever fails for good leaves one dead letter, with its reason.",
    "I28": "Each workflow is counted once, at every moment.",
    "I29": "Code that does not fit its log is noticed, stands still, and goes on once it is mended.",
    "I30": "An open workflow stays with the version, and the patches, that it has begun with.",
    "I31": "An upgrade may be killed anywhere; an older beamflow leaves a newer store alone.",
    "I32": "No more is under way than there are places, and no place is lost.",
    "I33": "An engine that is told to end does so in moments, and the next one goes on at once.",
    "I34": "A damaged store stops what it concerns; nothing is acknowledged over it.",
    "I35": "What was read is never taken back.",
    "I36": "Reading changes nothing.",
    "I37": "Whoever waits leaves memory, and takes everything along.",
    "I38": "An owner that slept past its lease writes nothing, notices, and stops.",
    "I39": "No clock that is wrong, or jumps, makes two writers or an early timer.",
    "I41": "What is removed had ended long enough ago, is in the archive, and is needed by nobody.",
}
"""Of the design's list, those that concern one node; from I41 on our own."""


@functools.cache
def marked() -> dict[str, list[str]]:
    """Return the tests that name each invariant, as file and function."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for name in named(node):
                    found[name].append(f"{file.relative_to(ROOT / 'tests')}::{node.name}")
    return found


def named(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Give the invariants that a test is marked with."""
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.invariant":
            (argument,) = mark.args
            assert isinstance(argument, ast.Constant), f"{function.name}: name it in plain words"
            yield str(argument.value)


def table() -> str:
    """Write the table."""
    tests = marked()
    lines = [
        "| | What holds | Tests that name it | Missed when it is taken out |",
        "|---|---|---|---|",
    ]
    for name, words in INVARIANTS.items():
        shown = ", ".join(f"`{each.rpartition('/')[2]}`" for each in tests[name])
        safeguards = ", ".join(each.name for each in ABLATIONS if each.holds == name)
        lines.append(f"| {name} | {words} | {shown} | {safeguards} |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", INVARIANTS)
def test_each_is_named_by_a_test_and_has_a_safeguard(name: str) -> None:
    """That a test names it is worth something only if the test can fail."""
    assert marked()[name]
    assert [each for each in ABLATIONS if each.holds == name]


def test_no_other_is_named() -> None:
    """A mark with a slip in it would hold nothing."""
    assert {*marked()} | {each.holds for each in ABLATIONS} == {*INVARIANTS}


def test_the_page_shows_the_table() -> None:
    """As it would be written now: ``python -m tests.meta.test_invariants``."""
    assert table() in PAGE.read_text()


if __name__ == "__main__":
    sys.stdout.write(table())
