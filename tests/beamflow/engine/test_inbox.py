"""The inbox: each signal to one, in order; handlers; nothing lost by a cancelled wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Raw

from beamflow import DefinitionError, PayloadError, on_signal, receive, step, until, workflow
from beamflow.engine.inbox import Inbox
from beamflow.model.codec import Payload
from tests.beamflow.engine.driver import Driver, running

if TYPE_CHECKING:
    from collections.abc import Callable


@step
async def pay(amount: int) -> int:
    return amount


NUMBER = Payload(int, "a number")


class Loop:
    """As much of a workflow's loop as a wait needs, on the loop of the test."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()


async def test_a_signal_that_meets_a_cancelled_wait_is_kept() -> None:
    """It came in the same turn; the next one who asks has it, and those behind it come later."""
    inbox = Inbox(Loop())  # type: ignore[arg-type]
    waiting = asyncio.create_task(inbox.receive("x", NUMBER))
    await asyncio.sleep(0)
    inbox.offer("x", Raw(b"1"))
    inbox.offer("x", Raw(b"2"))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [await inbox.receive("x", NUMBER) for _ in range(2)] == [1, 2]


async def test_a_signal_that_meets_a_cancelled_wait_goes_to_the_next_who_waits() -> None:
    """As if the first had not been there."""
    inbox = Inbox(Loop())  # type: ignore[arg-type]
    first, second = (asyncio.create_task(inbox.receive("x", NUMBER)) for _ in range(2))
    await asyncio.sleep(0)
    inbox.offer("x", Raw(b"1"))
    first.cancel()
    assert await second == 1
    assert first.cancelled()
    assert inbox.awaited == ()


async def test_what_nobody_has_taken_is_listed_in_order_of_arrival() -> None:
    """Over all names; for whoever takes it along."""
    inbox = Inbox(Loop())  # type: ignore[arg-type]
    for number, name in enumerate(["a", "b", "a", "c"]):
        inbox.offer(name, Raw(b"%d" % number))
    assert await inbox.receive("a", NUMBER) == 0
    assert inbox.unreceived == (("b", Raw(b"1")), ("a", Raw(b"2")), ("c", Raw(b"3")))


def test_a_handler_takes_what_was_kept_then_what_comes() -> None:
    """In order of arrival, with and without a payload, as a function or a coroutine function."""
    taken: list[Any] = []

    async def code() -> list[Any]:
        await pay(1)

        async def add(number: int) -> None:
            taken.append(number)

        on_signal("add", add)
        on_signal("stop", lambda: taken.append("stop"))
        await until(lambda: "stop" in taken)
        return taken

    driver = running(code)
    driver.signal("add", b"1")
    driver.signal("add", b"2")
    driver.complete("pay", 1)
    driver.signal("add", b"3")
    driver.signal("stop")
    assert driver.result == [1, 2, 3, "stop"]


def test_a_handler_may_wait_for_steps() -> None:
    """Beside the function, and beside other calls of itself; replay repeats it."""

    async def code() -> list[int]:
        paid: list[int] = []

        async def add(amount: int) -> None:
            paid.append(await pay(amount))

        on_signal("add", add)
        await until(lambda: len(paid) == 2)
        return paid

    driver = running(code)
    driver.signal("add", b"10")
    driver.signal("add", b"20")
    first, second = driver.calls
    driver.take(driver.completed(second, 20))
    driver.take(driver.completed(first, 10))
    assert driver.result == [20, 10]
    for cut in range(1, len(driver.log) + 1):
        resumed = Driver.resume(workflow(name="code")(code), driver.log[:cut])
        for recorded in driver.log[cut:]:
            resumed.take(recorded.event)
        assert resumed.result == [20, 10]


@pytest.mark.parametrize("is_async", [True, False])
def test_what_a_handler_raises_ends_the_workflow(*, is_async: bool) -> None:
    """Like an exception of the function, whose ``finally`` blocks run."""
    seen: list[str] = []

    async def bad_async() -> None:
        raise LookupError("no")

    def bad() -> None:
        raise LookupError("no")

    async def code() -> None:
        on_signal("bad", bad_async if is_async else bad)
        try:
            await receive("never")
        finally:
            seen.append("finally")
            await pay(1)

    driver = running(code)
    driver.signal("bad")
    assert not driver.execution.ended
    driver.complete("pay", 1)
    assert driver.execution.ended
    assert seen == ["finally"]
    assert isinstance(driver.execution.failure, LookupError)
    with pytest.raises(LookupError, match="no"):
        driver.execution.outcome()


def test_a_kept_payload_that_the_handler_cannot_read_ends_the_workflow() -> None:
    """As one that `receive` cannot read does."""

    async def code() -> None:
        await pay(1)

        def add(number: int) -> None: ...

        on_signal("add", add)
        await receive("never")

    driver = running(code)
    driver.signal("add", b'"one"')
    driver.complete("pay", 1)
    assert isinstance(driver.execution.failure, PayloadError)


def test_a_name_has_one_taker() -> None:
    """Two handlers, or a handler and a receiver, would race."""

    async def code() -> list[str]:
        said = []

        async def attempt(act: Callable[[], Any]) -> None:
            try:
                result = act()
                if result is not None:
                    await result
            except DefinitionError as error:
                said.append(str(error))

        on_signal("x", print)
        await attempt(lambda: on_signal("x", print))
        await attempt(lambda: receive("x"))
        task = asyncio.create_task(receive("y"))
        await asyncio.sleep(0)
        await attempt(lambda: on_signal("y", print))
        task.cancel()
        return said

    (twice, received, awaited) = running(code).result
    assert "has a handler already" in twice
    assert "has a handler, which takes them all" in received
    assert "waited for by receive()" in awaited


def test_a_handler_left_running_is_cancelled_when_the_function_ends() -> None:
    """And waited for, as every task."""

    async def code() -> str:
        async def slow() -> None:
            try:
                await pay(1)
            finally:
                await pay(2)

        on_signal("slow", slow)
        await receive("end")
        return "over"

    driver = running(code)
    driver.signal("slow")
    driver.signal("end")
    assert not driver.execution.ended
    driver.take(driver.completed(driver.calls[-1], 2))
    assert driver.result == "over"
