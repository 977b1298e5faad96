"""Cancel and terminate, at every place; every control, cut off at every event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DeadLetterState,
    Engine,
    PayloadError,
    WorkflowCancelledError,
    WorkflowClosedError,
    WorkflowFailedError,
    WorkflowParkedError,
    WorkflowState,
    WorkflowStateError,
    step,
    workflow,
)
from beamflow.events import (
    CancelForced,
    CancelRequested,
    CompensationCompleted,
    CompensationStarted,
    SignalReceived,
    StepCompleted,
    WorkflowCancelled,
)
from beamflow.stores.memory import MemoryStore
from supervision.testing import settle
from tests.beamflow.engine.ways import WAYS, compensates_for_long, events_of, ran, trip

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow import WorkflowHandle
    from beamflow.stores.base import Store
    from supervision.testing import ManualClock


@pytest.fixture(autouse=True)
def _fresh_ledger() -> None:
    ran.clear()


@pytest.mark.invariant("I21")
@pytest.mark.parametrize("how", WAYS)
async def test_cancel_reaches_the_code_wherever_it_waits(
    place: str | Store, how: str, reached: Callable[..., Awaitable[None]]
) -> None:
    """``finally`` runs with its steps, what was done is undone, the end is recorded."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip, how, id="t")
        await reached(handle, StepCompleted)
        await settle()
        await handle.cancel("no longer wanted")
        with pytest.raises(WorkflowCancelledError, match="no longer wanted") as raised:
            await handle.result(timeout=5)
        assert not raised.value.terminated
        assert (await handle.status()).state is WorkflowState.CANCELLED
        history = await handle.history()
        assert await engine.dead_letters.list() == []
    assert [what for what in ran if what != "cut off"] == [
        "book flight",
        f"tidy {how}",
        "unbook flight",
    ]
    assert ("cut off" in ran) is (how in {"step", "gather", "group"})
    assert events_of(history, CancelRequested, CompensationStarted, WorkflowCancelled) == [
        "CancelRequested",
        "CompensationStarted",
        "WorkflowCancelled",
    ]


async def test_code_that_returns_all_the_same_has_completed(
    place: str | Store, reached: Callable[..., Awaitable[None]]
) -> None:
    """The request came too late: nothing is undone."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip, "return")
        await reached(handle, StepCompleted)
        await handle.cancel()
        assert await handle.result(timeout=5) == "all the same"
    assert "unbook flight" not in ran


async def test_what_the_code_raises_on_the_way_out_is_kept(
    place: str | Store, reached: Callable[..., Awaitable[None]]
) -> None:
    """It was cancelled, not failed: there is no dead letter."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip, "raise")
        await reached(handle, StepCompleted)
        await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await handle.result(timeout=5)
        end = (await handle.history())[-1].event
        assert await engine.dead_letters.list(state=None) == []
    assert isinstance(end, WorkflowCancelled)
    assert end.error is not None
    assert end.error.message == "on the way out"


@pytest.mark.invariant("I21")
async def test_code_that_swallows_the_cancel_is_taken_away(
    clock: ManualClock, memory: MemoryStore, reached: Callable[..., Awaitable[None]]
) -> None:
    """When the grace is over, and compensated all the same."""
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip, "swallow")
        await reached(handle, StepCompleted)
        await handle.cancel(grace=10)
        await settle()
        assert (await handle.status()).state is WorkflowState.RUNNING
        await clock.advance(9.9)
        assert (await handle.status()).state is WorkflowState.RUNNING
        await clock.advance(0.2)
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        history = await handle.history()
    assert ran == ["book flight", "unbook flight"]
    assert events_of(history, CancelForced) == ["CancelForced"]


