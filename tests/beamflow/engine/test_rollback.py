"""Saga blocks: what was done in one is undone when it fails, before the exception goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from beamflow import (
    Engine,
    Retry,
    WorkflowCancelledError,
    WorkflowState,
    receive,
    saga,
    step,
    workflow,
)
from beamflow.events import CompensationCompleted, CompensationStarted
from supervision.testing import settle
from tests.beamflow.engine.bookings import book, fresh, gates, ledger, refuse, trip, undone
from tests.beamflow.engine.outage import fails

if TYPE_CHECKING:
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


# one block


async def test_a_block_that_fails_is_undone_and_the_workflow_goes_on(place: str | Store) -> None:
    """In reverse order, before the exception is seen; what was done around it stands."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip)
        assert await handle.result() == "home: full"
        events = [one.event for one in await handle.history()]
    assert undone() == ["unhotel", "unflight"]
    assert ledger[-1] == "sofa"
    assert not any(isinstance(event, CompensationStarted) for event in events)


async def test_a_block_that_was_left_is_undone_with_the_workflow(place: str | Store) -> None:
    """It belongs to what stands around it, at last to the workflow; nothing is undone twice."""

    @workflow
    async def twice() -> None:
        async with saga():
            await book("visa")
            async with saga():
                await book("flight")
            await book("hotel")
        try:
            async with saga():
                async with saga():
                    await book("car")
                await book("boat")
                await refuse("storm")
        except ValueError:
            ledger.append("caught")
        await refuse("ill")

    async with Engine(place, workflows=[twice]) as engine:
        handle = await engine.start(twice)
        await fails(handle, "ill")
        (began,) = [
            one.event
            for one in await handle.history()
            if isinstance(one.event, CompensationStarted)
        ]
    assert undone() == ["unboat", "uncar", "unhotel", "unflight", "unvisa"]
    assert ledger.index("uncar") < ledger.index("caught") < ledger.index("unhotel?")
    assert began.steps == (3, 2, 1)


async def test_a_failure_that_nobody_handles_undoes_the_block_first(
    memory: MemoryStore,
) -> None:
    """Then the workflow's own way back follows, with what is left."""

    @workflow
    async def lost() -> None:
        await book("visa")
        async with saga():
            await book("flight")
            raise ValueError("lost")

    async with Engine(memory, workflows=[lost]) as engine:
        handle = await engine.start(lost)
        await fails(handle, "lost")
        kinds = [type(one.event) for one in await handle.history()]
    assert undone() == ["unflight", "unvisa"]
    assert kinds.index(CompensationCompleted) < kinds.index(CompensationStarted)


# tasks


@pytest.mark.parametrize("style", ["gather", "group", "anyio"])
async def test_what_a_block_has_left_running_comes_to_its_end_first(
    style: str, memory: MemoryStore
) -> None:
    """Its tasks are cancelled; a step that can be undone is settled, and undone with the others."""
    gates["hotel"] = asyncio.Event()

    @workflow
    async def branches() -> str:
        try:
            async with saga():
                await book("flight")
                if style == "gather":
                    await asyncio.gather(book("hotel"), refuse("full"))
                elif style == "group":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(book("hotel"))
                        group.create_task(refuse("full"))
                else:
                    async with anyio.create_task_group() as nursery:
                        nursery.start_soon(book, "hotel")
                        nursery.start_soon(refuse, "full")
        except ExceptionGroup as group:
            return f"{group.exceptions[0]}"
        except ValueError as error:
            return f"{error}"
        return "away"

    async with Engine(memory, workflows=[branches]) as engine:
        handle = await engine.start(branches)
        await settle()
        assert ledger == ["flight"]
        gates["hotel"].set()
        assert await handle.result() == "full"
    assert undone() == ["unhotel", "unflight"]


