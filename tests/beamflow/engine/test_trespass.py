"""Trespass: locks and events that workflows share with the host, or with each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from beamflow import DeadLetterReason, Engine, HostLoopError, step, workflow
from supervision.testing import settle
from tests.beamflow.engine.outage import parks

if TYPE_CHECKING:
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


async def test_what_waits_for_something_of_the_host_is_not_woken_by_it(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Whoever wakes it is told, and it is parked with the next event: only its log may move it."""
    bell: asyncio.Event | None = asyncio.Event()

    @workflow
    async def listens() -> str:
        try:
            async with asyncio.timeout(10):
                await (bell or asyncio.Event()).wait()
        except TimeoutError:
            return "nothing heard"
        return "heard"

    async with Engine(memory, workflows=[listens], clock=clock) as engine:
        handle = await engine.start(listens, id="one")
        await settle()
        with pytest.raises(HostLoopError, match="'one' waits for something of asyncio.*a signal"):
            bell.set()
        await clock.advance(10.1)
        await parks(handle)
        assert (await engine.dead_letters.show("one")).reason is DeadLetterReason.HOST_LOOP
    bell = None
    async with Engine(memory, workflows=[listens], clock=clock) as engine:
        assert await engine.handle("one").result() == "nothing heard"


async def test_workflows_that_share_a_lock_are_parked(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """The one that would wake another, and each that finds the lock bound to another: none fails."""
    lock, opened = asyncio.Lock(), asyncio.Event()
    shared = True

    @step
    async def enter(what: str) -> str:
        await opened.wait()
        return f"{what} was in"

    @workflow
    async def one_at_a_time(what: str) -> str:
        async with lock if shared else asyncio.Lock():
            return await enter(what)

    async with Engine(memory, workflows=[one_at_a_time], clock=clock) as engine:
        handles = [await engine.start(one_at_a_time, what, id=what) for what in "abc"]
        await settle()
        opened.set()
        for handle in (handles[0], handles[2]):
            await parks(handle)
        letters = {letter.workflow_id: letter for letter in await engine.dead_letters.list()}
        assert {letter.reason for letter in letters.values()} == {DeadLetterReason.HOST_LOOP}
        assert "workflow 'b' waits for something of asyncio" in letters["a"].error.message
        assert "bound to a different event loop" in letters["c"].error.message
    shared = False
    async with Engine(memory, workflows=[one_at_a_time], clock=clock) as engine:
        for what in "abc":
            assert await engine.handle(what).result() == f"{what} was in"
