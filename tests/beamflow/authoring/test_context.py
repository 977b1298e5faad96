"""Signals, time, chance and ids: the same on every replay, and only inside a workflow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

import beamflow
from beamflow import DefinitionError, PayloadError, now, receive, uuid4
from beamflow.engine.execution import replay
from tests.beamflow.engine.driver import SECOND, START, running

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Approval:
    by: str


def test_a_signal_comes_as_its_type() -> None:
    """Or as plain data without one."""

    async def code() -> Any:
        return [await receive("typed", Approval), await receive("plain")]

    driver = running(code)
    driver.signal("typed", b'{"by":"ann"}')
    driver.signal("plain", b'{"by":"ann"}')
    assert driver.result == [Approval("ann"), {"by": "ann"}]


def test_signals_are_kept_and_taken_in_order() -> None:
    """Those that come too early wait; each goes to one receiver."""

    async def code() -> Any:
        await asyncio.sleep(1)
        return await asyncio.gather(*(receive("x") for _ in range(4)))

    driver = running(code)
    driver.signal("x", b"1")
    driver.signal("y", b"9")
    driver.signal("x", b"2")
    driver.fire()
    assert driver.execution.awaited_signals == ("x",)
    driver.signal("x", b"3")
    driver.signal("x", b"4")
    assert driver.result == [1, 2, 3, 4]


def test_a_cancelled_wait_loses_no_signal() -> None:
    """What comes after the cancellation goes to the next receiver."""

    async def code() -> Any:
        first = asyncio.create_task(receive("x"))
        await receive("go")
        first.cancel()
        await asyncio.sleep(0)
        second = asyncio.create_task(receive("x"))
        await receive("go")
        return first.cancelled(), await second

    driver = running(code)
    driver.signal("go")
    driver.signal("x", b"1")
    driver.signal("go")
    assert driver.result == (True, 1)


def test_a_wait_can_be_bounded() -> None:
    """asyncio.timeout is a durable timer around it."""

    async def code() -> Any:
        try:
            async with asyncio.timeout(3 * 86400):
                return await receive("x")
        except TimeoutError:
            return now()

    driver = running(code)
    driver.fire()
    assert driver.result == datetime.fromtimestamp(START / SECOND + 3 * 86400, UTC)
    assert driver.execution.awaited_signals == ()


def test_a_signal_that_does_not_fit_is_an_error_of_the_receiver() -> None:
    """It is consumed; the path is in the message, and the code may go on."""

    async def code() -> Any:
        try:
            await receive("x", Approval)
        except PayloadError as error:
            return str(error), await receive("x", Approval)

    driver = running(code)
    driver.signal("x", b'{"by":7}')
    driver.signal("x", b'{"by":"ann"}')
    problem, approval = driver.result
    assert "signal 'x'" in problem
    assert "`$.by`" in problem
    assert approval == Approval("ann")


def test_chance_is_the_workflows_own() -> None:
    """The same on replay, another for another workflow, mixed by nobody."""

    async def code() -> Any:
        async def draw() -> Any:
            return beamflow.random().random(), str(uuid4())

        first = await asyncio.gather(draw(), draw())
        await asyncio.sleep(1)
        return [*first, await draw()]

    one, two = running(code, id="one"), running(code, id="two")
    one.fire()
    two.fire()
    again = replay(one.execution.workflow, "one", one.log)
    assert again.outcome() == one.result
    assert one.result != two.result
    assert len({str(each) for each in one.result}) == 3


def test_time_is_that_of_the_last_event() -> None:
    """It stands still while the code runs."""

    async def code() -> Any:
        times = [now(), now()]
        await asyncio.sleep(90)
        times.append(now())
        await receive("x")
        return [*times, now(), asyncio.get_running_loop().time()]

    driver = running(code)
    driver.fire()
    driver.time += 10 * SECOND
    driver.signal("x")
    start = datetime.fromtimestamp(START / SECOND, UTC)
    *times, last = driver.result
    assert [(each - start).total_seconds() for each in times] == [0, 0, 90, 100]
    assert last == START / SECOND + 100


@pytest.mark.parametrize(
    ("name", "call"),
    [("now", now), ("random", beamflow.random), ("uuid4", uuid4), ("receive", None)],
)
async def test_outside_a_workflow_they_are_refused(
    name: str, call: Callable[[], Any] | None
) -> None:
    """The error names the function and where it works."""
    with pytest.raises(DefinitionError, match=rf"{name}\(\) works only inside a workflow"):
        _ = call() if call else await receive("x")
