"""Signals: kept, ordered, raced, and typed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from beamflow import receive, workflow
from beamflow.model.events import StepCompleted, TimerStarted
from tests.corpus.case import case, returned
from tests.corpus.outsiders import seen, signal
from tests.corpus.work import do, do_slowly
from tests.corpus.world import seconds


@dataclass
class Approval:
    by: str
    amount: int


@case(
    ends=returned("maria approves 3"),
    outsiders=[signal("approval", {"by": "maria", "amount": 3})],
    effects=["maria approves 3"],
)
@workflow
async def typed_signal() -> str:
    approval = await receive("approval", Approval)
    return await do(f"{approval.by} approves {approval.amount}")


@case(
    ends=returned([1, 2, 3]),
    outsiders=[signal("word", 1), signal("word", 2), signal("word", 3)],
    effects=["first"],
)
@workflow
async def signals_are_kept_in_order() -> list[int]:
    await do_slowly("first")
    return [await receive("word", int) for _ in range(3)]


@case(
    ends=returned(["yes", "late"]),
    outsiders=[signal("other"), signal("answer", "yes", when=seen(TimerStarted))],
    effects=["late"],
)
@workflow
async def signal_before_its_timeout() -> list[str]:
    async with asyncio.timeout(seconds(24 * 3600)):
        answer = await receive("answer", str)
    return [answer, await do("late")]


@case(
    ends=returned(["nobody came", "here I am"]),
    outsiders=[signal("guest", "here I am", when=seen(StepCompleted))],
    effects=["close the door"],
)
@workflow
async def timeout_before_its_signal() -> list[str]:
    try:
        async with asyncio.timeout(seconds(3)):
            await receive("guest")
    except TimeoutError:
        pass
    await do("close the door")
    return ["nobody came", await receive("guest", str)]


@case(
    ends=returned(["red", "blue"]),
    outsiders=[signal("red", "red"), signal("blue", "blue", when=seen(StepCompleted))],
    effects=["one"],
)
@workflow
async def first_of_two_signals() -> list[str]:
    tasks = [asyncio.create_task(receive(name, str)) for name in ("red", "blue")]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await do("one")
    return [task.result() for task in done] + [await task for task in pending]


@case(
    ends=returned(["a", "b"]),
    outsiders=[signal("work", "a"), signal("work", "b"), signal("stop")],
    effects=["a", "b"],
)
@workflow
async def mailbox_loop() -> list[str]:
    handled: list[str] = []
    stop = asyncio.create_task(receive("stop"))
    while True:
        work = asyncio.create_task(receive("work", str))
        done, _ = await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
        if work not in done:
            work.cancel()
            return handled
        handled.append(await do(work.result()))


@case(
    ends=returned([1, 2]),
    outsiders=[signal("number", 1), signal("number", 2)],
)
@workflow
async def two_receivers_of_one_name() -> list[int]:
    return sorted(await asyncio.gather(receive("number", int), receive("number", int)))
