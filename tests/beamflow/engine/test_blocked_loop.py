"""What blocks the loop is reported while it still does: which step of which workflow, or whose code."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from beamflow import DefinitionError, Engine, step, workflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamflow.stores.memory import MemoryStore


@contextmanager
def listening() -> Iterator[threading.Event]:
    """Give what is set once the watchdog has reported something."""
    reported = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "loop_blocked" in record.getMessage():
                reported.set()

    listener = Listener()
    logging.getLogger("beamflow").addHandler(listener)
    try:
        yield reported
    finally:
        logging.getLogger("beamflow").removeHandler(listener)


def first_report(caplog: pytest.LogCaptureFixture) -> str:
    (first, *_) = [r.getMessage() for r in caplog.records if "loop_blocked" in r.getMessage()]
    return first


@pytest.mark.serial
async def test_a_step_that_blocks_the_loop_is_reported_by_its_name(
    memory: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """With the workflow and the line, while it still blocks."""
    with listening() as reported:

        @step
        async def blocks() -> bool:
            return reported.wait(30)

        @workflow
        async def try_it() -> bool:
            return await blocks()

        async with Engine(memory, workflows=[try_it], watchdog=0.05) as engine:
            assert await (await engine.start(try_it, id="one")).result()
    assert "by=\"attempt 1 of step 'blocks' of 'one'\"" in first_report(caplog)


@pytest.mark.serial
async def test_code_that_blocks_the_loop_is_reported_by_its_workflow(
    memory: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """With its id, and the line at which it stands."""
    with listening() as reported:

        @workflow
        async def blocks() -> bool:
            return reported.wait(30)

        async with Engine(memory, workflows=[blocks], watchdog=0.05) as engine:
            assert await (await engine.start(blocks, id="one")).result()
    report = first_report(caplog)
    assert "by='/engine/workflows/one'" in report
    assert "threading.py" in report


@pytest.mark.parametrize("watchdog", [0, -1, "soon"])
def test_a_watchdog_that_makes_no_sense_is_refused(watchdog: object) -> None:
    with pytest.raises(DefinitionError, match="watchdog"):
        Engine("memory://", workflows=[], watchdog=watchdog)