async def test_a_task_that_is_left_running_calls_nothing_more(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """It is cancelled with its block, and what it did is undone; tasks from outside go on."""
    gates["never"] = asyncio.Event()

    async def bookings(*names: str) -> None:
        for name in names:
            await book(name)

    @workflow
    async def split() -> list[str]:
        outside = asyncio.create_task(bookings("a", "b", "c"))
        try:
            async with saga():
                inside = asyncio.create_task(bookings("x", "never", "y"))
                await book("z")
                await asyncio.sleep(1)
                await refuse("full")
        except ValueError:
            await outside
            return [f"{inside.cancelled()}"]
        return []

    async with Engine(memory, workflows=[split], clock=clock) as engine:
        handle = await engine.start(split)
        await clock.advance(1.1)
        gates["never"].set()
        assert await handle.result() == ["True"]
    assert "y" not in ledger
    assert sorted(undone()) == ["unnever", "unx", "unz"]


async def test_a_block_belongs_to_whoever_begins_tasks_in_it(memory: MemoryStore) -> None:
    """Steps count where they are called; two blocks side by side do not mix."""

    async def leg(name: str, *, fail: bool) -> str:
        try:
            async with saga():
                await asyncio.gather(book(f"{name}1"), book(f"{name}2"))
                if fail:
                    await refuse(name)
        except ValueError:
            return f"no {name}"
        return name

    @workflow
    async def legs() -> list[str]:
        return await asyncio.gather(leg("a", fail=False), leg("b", fail=True))

    async with Engine(memory, workflows=[legs]) as engine:
        assert await (await engine.start(legs)).result() == ["a", "no b"]
    assert undone() == ["unb2", "unb1"]


@pytest.mark.invariant("I22")
async def test_children_of_a_block_are_undone_before_it(place: str | Store) -> None:
    """A child that is given up with the block undoes its own steps first, as at a workflow's end."""
    gates["uncar"] = asyncio.Event()

    @workflow
    async def child() -> None:
        await book("car")
        await receive("never")

    @workflow
    async def parent() -> str:
        try:
            async with saga():
                await book("flight")
                async with asyncio.TaskGroup() as group:
                    group.create_task(child())
                    await receive("word")
                    await refuse("full")
        except ValueError as error:
            return f"{error}"
        except ExceptionGroup as group_error:
            return f"{group_error.exceptions[0]}"
        return ""

    async with Engine(place, workflows=[parent, child]) as engine:
        handle = await engine.start(parent, id="one")
        await ledger.until("car")
        await handle.signal("word")
        await ledger.until("uncar?")
        await settle()
        assert "unflight?" not in ledger
    async with Engine(place, workflows=[parent, child]) as engine:
        await settle()
        assert "unflight?" not in ledger
        gates["uncar"].set()
        assert await engine.handle("one").result() == "full"
    assert undone() == ["uncar", "unflight"]


# cancellations


async def test_a_time_out_around_a_block_undoes_it(memory: MemoryStore, clock: ManualClock) -> None:
    """The exception is the time-out's own, once the block is undone."""

    @workflow
    async def hurried() -> str:
        try:
            async with asyncio.timeout(10), saga():
                await book("flight")
                await receive("never")
        except TimeoutError:
            return ",".join(undone())
        return "away"

    async with Engine(memory, workflows=[hurried], clock=clock) as engine:
        handle = await engine.start(hurried)
        await clock.advance(10.1)
        assert await handle.result() == "unflight"


@pytest.mark.parametrize("flavour", ["asyncio", "anyio"])
async def test_a_cancellation_does_not_cut_undoing_off(
    flavour: str, memory: MemoryStore, clock: ManualClock
) -> None:
    """It is raised when all is done."""
    gates["unhotel"] = asyncio.Event()

    async def inner() -> None:
        async with saga():
            await book("flight")
            await book("hotel")
            raise ValueError("full")

    @workflow
    async def hurried() -> str:
        if flavour == "anyio":
            with anyio.move_on_after(10) as scope:
                await inner()
            return f"moved on: {scope.cancelled_caught}, {','.join(undone())}"
        try:
            async with asyncio.timeout(10):
                await inner()
        except TimeoutError as error:
            cause = error.__cause__ or error.__context__  # the first from 3.11.4 on
            assert cause is not None
            return f"time out over {cause.__context__}, {','.join(undone())}"
        return "away"

    async with Engine(memory, workflows=[hurried], clock=clock) as engine:
        handle = await engine.start(hurried)
        await clock.advance(20)
        assert undone() == []
        gates["unhotel"].set()
        expected = "moved on: True" if flavour == "anyio" else "time out over full"
        assert await handle.result() == f"{expected}, unhotel,unflight"


async def test_a_generator_that_is_closed_has_not_failed(memory: MemoryStore) -> None:
    """What was done in its block is handed on; it is undone when the workflow fails."""

    async def offers() -> Any:
        async with saga():
            await book("flight")
            yield "flight"
            await book("hotel")

    @workflow
    async def picks() -> None:
        generator = offers()
        async for _offer in generator:
            break
        await generator.aclose()
        ledger.append("closed")
        await refuse("ill")

    async with Engine(memory, workflows=[picks]) as engine:
        await fails(await engine.start(picks), "ill")
    assert ledger.index("closed") < ledger.index("unflight")
    assert undone() == ["unflight"]


# attempts


@step(retry=Retry(max_attempts=3, initial=60, jitter=0))
async def reserve(what: str) -> str:
    ledger.append(f"{what}?")
    if ledger.count(f"{what}?") == 1:
        raise ConnectionError(what)
    ledger.append(what)
    return what


@reserve.compensation
async def unreserve(reserved: str, _what: str) -> None:
    ledger.append(f"un{reserved}")


@workflow
async def impatient(patience_s: float) -> str:
    try:
        async with saga():
            await book("flight")
            async with asyncio.timeout(patience_s):
                await reserve("hotel")
    except TimeoutError:
        return "gave up"
    return "away"


async def test_a_step_that_is_given_up_between_two_attempts_is_not_waited_for(
    place: str | Store, clock: ManualClock
) -> None:
    """Nobody wants another attempt, before a restart or after it; the rest is undone."""
    gates["unflight"] = asyncio.Event()
    async with Engine(place, workflows=[impatient], clock=clock) as engine:
        await engine.start(impatient, 30, id="one")
        await ledger.until("hotel?")
        await settle()
        await clock.advance(30.1)
        await ledger.until("unflight?")
    await clock.advance(30.1)
    gates["unflight"].set()
    async with Engine(place, workflows=[impatient], clock=clock) as engine:
        assert await engine.handle("one").result() == "gave up"
        fork = await engine.handle("one").fork("two")
        assert await fork.result() == "gave up"
    assert undone() == ["unflight"]
    assert ledger.count("hotel?") == 1


@pytest.mark.parametrize("is_paused", [False, True])
async def test_a_step_that_is_given_up_when_its_next_attempt_is_due_is_undone(
    place: str | Store, clock: ManualClock, *, is_paused: bool
) -> None:
    """It may have begun, so it is made, and what it has done is undone; paused, as soon as it may be."""
    async with Engine(place, workflows=[impatient], clock=clock) as engine:
        handle = await engine.start(impatient, 60, id="one")
        await ledger.until("hotel?")
        await settle()
        if is_paused:
            await handle.pause()
        await clock.advance(60.1)
        if is_paused:
            await handle.resume()
        assert await handle.result() == "gave up"
    assert undone() == ["unhotel", "unflight"]


# parallel


async def test_a_parallel_block_is_undone_at_the_same_time(place: str | Store) -> None:
    """Nothing waits for anything of the same block."""
    gates.update({name: asyncio.Event() for name in ("unflight", "unhotel")})

    @workflow
    async def fan() -> str:
        try:
            async with saga(parallel=True):
                await asyncio.gather(book("flight"), book("hotel"), book("car"))
                await refuse("full")
        except ValueError as error:
            return f"{error}"
        return "away"

    async with Engine(place, workflows=[fan]) as engine:
        handle = await engine.start(fan, id="one")
        await ledger.until("unflight?", "unhotel?", "uncar")
        assert len((await handle.status()).waiting_for) == 2
    ledger.clear()
    async with Engine(place, workflows=[fan]) as engine:
        await ledger.until("unflight?", "unhotel?")
        gates["unflight"].set()
        gates["unhotel"].set()
        assert await engine.handle("one").result() == "full"
    assert sorted(undone()) == ["unflight", "unhotel"]


async def test_a_parallel_block_stays_together_in_the_workflow(memory: MemoryStore) -> None:
    """What came after all of it is undone before, what came before after."""
    gates["unhotel"] = asyncio.Event()

    @workflow
    async def fan() -> None:
        await book("visa")
        async with saga(parallel=True):
            await book("flight")
            await book("hotel")
        await book("car")
        await refuse("ill")

    async with Engine(memory, workflows=[fan]) as engine:
        handle = await engine.start(fan)
        await ledger.until("unflight")
        assert undone() == ["uncar", "unflight"]
        assert "unvisa?" not in ledger
        gates["unhotel"].set()
        await fails(handle, "ill")
    assert undone() == ["uncar", "unflight", "unhotel", "unvisa"]


# from outside


@workflow
async def travels() -> str:
    await book("visa")
    async with saga():
        await book("flight")
        await book("hotel")
        await receive("home")
    return "home"


async def test_a_cancelled_workflow_undoes_its_blocks_first(place: str | Store) -> None:
    """Then what stands around them; it ends as cancelled."""
    async with Engine(place, workflows=[travels]) as engine:
        handle = await engine.start(travels)
        await ledger.until("hotel")
        await handle.cancel("ill")
        with pytest.raises(WorkflowCancelledError, match="ill"):
            await handle.result()
        kinds = [type(one.event) for one in await handle.history()]
    assert undone() == ["unhotel", "unflight", "unvisa"]
    places = [place for place, kind in enumerate(kinds) if kind is CompensationCompleted]
    assert places[0] < places[1] < kinds.index(CompensationStarted) < places[2]


async def test_a_pause_holds_undoing_up(memory: MemoryStore) -> None:
    """The compensation under way comes to its end; the next one waits for the resumption."""
    gates["unhotel"] = asyncio.Event()

    @workflow
    async def fails_soon() -> None:
        async with saga():
            await book("flight")
            await book("hotel")
            await refuse("full")

    async with Engine(memory, workflows=[fails_soon]) as engine:
        handle = await engine.start(fails_soon)
        await ledger.until("unhotel?")
        await handle.pause()
        gates["unhotel"].set()
        await ledger.until("unhotel")
        await settle()
        assert "unflight?" not in ledger
        await handle.resume()
        await fails(handle, "full")
    assert undone() == ["unhotel", "unflight"]


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_a_block_has_no_time_for_the_workflow_undoes(
    memory: MemoryStore, clock: ManualClock, *, restarted: bool
) -> None:
    """The code is taken away in the middle; what it had not undone is undone all the same."""
    gates["unflight"] = asyncio.Event()
    async with Engine(memory, workflows=[travels], clock=clock) as engine:
        handle = await engine.start(travels, id="one")
        await ledger.until("hotel")
        await handle.cancel("ill", grace=10)
        await ledger.until("unflight?")
        await clock.advance(10.1)
        assert (await handle.status()).state is WorkflowState.COMPENSATING
        if not restarted:
            gates["unflight"].set()
            with pytest.raises(WorkflowCancelledError, match="ill"):
                await handle.result()
    async with Engine(memory, workflows=[travels], clock=clock) as engine:
        gates["unflight"].set()
        with pytest.raises(WorkflowCancelledError, match="ill"):
            await engine.handle("one").result()
    assert undone()[0] == "unhotel"
    assert undone()[-1] == "unvisa"
    assert {*undone()} == {"unhotel", "unflight", "unvisa"}
    assert undone().count("unhotel") == 1
