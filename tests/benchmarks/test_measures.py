"""What a process takes, as the system tells it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.measures import (
    CURVE,
    children_of,
    cpu_s,
    disk_bytes,
    idle,
    percentile,
    percentiles,
    rss_bytes,
    rss_peak_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """Return a process that has worked a while and waits for its end."""
    code = "import time\nwhile time.process_time() < 0.1: pass\nprint('ready', flush=True)\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    if process.poll() is None:
        process.communicate("\n")


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 6), (90, 10), (100, 10)])
def test_percentiles(percent: float, value: float) -> None:
    """What so many values do not exceed, whatever their order."""
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == value


def test_a_curve_begins_with_the_least_and_ends_with_the_most() -> None:
    points = percentiles([3.0, 1.0, 2.0])
    assert [percent for percent, _ in points] == list(CURVE)
    assert (points[0][1], points[-1][1]) == (1.0, 3.0)


def test_files_count_with_what_they_take_on_disk(tmp_path: Path) -> None:
    """Those below directories too, but not what SQLite takes away when it closes."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.db").write_bytes(b"x" * 8192)
    (tmp_path / "a.db-wal").write_bytes(b"x" * 65536)
    files = tmp_path / "below" / "a.db"
    assert disk_bytes(tmp_path) - disk_bytes(tmp_path / "below") < 65536
    assert disk_bytes(tmp_path / "below") == files.stat().st_blocks * 512


@needs_proc
def test_other_processes_are_added(child: subprocess.Popen[str]) -> None:
    """Their CPU, their memory; one that has ended adds nothing."""
    assert cpu_s([child.pid]) > cpu_s() + 0.05
    assert rss_bytes([child.pid]) > rss_bytes()
    assert rss_peak_bytes([child.pid]) > rss_peak_bytes()
    child.communicate("\n")
    assert cpu_s([child.pid]) == pytest.approx(cpu_s(), abs=0.05)


@needs_proc
def test_children_are_found(child: subprocess.Popen[str]) -> None:
    assert child.pid in children_of(os.getpid())
    assert children_of(child.pid) == ()


async def test_idle_returns_when_nothing_happens() -> None:
    """Or when its patience ends, whatever happens."""
    await idle(share=100.0)
    await idle(share=-1.0, limit_s=0.0)
