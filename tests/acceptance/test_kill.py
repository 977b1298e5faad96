"""A real engine's process is killed, again and again, and nothing is lost or done twice.

`kill_engine.py` runs the workflows; its steps leave marks in a ledger that beamflow knows nothing
of. After each kill, while nobody runs, `kill_evidence.py` holds the log against the ledger.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.kill_evidence import Command, Folder, Witness, all_ended, left_to_say, line

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.serial, pytest.mark.slow]

KINDS = ("branches", "conversation", "race", "saga")
WORKFLOWS = 320
KILLS = 30
SMALL = ["branches-0", "conversation-0", "race-0", "saga-0", "saga-1", "saga-2"]
EXHAUSTIVE = os.environ.get("BEAMFLOW_EXHAUSTIVE") == "1"
TURNS = 8
"""How many writes are tried of each kind; all of them with BEAMFLOW_EXHAUSTIVE=1."""


@pytest.fixture
def draw() -> random.Random:
    """Draw other moments each time; the seed that is printed draws the same again."""
    seed = int(os.environ.get("BEAMFLOW_SEED", random.randrange(1_000_000)))
    print(f"BEAMFLOW_SEED={seed} draws the same moments")  # noqa: T201 - shown with a failure
    return random.Random(seed)


def finished(folder: Folder, witness: Witness, workflow_ids: list[str]) -> None:
    """Let a last life go on to the end of all workflows."""
    commands = [command for one in workflow_ids for command in left_to_say(one, witness.log)]
    told = folder.end(folder.live(), [*commands, ["finish"]])
    assert told[-1] == "finished"
    witness.look(told)
    all_ended(witness, workflow_ids)


def killed_at_random(folder: Folder, commands: list[Command], draw: random.Random) -> list[str]:
    """Hand over commands bit by bit and kill the process meanwhile; return what it told.

    One in five dies while it starts, the others at work.
    """
    process = folder.live()
    assert process.stdin is not None
    assert process.stdout is not None
    told, moment_s, parts = [], draw.uniform(0, 0.3), 1
    if draw.random() > 0.2:
        told = [process.stdout.readline().strip()]
        moment_s, parts = draw.uniform(0, 0.9), 4
    with suppress(BrokenPipeError):
        for part in range(parts):
            process.stdin.writelines(map(line, commands[part::parts]))
            process.stdin.flush()
            time.sleep(moment_s / parts)
    process.kill()
    told += folder.end(process)
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    return told


@pytest.mark.invariant("I1")
@pytest.mark.invariant("I4")
@pytest.mark.invariant("I6")
@pytest.mark.timeout(180)
def test_killed_at_random_moments(tmp_path: Path, draw: random.Random) -> None:
    """Several hundred workflows outlive thirty kills; log and ledger agree after each of them."""
    folder = Folder(tmp_path)
    witness = Witness(folder)
    workflow_ids = [f"{KINDS[n % 4]}-{n // 4}" for n in range(WORKFLOWS)]
    at_work = 0
    for kill in range(KILLS):
        known = workflow_ids[: (kill + 1) * WORKFLOWS // KILLS]
        commands = [left[0] for one in known if (left := left_to_say(one, witness.log))]
        commands += [["start", one] for one in draw.sample(known, 5)]
        marks = len(witness.marks)
        witness.look(killed_at_random(folder, commands, draw))
        at_work += len(witness.marks) > marks
    finished(folder, witness, workflow_ids)
    assert at_work > KILLS // 3
    assert witness.run_twice > KILLS


def strace(call: str, *options: str) -> list[str]:
    return ["strace", "-f", "-qq", "-e", f"trace={call}", *options]


def killed_at_write(folder: Folder, witness: Witness, call: str, turn: int) -> bool:
    """Start or go on with the small workload, and kill the process at a system call of SQLite.

    Returns:
        Whether it lived so long.
    """
    commands = [command for one in SMALL for command in left_to_say(one, witness.log)]
    inject = ["-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={turn}"]
    process = folder.live(*strace(call, *inject))
    witness.look(folder.end(process, [*commands, ["finish"]]))
    assert process.returncode in {-signal.SIGKILL, 0}
    return process.returncode != 0


def kills_outlived(tmp_path: Path, call: str, turn: int) -> int:
    """Kill the first life at a write, the second at one of the first writes after its recovery."""
    path = tmp_path / f"{call}-{turn}"
    path.mkdir()
    folder = Folder(path)
    witness = Witness(folder)
    kills = [killed_at_write(folder, witness, call, at) for at in (turn, 1 + turn % 17)]
    finished(folder, witness, SMALL)
    return sum(kills)


@pytest.mark.invariant("I1")
@pytest.mark.timeout(3600 if EXHAUSTIVE else 120)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_killed_at_any_write(tmp_path: Path, draw: random.Random, call: str) -> None:
    """Killed at a write or sync of SQLite, and again after the recovery, it goes on to the end."""
    folder = Folder(tmp_path)
    witness = Witness(folder)
    trace = tmp_path / "counted"
    commands = [command for one in SMALL for command in left_to_say(one, {})]
    process = folder.live(*strace(call, "-o", str(trace)))
    witness.look(folder.end(process, [*commands, ["finish"]]))
    all_ended(witness, SMALL)
    turns = range(1, 1 + trace.read_text().count(f"{call}("))
    assert len(turns) > 30
    chosen = turns if EXHAUSTIVE else sorted(draw.sample(turns, TURNS))
    with ThreadPoolExecutor(6) as pool:
        kills = sum(pool.map(partial(kills_outlived, tmp_path, call), chosen))
    assert kills > len(chosen) // 2


@pytest.mark.invariant("I34")
@pytest.mark.timeout(3600 if EXHAUSTIVE else 120)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("call", "error"), [("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("fdatasync", "EIO")]
)
def test_a_disk_that_fails_now_and_then(
    tmp_path: Path, draw: random.Random, call: str, error: str
) -> None:
    """The engine opens its store again and goes on from the log, in the same life, to the end.

    Calls are counted anew for each thread, so a new one of the store's meets the fault as well.
    """
    folder = Folder(tmp_path)
    commands = [command for one in SMALL for command in left_to_say(one, {})]
    folder.end(folder.live(*strace(call, "-o", str(tmp_path / "count"))), [*commands, ["finish"]])
    total = (tmp_path / "count").read_text().count(f"{call}(")
    turns = range(total // 2, total * 3 // 4)
    struck = 0
    for turn in turns if EXHAUSTIVE else sorted(draw.sample(turns, 3)):
        path = tmp_path / f"{turn}"
        path.mkdir()
        folder = Folder(path)
        folder.end(folder.live(), [["finish"]])
        witness = Witness(folder, reopens=True)
        inject = ["-o", str(path / "trace"), "-e", f"inject={call}:error={error}:when={turn}"]
        process = folder.live(*strace(call, *inject))
        told = folder.end(process, [*commands, ["finish"]])
        witness.look(told)
        assert told[-1] == "finished"
        all_ended(witness, SMALL)
        struck += "INJECTED" in (path / "trace").read_text()
    assert struck
