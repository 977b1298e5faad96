"""Tables of the user's own beside those of beamflow, and what a log says of the steps that wrote there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from beamflow import WorkflowHandle


def made(path: Path, script: str) -> Path:
    """Make a database with these tables."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    return path


def seen(path: Path, query: str) -> list[Any]:
    """What is durable, seen from outside."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


async def outcomes(handle: WorkflowHandle[Any], kind: type) -> list[Any]:
    """Events of a kind in a log."""
    return [one.event for one in await handle.history() if isinstance(one.event, kind)]
