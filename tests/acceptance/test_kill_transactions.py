"""Killed at any write: the rows of a step and the event that records it are both there, or neither."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

pytestmark = [pytest.mark.serial, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("kill_transactions.py")
STEPS = 15
EXHAUSTIVE = os.environ.get("BEAMFLOW_EXHAUSTIVE") == "1"
TURNS = 10
"""How many writes are tried of each kind; all of them with BEAMFLOW_EXHAUSTIVE=1."""


def database(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE rows (word TEXT, key TEXT)")
        connection.execute("CREATE TABLE total (rows INTEGER)")
        connection.execute("INSERT INTO total VALUES (0)")
    return path


def live(path: Path, *around: str) -> int:
    """Run the process to its end, or to that which strace makes."""
    command = [*around, sys.executable, str(SCRIPT), str(path)]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode


def agree(path: Path) -> int:
    """Hold the rows against the log; return how many steps are done."""
    with closing(sqlite3.connect(path)) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM rows")]
        ((total,),) = connection.execute("SELECT rows FROM total")
        done = []
        if connection.execute(
            "SELECT 1 FROM sqlite_schema WHERE name = 'beamflow_events'"
        ).fetchone():
            done = [
                f"{stream}/{op}"
                for stream, op in connection.execute(
                    "SELECT stream, data ->> 'op' FROM beamflow_events "
                    "WHERE data ->> 'type' = 'step_completed'"
                )
            ]
    assert sorted(keys) == sorted(done)
    assert total == len(keys)
    return len(done)


def strace(call: str, *options: str) -> list[str]:
    return ["strace", "-f", "-qq", "-e", f"trace={call}", *options]


def killed(folder: Path, call: str, turn: int) -> int:
    """Kill a first life at a write, a second one at a later write; then let it go on to the end."""
    path = database(folder / f"{call}-{turn}.db")
    kills = 0
    for at in (turn, 1 + turn % 23):
        inject = ["-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={at}"]
        code = live(path, *strace(call, *inject))
        assert code in {0, -signal.SIGKILL}
        kills += code != 0
        agree(path)
    assert live(path) == 0
    assert agree(path) == STEPS
    return kills


@pytest.mark.timeout(3600 if EXHAUSTIVE else 120)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_killed_at_any_write(tmp_path: Path, call: str) -> None:
    """Killed at a write or sync of SQLite, and again in the next life."""
    seed = int(os.environ.get("BEAMFLOW_SEED", random.randrange(1_000_000)))
    print(f"BEAMFLOW_SEED={seed} draws the same moments")  # noqa: T201 - shown with a failure
    trace = tmp_path / "counted"
    path = database(tmp_path / "counted.db")
    assert live(path, *strace(call, "-o", str(trace))) == 0
    assert agree(path) == STEPS
    turns = range(1, 1 + trace.read_text().count(f"{call}("))
    assert len(turns) > STEPS
    chosen = turns if EXHAUSTIVE else random.Random(seed).sample(turns, TURNS)
    with ThreadPoolExecutor(4) as pool:
        kills = sum(pool.map(partial(killed, tmp_path, call), chosen))
    assert kills > len(chosen) // 2
