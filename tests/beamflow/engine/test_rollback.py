"""Saga blocks: what was done in one is undone when it fails, before the exception goes on."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from beamflow import (
    DeadLetterError,
    DeadLetterReason,
    DefinitionError,
    Engine,
    Retry,
    WorkflowCancelledError,
    WorkflowFailedError,
    WorkflowParkedError,
    WorkflowState,
    receive,
    saga,
    step,
    workflow,
)
from beamflow.engine.saga import Unwinding
from beamflow.engine.step_call import StepCall
from beamflow.events import (
    CompensationCompleted,
    CompensationFailed,
    CompensationStarted,
    StepCompleted,
)
from beamflow.model.ids import digest
from beamflow.stores.url import open_store
from beamflow.testing.store_suite import ServedStore
from supervision.testing import settle

if TYPE_CHECKING:
    from beamflow import Saga, WorkflowHandle
    from beamflow.events import Event
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


class Ledger(list[str]):
    """What was done and undone, outside the engine's knowledge."""

    def __init__(self) -> None:
        self.grown = asyncio.Event()

    def append(self, entry: str) -> None:
        super().append(entry)
        self.grown.set()

    async def until(self, *entries: str) -> None:
        """Wait until it has these."""
        async with asyncio.timeout(10):
            while not {*entries} <= {*self}:
                self.grown.clear()
                await self.grown.wait()


ledger = Ledger()

gates: dict[str, asyncio.Event] = {}
"""What bookings and cancellations wait for."""

unwell: set[str] = set()
"""What cannot be undone."""


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ledger.clear()
    ledger.grown = asyncio.Event()
    gates.clear()
    unwell.clear()


@step
async def book(what: str) -> str:
    if what in gates:
        await gates[what].wait()
    ledger.append(what)
    return what


@book.compensation(retry=Retry(max_attempts=2, initial=10, jitter=0))
async def unbook(booked: str, what: str) -> None:
    ledger.append(f"un{booked}?")
    if f"un{what}" in gates:
        await gates[f"un{what}"].wait()
    if what in unwell:
        raise ConnectionError(f"{what} is unwell")
    ledger.append(f"un{booked}")


@step
async def refuse(why: str) -> None:
    raise ValueError(why)


def undone() -> list[str]:
    return [each for each in ledger if each.startswith("un") and not each.endswith("?")]


async def fails(handle: WorkflowHandle[Any], match: str) -> None:
    with pytest.raises(WorkflowFailedError, match=match):
        await handle.result()


# one block


@workflow
async def trip() -> str:
    await book("visa")
    try:
        async with saga():
            await book("flight")
            await book("hotel")
            await refuse("full")
    except ValueError as error:
        assert undone() == ["unhotel", "unflight"]
        await book("sofa")
        return f"home: {error}"
    return "away"


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


rows: set[str] = set()
"""What stands in somebody else's system; doing it twice changes nothing."""


@step
async def put(name: str, *, fails: bool) -> None:
    if fails:
        raise ValueError(name)
    rows.add(name)
    ledger.append(name)


@put.compensation(retry=Retry(max_attempts=2, initial=0))
async def drop(_done: None, name: str, *, fails: bool) -> None:
    ledger.append(f"un{name}")
    rows.discard(name)
    if ledger.count(f"un{name}") == 1 and name == "c":
        raise ConnectionError(name)


@workflow
async def nested(bad: str, caught: str) -> str:
    """Blocks a(b(c)d(parallel e f))g; a failure in one is caught around a block, or nowhere."""

    async def block(name: str, *steps: Any, parallel: bool = False) -> None:
        try:
            async with saga(parallel=parallel):
                for each in steps:
                    await (put(each, fails=each == bad) if isinstance(each, str) else each())
        except ValueError:
            if name != caught:
                raise

    def inner() -> Any:
        return block("inner", "c")

    def fan() -> Any:
        return block("fan", "e", "f", parallel=True)

    def middle() -> Any:
        return block("middle", "b", inner, "d", fan)

    await block("outer", "a", middle, "g")
    await put("h", fails=bad == "h")
    return "done"


