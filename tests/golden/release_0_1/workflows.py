"""The workflows whose histories stand beside this file, as they were. Nothing here may ever change."""

from __future__ import annotations

import asyncio
from typing import Any

from beamflow import (
    ChildWorkflowError,
    Retry,
    StepTimeoutError,
    add_tags,
    continue_as_new,
    current_step,
    heartbeat,
    now,
    on_signal,
    patched,
    progress,
    publish,
    query,
    random,
    receive,
    remove_tags,
    saga,
    set_attributes,
    signal,
    snapshot,
    start_child,
    step,
    until,
    update,
    uuid4,
    workflow,
)

TWICE = Retry(max_attempts=2, initial=5, jitter=0)


class OutOfStock(Exception):  # noqa: N818 - as it was recorded
    """An error that a step declares."""


@step
async def look_up(what: str) -> str:
    return what.upper()


@step
def weigh(what: str) -> int:
    return len(what)


@step(retry=Retry(max_attempts=3, initial=5, jitter=0))
async def flaky(what: str) -> str:
    if current_step().attempt < 3:
        raise ConnectionError(f"no {what}")
    return f"{what} at last"


@step(raises=[OutOfStock])
async def take(what: str) -> str:
    raise OutOfStock(what, 7)


@step(raises=[OutOfStock])
async def refuse(what: str) -> None:
    raise OutOfStock(what)


@step(timeout=3)
async def endless() -> None:
    await asyncio.Event().wait()


@step(heartbeat_timeout=10, retry=TWICE)
async def copy(pages: int) -> list[int]:
    last = current_step().last_heartbeat
    heartbeat({"page": pages})
    if current_step().attempt == 1:
        raise ConnectionError("paper jam")
    return [pages, last["page"] if isinstance(last, dict) else 0]


@step
async def book(what: str) -> str:
    return f"{what} booked"


@book.compensation(retry=TWICE)
async def unbook(_booked: str, what: str) -> None:
    if what == "hotel" and current_step().attempt == 1:
        raise ConnectionError("nobody answers")


@step
async def borrow(what: str) -> str:
    return what


@borrow.compensation(retry=TWICE)
async def give_back(_borrowed: str, what: str) -> None:
    raise ConnectionError(f"nobody takes {what}")


BROKEN = {"printer"}
"""What does not work until somebody mends it."""


@step
async def print_label(text: str) -> str:
    if "printer" in BROKEN:
        raise OSError(5, "out of paper")
    return f"label {text}"


@workflow
async def parcel(what: str) -> str:
    """Fails by a step."""
    text = await look_up(what)
    await receive("pack")
    return await print_label(text)


@workflow
async def journey(what: str) -> list[Any]:
    """Branches, retries, timers, signals, a step that is given up, notes, chance."""
    found, weight = await asyncio.gather(look_up(what), weigh(what))
    publish("stage", {"found": found})
    await asyncio.sleep(10)
    snapshot("rested")
    progress(1, 3, note="rested")
    set_attributes(city="Bonn", rest=None)
    add_tags("rested", "slow")
    remove_tags("slow")
    async with asyncio.TaskGroup() as group:
        late = group.create_task(flaky(found))
        word = group.create_task(receive("word", str))
    done, pending = await asyncio.wait(
        [asyncio.create_task(endless()), asyncio.create_task(asyncio.sleep(1))],
        return_when=asyncio.FIRST_COMPLETED,
    )
    for task in pending:
        task.cancel()
    async with asyncio.timeout(100):
        again: str = await receive("word", str)
    try:
        await endless()
    except StepTimeoutError as error:
        again += f" {error.timeout_s:g}"
    try:
        await take(what)
    except OutOfStock as error:
        again += f" {error.args}"
    way = "new" if patched("way") else "old"
    pages = await copy(12)
    publish("stage", None)
    chance = random().randrange(1000)
    return [weight, late.result(), word.result(), again, len(done), way, pages, chance, uuid4()]


@workflow
async def trip(where: str) -> None:
    """Books in branches, fails, and goes all the way back."""
    await book("insurance")
    async with asyncio.TaskGroup() as group:
        group.create_task(book("hotel"))
        group.create_task(book("flight"))
    raise ValueError(where)


@workflow
async def part_of_a_trip() -> str:
    """Undoes a part, and goes on."""
    await book("train")
    try:
        async with saga():
            await book("hotel")
            await refuse("full")
    except OutOfStock:
        await book("hostel")
    return "slept"


@workflow
async def stuck(what: str) -> None:
    """Has a compensation that fails for good."""
    await borrow(what)
    raise ValueError("changed my mind")


@workflow(version=3)
async def patient(number: int) -> str:
    """Begins late, is paused and told to end."""
    await book("seat")
    try:
        await asyncio.sleep(1000)
    finally:
        await look_up(f"closing {number}")
    return "never"


@workflow
async def stubborn() -> None:
    """Does not end when it is told to."""
    while True:
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            continue


@workflow
async def child(what: str) -> str:
    """Is another one's."""
    if what == "bad":
        raise ValueError(what)
    return f"child {await look_up(what)}"


@workflow
async def parent(what: str) -> list[str]:
    """Calls one child, starts another, hears of the failure of a third."""
    first = await child(what)
    other = await start_child(child, "other", id="named", on_close="wait")
    try:
        await child("bad")
    except ChildWorkflowError as error:
        last = type(error).__name__
    return [first, await other.result(), last]


@workflow
async def endless_count(total: int) -> int:
    """Begins anew with what it has counted, again and again."""
    total += await receive("add", int)
    if total < 6:
        continue_as_new(total)
    return total


@workflow
async def watched() -> int:
    """Is told things by a handler, until they add up."""
    heard: list[int] = []
    on_signal("hear", heard.append)
    await until(lambda: sum(heard) > 5)
    return sum(heard)


@workflow
class Counter:
    """The class form."""

    def __init__(self) -> None:
        self.began = ""
        self.total = 0
        self.heard: list[str] = []

    async def run(self, what: str) -> str:
        self.began = now().isoformat()
        await weigh(what)
        await receive("end")
        return f"{self.began} {self.total} {self.heard}"

    @signal
    async def hear(self, word: str) -> None:
        self.heard.append(await look_up(word))

    @query
    def count(self) -> int:
        return self.total

    @update(raises=[OutOfStock])
    async def add(self, number: int) -> int:
        if number > 100:
            raise OutOfStock(number)
        self.total += await weigh("x" * number)
        publish("total", self.total)
        return self.total

    @add.validator
    def positive(self, number: int) -> None:
        if number < 1:
            raise ValueError(number)

    @update(name="end later")
    async def end_later(self) -> None:
        await asyncio.sleep(1_000_000)


WORKFLOWS: list[Any] = [
    journey,
    parcel,
    trip,
    part_of_a_trip,
    stuck,
    patient,
    stubborn,
    child,
    parent,
    endless_count,
    watched,
    Counter,
]
