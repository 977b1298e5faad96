"""The engine: starting workflows, finding them, entering and leaving."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DefinitionError,
    DuplicateWorkflowError,
    Engine,
    EngineStoppedError,
    PayloadError,
    UnknownWorkflowError,
    WorkflowExistsError,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowState,
    receive,
    step,
    workflow,
)
from beamflow.events import WorkflowStarted
from beamflow.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow.events import Event
    from beamflow.stores.base import Sleep, Store
    from supervision.testing import ManualClock


@dataclass(frozen=True)
class Order:
    customer: str
    cents: int


ran: list[str] = []
"""What the steps did, outside the engine's knowledge."""


@pytest.fixture(autouse=True)
def _fresh_ledger() -> None:
    ran.clear()


@step
async def charge(order: Order) -> str:
    ran.append(order.customer)
    return f"charged {order.cents}"


@step
async def refuse(order: Order) -> None:
    ran.append(f"no {order.customer}")
    raise ValueError(order.customer)


@workflow
async def pay(order: Order) -> str:
    return await charge(order)


@workflow
async def doomed(order: Order) -> None:
    await refuse(order)


@workflow
async def wait_for_word(order: Order) -> str:
    word: str = await receive("word", str)
    return word


ANN = Order("ann", 500)


async def ids_of(engine: Engine, **options: Any) -> list[str]:
    return [summary.id async for summary in engine.find(**options)]


# start


@pytest.mark.invariant("I11")
async def test_fifty_starts_at_once_are_one_workflow(place: str | Store) -> None:
    """Each gets a handle of it; it is recorded once and its step runs once."""
    async with Engine(place, workflows=[pay]) as engine:
        handles = await asyncio.gather(*(engine.start(pay, ANN, id="one") for _ in range(50)))
        assert {await handle.result() for handle in handles} == {"charged 500"}
        started = [
            recorded
            for recorded in await handles[0].history()
            if isinstance(recorded.event, WorkflowStarted)
        ]
    assert ran == ["ann"]
    assert len(started) == 1


async def test_an_id_belongs_to_one_workflow_and_input(place: str | Store) -> None:
    """Another input and another workflow are refused, while it runs and after its end."""

    async def refused(engine: Engine) -> None:
        with pytest.raises(WorkflowExistsError, match="another input") as caught:
            await engine.start(wait_for_word, Order("bob", 1), id="one")
        assert caught.value.workflow_id == "one"
        with pytest.raises(WorkflowExistsError, match="a workflow 'wait_for_word'"):
            await engine.start(pay, ANN, id="one")

    async with Engine(place, workflows=[pay, wait_for_word]) as engine:
        handle = await engine.start(wait_for_word, ANN, id="one")
        await refused(engine)
        await handle.signal("word", "go")
        assert await handle.result() == "go"
        await refused(engine)


async def test_of_two_starts_at_once_with_different_inputs_one_is_refused(
    place: str | Store,
) -> None:
    """Whichever was recorded first is the workflow."""
    async with Engine(place, workflows=[pay]) as engine:
        said = await asyncio.gather(
            *(engine.start(pay, Order("ann", cents), id="one") for cents in range(10)),
            return_exceptions=True,
        )
        refused = [one for one in said if isinstance(one, WorkflowExistsError)]
        assert len(refused) == 9
        (handle,) = [one for one in said if not isinstance(one, BaseException)]
        await handle.result()
    assert ran == ["ann"]


@pytest.mark.invariant("I12")
async def test_starting_again_after_the_end_runs_nothing(place: str | Store) -> None:
    """Whether it has completed or failed: the handle tells what has become of it."""
    async with Engine(place, workflows=[pay, doomed]) as engine:
        await (await engine.start(pay, ANN, id="good")).result()
        with pytest.raises(WorkflowFailedError):
            await (await engine.start(doomed, ANN, id="bad")).result()
    async with Engine(place, workflows=[pay, doomed]) as engine:
        good, bad = (
            await engine.start(pay, ANN, id="good"),
            await engine.start(doomed, ANN, id="bad"),
        )
        assert await good.result() == "charged 500"
        with pytest.raises(WorkflowFailedError, match="ValueError: ann"):
            await bad.result()
    assert ran == ["ann", "no ann"]


