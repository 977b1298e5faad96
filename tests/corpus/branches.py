"""Branches of one workflow: plain asyncio, and anyio."""

from __future__ import annotations

import asyncio

import anyio

from beamflow import workflow
from tests.corpus.case import case, failed, returned
from tests.corpus.work import do, do_slowly, refuse
from tests.corpus.world import seconds


async def twice(what: str, wait: float = 0.0) -> list[str]:
    first = await do(f"{what}1")
    await asyncio.sleep(seconds(wait))
    return [first, await do(f"{what}2")]


@case(ends=returned(["a", "b", "c"]), effects=["a", "b", "c"])
@workflow
async def gathered() -> list[str]:
    return list(await asyncio.gather(do("a"), do_slowly("b"), do("c")))


@case(ends=returned([["a1", "a2"], ["b1", "b2"]]), effects=["a1", "a2", "b1", "b2"])
@workflow
async def interleaved_branches() -> list[list[str]]:
    return list(await asyncio.gather(twice("a", 2), twice("b", 1)))


@case(ends=returned(["a2", "b2"]), effects=["a1", "a2", "b1", "b2"])
@workflow
async def task_group() -> list[str]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(twice(name)) for name in "ab"]
    return [task.result()[-1] for task in tasks]


@case(ends=returned(["ValueError"]), effects=["clean up"], may=["long"])
@workflow
async def task_group_of_which_one_fails() -> list[str]:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(do_slowly("long"))
            group.create_task(refuse("it"))
    except* ValueError as errors:
        await do("clean up")
        found = [type(one).__name__ for one in errors.exceptions]
    return found


@case(ends=returned(["a", "ValueError"]), effects=["a"])
@workflow
async def gathered_with_exceptions() -> list[str]:
    good, bad = await asyncio.gather(do("a"), refuse("b"), return_exceptions=True)
    return [str(good), type(bad).__name__]


@case(ends=returned("quick"), effects=["quick", "next"], may=["slow"])
@workflow
async def first_of_two() -> str:
    tasks = [asyncio.create_task(do_slowly("slow")), asyncio.create_task(do("quick"))]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await do("next")
    return done.pop().result()


@case(ends=returned(["quick", "slow"]), effects=["quick", "slow"])
@workflow
async def as_they_come() -> list[str]:
    tasks = [asyncio.create_task(each) for each in (do_slowly("slow"), do("quick"))]
    return [await each for each in asyncio.as_completed(tasks)]


@case(ends=returned(["0", "1", "2"]), effects=["0", "1", "2"])
@workflow
async def queue_between_branches() -> list[str]:
    queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=1)

    async def produce() -> None:
        for number in range(3):
            await queue.put(number)
            await asyncio.sleep(seconds(1))
        await queue.put(None)

    producing = asyncio.create_task(produce())
    done = []
    while (number := await queue.get()) is not None:
        done.append(await do(str(number)))
    await producing
    return done


@case(ends=returned(["a1", "a2", "b1", "b2"]), effects=["a1", "a2", "b1", "b2"])
@workflow
async def lock_between_branches() -> list[str]:
    lock = asyncio.Lock()
    order: list[str] = []

    async def branch(name: str) -> None:
        async with lock:
            order.extend(await twice(name, 1))

    await asyncio.gather(branch("a"), branch("b"))
    return order


@case(ends=returned(["go", "a", "b"]), effects=["go", "a", "b"])
@workflow
async def event_and_semaphore() -> list[str]:
    gate, places, order = asyncio.Event(), asyncio.Semaphore(1), []

    async def branch(name: str) -> None:
        await gate.wait()
        async with places:
            order.append(await do(name))

    async with asyncio.TaskGroup() as group:
        group.create_task(branch("a"))
        group.create_task(branch("b"))
        order.append(await do("go"))
        gate.set()
    return order


@case(ends=returned(["a", "b"]), effects=["a", "b"])
@workflow
async def anyio_task_group() -> list[str]:
    done: list[str] = []

    async def branch(name: str) -> None:
        done.append(await do(name))

    async with anyio.create_task_group() as group:
        group.start_soon(branch, "a")
        group.start_soon(branch, "b")
    return sorted(done)


@case(ends=returned(True), effects=["instead"])
@workflow
async def anyio_move_on() -> bool:
    with anyio.move_on_after(seconds(5)) as scope:
        await anyio.sleep(seconds(3600))
    await do("instead")
    return scope.cancelled_caught


@case(ends=returned("kept"), effects=["kept"])
@workflow
async def shielded_from_a_timeout() -> str:
    work = asyncio.create_task(do_slowly("kept"))
    try:
        async with asyncio.timeout(seconds(3)):
            await asyncio.shield(work)
    except TimeoutError:
        pass
    return await work


@case(ends=failed(ValueError), effects=["a"])
@workflow
async def branches_fail_together() -> None:
    await do("a")
    async with asyncio.TaskGroup() as group:
        group.create_task(refuse("b"))
        group.create_task(refuse("c"))


@case(ends=returned("main"), effects=["main"], may=["left behind"])
@workflow
async def task_left_behind() -> str:
    left = asyncio.create_task(do_slowly("left behind"))
    left.set_name("whom nobody awaits")
    return await do("main")