_BLOCKS = {"inner": "c", "fan": "ef", "middle": "bcdef", "outer": "abcdefg"}


def expected(bad: str, caught: str) -> tuple[str, bool]:
    """Return what stands in the end, and whether the workflow returns."""
    if caught in _BLOCKS and bad in _BLOCKS[caught]:
        before = "abcdefgh"[: "abcdefgh".index(_BLOCKS[caught][0])]
        after = "abcdefgh"["abcdefgh".index(_BLOCKS[caught][-1]) + 1 :]
        return before + after, True
    return ("", False) if bad else ("abcdefgh", True)


@pytest.mark.invariant("I19")
@pytest.mark.invariant("I20")
@pytest.mark.parametrize(
    ("place", "caught"),
    [
        *(("memory", name) for name in ("inner", "fan", "middle", "outer", "nowhere")),
        ("sqlite", "middle"),
    ],
    indirect=["place"],
)
async def test_blocks_are_undone_wherever_the_log_is_cut(caught: str, place: str | Store) -> None:
    """Failing at each step, killed at each event: what stands is what was not undone, no more."""
    for bad in "abcdefgh":
        standing, returns = expected(bad, caught)
        async with Engine(place, workflows=[nested]) as engine:
            handle = await engine.start(nested, bad, caught, id=f"{bad}-whole")
            whole = await ended(handle, returns=returns)
            assert "".join(sorted(rows)) == standing
            assert_reversed(whole)
        for cut in range(1, len(whole)):
            rows.clear()
            ledger.clear()
            id = f"{bad}-{cut}"
            effects(whole[:cut])
            begun = "".join(sorted(rows))
            await write(place, id, whole[:cut])
            async with Engine(place, workflows=[nested]) as engine:
                resumed = await ended(engine.handle(id), returns=returns)
            assert resumed[:cut] == whole[:cut], (bad, cut)
            assert [kind_of(each) for each in resumed] == [kind_of(each) for each in whole], begun
            assert "".join(sorted(rows)) == standing
        rows.clear()
        ledger.clear()


def kind_of(event: Event) -> tuple[str, object]:
    return type(event).__name__, getattr(event, "op", None)


_DIGESTS = {
    digest("put", put.signature.arguments.encode((name,), {"fails": False})): name
    for name in "abcdefgh"
}


def effects(events: list[Event]) -> None:
    """Bring what stands outside to where these events left it."""
    names: dict[int, str] = {}
    for event in events:
        match event:
            case StepCompleted(name="put"):
                names[event.op] = _DIGESTS[event.digest]
                rows.add(names[event.op])
                ledger.append(names[event.op])
            case CompensationCompleted() | CompensationFailed():
                rows.discard(names[event.op])
                ledger.append(f"un{names[event.op]}")
            case _:
                pass


def assert_reversed(events: list[Event]) -> None:
    """What was undone was undone in reverse of its completion, each block by itself."""
    completed = [event.op for event in events if isinstance(event, StepCompleted)]
    fan = {
        event.op
        for event in events
        if isinstance(event, StepCompleted) and _DIGESTS[event.digest] in "ef"
    }
    reverse = [event.op for event in events if isinstance(event, CompensationCompleted)]
    assert len(set(reverse)) == len(reverse)
    for one, other in pairwise(reverse):
        assert completed.index(one) > completed.index(other) or {one, other} <= fan


async def ended(handle: WorkflowHandle[Any], *, returns: bool) -> list[Event]:
    if returns:
        assert await handle.result() == "done"
    else:
        await fails(handle, "ValueError")
    return [one.event for one in await handle.history()]


async def write(place: str | Store, id: str, events: list[Event]) -> None:
    """Put a workflow's log into a store that nobody serves."""
    store = open_store(place, clock=lambda: 0) if isinstance(place, str) else place
    served = ServedStore(store)
    await served.start()
    lease = await store.claim("test", 60)
    await store.append(id, 0, events, time=1, epoch=lease.epoch)
    await store.release(lease)
    await served.stop()


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


