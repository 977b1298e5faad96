"""A workflow that is found waiting in every way, with things to undo."""

from __future__ import annotations

import asyncio
from typing import Any

from beamflow import Retry, receive, step, workflow

ran: list[str] = []
"""What took effect, outside the engine's knowledge."""


@step
async def book(what: str) -> str:
    ran.append(f"book {what}")
    return what


@book.compensation
async def unbook(_booked: str, what: str) -> None:
    ran.append(f"unbook {what}")


@step
async def tidy(what: str) -> None:
    ran.append(f"tidy {what}")


@step
async def hangs() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        ran.append("cut off")
        raise


@workflow
async def trip(how: str) -> str:
    """Book, then wait in the way that is asked for."""
    await book("flight")
    try:
        match how:
            case "signal":
                return str(await receive("go"))
            case "step":
                await hangs()
            case "sleep":
                await asyncio.sleep(3600)
            case "gather":
                await asyncio.gather(hangs(), asyncio.sleep(3600), receive("go"))
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(hangs())
                    group.create_task(asyncio.sleep(3600))
            case "wait_for":
                await asyncio.wait_for(receive("go"), 3600)
            case "shield":
                await asyncio.shield(receive("go"))
            case "except Exception":
                while True:
                    try:
                        await receive("go")
                    except Exception:  # noqa: BLE001 - as careless authors do
                        continue
            case "swallow":
                while True:
                    try:
                        await receive("go")
                    except BaseException:  # noqa: BLE001 - as reckless ones do
                        continue
            case "raise":
                try:
                    await receive("go")
                except asyncio.CancelledError:
                    raise ValueError("on the way out") from None
            case "return":
                try:
                    await receive("go")
                except asyncio.CancelledError:
                    return "all the same"
            case _:
                raise AssertionError(how)
    finally:
        await tidy(how)
    return "done"


WAYS = [
    "signal",
    "step",
    "sleep",
    "gather",
    "group",
    "wait_for",
    "shield",
    "except Exception",
]


def events_of(history: list[Any], *kinds: type) -> list[str]:
    """Return the names of the events of these types, in order."""
    return [type(one.event).__name__ for one in history if isinstance(one.event, kinds)]


@step
async def slow_to_undo() -> int:
    return 1


@slow_to_undo.compensation(retry=Retry(max_attempts=1_000, initial=100, factor=1))
async def undo_slowly(_result: int) -> None:
    if "open" not in ran:
        raise ValueError("not yet")
    ran.append("undone")


@workflow
async def compensates_for_long() -> None:
    await slow_to_undo()
    raise ValueError("no")


@workflow
async def two_steps() -> str:
    await book("one")
    return await book("two")