async def test_the_grace_goes_on_over_a_restart(
    clock: ManualClock, memory: MemoryStore, reached: Callable[..., Awaitable[None]]
) -> None:
    """Also when it ends while nothing runs."""
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip, "swallow", id="t")
        await reached(handle, StepCompleted)
        await handle.cancel(grace=10)
        await settle()
    await clock.advance(60)
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        await clock.advance(0.1)
        with pytest.raises(WorkflowCancelledError):
            await engine.handle("t").result()
    assert ran == ["book flight", "unbook flight"]


doors: list[asyncio.Event] = []


@step
async def deaf() -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await doors[-1].wait()
            return


@workflow
async def stuck() -> None:
    await deaf()


async def test_a_step_that_ignores_it_does_not_hold_up_the_end(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """After the grace the workflow goes on without the body."""
    doors.append(asyncio.Event())
    async with Engine(memory, workflows=[stuck], clock=clock) as engine:
        handle = await engine.start(stuck)
        await settle()
        await handle.cancel(grace=1)
        await settle()
        assert (await handle.status()).state is WorkflowState.RUNNING
        await clock.advance(1.1)
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        doors[-1].set()
        await settle()


async def test_cancel_twice_is_cancel_once(
    place: str | Store, reached: Callable[..., Awaitable[None]]
) -> None:
    """The second request changes nothing; after the end it is refused."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip, "swallow")
        await reached(handle, StepCompleted)
        await handle.cancel("once")
        await handle.cancel("twice")
        history = await handle.history()
        assert events_of(history, CancelRequested) == ["CancelRequested"]
        await handle.terminate()
        with pytest.raises(WorkflowClosedError, match=r"is cancelled and takes no cancel"):
            await handle.cancel()
        assert (await handle.history())[len(history) + 1 :] == []


async def test_cancel_of_a_workflow_on_its_way_back(
    clock: ManualClock, memory: MemoryStore, reached: Callable[..., Awaitable[None]]
) -> None:
    """It goes its way back to the end, and has been cancelled then."""
    async with Engine(memory, workflows=[compensates_for_long], clock=clock) as engine:
        handle = await engine.start(compensates_for_long)
        await reached(handle, CompensationStarted)
        await handle.cancel()
        assert (await handle.status()).state is WorkflowState.COMPENSATING
        ran.append("open")
        await clock.advance(101)
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
    assert ran == ["open", "undone"]


async def test_terminate_ends_it_where_it_stands(
    place: str | Store, reached: Callable[..., Awaitable[None]]
) -> None:
    """No code runs on, nothing is undone, the step is cut off."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip, "step", id="t")
        await reached(handle, StepCompleted)
        await settle()
        await handle.terminate("enough")
        with pytest.raises(WorkflowCancelledError, match="terminated: enough") as raised:
            await handle.result(timeout=5)
        assert raised.value.terminated
        await settle()
        with pytest.raises(WorkflowClosedError):
            await handle.terminate()
        with pytest.raises(WorkflowClosedError):
            await handle.signal("go")
    assert ran == ["book flight", "cut off"]
    async with Engine(place, workflows=[trip]) as engine:
        assert (await engine.handle("t").status()).state is WorkflowState.CANCELLED
    assert ran == ["book flight", "cut off"]


@pytest.mark.parametrize("reason", [None, 5, "\ud800"])
async def test_a_reason_that_is_no_text_is_refused(place: str | Store, reason: Any) -> None:
    """Before anything of it is in the log, which nobody could read again."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip, WAYS[0], id="t")
        for ask in (handle.pause, handle.resume, handle.cancel, handle.terminate):
            with pytest.raises(PayloadError, match=f"reason of {ask.__name__}"):
                await ask(reason)
        await handle.terminate("enough")
        assert isinstance((await handle.history())[-1].event, WorkflowCancelled)


async def test_signals_that_come_with_a_terminate_are_refused(place: str | Store) -> None:
    """None is recorded after the end, and none is acknowledged without being recorded."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip, "sleep", id="t")
        outcomes = await asyncio.gather(
            handle.signal("go", 1),
            handle.terminate(),
            handle.signal("go", 2),
            handle.signal("go", 3),
            return_exceptions=True,
        )
        history = await handle.history()
    taken = events_of(history, SignalReceived)
    assert len(taken) == sum(one is None for one in outcomes) - 1
    assert isinstance(history[-1].event, WorkflowCancelled)
    assert outcomes[1] is None


async def test_a_parked_workflow_can_be_terminated_without_its_code(place: str | Store) -> None:
    """Its dead letter is closed."""
    async with Engine(place, workflows=[trip]) as engine:
        await engine.start(trip, "sleep", id="t")
    async with Engine(place, workflows=[]) as engine:
        handle = engine.handle("t")
        with pytest.raises(WorkflowParkedError):
            await handle.result(timeout=5)
        with pytest.raises(WorkflowParkedError, match="terminate"):
            await handle.cancel()
        assert (await handle.status()).state is WorkflowState.PARKED
        await handle.terminate("given up")
        assert (await handle.status()).state is WorkflowState.CANCELLED
        with pytest.raises(WorkflowCancelledError):
            await handle.result(timeout=5)
        assert await engine.dead_letters.list() == []
        (letter,) = await engine.dead_letters.list(state=None)
        assert letter.state is DeadLetterState.RESOLVED
        assert letter.note == "terminated: given up"


CONTROLLED = ["cancel", "pause+resume+cancel", "terminate", "pause+cancel", "deadline"]


@pytest.mark.invariant("I21")
@pytest.mark.parametrize("how", ["signal", "gather", "swallow"])
@pytest.mark.parametrize("control", CONTROLLED)
async def test_cut_at_every_event(
    clock: ManualClock, memory: MemoryStore, how: str, control: str
) -> None:
    """Started again at each event of its log, a workflow comes to an end of the same kind."""
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        await _drive(engine.handle("t"), engine, control, how, clock)
        whole = await engine.handle("t").history()
    for cut in range(1, len(whole) + 1):
        ran.clear()
        store = MemoryStore(clock=lambda: int(clock.now() * 1_000_000))
        await _copy(store, whole[:cut])
        async with Engine(store, workflows=[trip], clock=clock) as engine:
            handle = engine.handle("t")
            await settle()
            await _go_on(handle, control, clock)
            end = (await handle.history())[-1].event
            assert type(end) is type(whole[-1].event)
            recorded = [
                one.event.name for one in whole[:cut] if isinstance(one.event, StepCompleted)
            ]
            assert not any(f"book {name}" in ran for name in recorded)
            undone = events_of(await handle.history(), CompensationCompleted)
            assert len(undone) == (control != "terminate")


async def _drive(
    handle: WorkflowHandle[Any], engine: Engine, control: str, how: str, clock: ManualClock
) -> None:
    await engine.start(trip, how, id="t", deadline=50 if control == "deadline" else None)
    await settle()
    await _go_on(handle, control, clock)


async def _go_on(handle: WorkflowHandle[Any], control: str, clock: ManualClock) -> None:
    """Do what is left to do with the workflow, whatever it has seen already."""
    for word in control.split("+"):
        try:
            match word:
                case "cancel":
                    await handle.cancel(grace=5)
                case "pause":
                    await handle.pause()
                case "resume":
                    await handle.resume()
                case "terminate":
                    await handle.terminate()
                case _:
                    pass
        except WorkflowStateError:
            pass
    await clock.advance(100)
    with pytest.raises((WorkflowFailedError, WorkflowCancelledError)):
        await handle.result()


async def _copy(store: MemoryStore, history: list[Any]) -> None:
    """Have a store that ends where the log was cut."""
    await store.open()
    serving = asyncio.create_task(store.serve())
    lease = await store.claim("a test", 10)
    for one in history:
        await store.append("t", one.seq - 1, [one.event], time=one.time, epoch=lease.epoch)
    await store.release(lease)
    serving.cancel()
    await asyncio.wait({serving})
    await store.close()