# trouble on the way back


async def test_what_cannot_be_undone_leaves_a_letter_and_a_note(
    place: str | Store, clock: ManualClock
) -> None:
    """The others are undone, and the workflow goes on with the exception."""
    unwell.add("hotel")

    @workflow
    async def unlucky() -> list[str]:
        try:
            async with saga():
                await book("flight")
                await book("hotel")
                await refuse("full")
        except ValueError as error:
            return error.__notes__[1:]
        return []

    async with Engine(place, workflows=[unlucky], clock=clock) as engine:
        handle = await engine.start(unlucky, id="one")
        await ledger.until("unhotel?")
        assert (await handle.status()).waiting_for == ("compensation of step book",)
        await clock.advance(10.1)
        assert await handle.result() == [
            "step 'book' (op 2) could not be undone: builtins.ConnectionError: hotel is unwell"
        ]
        assert undone() == ["unflight"]
        letter = await engine.dead_letters.show("one")
        assert letter.reason is DeadLetterReason.COMPENSATION_FAILED
        assert (letter.workflow, letter.step, letter.attempts) == ("unlucky", "book", 2)
        assert letter.context == ["hotel"]
        assert letter.error.message == "hotel is unwell"
        assert (await handle.status()).state is WorkflowState.COMPLETED
        with pytest.raises(DeadLetterError, match="has gone on without"):
            await engine.dead_letters.retry("one")
        await engine.dead_letters.resolve("one", "cancelled by phone")
        assert await engine.dead_letters.list() == []


