"""Workflows that wait for something, and who of them is in memory."""

from __future__ import annotations

import asyncio

from beamflow import Engine, on_query, on_update, start_child, step, until, workflow
from tests.beamflow.engine.plain import wait

DAY = 86_400.0


@workflow
async def sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


@workflow
async def counter() -> int:
    total = 0

    def add(amount: int) -> int:
        nonlocal total
        total += amount
        return total

    on_update("add", add)
    on_query("total", lambda: total)
    await until(lambda: total >= 10)
    return total


@step
async def work(gate: str) -> str:
    await GATES[gate].wait()
    return gate


@workflow
async def working(gate: str) -> str:
    return await work(gate)


@workflow
async def parent(seconds: float) -> str:
    return f"child {await sleep(seconds)}"


@workflow
async def patient_parent() -> str:
    async with asyncio.timeout(2 * DAY):
        child = await start_child(wait, id="the child")
        return f"child said {await child.result()}"


GATES: dict[str, asyncio.Event] = {}


ALL = [wait, sleep, counter, working, parent, patient_parent]


def awake(engine: Engine) -> set[str]:
    return {*engine._services.actors}
