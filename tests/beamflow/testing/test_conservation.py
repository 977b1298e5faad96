"""No workflow is lost between the states, at no moment that anybody can look at."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest

from beamflow import Retry, WorkflowError, WorkflowState, receive, step, workflow
from beamflow.testing.chaos_engine import ChaosEngine

if TYPE_CHECKING:
    from pathlib import Path

    from beamflow import Engine
    from supervision.chaos import Chaos

PATIENT = Retry(max_attempts=20, initial=0.1, max=1.0)
FINAL = {"completed", "failed", "cancelled"}
SNAPSHOT = """
SELECT
  (SELECT count(*) FROM beamflow_events WHERE data ->> 'type' = 'workflow_started'),
  (SELECT json_group_object(id, state) FROM beamflow_workflows),
  (SELECT json_group_array(workflow_id) FROM beamflow_letters WHERE outcome = 'failed'),
  (
    SELECT json_group_array(workflow_id)
    FROM beamflow_letters
    WHERE outcome = 'parked' AND state = 'open'
  )
"""


@step(retry=PATIENT)
async def work(_what: str) -> None:
    await asyncio.sleep(0.3)


@work.compensation(retry=PATIENT)
async def undo(_worked: None, _what: str) -> None:
    await asyncio.sleep(0.2)


@step
async def fail(what: str) -> None:
    raise LookupError(what)


@workflow
async def job(what: str) -> None:
    await work(what)
    await work(what)
    if what == "waits":
        await receive("never")
    if what == "fails":
        await fail(what)


class Looking:
    """Looks at a store from outside, each time in one snapshot, and holds what must hold."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.looks = 0
        self.seen: set[str] = set()
        self._final: dict[str, str] = {}

    def look(self) -> None:
        with contextlib.closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)) as database:
            try:
                started, *listed = database.execute(SNAPSHOT).fetchone()
            except sqlite3.OperationalError:  # there is no schema yet
                return
        states, failed, parked = map(msgspec.json.decode, listed)
        self.looks += 1
        self.seen |= {*states.values()}
        assert started == len(states)
        assert {*states.values()} <= {state.value for state in WorkflowState}
        assert sorted(failed) == sorted(one for one in states if states[one] == "failed")
        assert sorted(parked) == sorted(one for one in states if states[one] == "parked")
        for one, state in self._final.items():
            assert states[one] == state
        self._final = {one: state for one, state in states.items() if state in FINAL}

    async def go_on(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            self.look()


@pytest.mark.invariant("I28")
@pytest.mark.chaos(profile="moderate", seeds=6)
async def test_started_is_what_ended_and_what_is_open(chaos: Chaos, tmp_path: Path) -> None:
    """started = completed + failed + cancelled + parked + open, whenever one looks.

    What failed has one dead letter, what is parked an open one, and what has ended stays as it is.
    """
    file = tmp_path / "app.db"
    looking = Looking(file)
    async with ChaosEngine(chaos, workflows=[job], store=f"sqlite:///{file}") as engine:
        looker = asyncio.create_task(looking.go_on())
        for number in range(12):
            what = ("works", "fails", "waits")[number % 3]
            await engine.start(job, what, id=f"{number}")
        for number in range(2, 12, 3):

            async def cancel(engine: Engine, workflow_id: str = f"{number}") -> None:
                with contextlib.suppress(WorkflowError):
                    await engine.handle(workflow_id).cancel()

            await engine.ask(cancel)
        chaos.calm()
        await engine.endings(within=86_400.0)
        looker.cancel()
        await asyncio.wait({looker})
    assert looker.cancelled()
    looking.look()
    assert looking.looks > 10
    assert {"running", "completed", "failed", "cancelled"} <= looking.seen
