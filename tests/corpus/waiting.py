"""Time: durable sleeps, time-outs around waits, and what the code may ask of time and chance."""

from __future__ import annotations

import asyncio

from beamflow import now, random, uuid4, workflow
from beamflow.model.events import TimerStarted
from tests.corpus.case import case, failed, returned
from tests.corpus.outsiders import seen, signal
from tests.corpus.work import do, do_slowly
from tests.corpus.world import seconds


@case(ends=returned(True), effects=["before", "after"])
@workflow
async def durable_sleep() -> bool:
    begin = now()
    await do("before")
    await asyncio.sleep(seconds(60))
    await do("after")
    return (now() - begin).total_seconds() >= seconds(60)


@case(ends=returned("too long"), effects=["too long"])
@workflow
async def timeout_around_a_sleep() -> str:
    try:
        async with asyncio.timeout(seconds(5)):
            await asyncio.sleep(seconds(3600))
    except TimeoutError:
        return await do("too long")
    return ""


@case(ends=returned("in time"), effects=["in time"])
@workflow
async def timeout_that_is_not_reached() -> str:
    async with asyncio.timeout(seconds(24 * 3600)):
        return await do_slowly("in time")


@case(ends=returned("too slow"), effects=["fallback"], may=["slow"])
@workflow
async def wait_for_a_slow_step() -> str:
    try:
        return await asyncio.wait_for(do_slowly("slow"), seconds(0.5))
    except TimeoutError:
        await do("fallback")
        return "too slow"


@case(ends=failed(TimeoutError), effects=["start"])
@workflow
async def timeout_that_nobody_catches() -> None:
    await do("start")
    async with asyncio.timeout(seconds(2)):
        await asyncio.Event().wait()


@case(ends=returned([0, 1, 2]))
@workflow
async def sleeps_of_different_length() -> list[int]:
    order: list[int] = []

    async def nap(number: int) -> None:
        await asyncio.sleep(seconds(10 * number))
        order.append(number)

    await asyncio.gather(nap(2), nap(0), nap(1))
    return order


@case(ends=returned(True), outsiders=[signal("look", when=seen(TimerStarted))])
@workflow
async def chance_is_repeated() -> bool:
    drawn = [random().random(), str(uuid4()), str(uuid4())]
    await asyncio.sleep(seconds(5))
    drawn.append(random().choice("abc"))
    return len(set(drawn)) == 4


@case(ends=returned(True), effects=["a", "b"])
@workflow
async def chance_decides_what_is_done() -> bool:
    names = ["a", "b"]
    random().shuffle(names)
    ids = [uuid4() for name in names if await do(name)]
    return ids[0] != ids[1]


@case(ends=returned(True))
@workflow
async def time_never_goes_back() -> bool:
    seen_at = []
    for _ in range(3):
        seen_at.append(now())
        await asyncio.sleep(seconds(1))
    return seen_at == sorted(seen_at) and len(set(seen_at)) == 3
