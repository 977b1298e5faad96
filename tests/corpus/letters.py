"""Failures for good: the dead-letter queue, and the way back from there."""

from __future__ import annotations

import asyncio
import threading

from beamflow import PayloadError, Retry, receive, step, workflow
from tests.corpus.case import case, failed, parked
from tests.corpus.outsiders import retry, signal
from tests.corpus.work import STUBBORN, do
from tests.corpus.world import effect, is_mended, seconds


@step(retry=STUBBORN)
async def open_account(who: str) -> str:
    return effect("open", who)


@open_account.compensation(retry=Retry(max_attempts=2, initial=seconds(1)))
async def close_account(_opened: str, who: str) -> None:
    if not is_mended("the bank"):
        raise ConnectionError("no bank")
    effect("close", who)


@case(
    ends=failed(ValueError),
    outsiders=[retry("the bank")],
    effects=["open ada", "open bob"],
    undone=["close bob", "close ada"],
)
@workflow
async def compensation_parked_and_retried() -> None:
    await open_account("ada")
    await open_account("bob")
    raise ValueError("nobody wants it")


@case(ends=parked("host_loop"), effects=["before"])
@workflow
async def waits_for_the_host_loop() -> None:
    await do("before")
    await asyncio.to_thread(threading.get_ident)


@case(ends=failed(PayloadError), outsiders=[signal("number", "no number")], effects=["start"])
@workflow
async def signal_of_the_wrong_type() -> int:
    await do("start")
    return await receive("number", int)
