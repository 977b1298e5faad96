"""Trespass: what workflow code shares with the host or with others, and the engine itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import DeadLetterReason, Engine, HostLoopError, receive, step, workflow
from supervision.testing import settle
from tests.beamflow.engine.outage import parks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@workflow
async def waits_for_a_word() -> str:
    word: str = await receive("word", str)
    return word


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


@pytest.mark.parametrize(
    "use",
    [
        lambda engine: engine.start(waits_for_a_word, id="new"),
        lambda engine: engine.handle("other").result(),
        lambda engine: engine.handle("other").signal("word", "from a workflow"),
        lambda engine: engine.handle("other").update("any"),
        lambda engine: engine.handle("other").query("any"),
        lambda engine: engine.handle("other").status(),
        lambda engine: engine.handle("other").history(),
        lambda engine: engine.handle("other").cancel(),
        lambda engine: engine.dead_letters.list(),
        lambda engine: engine.count(),
    ],
    ids=[
        "start",
        "result",
        "signal",
        "update",
        "query",
        "status",
        "history",
        "cancel",
        "dead_letters",
        "count",
    ],
)
async def test_a_workflow_cannot_use_the_engine(
    memory: MemoryStore, clock: ManualClock, use: Callable[[Engine], Coroutine[Any, Any, Any]]
) -> None:
    """It is parked with what to do instead, and whoever it meant has not noticed."""

    @workflow
    async def meddles() -> None:
        await use(engine)

    async with Engine(memory, workflows=[meddles, waits_for_a_word], clock=clock) as engine:
        other = await engine.start(waits_for_a_word, id="other")
        await settle()
        before = await other.history()
        await parks(await engine.start(meddles, id="one"))
        letter = await engine.dead_letters.show("one")
        assert letter.reason is DeadLetterReason.HOST_LOOP
        assert "'one' used the engine, or a handle" in letter.error.message
        assert await other.history() == before
        assert await engine.count() == 2
        await other.signal("word", "from outside")
        assert await other.result() == "from outside"
