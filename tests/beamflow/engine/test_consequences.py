"""Consequences: what the code's commands and its end add to the log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import HostLoopError, PayloadError, step, workflow
from beamflow.engine.consequences import check_outcome, consequences
from beamflow.engine.saga import Unwinding
from beamflow.events import (
    CompensationCompleted,
    CompensationStarted,
    TimerStarted,
    WorkflowCompleted,
    WorkflowFailed,
)
from tests.beamflow.engine.driver import SECOND, START, Driver

if TYPE_CHECKING:
    from beamflow.events import Event


@step
async def reserve(what: str) -> str:
    return what


@reserve.compensation
async def release(_reservation: str, _what: str) -> None: ...


@workflow
async def book() -> None:
    await asyncio.gather(reserve("room"), reserve("car"))
    raise ValueError("changed my mind")


def of(driver: Driver, unwinding: Unwinding | None = None, *, idle: bool = True) -> list[Event]:
    return list(consequences(driver.execution, unwinding, driver.commands, idle=idle))


def booked() -> Driver:
    driver = Driver.start(book)
    driver.complete("reserve", "room")
    driver.complete("reserve", "car")
    return driver


def test_a_timer_that_outlives_its_activation_is_recorded() -> None:
    """One that was given up in the same activation is not."""

    @workflow
    async def waits() -> None:
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        await asyncio.sleep(5)

    assert of(Driver.start(waits)) == [TimerStarted(op=1, due=START + 5 * SECOND)]


def test_a_workflow_does_not_end_before_its_attempts() -> None:
    """What the function returned is recorded when nothing runs any more."""

    @workflow
    async def answers() -> int:
        return 42

    driver = Driver.start(answers)
    assert of(driver, idle=False) == []
    (end,) = of(driver)
    assert isinstance(end, WorkflowCompleted)
    assert bytes(end.result) == b"42"


def test_a_failure_goes_the_way_back_first() -> None:
    """It begins with the last completed step, and the end comes when all is undone."""
    driver = booked()
    (began,) = of(driver)
    assert isinstance(began, CompensationStarted)
    assert began.steps == (2, 1)
    unwinding = Unwinding(began, driver.execution.to_compensate)
    assert of(driver, unwinding) == []
    for op in (2, 1):
        unwinding.deliver(CompensationCompleted(op=op, name="release", started_at=START))
    (end,) = of(driver, unwinding)
    assert isinstance(end, WorkflowFailed)
    assert (end.error.message, end.step) == ("changed my mind", None)


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "in a group"])
def test_code_at_fault_comes_to_nothing(
    grouped: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Not even to a failure: it is the code that is to be mended."""

    @workflow
    async def at_fault() -> None:
        if not grouped:
            await asyncio.to_thread(print)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(print))

    driver = Driver.start(at_fault)
    with pytest.raises(HostLoopError):
        of(driver)
    with pytest.raises(HostLoopError):
        check_outcome(driver.execution)


def test_a_result_that_no_log_can_hold_comes_to_nothing() -> None:
    """Live as after a replay."""

    @workflow
    async def odd() -> Any:
        return object()

    driver = Driver.start(odd)
    with pytest.raises(PayloadError, match="result of workflow 'odd'"):
        of(driver)
    with pytest.raises(PayloadError, match="result of workflow 'odd'"):
        check_outcome(driver.execution)
