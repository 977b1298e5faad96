"""The demo's workflows in one process under moderate chaos: all its checks hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.serial, pytest.mark.timeout(150)]

SCRIPT = Path(__file__).parent / "demo_under_chaos.py"
# More of them with CHAOS_DEMO_SEEDS, as `make chaos` does.
SEEDS = range(1, 1 + int(os.environ.get("CHAOS_DEMO_SEEDS", "3")))


def play(seed: int, folder: Path, **environment: str) -> str:
    """Run one seed and give what it prints."""
    folder.mkdir()
    finished = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, str(seed), "40", folder],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | environment,
    )
    assert finished.returncode == 0, f"seed {seed}\n{finished.stdout}{finished.stderr}"
    assert finished.stderr == ""
    return finished.stdout


@pytest.mark.parametrize("seed", SEEDS)
def test_all_checks_hold(seed: int, tmp_path: Path) -> None:
    """The proof believes the services' own records, over dozens of engines cut off and crashed."""
    output = play(seed, tmp_path / "run")
    assert output.count(" ok  ") == 7
    assert "FAIL  " not in output
    lives = re.search(r"lives: (\d+)", output)
    assert lives is not None
    assert int(lives[1]) > 5
    assert re.search(r"issued [1-9]", output)
    for fault in ("power_loss", "lost_commit", "crash_after_append", "supervisor_killed"):
        assert re.search(rf"{fault} [1-9]", output)


def test_a_seed_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Also where sets and dicts of strings are in another order."""
    outputs = {play(7, tmp_path / hash_seed, PYTHONHASHSEED=hash_seed) for hash_seed in ("1", "2")}
    assert len(outputs) == 1
    logs = {(tmp_path / hash_seed / "faults.txt").read_text() for hash_seed in ("1", "2")}
    assert len(logs) == 1
