"""Sagas in random programs: what has to be undone is, and nothing else, in reverse.

What has to be undone is worked out from the program and the log alone.
"""

from __future__ import annotations

import os
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from beamflow.model.events import (
    CompensationCompleted,
    CompensationFailed,
    Event,
    StepCompleted,
)
from tests.beamflow.engine.programs import Program, saga_programs
from tests.beamflow.engine.test_programs import closed, digest_of, lived

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.beamflow.engine.test_programs import View

_EXAMPLES = int(os.environ.get("BEAMFLOW_PROGRAMS", "400"))

pytestmark = pytest.mark.timeout(60 + _EXAMPLES)

Around = tuple[tuple[int, bool], ...]
"""The sagas around a step, outermost first: number, and whether it is parallel."""


def paid(node: Any, around: Around = ()) -> Iterator[tuple[str, Around]]:
    """Give the digest of each step that can be undone, and the sagas around it."""
    match node:
        case ["step", "pay", _]:
            yield digest_of(node), around
        case ["saga", number, parallel, body]:
            yield from paid(body, (*around, (number, parallel)))
        case list():
            for each in node:
                yield from paid(each, around)
        case _:
            return


def handles(node: Any) -> bool:
    """Tell whether anything in it handles signals or updates: that runs elsewhere, and again."""
    if not isinstance(node, list | tuple):
        return False
    return (node and str(node[0]).startswith("on ")) or any(handles(each) for each in node)


def final(event: Event) -> bool:
    return isinstance(event, CompensationCompleted) or (
        isinstance(event, CompensationFailed) and event.retry_at is None
    )


class History:
    """What a log says of completed steps, in the order of their completion."""

    def __init__(self, events: Sequence[Event], arounds: dict[str, Around]) -> None:
        self.around: dict[int, Around] = {}
        self.settled: dict[int, int] = {}
        self.first: dict[int, int] = {}
        for place, each in enumerate(events):
            match each:
                case StepCompleted(name="pay"):
                    self.around[each.op] = arounds[each.digest]
                case CompensationCompleted() | CompensationFailed():
                    assert each.op in self.around, "undone before it was done"
                    assert each.op not in self.settled, "undone twice"
                    self.first.setdefault(each.op, place)
                    if final(each):
                        self.settled[each.op] = place
                case _:
                    pass


def check(program: Program, events: Sequence[Event], trace: list[Any]) -> int:
    """See that the log fits the program; return how many steps were undone."""
    seen = [entry for entry in trace if entry[0] in {"saga fails", "saga failed"}]
    fails = {number for what, number in seen if what == "saga fails"}
    failed = {number for what, number in seen if what == "saga failed"}
    history = History(events, dict(paid(program)))
    by: dict[int, int] = {}
    for op, around in history.around.items():
        numbers = [number for number, _ in around]
        assert not failed & {*numbers} or op in history.settled, "forgotten"
        if op in history.first:
            assert fails & {*numbers}, "undone for nothing"
            by[op] = next(number for number in reversed(numbers) if number in fails)
    completed = list(history.around)
    for one, other in combinations(sorted(by, key=completed.index), 2):
        if by[one] == by[other] and not beside(history.around[one], history.around[other]):
            assert other in history.settled
            assert history.settled[other] < history.first[one], "out of order"
    return len(history.settled)


def beside(one: Around, other: Around) -> bool:
    """Tell whether the innermost saga around both is parallel."""
    common = [mine for mine, yours in zip(one, other, strict=False) if mine == yours]
    return bool(common) and common[-1][1]


def tape(seed: int) -> list[int]:
    """Draw a tape that is long enough for any program."""
    draw = Random(seed)
    return [draw.randrange(256) for _ in range(300)]


@pytest.mark.invariant("I19")
@settings(
    max_examples=_EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(saga_programs, st.integers(0, 10**6))
def test_what_failed_is_undone(program: Program, seed: int) -> None:
    """At every length of the log: the completed steps of the sagas that have failed, no others."""
    assume(not handles(program))
    driver, views = lived(program, tape(seed))
    events = [recorded.event for recorded in driver.log]
    undone = 0
    for length, there in views.items():
        view: View = there
        undone = check(program, events[:length], view.trace)
    event(f"undone: {min(undone, 3)}")
    closed(driver.execution)
