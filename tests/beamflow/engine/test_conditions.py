"""Conditions: looked at whenever the code has come to rest, woken one after the other."""

from __future__ import annotations

import asyncio

import pytest

from beamflow import DefinitionError, HostLoopError, now, on_signal, step, until, workflow
from beamflow.engine import conditions
from tests.beamflow.engine.driver import Driver, running


@step
async def pay(amount: int) -> int:
    return amount


def test_a_condition_that_holds_does_not_wait() -> None:
    """It may speak of the workflow's time."""

    async def code() -> str:
        await until(lambda: now().year > 2000)
        return "at once"

    assert running(code).result == "at once"


def test_a_condition_is_looked_at_after_each_event() -> None:
    """Whatever changed what it speaks of; a cut at any event repeats it."""

    async def code() -> list[int]:
        there: list[int] = []
        on_signal("add", there.append)
        async with asyncio.timeout(60):
            await until(lambda: len(there) >= 2)
        return there

    driver = running(code)
    driver.signal("add", b"1")
    assert not driver.execution.ended
    assert len(driver.execution.conditions or ()) == 1
    driver.signal("add", b"2")
    assert driver.result == [1, 2]
    for cut in range(1, len(driver.log)):
        resumed = Driver.resume(workflow(name="code")(code), driver.log[:cut])
        for recorded in driver.log[cut:]:
            resumed.take(recorded.event)
        assert resumed.result == [1, 2]


def test_the_second_sees_what_the_first_has_left() -> None:
    """One token wakes one of those who wait for it, in the order in which they began to."""

    async def code() -> list[str]:
        tokens: list[int] = []
        took: list[str] = []

        async def taker(name: str) -> None:
            await until(lambda: tokens)
            tokens.pop()
            took.append(name)

        on_signal("token", tokens.append)
        tasks = [asyncio.create_task(taker(name)) for name in "abc"]
        await until(lambda: len(took) == 2)
        for task in tasks:
            task.cancel()
        return took

    driver = running(code)
    driver.signal("token", b"1")
    driver.signal("token", b"2")
    assert driver.result == ["a", "b"]


def test_a_wait_may_be_bounded() -> None:
    """By a durable time-out, after which nothing looks any more."""

    async def code() -> str:
        try:
            async with asyncio.timeout(60):
                await until(lambda: False)
        except TimeoutError:
            return "too late"
        return "never"

    driver = running(code)
    driver.fire()
    assert driver.result == "too late"


def test_what_a_condition_raises_is_for_whoever_waits() -> None:
    """At once or later."""

    async def code() -> list[str]:
        numbers: list[int] = [1]
        said = []
        on_signal("clear", numbers.clear)
        for condition in (lambda: 1 / 0, lambda: numbers[0] == 2):
            try:
                await until(condition)
            except (ZeroDivisionError, IndexError) as error:
                said.append(type(error).__name__)
        return said

    driver = running(code)
    driver.signal("clear")
    assert driver.result == ["ZeroDivisionError", "IndexError"]


def test_conditions_that_wake_each_other_for_ever_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As any code is that never waits for anything durable."""
    monkeypatch.setattr(conditions, "_LOOKS_MAX", 100)

    async def code() -> None:
        turn = [0]

        async def player(number: int) -> None:
            while True:
                await until(lambda: turn[0] == number)
                turn[0] = 1 - number

        await asyncio.gather(player(0), player(1))

    with pytest.raises(HostLoopError, match="waits for nothing durable"):
        running(code)


def test_a_condition_belongs_into_a_workflow() -> None:
    """There is no log that could repeat it elsewhere."""
    with pytest.raises(DefinitionError, match="only inside a workflow"):
        until(lambda: True)
