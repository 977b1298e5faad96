"""Consequences: what the code's commands and its end add to the log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw

from beamflow import HostLoopError, PayloadError, receive, step, workflow
from beamflow.engine.consequences import check_outcome, consequences
from beamflow.engine.execution import new_execution
from beamflow.events import (
    CompensationCompleted,
    CompensationStarted,
    SignalReceived,
    TimerStarted,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowStarted,
)
from beamflow.model.commands import CancelTimer, StartTimer
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


def of(driver: Driver, *, idle: bool = True) -> list[Event]:
    return list(consequences(driver.execution, driver.commands, idle=lambda: idle))


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


def test_a_timer_that_one_append_sets_and_gives_up_is_not_recorded() -> None:
    """Two events came at the same time, and the second took back what followed from the first."""

    @workflow
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await receive("word")
        await receive("another")

    code = new_execution(bounded, "wf")
    code.deliver(1, START, WorkflowStarted(workflow="bounded", version=1, input=Raw(b"[]")))
    code.deliver(2, START, SignalReceived(id="1", name="word", payload=Raw(b"null")))
    commands = code.take_commands()
    assert commands == [StartTimer(op=1, due=START + 60 * SECOND), CancelTimer(op=1)]
    assert list(consequences(code, commands, idle=lambda: True)) == []
    assert code.timers == {}


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
    driver.take(began)
    assert of(driver) == []
    for op in (2, 1):
        driver.take(CompensationCompleted(op=op, name="release", started_at=START))
    (end,) = of(driver)
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


@pytest.mark.parametrize(("kind", "value"), [(Any, object()), (int, "forty-two")])
def test_a_result_that_cannot_be_kept_comes_to_nothing(kind: Any, value: object) -> None:
    """It cannot be written, or not be read back by its annotation; live as after a replay."""

    async def odd() -> Any:
        return value

    odd.__annotations__["return"] = kind
    driver = Driver.start(workflow(odd))
    with pytest.raises(PayloadError, match="result of workflow 'odd'"):
        of(driver)
    with pytest.raises(PayloadError, match="result of workflow 'odd'"):
        check_outcome(driver.execution)