async def test_what_was_given_up_is_not_undone_again(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """It has its letter; the workflow's own way back leaves it alone."""
    unwell.add("hotel")

    @workflow
    async def unlucky() -> None:
        await book("flight")
        async with saga():
            await book("hotel")
            await refuse("full")

    async with Engine(memory, workflows=[unlucky], clock=clock) as engine:
        handle = await engine.start(unlucky)
        await clock.advance(11)
        await fails(handle, "full")
        failed = (await handle.history())[-1].event
    assert ledger == ["flight", "hotel", "unhotel?", "unhotel?", "unflight?", "unflight"]
    assert "could not be undone" not in failed.error.message  # type: ignore[union-attr]


async def test_a_compensation_that_hangs_is_bounded(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """By a minute for each attempt, unless it says otherwise."""
    gates["unflight"] = asyncio.Event()
    async with Engine(memory, workflows=[hangs], clock=clock) as engine:
        handle = await engine.start(hangs)
        await clock.advance(59)
        assert ledger == ["flight", "unflight?"]
        await clock.advance(12)
        assert ledger == ["flight", "unflight?", "unflight?"]
        await clock.advance(61)
        assert "StepTimeoutError" in await handle.result()


@workflow
async def hangs() -> str:
    try:
        async with saga():
            await book("flight")
            await refuse("full")
    except ValueError as error:
        return error.__notes__[-1]
    return ""


async def test_code_that_no_longer_undoes_what_the_log_says_is_parked(memory: MemoryStore) -> None:
    """The recorded compensation is one that the code has not asked for."""

    @workflow(name="trip")
    async def changed() -> str:
        await book("visa")
        await book("flight")
        await book("hotel")
        try:
            await refuse("full")
        except ValueError:
            return await receive("word", str)
        return ""

    gates["unflight"] = asyncio.Event()
    async with Engine(memory, workflows=[trip]) as engine:
        handle = await engine.start(trip, id="one")
        await ledger.until("unflight?")
        assert CompensationCompleted in {type(one.event) for one in await handle.history()}
    async with Engine(memory, workflows=[changed]) as engine:
        with pytest.raises(WorkflowParkedError, match=r"compensation 'unbook' of op 3"):
            await engine.handle("one").result()


# by hand


async def test_a_block_can_be_undone_by_hand(place: str | Store) -> None:
    """What was done so far, once; the block goes on, and counts anew."""

    @workflow
    async def changes() -> list[str]:
        async with saga() as plan:
            await book("flight")
            await book("hotel")
            assert await plan.compensate() == ()
            so_far = undone()
            await book("train")
        await refuse("ill")
        return so_far

    async with Engine(place, workflows=[changes]) as engine:
        await fails(await engine.start(changes), "ill")
    assert undone() == ["unhotel", "unflight", "untrain"]


async def test_by_hand_tells_what_could_not_be_undone(
    memory: MemoryStore, clock: ManualClock
) -> None:
    unwell.add("flight")

    @workflow
    async def changes() -> list[str]:
        async with saga() as plan:
            await book("flight")
            return list(await plan.compensate())

    async with Engine(memory, workflows=[changes], clock=clock) as engine:
        handle = await engine.start(changes)
        await clock.advance(11)
        assert await handle.result() == ["book"]


async def test_by_hand_from_two_tasks_undoes_once(memory: MemoryStore) -> None:
    """The second waits for the first, and finds nothing left."""
    gates["unflight"] = asyncio.Event()

    @workflow
    async def changes() -> list[str]:
        async with saga() as plan:
            await book("flight")
            await asyncio.gather(plan.compensate(), plan.compensate())
            return undone()

    async with Engine(memory, workflows=[changes]) as engine:
        handle = await engine.start(changes)
        await ledger.until("unflight?")
        gates["unflight"].set()
        assert await handle.result() == ["unflight"]
    assert ledger.count("unflight?") == 1


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


def made(op: int, around: Saga | None) -> StepCall:
    call = StepCall.__new__(StepCall)
    call.op = op
    call.saga = around
    return call


def inside(around: Saga | None, *, parallel: bool) -> Saga:
    block = saga(parallel=parallel)
    block.parent = around
    return block


def test_branches_of_a_parallel_block_keep_their_own_order() -> None:
    """Each branch in reverse, the two beside each other."""
    fan = inside(None, parallel=True)
    left, right = inside(fan, parallel=False), inside(fan, parallel=False)
    calls = [made(1, None), made(2, left), made(3, right), made(4, left), made(5, right)]
    plan = Unwinding(reversed(calls))
    seen: list[list[int]] = []
    for op in (5, 3, 4, 2, 1):
        seen.append([undo.call.op for undo in plan.ready()])
        assert plan.deliver(CompensationCompleted(op=op, name="un", started_at=0))
    assert seen == [[5, 4], [4, 3], [4], [2], [1]]
    assert plan.done


def test_what_came_between_keeps_its_place() -> None:
    """A step beside a parallel block parts those that completed before it from those after."""
    fan = inside(None, parallel=True)
    plan = Unwinding([made(3, fan), made(2, None), made(1, fan)])
    assert [undo.call.op for undo in plan.ready()] == [3]
    assert not plan.deliver(CompensationCompleted(op=1, name="un", started_at=0))


# words


async def test_one_saga_is_one_block() -> None:
    @workflow
    async def twice() -> None:
        plan = saga()
        async with plan:
            pass
        async with plan:
            pass

    async with Engine("memory://", workflows=[twice]) as engine:
        await fails(await engine.start(twice), "a saga is one block")


async def test_a_step_has_no_saga() -> None:
    """It would undo nothing, and says so."""

    @step
    async def inner() -> None:
        async with saga():
            pass

    @workflow
    async def outer() -> None:
        await inner()

    async with Engine("memory://", workflows=[outer]) as engine:
        await fails(await engine.start(outer), r"saga\(\) was entered in step 'inner'")


async def test_by_hand_belongs_into_the_block() -> None:
    with pytest.raises(DefinitionError, match="belongs into the block"):
        await saga().compensate()


async def test_without_an_engine_a_block_is_plain() -> None:
    """As steps are: nothing is undone, the exception goes on."""
    with pytest.raises(ValueError, match="full"):
        async with saga() as plan:
            await book("flight")
            assert await plan.compensate() == ()
            await refuse("full")
    assert ledger == ["flight"]


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
