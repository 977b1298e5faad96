"""The corpus in a real process, killed again and again: each workflow comes to its one end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from beamflow.model.events import (
    StepCompleted,
    WorkflowContinued,
    WorkflowForked,
    WorkflowRetried,
    WorkflowStarted,
)
from beamflow.model.ids import DEAD_LETTERS, idempotency_key
from tests.acceptance.kill_evidence import Folder, Log
from tests.corpus.checks import check_effects, check_log
from tests.corpus.everything import CASES
from tests.corpus.replaying import replayed
from tests.corpus.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamflow.model.events import Recorded
    from tests.corpus.world import Effect

pytestmark = [pytest.mark.serial, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
EXHAUSTIVE = os.environ.get("BEAMFLOW_EXHAUSTIVE") == "1"
KILLS, MOMENT_S, SECOND_S = (40, 0.6, 0.1) if EXHAUSTIVE else (3, 1.3, 0.03)
"""How many kills, within how much time each, and how long a second of the corpus is."""


class Lives(Folder):
    """The files of one run, and what is known of its lives so far."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.world = World(path / "world")
        self.log_before: Log = {}
        self.completed: dict[str, int] = {}
        self.epoch = 0

    def live(self, *wrapper: str) -> subprocess.Popen[str]:
        """Start the process once more; each life starts a few more workflows."""
        self.lives += 1
        share = min(1.0, self.lives / KILLS / 2) - (self.lives <= 2 * KILLS) * 1e-3
        with self._complaints.open("wb") as complaints:
            return subprocess.Popen(
                [
                    *wrapper,
                    sys.executable,
                    "-m",
                    "tests.corpus.living",
                    self.database,
                    self.path / "world",
                    str(share),
                ],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                    "BEAMFLOW_CORPUS_SECOND": str(SECOND_S),
                },
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )

    def look(self, told: list[str]) -> Log:
        """After a life: nothing is lost, nothing that was recorded before it has run in it."""
        log, effects = self.log(), self.world.effects
        for stream, history in self.log_before.items():
            assert log[stream][: len(history)] == history, f"{stream} has another past"
        for words in map(str.split, told):
            assert words[0] != "started" or words[1] in log, f"lost: {words}"
        retried = tuple(f"{stream}/" for stream, history in log.items() if was_retried(history))
        for number, one in enumerate(effects):
            if one.key.startswith(retried):  # what it had done may be done again
                continue
            assert number < self.completed.get(one.key, len(effects)), f"{one} ran again"
        for stream, history in log.items():
            check_log(stream, history)
            for key in completed_steps(stream, history):
                self.completed.setdefault(key, len(effects))
        self.log_before = log
        return log


def was_retried(history: list[Recorded]) -> bool:
    """Whether somebody let it go on in place after it had failed."""
    return any(isinstance(one.event, WorkflowRetried) for one in history)


def completed_steps(stream: str, history: list[Recorded]) -> Iterator[str]:
    """Give the keys of the steps that the log says are done."""
    run = 0
    for one in history:
        if isinstance(one.event, WorkflowContinued):
            run = one.event.run
        elif isinstance(one.event, StepCompleted):
            yield idempotency_key(stream, one.event.op, run)


def ended(folder: Lives, draw: random.Random, how: signal.Signals) -> list[str]:
    """Let a life go on for a random time, then kill it, or have it stop in order."""
    process = folder.live()
    assert process.stdout is not None
    told = [process.stdout.readline().strip()]
    time.sleep(draw.uniform(0, MOMENT_S))
    process.send_signal(how)
    told += folder.end(process)
    assert process.returncode == (-signal.SIGKILL if how is signal.SIGKILL else 0)
    return told


@pytest.mark.invariant("I6")
@pytest.mark.invariant("I19")
@pytest.mark.skipif(not EXHAUSTIVE, reason="`make chaos` runs it, with many more kills")
@pytest.mark.timeout(20 * KILLS + 120)
def test_the_corpus_outlives_kills(tmp_path: Path) -> None:
    """The ends, the effects and what was undone are those of a run in which nothing happened."""
    seed = int(os.environ.get("BEAMFLOW_SEED", random.randrange(1_000_000)))
    print(f"BEAMFLOW_SEED={seed} draws the same moments")  # noqa: T201 - shown with a failure
    draw = random.Random(seed)
    folder = Lives(tmp_path)
    for _ in range(KILLS):
        folder.look(ended(folder, draw, signal.SIGKILL))
        # who dies again and again is suspected of doing it himself, and waits
        folder.look(ended(folder, draw, signal.SIGTERM))
    told = folder.end(folder.live())
    assert told[-1] == "finished"
    log = folder.look(told)
    ends = {words[1]: json.loads(words[2]) for line in told if len(words := line.split(" ", 2)) > 2}
    effects = effects_by_case(log, folder.world.effects)
    for case in CASES.values():
        if not case.timed:
            assert (case.name, ends[case.name]) == (case.name, list(case.ends))
            check_effects(case, effects[case.name])
    at_work = {one.epoch for history in log.values() for one in history}
    assert len(at_work) > KILLS // 3, "it was hardly ever killed at work"
    for stream, history in log.items():
        if stream != DEAD_LETTERS:
            replayed(history)


def origin(history: list[Recorded]) -> str:
    """Return the workflow that has brought this one about."""
    events = [one.event for one in history]
    assert isinstance(events[0], WorkflowStarted)
    sources = [event.source for event in events if isinstance(event, WorkflowForked)]
    found = [events[0].parent, events[0].retry_of, *sources]
    return next(filter(None, found))


def effects_by_case(log: Log, effects: list[Effect]) -> dict[str, list[Effect]]:
    """Divide the effects by the workflow of the corpus to which they go back."""
    divided: dict[str, list[Effect]] = {name: [] for name in CASES}
    for one in effects:
        if not one.key:
            continue
        if one.key.startswith("$"):  # of a result that workflows share, so it names none of them
            (case,) = (each for each in CASES.values() if one.name in each.effects)
            divided[case.name].append(one)
            continue
        workflow_id = one.key.removesuffix("/compensation").rpartition("/")[0]
        while workflow_id not in divided:
            workflow_id = origin(log[workflow_id])
        divided[workflow_id].append(one)
    return divided
