"""Saga scopes: parts that are undone while the workflow goes on."""

from __future__ import annotations

import asyncio

from beamflow import Retry, receive, saga, step, workflow
from beamflow.events import StepCompleted, TimerStarted
from tests.corpus.case import CANCELLED, case, failed, returned
from tests.corpus.outsiders import cancel, seen, signal
from tests.corpus.work import STUBBORN, do, do_slowly, refuse, reserve
from tests.corpus.world import effect, seconds


@case(
    ends=returned("at home"),
    effects=["reserve leave", "reserve flight", "reserve car"],
    undone=["release car", "release flight"],
)
@workflow
async def part_is_undone_and_it_goes_on() -> str:
    await reserve("leave")
    try:
        async with saga():
            await reserve("flight")
            await reserve("car")
            await refuse("hotel")
    except ValueError:
        return "at home"
    return "away"


@case(
    ends=failed(ValueError),
    effects=["reserve a", "reserve b", "reserve c"],
    undone=["release b", "release c", "release a"],
)
@workflow
async def sagas_in_sagas() -> None:
    async with saga():
        await reserve("a")
        try:
            async with saga():
                await reserve("b")
                await refuse("inner")
        except ValueError:
            await reserve("c")
        await refuse("outer")


@case(
    ends=returned("train"),
    effects=["reserve flight", "reserve train"],
    undone=["release flight"],
    outsiders=[signal("answer", "another one", when=seen(StepCompleted))],
)
@workflow
async def undone_by_hand_in_a_saga() -> str:
    async with saga() as offer:
        await reserve("flight")
        if await receive("answer", str) == "another one":
            await offer.compensate()
            await reserve("train")
    return "train"


@case(
    ends=returned("neither"),
    effects=["reserve Rome", "reserve Oslo"],
    undone=["release Oslo", "release Rome"],
)
@workflow
async def saga_undone_in_parallel() -> str:
    try:
        async with saga(parallel=True):
            await reserve("Rome")
            await asyncio.sleep(seconds(1))
            await reserve("Oslo")
            await refuse("both")
    except ValueError:
        pass
    return "neither"


@case(
    ends=CANCELLED,
    outsiders=[cancel(seen(TimerStarted))],
    effects=["reserve it", "bye"],
    undone=["release it"],
)
@workflow
async def saga_is_cancelled() -> None:
    try:
        async with saga():
            await reserve("it")
            await asyncio.sleep(seconds(24 * 3600))
    finally:
        await do("bye")


@case(
    timed=True,
    ends=returned("too late"),
    effects=["reserve it"],
    undone=["release it"],
    may=["slow"],
)
@workflow
async def saga_in_a_timeout() -> str:
    try:
        async with asyncio.timeout(seconds(5)), saga():
            await reserve("it")
            await do_slowly("slow")
    except TimeoutError:
        return "too late"
    return ""


@step(retry=STUBBORN)
async def glue(what: str) -> str:
    return effect("glue", what)


@glue.compensation(retry=Retry(max_attempts=2, initial=seconds(1)))
async def unglue(_glued: str, what: str) -> None:
    raise OSError("it sticks")


@case(
    ends=returned("step 'glue' (op 2) could not be undone: builtins.OSError: it sticks"),
    effects=["reserve a", "glue b", "reserve c"],
    undone=["release c", "release a"],
)
@workflow
async def saga_that_cannot_be_undone_wholly() -> str:
    try:
        async with saga():
            await reserve("a")
            await glue("b")
            await reserve("c")
            await refuse("d")
    except ValueError as error:
        return error.__notes__[-1]
    return ""