async def test_without_an_id_each_start_is_a_workflow_of_its_own(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Ids come from the clock and the random numbers that were handed in."""
    minted = []
    for _ in range(2):
        async with Engine(memory, workflows=[pay], clock=clock, random=Random(1)) as engine:
            minted.append((await engine.start(pay, ANN)).id)
            minted.append((await engine.start(pay, ANN)).id)
    assert minted[:2] == minted[2:]
    assert minted[0] != minted[1]


@pytest.mark.parametrize("bad", ["", "$mine", "x" * 513, "two\nlines", 7])
async def test_an_id_that_cannot_be_kept_is_refused(bad: Any) -> None:
    """With the id in the message, for a start as for a handle."""
    async with Engine("memory://", workflows=[pay]) as engine:
        with pytest.raises(DefinitionError, match="workflow id"):
            await engine.start(pay, ANN, id=bad)
        with pytest.raises(DefinitionError, match="workflow id"):
            engine.handle(bad)


async def test_arguments_that_do_not_fit_are_refused(place: str | Store) -> None:
    """With the path to the field; nothing is recorded."""
    wrong: Any = {"customer": "ann", "cents": "many"}
    async with Engine(place, workflows=[pay]) as engine:
        with pytest.raises(PayloadError, match=r"order\.cents"):
            await engine.start(pay, wrong, id="one")
        with pytest.raises(PayloadError):
            await engine.start(pay, id="one")  # type: ignore[arg-type]
        with pytest.raises(PayloadError):
            await engine.start(pay, Order("\ud800", 1), id="one")
        assert await ids_of(engine) == []


async def test_a_start_that_cannot_be_recorded_is_refused(clock: ManualClock) -> None:
    """It is not acknowledged, and nothing is left of it."""

    class SmallStore(MemoryStore):
        async def append(
            self,
            stream: str,
            expected: int,
            events: Sequence[Event],
            *,
            time: int,
            epoch: int,
            sleep: Sleep | None = None,
        ) -> None:
            if isinstance(events[0], WorkflowStarted):
                raise PayloadError(f"event for {stream!r}", "it is larger than the store can hold")
            await super().append(stream, expected, events, time=time, epoch=epoch, sleep=sleep)

    store = SmallStore(clock=lambda: 0)
    async with Engine(store, workflows=[pay], clock=clock) as engine:
        with pytest.raises(PayloadError, match="larger"):
            await engine.start(pay, ANN, id="one")
        with pytest.raises(WorkflowNotFoundError):
            await engine.handle("one").result()
        assert await engine.dead_letters.list() == []


# definitions


async def test_a_workflow_the_engine_was_not_given_is_refused() -> None:
    """Nor does it take what is no workflow, or another one of the same name."""

    @workflow(name="pay")
    async def other(order: Order) -> str:
        return ""

    async with Engine("memory://", workflows=[pay]) as engine:
        with pytest.raises(UnknownWorkflowError, match="was not given a workflow 'doomed'.*pay"):
            await engine.start(doomed, ANN)
        with pytest.raises(UnknownWorkflowError, match="another workflow called 'pay'"):
            await engine.start(other, ANN)
        with pytest.raises(UnknownWorkflowError, match="decorate it with @workflow"):
            await engine.start(pay.function, ANN)


def test_definitions_are_checked_when_the_engine_is_made() -> None:
    """Two workflows of one name and version, and what is no workflow; one twice is harmless."""

    @workflow(name="pay")
    async def other() -> None:
        pass

    impostor: Any = pay.function
    Engine("memory://", workflows=[pay, pay])
    with pytest.raises(DuplicateWorkflowError, match="two workflows are called 'pay', version 1"):
        Engine("memory://", workflows=[pay, other])
    with pytest.raises(DefinitionError, match="is no workflow"):
        Engine("memory://", workflows=[impostor])
    with pytest.raises(DefinitionError, match="is refused: give a list of workflows"):
        Engine("memory://", workflows=pay)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="is not understood"):
        Engine("redis://", workflows=[pay])
    for place in (None, Path("app.db")):
        with pytest.raises(DefinitionError, match="a store is named by a URL, not"):
            Engine(place, workflows=[pay])  # type: ignore[arg-type]


# entering and leaving


async def calls(engine: Engine) -> list[BaseException]:
    """Use everything once; give what was raised."""
    handle = engine.handle("one")
    letters = engine.dead_letters

    async def events() -> None:
        async for _ in handle.events():
            pass

    return [
        said
        for said in await asyncio.gather(
            engine.start(pay, ANN, id="one"),
            ids_of(engine),
            handle.result(),
            handle.status(),
            handle.signal("word", "go"),
            handle.history(),
            events(),
            letters.list(),
            letters.show("one"),
            letters.retry("one"),
            letters.retry_all(),
            letters.resolve("one", "done"),
            return_exceptions=True,
        )
        if isinstance(said, BaseException)
    ]


async def test_an_engine_works_only_while_it_is_entered(place: str | Store) -> None:
    """Before and after, every call says so."""
    engine = Engine(place, workflows=[pay])
    before = await calls(engine)
    async with engine:
        await (await engine.start(pay, ANN, id="one")).result()
    after = await calls(engine)
    for said in (before, after):
        assert [type(error) for error in said] == [EngineStoppedError] * 12
        assert all("async with Engine" in str(error) for error in said)


async def test_an_engine_can_be_entered_again(place: str | Store) -> None:
    """But not twice at the same time."""
    engine = Engine(place, workflows=[wait_for_word])
    async with engine:
        await engine.start(wait_for_word, ANN, id="one")
        with pytest.raises(EngineStoppedError, match="running already"):
            await engine.__aenter__()
    async with engine:
        handle = engine.handle("one")
        await handle.signal("word", "again")
        assert await handle.result() == "again"


async def test_leaving_tells_those_who_wait(place: str | Store) -> None:
    """Results in flight end with `EngineStoppedError`; the workflow goes on at the next start."""
    async with Engine(place, workflows=[wait_for_word]) as engine:
        handle = await engine.start(wait_for_word, ANN, id="one")
        waiting = [asyncio.create_task(handle.result()) for _ in range(3)]
        assert (await handle.status()).waiting_for == ("signal word",)
    for waiter in waiting:
        with pytest.raises(EngineStoppedError, match="was left"):
            await waiter
    async with Engine(place, workflows=[wait_for_word]) as engine:
        await engine.handle("one").signal("word", "go")
        assert await engine.handle("one").result() == "go"


@pytest.mark.invariant("I33")
async def test_leaving_in_the_middle_of_everything_loses_no_answer(place: str | Store) -> None:
    """Whatever is in flight ends, well or with a typed error; what was acknowledged is there."""
    for turns in range(0, 24, 3):
        async with Engine(place, workflows=[pay, wait_for_word]) as engine:
            await engine.start(wait_for_word, ANN, id=f"waits {turns}")
            starts = [
                asyncio.create_task(engine.start(pay, ANN, id=f"{turns} {number}"))
                for number in range(5)
            ]
            signals = [
                asyncio.create_task(engine.handle(f"waits {turns}").signal("word", f"{number}"))
                for number in range(5)
            ]
            results = [
                asyncio.create_task(engine.handle(f"waits {turns}").result()) for _ in range(2)
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
        async with asyncio.timeout(10):
            said = await asyncio.gather(*starts, *signals, *results, return_exceptions=True)
        odd = [
            one
            for one in said
            if isinstance(one, BaseException)
            and type(one).__name__
            not in {"EngineStoppedError", "WorkflowClosedError", "StoreUnavailableError"}
        ]
        assert odd == []
        async with Engine(place, workflows=[pay, wait_for_word]) as engine:
            for number, start in enumerate(starts):
                if start.exception() is None:
                    assert await engine.handle(f"{turns} {number}").result() == "charged 500"


async def test_a_block_that_is_cancelled_stops_the_engine(place: str | Store) -> None:
    """In order, before the cancellation goes on."""
    entered = asyncio.Event()
    engine = Engine(place, workflows=[wait_for_word])

    async def host() -> None:
        async with engine:
            await engine.start(wait_for_word, ANN, id="one")
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(host())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with Engine(place, workflows=[wait_for_word]) as after:
        assert (await after.handle("one").status()).state is WorkflowState.RUNNING


async def test_an_error_of_the_block_goes_on(place: str | Store) -> None:
    """The engine is stopped and says nothing over it."""
    with pytest.raises(LookupError, match="mine"):
        async with Engine(place, workflows=[pay]):
            raise LookupError("mine")
    async with Engine(place, workflows=[pay]) as engine:
        assert await ids_of(engine) == []


# find


async def test_find_filters(place: str | Store) -> None:
    """By state or states, by workflow, by the beginning of the id; oldest start first."""
    async with Engine(place, workflows=[pay, doomed, wait_for_word]) as engine:
        await (await engine.start(pay, ANN, id="a-paid")).result()
        with pytest.raises(WorkflowFailedError):
            await (await engine.start(doomed, ANN, id="b-doomed")).result()
        await engine.start(wait_for_word, ANN, id="a-waits")
        assert await ids_of(engine) == ["a-paid", "b-doomed", "a-waits"]
        assert await ids_of(engine, id_prefix="a-") == ["a-paid", "a-waits"]
        assert await ids_of(engine, workflow="doomed") == ["b-doomed"]
        assert await ids_of(engine, state=WorkflowState.RUNNING) == ["a-waits"]
        over = {WorkflowState.COMPLETED, WorkflowState.FAILED}
        assert await ids_of(engine, state=over) == ["a-paid", "b-doomed"]
        assert await ids_of(engine, state=over, id_prefix="a", workflow="pay") == ["a-paid"]
        assert await ids_of(engine, state=[]) == []


async def test_find_goes_over_as_many_pages_as_there_are(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Each workflow once, also those that started in the same microsecond."""
    async with Engine(memory, workflows=[wait_for_word], clock=clock) as engine:
        await asyncio.gather(
            *(engine.start(wait_for_word, ANN, id=f"{number:03}") for number in range(250))
        )
        assert await ids_of(engine) == [f"{number:03}" for number in range(250)]


# the host


async def test_the_host_is_left_alone(tmp_path: Path) -> None:
    """The current loop and task, the exception handler and the signal handlers stay as they are."""
    import signal

    loop = asyncio.get_running_loop()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    exception_handler = loop.get_exception_handler()
    async with Engine(f"sqlite:///{tmp_path}/app.db", workflows=[pay]) as engine:
        await (await engine.start(pay, ANN)).result()
        assert asyncio.get_running_loop() is loop
        assert loop.get_exception_handler() is exception_handler
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
