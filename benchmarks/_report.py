"""How figures are printed: what they were measured on, a table, medians."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["heading", "median", "percentile", "rows"]


def heading(title: str) -> None:
    """Print a title and what the figures are measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.machine()}, {cores} cores"
    )
    sys.stdout.write(f"\n{title}\n{machine}\n\n")
    sys.stdout.flush()


def rows(header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print a table, its first column to the left and the others to the right."""
    table = [header, *lines]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        cells = [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        sys.stdout.write(f"  {'   '.join(cells)}\n")
    sys.stdout.flush()


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
