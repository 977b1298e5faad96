"""What a process takes: CPU time, memory, disk. Nothing but the standard library."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "children_of",
    "cpu_s",
    "disk_bytes",
    "idle",
    "percentile",
    "percentiles",
    "rss_bytes",
    "rss_peak_bytes",
]

PROC = Path("/proc")
BLOCK_BYTES = 512
PASSING = ("-wal", "-shm", "-journal")
CURVE = (0, *range(5, 96, 5), 97, 98, 99, 99.5, 99.9, 100)
"""The percentiles that a curve is drawn through."""


def cpu_s(pids: Iterable[int] = ()) -> float:
    """Return the CPU seconds that this process and some others have taken."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    return time.process_time() + sum(
        sum(map(int, _stat(pid)[11:13])) * tick_s for pid in pids if _stat(pid)
    )


def rss_bytes(pids: Iterable[int] = ()) -> int:
    """Return the bytes of this process, after a collection, and of others that are in memory."""
    gc.collect()
    return sum(_status(pid, "VmRSS") for pid in (os.getpid(), *pids))


def rss_peak_bytes(pids: Iterable[int] = ()) -> int:
    """Return the most bytes that were in memory of each, added up."""
    if not PROC.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )
    return sum(_status(pid, "VmHWM") for pid in (os.getpid(), *pids))


def disk_bytes(directory: Path) -> int:
    """Return the bytes that the files of a directory take on disk, without SQLite's passing ones."""
    total = 0
    for file in directory.rglob("*"):
        with suppress(FileNotFoundError):
            if not file.name.endswith(PASSING):
                total += file.lstat().st_blocks * BLOCK_BYTES
    return total


def children_of(pid: int) -> tuple[int, ...]:
    """Return the processes that a process has started and that are alive."""
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())
    return tuple(one for one in pids if (stat := _stat(one)) and int(stat[1]) == pid)


async def idle(pids: Sequence[int] = (), *, share: float = 0.2, limit_s: float = 20.0) -> None:
    """Wait until the processes take less than a share of one CPU, or the limit has passed."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        before, began = cpu_s(pids), time.monotonic()
        await asyncio.sleep(0.2)
        if cpu_s(pids) - before < share * (time.monotonic() - began):
            return


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def percentiles(values: Sequence[float]) -> list[list[float]]:
    """Return points of the distribution: a percentage, and what so many do not exceed."""
    return [[percent, percentile(values, percent)] for percent in CURVE]


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/<pid>/stat`` from the state on; none if it has ended."""
    with suppress(OSError):
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return []


def _status(pid: int, field: str) -> int:
    with suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0
