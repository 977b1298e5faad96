"""Workflows for the command line to look at; ``SHOP`` says which edition of the code this is."""

from __future__ import annotations

import os

from beamflow import Engine, continue_as_new, patched, receive, step, workflow

EDITION = os.environ.get("SHOP", "first")


@step
async def pack(what: str) -> str:
    return f"packed {what}"


@step
async def weigh(what: str) -> int:
    return len(what)


@workflow(version=2 if EDITION == "second version" else 1)
async def order(what: str) -> str:
    if EDITION == "changed":
        await weigh(what)  # the new line
    packed = await pack(what)
    if EDITION == "patched" and patched("weigh"):
        await weigh(what)
    await receive("go")
    return packed


@workflow
class Parcel:
    """The class form, with a run that begins anew."""

    def __init__(self) -> None:
        self.stops: list[str] = []

    async def run(self, what: str) -> str:
        await pack(what)
        await receive("go")
        if len(what) < 8:
            continue_as_new(what + what)
        if EDITION == "changed":
            await weigh(what)  # the new line of the class
        await pack("at last")
        await receive("go")
        return what


engine = Engine("memory://", workflows=[order, Parcel])
workflows = [order, Parcel]
number = 3
