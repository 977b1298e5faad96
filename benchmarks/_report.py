"""How figures are shown: tables for a terminal and for a page, and what they were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["aligned", "heading", "machine", "markdown", "median", "rows", "shown"]

CPUINFO = Path("/proc/cpuinfo")
SMALL = 10


def machine() -> str:
    """Say what figures are measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.machine()}, {cores} cores{_processor()}"
    )


def heading(title: str) -> None:
    """Print a title and what the figures are measured on."""
    sys.stdout.write(f"\n{title}\n{machine()}\n\n")
    sys.stdout.flush()


def rows(header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    sys.stdout.write(aligned(header, lines))
    sys.stdout.flush()


def aligned(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table for a terminal, its first column to the left and the others to the right."""
    table = [header, *lines]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    return "".join(
        "  {}\n".format(
            "   ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
        )
        for row in table
    )


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return the same as a table of Markdown."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *lines))


def shown(value: float | None, form: str) -> str:
    """Write a figure in its format, a small one with a decimal, or a dash where there is none."""
    if value is None:
        return "-"
    if abs(value) < SMALL and value != int(value):
        form = form.replace(".0f", ".1f")
    return form.format(value)


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def _processor() -> str:
    if not CPUINFO.exists():
        return ""
    for line in CPUINFO.read_text().splitlines():
        if line.startswith("model name"):
            return f" ({line.partition(':')[2].strip()})"
    return ""
