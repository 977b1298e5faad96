"""Child workflows, and workflows that begin anew."""

from __future__ import annotations

import asyncio

from beamflow import ChildWorkflowError, continue_as_new, receive, start_child, workflow
from beamflow.events import ChildStarted, StepCompleted
from tests.corpus.case import CANCELLED, case, failed, helper, returned
from tests.corpus.outsiders import cancel, seen, signal
from tests.corpus.work import do, do_slowly, refuse, reserve
from tests.corpus.world import seconds


@helper
@workflow
async def packing(item: str) -> str:
    if item == "anvil":
        await refuse("too heavy")
    await do(f"box {item}")
    await asyncio.sleep(seconds(5))
    return await do(f"pack {item}")


@helper
@workflow
async def waiting_long(what: str) -> None:
    await do(f"begin {what}")
    try:
        await asyncio.sleep(seconds(24 * 3600))
    finally:
        await do(f"end {what}")


@helper
@workflow
async def answering(name: str) -> str:
    return await do(f"{name} hears {await receive('word', str)}")


@case(
    ends=returned(["pack cup", "pack pan"]),
    effects=["box cup", "box pan", "pack cup", "pack pan"],
)
@workflow
async def children_side_by_side() -> list[str]:
    return list(await asyncio.gather(packing("cup"), packing("pan")))


@case(
    ends=returned(["ValueError", "pack cup"]),
    effects=["apologise", "box cup", "pack cup"],
)
@workflow
async def child_that_fails() -> list[str]:
    try:
        await packing("anvil")
    except ChildWorkflowError as error:
        await do("apologise")
        return [error.error_type.rpartition(".")[2], await packing("cup")]
    return []


@case(
    ends=failed(ChildWorkflowError),
    effects=["reserve the lorry"],
    undone=["release the lorry"],
)
@workflow
async def child_takes_its_parent_along() -> None:
    await reserve("the lorry")
    await packing("anvil")


@case(
    ends=returned("ann hears hello"),
    outsiders=[signal("word", "hello", of="ann", when=seen(ChildStarted))],
    effects=["ann hears hello"],
)
@workflow
async def child_with_a_handle() -> str:
    child = await start_child(answering, "ann", id="ann")
    return await child.result()


@case(timed=True, ends=returned("back"), effects=["begin work", "end work", "back"])
@workflow
async def child_is_cancelled_by_its_parent() -> str:
    child = await start_child(waiting_long, "work")
    await asyncio.sleep(seconds(5))
    await child.cancel("not needed")
    try:
        await child.result()
    except ChildWorkflowError as error:
        return await do("back" if error.cancelled else "failed")
    return ""


@case(
    ends=CANCELLED,
    outsiders=[cancel(seen(StepCompleted, of="cancel_reaches_children/1"))],
    effects=["begin one", "end one", "last"],
)
@workflow
async def cancel_reaches_children() -> None:
    try:
        await waiting_long("one")
    finally:
        await do("last")


@case(
    timed=True,
    ends=returned("done"),
    effects=["done", "box late", "pack late", "box left", "pack left", "begin off", "end off"],
)
@workflow
async def ways_to_leave_children() -> str:
    await start_child(packing, "late", on_close="wait")
    await start_child(packing, "left", on_close="abandon")
    await start_child(waiting_long, "off", on_close="cancel")
    await asyncio.sleep(seconds(2))
    return await do("done")


@case(timed=True, ends=returned("rest"), effects=["box slow", "rest"], may=["pack slow"])
@workflow
async def child_given_up_by_a_timeout() -> str:
    try:
        async with asyncio.timeout(seconds(3)):
            await packing("slow")
    except TimeoutError:
        return await do("rest")
    return ""


@case(2, ends=returned("0 left"), effects=["2 left", "1 left", "0 left"])
@workflow
async def begins_anew(left: int) -> str:
    done = await do(f"{left} left")
    await asyncio.sleep(seconds(1))
    if left:
        continue_as_new(left - 1)
    return done


@case(
    0,
    ends=returned([3, 12]),
    outsiders=[signal("deposit", 5), signal("deposit", 4), signal("deposit", 3)],
    effects=["5 in", "9 in", "12 in"],
)
@workflow
async def signals_go_to_the_next_run(total: int, runs: int = 1) -> list[int]:
    total += await receive("deposit", int)
    await do_slowly(f"{total} in")
    if runs < 3:
        continue_as_new(total, runs + 1)
    return [runs, total]


@case(
    1,
    ends=failed(ValueError),
    effects=["reserve 1", "reserve 0"],
    undone=["release 0"],
)
@workflow
async def only_the_last_run_is_undone(left: int) -> None:
    await reserve(str(left))
    if left:
        continue_as_new(left - 1)
    await refuse("the rest")


@case(1, ends=returned("end"), effects=["box 1", "pack 1", "box 0", "pack 0"])
@workflow
async def each_run_has_its_children(left: int) -> str:
    await start_child(packing, str(left), on_close="wait")
    if left:
        continue_as_new(left - 1)
    return "end"
