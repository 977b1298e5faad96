"""Each workflow of the corpus outlives a power cut right before and right after each append."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.corpus.checks import check
from tests.corpus.everything import CASES
from tests.corpus.runner import Cut, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from beamflow.model.events import Event
    from tests.corpus.case import Case
    from tests.corpus.runner import Run

PLAYED = [case for case in CASES.values() if not case.only_killed]
IN_MEMORY = [case for case in PLAYED if not case.needs_file]
FORGETFUL: dict[str, Any] = {"idle_after": 0, "awake_max": 1}
EXHAUSTIVE = os.environ.get("BEAMFLOW_EXHAUSTIVE") == "1"


@pytest.fixture(autouse=True)
def _light_collections() -> Iterator[None]:
    """Hide what is there from the collector, which each buried engine calls."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def tried(case: Case, file: Path | None, *cuts: Cut, **options: Any) -> int:
    """Run it and check; return how many appends there were."""
    try:
        done = run(case, file, cuts, **options)
        check(case, done)
    except BaseException as error:
        error.add_note(f"{case.name}: {', '.join(map(str, cuts)) or 'no cut'}")
        raise
    most = 1 + len(cuts)  # a second cut may fall into the moment of the first
    assert min(2, most) <= done.lives <= most
    return done.appends


@pytest.mark.parametrize("case", IN_MEMORY, ids=lambda case: case.name)
@pytest.mark.invariant("I6")
@pytest.mark.invariant("I19")
@pytest.mark.invariant("I22")
def test_power_cut_at_every_append_in_memory(case: Case) -> None:
    """It comes to the same end, with all done once, in a log that replays."""
    appends = tried(case, None)
    for append in range(1, appends + 1):
        for durable in (False, True):
            after_it = tried(case, None, Cut(append, durable))
            for again in range(append + 1, after_it + 1) if EXHAUSTIVE else ():
                tried(case, None, Cut(append, durable), Cut(again, not durable))


@pytest.mark.parametrize("case", PLAYED, ids=lambda case: case.name)
@pytest.mark.invariant("I6")
@pytest.mark.invariant("I19")
@pytest.mark.invariant("I22")
def test_power_cut_at_every_append_in_a_file(case: Case, tmp_path: Path) -> None:
    """The same with SQLite: each append before it is durable, and after."""
    appends = tried(case, tmp_path / "whole.db")
    for append in range(1, appends + 1):
        for durable in (False, True) if EXHAUSTIVE else (append % 2 == 0,):
            cut = Cut(append, durable)
            tried(case, tmp_path / f"{append}-{durable}.db", cut)


@pytest.mark.parametrize("case", IN_MEMORY, ids=lambda case: case.name)
@pytest.mark.invariant("I5")
@pytest.mark.invariant("I13")
@pytest.mark.invariant("I14")
def test_everybody_leaves_memory_whenever_it_can(case: Case) -> None:
    """Each wait is a sleep, and there is one place for all: the logs are the same."""
    done = run(case, **FORGETFUL)
    check(case, done)
    awake = run(case)
    assert _told(done) == _told(awake)
    if EXHAUSTIVE:
        for append in range(1, done.appends + 1):
            for durable in (False, True):
                tried(case, None, Cut(append, durable), **FORGETFUL)


def _told(done: Run) -> dict[str, list[type[Event]]]:
    """Return what each log tells, in its order."""
    return {
        stream: [type(recorded.event) for recorded in history]
        for stream, history in done.histories.items()
    }
