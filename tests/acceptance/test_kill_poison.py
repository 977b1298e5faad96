"""A workflow that kills its process each time is parked; those that were only there go on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.serial, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("kill_poison.py")


def live(path: Path) -> tuple[int, str]:
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return run.returncode, run.stdout


@pytest.mark.timeout(180)
def test_one_killer_among_sleepers_and_long_steps(tmp_path: Path) -> None:
    """It takes the process along seven times, the last six of them recoveries, and no eighth time."""
    path = tmp_path / "app.db"
    for _ in range(7):
        assert live(path) == (-signal.SIGKILL, "")
    assert live(path) == (0, "poison\nkiller 50\n")
