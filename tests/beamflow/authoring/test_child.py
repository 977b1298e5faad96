"""Children as their parent's code sees them, event by event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from beamflow import ChildWorkflowError, NondeterminismError, PayloadError, start_child, workflow
from beamflow.model.commands import CancelChild, StartChild
from beamflow.model.events import ChildCompleted, ChildFailed, ChildStarted, Failure
from tests.beamflow.engine.driver import Driver


@workflow
async def child(number: int) -> list[int]:
    return [number]


@workflow
async def caller(number: int) -> list[int]:
    return await child(number)


@workflow
async def holder() -> Any:
    held = await start_child(child, 1, id="given")
    return held.id, await asyncio.gather(held.result(), held.result())


def started(driver: Driver, op: int = 1) -> ChildStarted:
    call = driver.execution.children[op]
    return ChildStarted(op=op, workflow="child", id=call.id, digest=call.digest)


def completed(driver: Driver, result: bytes, op: int = 1) -> ChildCompleted:
    call = driver.execution.children[op]
    return ChildCompleted(
        op=op, id=call.id, result=Raw(result), workflow="child", digest=call.digest
    )


def failed(driver: Driver, *, cancelled: bool = False) -> ChildFailed:
    call = driver.execution.children[1]
    error = Failure(type="builtins.KeyError", message="'x'")
    return ChildFailed(
        op=1, id=call.id, error=error, cancelled=cancelled, workflow="child", digest=call.digest
    )


def test_a_call_waits_for_the_outcome_and_not_for_the_start() -> None:
    driver = Driver.start(caller, 3)
    driver.take(started(driver))
    assert not driver.execution.ended
    driver.take(completed(driver, b"[3]"))
    assert driver.result == [3]


def test_a_handle_is_there_once_the_start_is_recorded_and_its_result_any_number_of_times() -> None:
    driver = Driver.start(holder)
    (command,) = driver.commands
    assert isinstance(command, StartChild)
    assert command.id == "given"
    driver.take(started(driver))
    driver.take(completed(driver, b"[1]"))
    assert driver.result == ("given", [[1], [1]])


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_failure_is_an_error_with_all_that_is_known(*, cancelled: bool) -> None:
    driver = Driver.start(caller, 3)
    driver.take(started(driver))
    driver.take(failed(driver, cancelled=cancelled))
    with pytest.raises(ChildWorkflowError) as error:
        _ = driver.result
    facts = error.value
    assert (facts.workflow_id, facts.workflow) == ("wf/1", "child")
    assert (facts.error_type, facts.error_message) == ("builtins.KeyError", "'x'")
    assert facts.cancelled is cancelled


def test_a_child_that_could_not_be_started_fails_the_start() -> None:
    driver = Driver.start(holder)
    driver.take(failed(driver))
    with pytest.raises(ChildWorkflowError):
        _ = driver.result


def test_a_result_that_does_not_fit_is_no_result() -> None:
    """It parks the parent, as a step's does."""
    driver = Driver.start(caller, 3)
    driver.take(started(driver))
    with pytest.raises(PayloadError, match="result of workflow 'child'"):
        driver.take(completed(driver, b'"three"'))


def test_arguments_are_checked_before_anything_is_issued() -> None:
    @workflow
    async def wrong() -> Any:
        return await child("three")  # type: ignore[arg-type]

    driver = Driver.start(wrong)
    assert driver.commands == []
    with pytest.raises(PayloadError, match="arguments of workflow 'child'"):
        _ = driver.result


def test_a_call_that_is_cancelled_gives_its_child_up() -> None:
    @workflow
    async def hasty() -> str:
        try:
            async with asyncio.timeout(5):
                await child(1)
        except TimeoutError:
            return "too slow"
        return "in time"

    driver = Driver.start(hasty)
    call = driver.execution.children[2]
    driver.fire()
    assert driver.result == "too slow"
    assert CancelChild(op=2) in driver.commands
    assert call.cancelled
    driver.take(completed(driver, b"[1]", op=2))  # too late for anybody


def test_a_wait_for_a_result_that_is_cancelled_does_nothing_to_the_child() -> None:
    @workflow
    async def impatient() -> str:
        held = await start_child(child, 1)
        try:
            async with asyncio.timeout(5):
                await held.result()
        except TimeoutError:
            return "later"
        return "in time"

    driver = Driver.start(impatient)
    driver.take(started(driver))
    driver.fire()
    assert driver.result == "later"
    assert not any(isinstance(command, CancelChild) for command in driver.commands)


@pytest.mark.parametrize("change", [{"workflow": "other"}, {"digest": "0" * 16}, {"op": 2}])
def test_another_child_than_the_recorded_one_is_noticed(change: dict[str, Any]) -> None:
    driver = Driver.start(caller, 3)
    facts: dict[str, Any] = {
        "op": 1,
        "workflow": "child",
        "id": "wf/1",
        "digest": driver.execution.children[1].digest,
    }
    with pytest.raises(NondeterminismError, match="child workflow"):
        driver.take(ChildStarted(**{**facts, **change}))
