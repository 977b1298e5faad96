"""One run of the code: events in, commands out, and the log compared on replay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw

from beamflow import PayloadError, now, receive, step, workflow
from beamflow.engine.execution import replay
from beamflow.errors import NondeterminismError
from beamflow.model.commands import CancelStep, CancelTimer, RunStep, StartTimer
from beamflow.model.events import (
    StepCompleted,
    StepFailed,
    TimerCancelled,
    TimerFired,
    TimerStarted,
)
from tests.beamflow.engine.driver import SECOND, START, running

if TYPE_CHECKING:
    from collections.abc import Callable


@step
async def pay(amount: int) -> str:
    return f"paid {amount}"


@step
async def ship(to: str) -> str:
    return f"shipped to {to}"


@pay.compensation
async def refund(receipt: str, amount: int) -> None: ...


# Commands


def test_commands_are_numbered_in_order_of_issue() -> None:
    """Steps and timers share the numbers."""

    async def code() -> Any:
        async with asyncio.timeout(60):
            await asyncio.gather(pay(1), asyncio.sleep(5), ship("x"))

    driver = running(code)
    assert [(type(each), each.op) for each in driver.commands] == [
        (StartTimer, 1),
        (RunStep, 2),
        (StartTimer, 3),
        (RunStep, 4),
    ]


def test_what_is_given_up_in_the_same_activation_has_no_number() -> None:
    """It never was, on replay as well."""

    async def code() -> Any:
        task = asyncio.create_task(pay(1))
        timer = asyncio.get_running_loop().call_later(9, print)
        await asyncio.sleep(0)
        task.cancel()
        timer.cancel()
        await ship("x")

    driver = running(code)
    (command,) = driver.commands
    assert isinstance(command, RunStep)
    assert (command.op, command.name) == (1, "ship")


def test_what_is_given_up_later_is_a_command() -> None:
    """In order: the step's, the timer's."""

    async def code() -> Any:
        task = asyncio.create_task(pay(1))
        try:
            async with asyncio.timeout(60):
                await ship("x")
        finally:
            task.cancel()

    driver = running(code)
    del driver.commands[:]
    driver.complete("ship", "done")
    assert driver.commands == [CancelStep(op=3), CancelTimer(op=1)]
    driver.take()
    assert isinstance(driver.log[-1].event, TimerCancelled)


def test_a_late_outcome_of_a_given_up_step_changes_nothing() -> None:
    """But a compensation of it will be due."""

    async def code() -> Any:
        task = asyncio.create_task(pay(1))
        await ship("x")
        task.cancel()
        return await ship("y")

    driver = running(code)
    driver.complete("ship", "X")
    driver.complete("pay", "late")
    driver.complete("ship", "Y")
    assert driver.result == "Y"
    assert [call.step.name for call in driver.execution.to_compensate] == ["pay"]


def test_completed_steps_with_a_compensation_are_kept_in_order_of_completion() -> None:
    """With their results as recorded."""

    async def code() -> Any:
        await asyncio.gather(pay(1), pay(2), ship("x"))

    driver = running(code)
    driver.take(driver.completed(driver.calls[1], "second"))
    driver.complete("ship", "X")
    driver.complete("pay", "first")
    kept = [(call.op, bytes(call.result or b"")) for call in driver.execution.to_compensate]
    assert kept == [(2, b'"second"'), (1, b'"first"')]


def test_a_failure_that_is_tried_again_is_not_seen_by_the_code() -> None:
    """Neither is its time; the attempt and when it is due are kept."""

    async def code() -> Any:
        receipt = await pay(1)
        return receipt, now().timestamp()

    driver = running(code)
    driver.take(driver.failed(driver.call("pay"), OSError(), retry_at=START + 9), after=SECOND)
    call = driver.call("pay")
    assert (call.attempt, call.retry_at) == (2, START + 9)
    assert driver.execution.now == START
    driver.take(driver.completed(call, "ok"), after=SECOND)
    assert driver.result == ("ok", START / SECOND + 2)


# The end


def test_tasks_left_behind_are_cancelled_and_waited_for() -> None:
    """As asyncio.run does; what they do at their end is durable."""

    async def behind() -> None:
        try:
            await pay(1)
        finally:
            await ship("cleaned up")

    async def code() -> Any:
        task = asyncio.create_task(behind())
        await asyncio.sleep(0)
        return "over" if task else "never"

    driver = running(code)
    assert not driver.execution.ended
    driver.complete("ship", "ok")
    assert driver.execution.ended
    assert driver.result == "over"


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), SystemExit(3)])
def test_what_the_code_raises_is_its_outcome(error: BaseException) -> None:
    """Of any kind."""

    async def code() -> Any:
        await asyncio.sleep(0)
        raise error

    driver = running(code)
    assert driver.execution.ended
    with pytest.raises(type(error)):
        driver.execution.outcome()


def test_an_argument_that_cannot_be_recorded_is_an_error_at_the_call() -> None:
    """The code may catch it; nothing was asked for."""

    async def code() -> Any:
        try:
            await pay("much")  # type: ignore[arg-type]
        except PayloadError as error:
            return str(error)

    driver = running(code)
    assert "`amount`" in driver.result
    assert driver.commands == []


def test_a_result_that_does_not_fit_any_more_is_refused() -> None:
    """Before anything has changed: the log is as readable as it was."""

    async def code() -> Any:
        return await pay(1)

    driver = running(code)
    call = driver.call("pay")
    event = StepCompleted(op=1, name="pay", digest=call.digest, result=Raw(b"7"), started_at=1)
    with pytest.raises(PayloadError, match="result of step 'pay'"):
        driver.execution.deliver(2, START, event)
    assert driver.calls == [call]


# The log compared


async def original() -> Any:
    await pay(1)
    async with asyncio.timeout(60):
        await receive("go")
    return await ship("x")


async def renamed() -> Any:
    await ship("1")
    async with asyncio.timeout(60):
        await receive("go")


async def other_argument() -> Any:
    await pay(2)
    async with asyncio.timeout(60):
        await receive("go")


async def inserted() -> Any:
    await pay(0)
    await pay(1)
    async with asyncio.timeout(60):
        await receive("go")


async def removed() -> Any:
    async with asyncio.timeout(60):
        await receive("go")
    return await ship("x")


async def timer_gone() -> Any:
    await pay(1)
    await receive("go")
    return await ship("x")


async def ends_early() -> Any:
    await pay(1)


async def waits_for_more() -> Any:
    await pay(1)
    await receive("something else")


@pytest.mark.invariant("I29")
@pytest.mark.parametrize(
    ("code", "recorded", "issued"),
    [
        (renamed, "step 'pay' (op 1", "step 'ship' with [\"1\"]"),
        (other_argument, "step 'pay' (op 1", "step 'pay' with [2]"),
        (inserted, "step 'pay' (op 1", "step 'pay' with [0]"),
        (removed, "step 'pay' (op 1", "a timer (op 1)"),
        (timer_gone, "a timer (op 2)", "nothing: the code waits after 1 commands"),
        (ends_early, "a timer (op 2)", "nothing: the workflow ended after 1 commands"),
        (waits_for_more, "a timer (op 2)", "nothing: the code waits after 1 commands"),
    ],
)
def test_other_code_than_the_recorded_is_noticed(
    code: Callable[[], Any], recorded: str, issued: str
) -> None:
    """The error shows both sides and the place; nothing of the code is left in memory."""
    driver = running(original)
    driver.complete("pay", "paid")
    driver.signal("go")
    with pytest.raises(NondeterminismError) as caught:
        replay(workflow(name="code")(code), "wf", driver.log)
    assert recorded in caught.value.recorded
    assert issued in caught.value.issued
    assert "'wf'" in str(caught.value)


def test_what_the_code_waits_for_instead_is_said() -> None:
    """The second of two that run side by side comes first, and the code has not come to it."""

    async def side_by_side() -> None:
        await asyncio.gather(pay(1), ship("x"))

    async def one_put_in_front() -> None:
        await pay(0)
        await side_by_side()

    driver = running(side_by_side)
    driver.complete("ship", "shipped")
    with pytest.raises(NondeterminismError) as caught:
        replay(workflow(name="code")(one_put_in_front), "wf", driver.log)
    assert caught.value.issued.startswith(
        "nothing: the code waits after 1 commands, the last one step 'pay' with [0] (op 1, "
    )


@pytest.mark.parametrize(
    "event",
    [
        StepCompleted(op=9, name="pay", digest="x", result=Raw(b"1"), started_at=1),
        TimerStarted(op=9, due=1),
        TimerFired(op=9),
        TimerFired(op=1),
        TimerCancelled(op=9),
    ],
    ids=range(5),
)
def test_an_event_about_nothing_is_noticed(event: Any) -> None:
    """A log that was tampered with, or is another workflow's."""
    driver = running(original)
    with pytest.raises(NondeterminismError):
        driver.execution.deliver(2, START, event)


def test_an_outcome_recorded_twice_is_noticed() -> None:
    """A step has one."""
    driver = running(original)
    event = driver.completed(driver.call("pay"), "paid")
    driver.take(event)
    with pytest.raises(NondeterminismError) as caught:
        driver.take(event)
    assert "has its outcome already" in caught.value.issued


def test_a_step_that_failed_is_compared_as_well() -> None:
    """An attempt's failure names the step too."""
    driver = running(original)
    failure = driver.failed(driver.call("pay"), ValueError())
    event = StepFailed(op=1, name="ship", digest=failure.digest, error=failure.error, started_at=1)
    with pytest.raises(NondeterminismError):
        driver.execution.deliver(2, START, event)


def test_replay_comes_to_where_the_log_ends() -> None:
    """What is open is open; what the log has begun is known."""
    driver = running(original)
    driver.complete("pay", "paid")
    driver.take()
    execution = replay(driver.execution.workflow, "wf", driver.log)
    assert execution.calls == {}
    assert execution.timers[2].recorded
    assert execution.timers[2].due == START + 60 * SECOND
    assert execution.awaited_signals == ("go",)
    assert not execution.ended
    execution.close()
    driver.execution.close()
