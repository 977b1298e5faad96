"""Pause, resume, cancel, terminate, deadlines: what is decided about a workflow from outside."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DeadLetterState,
    Engine,
    Retry,
    WorkflowCancelledError,
    WorkflowClosedError,
    WorkflowFailedError,
    WorkflowParkedError,
    WorkflowState,
    WorkflowStateError,
    WorkflowTimeoutError,
    receive,
    step,
    workflow,
)
from beamflow.engine.steering import UNSTEERED
from beamflow.events import (
    CancelForced,
    CancelRequested,
    CompensationCompleted,
    CompensationStarted,
    SignalReceived,
    StepCompleted,
    WorkflowBegan,
    WorkflowCancelled,
    WorkflowPaused,
    WorkflowResumed,
    WorkflowStarted,
)
from beamflow.model.status import Control
from beamflow.stores.memory import MemoryStore
from supervision.testing import settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamflow import WorkflowHandle
    from beamflow.stores.base import Store
    from supervision.testing import ManualClock

ran: list[str] = []
"""What took effect, outside the engine's knowledge."""


@pytest.fixture(autouse=True)
def _fresh_ledger() -> None:
    ran.clear()


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


async def test_pause_keeps_what_happens_and_begins_nothing(
    place: str | Store, reached: Callable[..., Awaitable[None]]
) -> None:
    """The signal reaches the code; the step that it asks for then waits for the resume."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip, "signal", id="t")
        await reached(handle, StepCompleted)
        await handle.pause("maintenance")
        assert (await handle.status()).state is WorkflowState.PAUSED
        await handle.signal("go", "gone")
        await settle()
        assert ran == ["book flight"]
        assert (await handle.status()).waiting_for == ("step tidy",)
    async with Engine(place, workflows=[trip]) as engine:
        handle = engine.handle("t")
        await settle()
        assert (await handle.status()).state is WorkflowState.PAUSED
        assert ran == ["book flight"]
        with pytest.raises(WorkflowStateError, match=r"is paused: pause\(\) is refused"):
            await handle.pause()
        await handle.resume()
        assert await handle.result(timeout=5) == "gone"
        history = await handle.history()
        with pytest.raises(WorkflowClosedError):
            await handle.resume()
    assert ran == ["book flight", "tidy signal"]
    assert events_of(history, WorkflowPaused, SignalReceived, WorkflowResumed) == [
        "WorkflowPaused",
        "SignalReceived",
        "WorkflowResumed",
    ]


@workflow
async def two_steps() -> str:
    await book("one")
    return await book("two")


async def test_the_end_waits_for_the_resume(place: str | Store) -> None:
    """A paused workflow does not complete."""
    async with Engine(place, workflows=[ends_on_signal]) as engine:
        handle = await engine.start(ends_on_signal)
        await handle.pause()
        await handle.signal("go", "x")
        await settle()
        assert (await handle.status()).state is WorkflowState.PAUSED
        await handle.resume()
        assert await handle.result(timeout=5) == "x"


@workflow
async def ends_on_signal() -> str:
    return str(await receive("go"))


async def test_resume_of_what_is_not_paused(place: str | Store) -> None:
    """Every wrong transition is a typed error that says what is allowed."""
    async with Engine(place, workflows=[ends_on_signal]) as engine:
        handle = await engine.start(ends_on_signal)
        with pytest.raises(WorkflowStateError, match=r"is running: .*pause, cancel, terminate"):
            await handle.resume()


async def test_cancel_of_a_paused_workflow(
    place: str | Store, reached: Callable[..., Awaitable[None]]
) -> None:
    """It is not paused any more: its ``finally`` and compensations run."""
    async with Engine(place, workflows=[trip]) as engine:
        handle = await engine.start(trip, "signal")
        await reached(handle, StepCompleted)
        await handle.pause()
        await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await handle.result(timeout=5)
    assert ran == ["book flight", "tidy signal", "unbook flight"]


async def test_what_is_told_to_end_cannot_be_paused(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """It ends within its bound, whoever asks for what: while its code runs, and on its way back."""
    refused = (
        r"is (running|compensating), and told to end: pause\(\) is refused.*: cancel, terminate\)"
    )
    async with Engine(memory, workflows=[trip, compensates_for_long], clock=clock) as engine:
        swallows = await engine.start(trip, "swallow")
        undoes = await engine.start(compensates_for_long)
        await settle()
        for handle in (swallows, undoes):
            await handle.cancel(grace=5)
            with pytest.raises(WorkflowStateError, match=refused):
                await handle.pause()
        ran.append("open")
        await clock.advance(100)
        await clock.advance(100)
        for handle in (swallows, undoes):
            with pytest.raises(WorkflowCancelledError):
                await handle.result(timeout=5)


def test_one_that_was_paused_on_its_way_out_goes_on_when_it_is_cancelled_once_more() -> None:
    """In a log of 0.1, which allowed the pause."""
    told = UNSTEERED.after(CancelRequested(reason="", deadline=9)).after(WorkflowPaused())
    (resumed,) = told.asked("x", Control.CANCEL, 5, reason="", grace_s=1, compensating=True)
    assert isinstance(resumed, WorkflowResumed)
    assert resumed.state == "compensating"
    assert not told.after(resumed).paused


async def test_a_paused_way_back(clock: ManualClock, memory: MemoryStore) -> None:
    """Pausing a workflow that compensates stops it between two compensations."""
    async with Engine(memory, workflows=[compensates_for_long], clock=clock) as engine:
        handle = await engine.start(compensates_for_long)
        await settle()
        await handle.pause()
        ran.append("open")
        await clock.advance(1_000)
        assert ran == ["open"]
        await handle.resume()
        assert (await handle.status()).state in {WorkflowState.COMPENSATING, WorkflowState.FAILED}
        with pytest.raises(WorkflowFailedError):
            await handle.result()
    assert ran == ["open", "undone"]


async def test_a_delayed_start_is_pending(clock: ManualClock, memory: MemoryStore) -> None:
    """Its code begins when its time has come, also after a restart; signals are kept."""
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip, "signal", id="t", delay=100)
        await handle.signal("go", "early")
        assert (await handle.status()).state is WorkflowState.PENDING
        await clock.advance(50)
        assert ran == []
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        await clock.advance(49)
        assert ran == []
        await clock.advance(2)
        assert await engine.handle("t").result() == "early"
        history = await engine.handle("t").history()
    assert events_of(history, WorkflowStarted, SignalReceived, WorkflowBegan) == [
        "WorkflowStarted",
        "SignalReceived",
        "WorkflowBegan",
    ]


async def test_a_pending_workflow_is_cancelled_without_beginning(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """No code of it ever runs."""
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip, "signal", delay=100)
        await handle.cancel()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        await clock.advance(200)
    assert ran == []


async def test_a_pending_workflow_can_be_paused_past_its_time(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """It begins when it is resumed."""
    async with Engine(memory, workflows=[two_steps], clock=clock) as engine:
        handle = await engine.start(two_steps, delay=100)
        await handle.pause()
        await clock.advance(200)
        assert ran == []
        await handle.resume()
        assert await handle.result() == "two"


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_deadline(clock: ManualClock, memory: MemoryStore, *, restarted: bool) -> None:
    """It is told to end, its work undone, and it has failed with a timeout."""
    async with Engine(memory, workflows=[trip], clock=clock) as engine:
        handle = await engine.start(trip, "signal", id="t", deadline=60)
        await settle()
        if not restarted:
            await clock.advance(61)
            with pytest.raises(WorkflowTimeoutError, match="had not ended by its deadline"):
                await handle.result()
    if restarted:
        await clock.advance(61)
        async with Engine(memory, workflows=[trip], clock=clock) as engine:
            await settle()
            await clock.advance(0.1)
            with pytest.raises(TimeoutError):
                await engine.handle("t").result()
            assert (await engine.handle("t").status()).state is WorkflowState.FAILED
            (letter,) = await engine.dead_letters.list()
            assert letter.workflow_id == "t"
    assert ran == ["book flight", "tidy signal", "unbook flight"]


@workflow(deadline=30)
async def hurried() -> None:
    await receive("never")


async def test_a_workflow_has_a_deadline_of_its_own(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """Unless its start says otherwise."""
    async with Engine(memory, workflows=[hurried], clock=clock) as engine:
        one = await engine.start(hurried)
        moment = datetime.fromtimestamp(clock.now() + 100, UTC)
        other = await engine.start(hurried, deadline=moment)
        await clock.advance(31)
        with pytest.raises(WorkflowTimeoutError):
            await one.result()
        assert (await other.status()).state is WorkflowState.RUNNING
        await clock.advance(70)
        with pytest.raises(WorkflowTimeoutError):
            await other.result()


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"delay": float("nan")},
        {"deadline": -1.0},
        {"deadline": float("inf")},
        {"deadline": datetime(2030, 1, 1)},  # noqa: DTZ001 - naive on purpose
    ],
)
async def test_a_time_that_makes_no_sense(options: dict[str, Any]) -> None:
    """It is refused with the value, and nothing is started."""
    async with Engine("memory://", workflows=[two_steps]) as engine:
        with pytest.raises(ValueError, match="must be seconds|time zone"):
            await engine.start(two_steps, **options)
        assert [one async for one in engine.find()] == []


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
