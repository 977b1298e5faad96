"""Steps: their results, failures, retries and time-outs."""

from __future__ import annotations

import asyncio

from beamflow import (
    Retry,
    StepFailedError,
    StepTimeoutError,
    current_step,
    heartbeat,
    step,
    workflow,
)
from tests.corpus.case import case, failed, returned
from tests.corpus.work import STUBBORN, do, refuse
from tests.corpus.world import effect, seconds


class DeclinedError(Exception):
    """Declared by the step that raises it."""


class UndeclaredError(Exception):
    """Declared by nobody."""


@case(ends=returned(["one", "two", "three"]), effects=["one", "two", "three"])
@workflow
async def steps_in_a_row() -> list[str]:
    return [await do("one"), await do("two"), await do("three")]


@case("Ada", 3, ends=returned("Ada has 3"), effects=["Ada has 3"])
@workflow
async def arguments_and_a_result(name: str, count: int) -> str:
    return await do(f"{name} has {count}")


@case(ends=returned(None))
@workflow
async def no_step_at_all() -> None:
    return


@step(retry=Retry(max_attempts=4, initial=seconds(1), factor=2.0, jitter=0.0))
async def third_time_lucky(what: str) -> str:
    attempt = current_step().attempt
    if attempt < 3:
        raise ConnectionError(f"attempt {attempt}")
    return effect(what, attempt)


@case(ends=returned("call 3"), effects=["call 3", "after"])
@workflow
async def retried_until_it_works() -> str:
    result = await third_time_lucky("call")
    await do("after")
    return result


@step(retry=Retry(max_attempts=2, initial=seconds(1)))
async def always_down() -> None:
    raise ConnectionError("down")


@case(ends=failed(ConnectionError), effects=["before"])
@workflow
async def attempts_exhausted() -> None:
    await do("before")
    await always_down()


@step(
    retry=Retry(max_attempts=5, initial=seconds(1), give_up_on=(DeclinedError,)),
    raises=[DeclinedError],
)
async def decline() -> None:
    raise DeclinedError("no credit", 12)


@case(ends=returned(["no credit", 12]), effects=["apologise"])
@workflow
async def given_up_at_once_and_caught_by_its_type() -> list[object]:
    try:
        await decline()
    except DeclinedError as error:
        await do("apologise")
        return list(error.args)
    return []


@step
async def undeclared() -> None:
    raise UndeclaredError("who knows me")


@case(ends=returned("who knows me"))
@workflow
async def undeclared_error_as_step_failed() -> str:
    try:
        await undeclared()
    except StepFailedError as error:
        return error.error_message
    return ""


@case(ends=returned("twice"), effects=["twice"])
@workflow
async def failed_step_called_again() -> str:
    for _ in range(2):
        try:
            await refuse("me")
        except ValueError:
            continue
    return await do("twice")


@step(timeout=seconds(5), retry=Retry(max_attempts=2, initial=0))
async def slow_at_first() -> str:
    if current_step().attempt == 1:
        await asyncio.sleep(seconds(3600))
    return effect("fast now")


@case(timed=True, ends=returned("fast now"), effects=["fast now"])
@workflow
async def timed_out_then_retried() -> str:
    return await slow_at_first()


@step(timeout=seconds(2))
async def never_ends() -> None:
    await asyncio.sleep(seconds(3600))


@case(ends=returned("gave up"), effects=["gave up"])
@workflow
async def timed_out_for_good() -> str:
    try:
        await never_ends()
    except StepTimeoutError:
        return await do("gave up")
    return ""


@step(retry=STUBBORN)
def in_thread(what: str) -> str:
    return effect(what)


@case(ends=returned(["left", "right"]), effects=["left", "right"])
@workflow
async def plain_functions_in_threads() -> list[str]:
    return list(await asyncio.gather(in_thread("left"), in_thread("right")))


@step(heartbeat_timeout=seconds(10), retry=STUBBORN)
async def copy_rows() -> int:
    first = current_step().last_heartbeat or 0
    for row in range(first, 3):
        heartbeat(row + 1)
        if row == 1 and current_step().attempt == 1:
            raise ConnectionError("away")
        await asyncio.sleep(seconds(4))
    effect("copied")
    return current_step().last_heartbeat or 0


@case(timed=True, ends=returned(True), effects=["copied"])
@workflow
async def goes_on_from_its_heartbeat() -> bool:
    return await copy_rows() >= 2


@step(heartbeat_timeout=seconds(3), retry=Retry(max_attempts=2, initial=0))
async def silent_at_first() -> str:
    if current_step().attempt == 1:
        await asyncio.sleep(seconds(3600))
    return effect("spoke")


@case(timed=True, ends=returned("spoke"), effects=["spoke"])
@workflow
async def silent_step_is_cut_off() -> str:
    return await silent_at_first()


@step(deadline=seconds(30), retry=Retry(max_attempts=100, initial=seconds(4), factor=1))
async def hopeless() -> None:
    raise ConnectionError("still down")


@case(ends=returned("deadline"), effects=["no more"])
@workflow
async def deadline_over_all_attempts() -> str:
    try:
        await hopeless()
    except StepTimeoutError as error:
        await do("no more")
        return error.limit
    return ""


@step(run_in="process", retry=STUBBORN)
def computed(number: int) -> int:
    return number * number


@case(ends=returned([4, 9]), effects=["before", "after"], only_killed=True)
@workflow
async def steps_in_processes() -> list[int]:
    await do("before")
    squares = await asyncio.gather(computed(2), computed(3))
    await do("after")
    return list(squares)
