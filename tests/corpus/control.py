"""What operators do: pause, cancel, terminate, delay and limit."""

from __future__ import annotations

import asyncio

from beamflow import WorkflowTimeoutError, patched, receive, step, workflow
from beamflow.model.events import (
    StepCompleted,
    TimerFired,
    TimerStarted,
    WorkflowPaused,
)
from tests.corpus.case import CANCELLED, TERMINATED, case, failed, helper, returned
from tests.corpus.outsiders import cancel, pause, resume, seen, signal, terminate
from tests.corpus.work import do, do_slowly, reserve
from tests.corpus.world import effect, seconds


@case(
    ends=returned("done"),
    outsiders=[pause(seen(TimerStarted)), resume(seen(TimerFired))],
    effects=["one", "two"],
)
@workflow
async def paused_during_a_sleep() -> str:
    await do("one")
    await asyncio.sleep(seconds(5))
    await do("two")
    return "done"


@case(
    ends=returned([1, 2]),
    outsiders=[
        pause(),
        signal("number", 1),
        signal("number", 2),
        resume(),
    ],
)
@workflow
async def signals_while_paused_are_kept() -> list[int]:
    return [await receive("number", int), await receive("number", int)]


@case(
    ends=returned("slow"),
    outsiders=[
        pause(),
        resume(),
        pause(seen(TimerStarted), count=2),
        resume(count=2),
    ],
    effects=["slow", "after"],
)
@workflow
async def paused_twice() -> str:
    done = await do_slowly("slow")
    await asyncio.sleep(seconds(60))
    await do("after")
    return done


@case(
    ends=CANCELLED,
    outsiders=[cancel(seen(TimerStarted))],
    effects=["open", "close"],
)
@workflow
async def cancelled_with_a_finally() -> None:
    await do("open")
    try:
        await asyncio.sleep(seconds(24 * 3600))
    finally:
        await do("close")


@case(
    timed=True,
    ends=CANCELLED,
    outsiders=[cancel(seen(StepCompleted, 2))],
    effects=["reserve a", "reserve b"],
    may=["long"],
    undone=["release b", "release a"],
)
@workflow
async def cancelled_and_compensated() -> None:
    await reserve("a")
    await reserve("b")
    await do_slowly("long")


@case(
    ends=returned("saved"),
    outsiders=[cancel(seen(StepCompleted))],
    effects=["start", "save"],
)
@workflow
async def cancel_that_is_caught() -> str:
    await do("start")
    try:
        await receive("never")
    except asyncio.CancelledError:
        await do("save")
    return "saved"


@case(
    ends=CANCELLED,
    outsiders=[cancel(seen(StepCompleted), grace=seconds(5))],
    effects=["reserve it"],
    undone=["release it"],
)
@workflow
async def cancel_that_is_ignored() -> None:
    await reserve("it")
    while True:
        try:
            await receive("never")
        except asyncio.CancelledError:
            continue


@case(ends=CANCELLED, outsiders=[cancel(seen(StepCompleted, 2))], effects=["a", "b", "bye"])
@workflow
async def cancelled_in_a_task_group() -> None:
    async def branch(name: str) -> None:
        await do(name)
        try:
            await receive(name)
        except Exception:  # noqa: BLE001 - which must not catch it
            await do("swallowed")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(branch("a"))
            group.create_task(branch("b"))
    finally:
        await do("bye")


@case(
    ends=CANCELLED,
    outsiders=[pause(seen(TimerStarted)), cancel(seen(WorkflowPaused))],
    effects=["end"],
)
@workflow
async def cancelled_while_paused() -> None:
    try:
        await asyncio.sleep(seconds(24 * 3600))
    finally:
        await do("end")


@case(ends=TERMINATED, outsiders=[terminate(seen(TimerStarted))], effects=["reserve it"])
@workflow
async def terminated_without_a_trace() -> None:
    await reserve("it")
    try:
        await asyncio.sleep(seconds(24 * 3600))
    finally:
        await do("never done")


@case(ends=returned("began"), delay=seconds(60), effects=["began"])
@workflow
async def delayed_start() -> str:
    return await do("began")


@case(
    ends=returned("early"),
    delay=seconds(10),
    outsiders=[signal("bird", "early")],
)
@workflow
async def signal_before_it_begins() -> str:
    return await receive("bird", str)


@case(ends=returned("first word"), signal=("word", "first word", "key"))
@workflow
async def started_by_a_signal() -> str:
    return await receive("word", str)


@case(ends=CANCELLED, delay=seconds(3600), outsiders=[cancel()])
@workflow
async def cancelled_before_it_begins() -> None:
    await do("never done")


@case(
    timed=True,
    ends=failed(WorkflowTimeoutError),
    deadline=seconds(60),
    effects=["reserve it", "last words"],
    undone=["release it"],
)
@workflow
async def deadline_of_a_start() -> None:
    await reserve("it")
    try:
        await receive("never")
    finally:
        await do("last words")


@case(timed=True, ends=failed(WorkflowTimeoutError), effects=["start"])
@workflow(deadline=seconds(30))
async def deadline_of_a_workflow() -> None:
    await do("start")
    await asyncio.sleep(seconds(3600))


@step
async def cut_off() -> None:
    try:
        await asyncio.sleep(seconds(24 * 3600))
    finally:
        effect("let go")


@case(ends=CANCELLED, outsiders=[cancel(seen(TimerStarted))], may=["let go"], effects=["end"])
@workflow
async def cancel_reaches_a_running_step() -> None:
    async with asyncio.timeout(seconds(10 * 24 * 3600)):
        try:
            await cut_off()
        finally:
            await do("end")


@case("old", ends=returned("old"), effects=["as in old times"])
@workflow(name="versions_side_by_side", version=1)
async def version_one(style: str) -> str:
    await do("as in old times")
    await asyncio.sleep(seconds(1))
    return style


@helper
@workflow(name="versions_side_by_side", version=2)
async def version_two(style: str) -> str:
    await asyncio.sleep(seconds(2))
    await do("as is done now")
    return style.upper()


@case(ends=returned([True, False]), effects=["the new way"])
@workflow
async def patched_from_the_start() -> list[bool]:
    await asyncio.sleep(seconds(1))
    taken = patched("new-way")
    await do("the new way" if taken else "the old way")
    await asyncio.sleep(seconds(1))
    return [taken and patched("new-way"), False]
