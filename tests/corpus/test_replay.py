"""I5: whoever replays a log, wherever, has the code ask for the same; no body runs for that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from beamflow.model.events import Event
from tests.corpus.everything import CASES
from tests.corpus.replaying import read_histories, replayed, write_histories
from tests.corpus.runner import Cut, run

if TYPE_CHECKING:
    from beamflow.model.events import Recorded

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = [
    {"PYTHONHASHSEED": "0", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONUTF8": "0"},
    {"PYTHONHASHSEED": "1", "TZ": "America/New_York", "LC_ALL": "C.UTF-8"},
    {"PYTHONHASHSEED": "4000000000", "TZ": "Australia/Lord_Howe", "LANG": "tr_TR.UTF-8"},
]


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> list[list[Recorded]]:
    """The logs of all workflows of the corpus: run whole, and cut in the middle."""
    found = []
    for case in CASES.values():
        if case.only_killed:
            continue
        if not case.needs_file:
            whole = run(case)
            cut = run(case, cuts=[Cut(whole.appends // 2 + 1, durable=True)])
        else:
            folder = tmp_path_factory.mktemp(case.name)
            whole, cut = (
                run(case, folder / "a.db"),
                run(case, folder / "b.db", [Cut(2, durable=True)]),
            )
        for each in (whole, cut):
            found += each.histories.values()
    return found


def test_every_kind_of_event_is_there(histories: list[list[Recorded]]) -> None:
    """A feature that the corpus does not reach would show here."""
    elsewhere = {"DeadLettered", "DeadLetterRetried", "DeadLetterResolved"}
    elsewhere |= {"RecoveryBegan", "ProbationBegan"}  # of engines that died, not of workflows
    there = {type(one.event).__name__ for history in histories for one in history}
    assert {kind.__name__ for kind in typing.get_args(Event)} - there == elsewhere


@pytest.mark.invariant("I5")
def test_a_log_is_replayed_alike_everywhere(
    histories: list[list[Recorded]], tmp_path: Path
) -> None:
    """With other hashes of strings, in another time zone, locale and folder."""
    file = tmp_path / "histories"
    write_histories(file, histories)
    assert [[one.event for one in each] for each in read_histories(file)] == [
        [one.event for one in each] for each in histories
    ]
    here = [replayed(history) for history in histories]
    processes = []
    for number, changes in enumerate(ELSEWHERE):
        folder = tmp_path / f"elsewhere {number}"
        folder.mkdir()
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.corpus.replaying", file],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **changes},
                stdout=subprocess.PIPE,
            )
        )
    for process, changes in zip(processes, ELSEWHERE, strict=True):
        told, _ = process.communicate()
        assert process.returncode == 0
        for history, there, as_here in zip(histories, json.loads(told), here, strict=True):
            assert there == as_here, (history[0].stream, changes)
