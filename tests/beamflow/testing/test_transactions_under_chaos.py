"""Transactions of steps under chaos: rows and records agree, whatever has struck."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from beamflow import Retry, current_step, step, transaction, workflow
from beamflow.testing.chaos_engine import ChaosEngine

if TYPE_CHECKING:
    from pathlib import Path

    from supervision.chaos import Chaos


@step(retry=Retry(max_attempts=50, initial=0.1))
async def write(word: str) -> str:
    async with transaction() as db:
        await db.execute("INSERT INTO rows VALUES (?, ?)", (word, current_step().idempotency_key))
    return word


@workflow
async def scribe() -> list[str]:
    first = await asyncio.gather(*(write(word) for word in "abc"))
    return [*first, await write("d")]


@pytest.mark.chaos(profile="moderate", seeds=4)
async def test_rows_and_records_agree(chaos: Chaos, tmp_path: Path) -> None:
    """A row for each step that is recorded, and for no other."""
    path = tmp_path / f"{chaos.seed}.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE rows (word TEXT, key TEXT)")
    async with ChaosEngine(chaos, workflows=[scribe], store=f"sqlite:///{path}") as engine:
        await engine.start(scribe, id="one")
        chaos.calm()
        await engine.endings()
    with closing(sqlite3.connect(path)) as connection:
        rows = sorted(key for (key,) in connection.execute("SELECT key FROM rows"))
        recorded = connection.execute(
            "SELECT data ->> 'op' FROM beamflow_events WHERE data ->> 'type' = 'step_completed'"
        )
        assert rows == sorted(f"one/{op}" for (op,) in recorded)
