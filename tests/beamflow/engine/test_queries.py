"""Queries: answered whatever the workflow's state, and nothing ever moves by them."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DefinitionError,
    Engine,
    NondeterminismError,
    PayloadError,
    QueryFailedError,
    ReadOnlyError,
    Retention,
    UnknownHandlerError,
    UnknownWorkflowError,
    WorkflowCancelledError,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowState,
    continue_as_new,
    now,
    on_query,
    publish,
    query,
    random,
    receive,
    signal,
    step,
    until,
    workflow,
)
from beamflow.engine import queries
from beamflow.engine.execution import Execution
from beamflow.engine.retention import sweep
from beamflow.stores.memory import MemoryStore
from supervision.testing import ManualClock, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from beamflow.stores.base import Store


@dataclass
class Item:
    name: str
    price: int


@step
async def price_of(name: str) -> int:
    return len(name)


@workflow
class Cart:
    def __init__(self) -> None:
        self.items: list[Item] = []
        self.closed = False

    async def run(self) -> int:
        await until(lambda: self.closed)
        return len(self.items)

    @signal
    async def add(self, name: str) -> None:
        self.items.append(Item(name, await price_of(name)))

    @signal
    def close(self) -> None:
        self.closed = True

    @query
    def last(self) -> Item:
        return self.items[-1]

    @query
    def total(self, times: int = 1, *, more: int = 0) -> int:
        return sum(item.price for item in self.items) * times + more


async def test_a_query_is_answered_whatever_the_state(place: str | Store) -> None:
    """With all that was acknowledged before, by its type or as plain data."""
    async with Engine(place, workflows=[Cart]) as engine:
        handle = await engine.start(Cart, id="one")
        assert await handle.query(Cart.total) == 0
        await handle.signal(Cart.add, "tea")
        async for recorded in handle.events():
            if recorded.seq == 3:
                break
        assert await handle.query(Cart.last) == Item("tea", 3)
        assert await handle.query("last") == {"name": "tea", "price": 3}
        assert await handle.query("last", type=Item) == Item("tea", 3)
        await handle.pause()
        assert await handle.query(Cart.total, 2) == 6
        assert await handle.query("total") == 3
        await handle.resume()
    async with Engine(place, workflows=[Cart]) as engine:
        handle = engine.handle("one")
        assert await handle.query(Cart.total) == 3
        await handle.signal(Cart.close)
        assert await handle.result() == 1
        assert await handle.query(Cart.total) == 3
    async with Engine(place, workflows=[Cart]) as engine:
        assert await engine.handle("one").query(Cart.total) == 3


async def test_a_query_of_a_cancelled_workflow_sees_its_last_state(memory: MemoryStore) -> None:
    """And one that was terminated."""
    async with Engine(memory, workflows=[Cart]) as engine:
        for end in ("cancel", "terminate"):
            handle = await engine.start(Cart)
            await handle.signal(Cart.add, "tea")
            async for recorded in handle.events():
                if recorded.seq == 3:
                    break
            await getattr(handle, end)()
            with pytest.raises(WorkflowCancelledError):
                await handle.result()
            assert await handle.query(Cart.total) == 3


async def test_hammered_reads_leave_the_history_equal() -> None:
    """I36: queries, statuses, reads of what is published, at every turn of a running workflow."""

    @workflow
    async def busy(count: int) -> float:
        total = 0.0
        on_query("total", lambda: total + random().random())
        for number in range(count):
            total += await price_of("x" * number)
            publish("total", total)
            await asyncio.sleep(1)
        return total + random().random()

    async def lived(*, hammered: bool) -> list[tuple[int, Any]]:
        clock = ManualClock()
        store = MemoryStore(clock=lambda: int(clock.now() * 1e6))
        async with Engine(store, workflows=[busy], clock=clock) as engine:
            handle = await engine.start(busy, 10, id="one")

            async def read() -> None:
                for _ in range(20):
                    await handle.query("total", type=float)
                    await handle.published("total", float)
                    await handle.status()

            for _ in range(11):
                await asyncio.gather(*(read() for _ in range(5 if hammered else 0)))
                await clock.advance(1)
            await handle.result()
            return [(each.time, each.event) for each in await handle.history()]

    assert await lived(hammered=True) == await lived(hammered=False)


async def test_a_query_of_a_parked_workflow_is_answered_where_the_code_fits(
    memory: MemoryStore,
) -> None:
    """And says what does not fit where it does not."""

    @workflow
    async def stuck() -> None:
        on_query("where", lambda: "here")
        await receive("go")
        await asyncio.to_thread(print)

    @workflow(name="stuck")
    async def changed() -> None:
        publish("x", 1)
        await price_of("other")

    @workflow(name="stuck")
    async def noted() -> None:
        on_query("where", lambda: "here")
        publish("x", 1)
        await receive("go")
        await asyncio.to_thread(print)

    async with Engine(memory, workflows=[noted]) as engine:
        handle = await engine.start(noted, id="one")
        await handle.signal("go")
        await settle()
        assert (await handle.status()).state is WorkflowState.PARKED
        assert await handle.query("where") == "here"
    async with Engine(memory, workflows=[stuck]) as engine:
        with pytest.raises(NondeterminismError):
            await engine.handle("one").query("where")
    async with Engine(memory, workflows=[]) as engine:
        with pytest.raises(UnknownWorkflowError):
            await engine.handle("one").query("where")
    assert changed is not stuck


async def acts_publish() -> None:
    on_query("act", lambda: publish("x", 1))
    await receive("never")


async def acts_step() -> None:
    on_query("act", lambda: price_of("x"))
    await receive("never")


async def acts_sleep() -> None:
    on_query("act", lambda: asyncio.sleep(1))
    await receive("never")


async def acts_timer() -> None:
    on_query("act", lambda: asyncio.get_running_loop().call_later(1, print) and None)
    await receive("never")


async def acts_task() -> None:
    on_query("act", lambda: asyncio.get_running_loop().create_task(asyncio.sleep(1)) and None)
    await receive("never")


async def acts_event() -> None:
    event = asyncio.Event()
    on_query("act", event.set)
    await event.wait()


async def acts_handler() -> None:
    on_query("act", lambda: on_query("other", print))
    await receive("never")


async def acts_and_raises() -> None:
    def act() -> None:
        publish("x", 1)
        raise LookupError

    on_query("act", act)
    await receive("never")


@pytest.mark.parametrize(
    "code",
    [
        acts_publish,
        acts_step,
        acts_sleep,
        acts_timer,
        acts_task,
        acts_event,
        acts_handler,
        acts_and_raises,
    ],
)
async def test_a_handler_that_acts_is_refused(memory: MemoryStore, code: Callable[[], Any]) -> None:
    """What it asked for does not happen, not then and not later."""
    definition = workflow(name="w")(code)
    async with Engine(memory, workflows=[definition]) as engine:
        handle = await engine.start(definition)
        for _ in range(3):
            with pytest.raises(ReadOnlyError, match="may read everything and change nothing"):
                await handle.query("act")
        await handle.signal("other")
        await settle()
        assert [type(each.event).__name__ for each in await handle.history()] == [
            "WorkflowStarted",
            "SignalReceived",
        ]
        assert (await handle.status()).state is WorkflowState.RUNNING


async def test_chance_in_a_query_takes_nothing_from_the_workflow(memory: MemoryStore) -> None:
    """What it draws is put back, whether the workflow has drawn before or not."""

    @workflow
    async def draws() -> list[float]:
        on_query("draw", lambda: random().random())
        await receive("go")
        first = random().random()
        await receive("go")
        return [first, random().random()]

    results = []
    async with Engine(memory, workflows=[draws]) as engine:
        for asked in (0, 3):
            handle = await engine.start(draws, id="one" if not asked else "other")
            for _ in range(2):
                answers = {await handle.query("draw", type=float) for _ in range(asked)}
                assert len(answers) == bool(asked)
                await handle.signal("go")
            results.append(await handle.result())
    again = Execution.random.fget(Execution(draws, "other"))  # type: ignore[abstract, attr-defined]
    assert results[1] == [again.random(), again.random()]


async def test_what_a_handler_raises_reaches_the_caller(memory: MemoryStore) -> None:
    """Typed, with the exception as its cause; the workflow is as it was."""
    async with Engine(memory, workflows=[Cart]) as engine:
        handle = await engine.start(Cart)
        with pytest.raises(QueryFailedError, match="list index out of range") as caught:
            await handle.query(Cart.last)
        assert (caught.value.name, caught.value.error_type) == ("last", "builtins.IndexError")
        assert isinstance(caught.value.__cause__, IndexError)
        assert await handle.query(Cart.total) == 0


async def test_what_cannot_be_asked_is_refused(memory: MemoryStore) -> None:
    """Arguments and answers that fit no annotation, names that nobody has, workflows there are not."""

    @workflow
    async def odd() -> None:
        def wrong() -> int:
            return "text"  # type: ignore[return-value]

        on_query("wrong", wrong)
        on_query("object", object)
        await receive("never")

    async with Engine(memory, workflows=[Cart, odd]) as engine:
        handle = await engine.start(Cart)
        with pytest.raises(PayloadError, match="arguments of query 'total'"):
            await handle.query(Cart.total, "x")  # type: ignore[arg-type]
        with pytest.raises(PayloadError, match="arguments of query 'total'"):
            await handle.query("total", "x")
        with pytest.raises(PayloadError, match="too many"):
            await handle.query("total", 1, 2, 3)
        with pytest.raises(UnknownHandlerError, match="it has: last, total"):
            await handle.query("nothing")
        with pytest.raises(DefinitionError, match="is no query"):
            await handle.query(Cart.add, "x")  # type: ignore[arg-type]
        with pytest.raises(WorkflowNotFoundError):
            await engine.handle("nobody").query("total")
        other = await engine.start(odd)
        with pytest.raises(PayloadError, match="answer of query 'wrong'"):
            await other.query("wrong", type=int)
        with pytest.raises(PayloadError, match="result of query 'object'"):
            await other.query("object")


async def test_a_pending_workflow_has_no_handlers_yet(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Its code has not begun."""
    async with Engine(memory, workflows=[Cart], clock=clock) as engine:
        handle = await engine.start(Cart, delay=10)
        with pytest.raises(UnknownHandlerError, match="it has: none"):
            await handle.query(Cart.total)
        await clock.advance(11)
        assert await handle.query(Cart.total) == 0


async def test_the_time_of_a_query_is_that_of_the_last_event(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """As for all code of the workflow."""

    @workflow
    async def clocked() -> None:
        on_query("now", lambda: now().timestamp())
        await receive("never")

    async with Engine(memory, workflows=[clocked], clock=clock) as engine:
        handle = await engine.start(clocked)
        started = await handle.query("now")
        await clock.advance(100)
        assert await handle.query("now") == started
        await handle.signal("other")
        assert await handle.query("now") == pytest.approx(started + 100)


async def test_few_replays_are_kept(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were asked last; an engine that is left keeps none."""
    monkeypatch.setattr(queries, "_KEPT_MAX", 3)
    async with Engine(memory, workflows=[Cart]) as engine:
        handles = [await engine.start(Cart, id=f"{number}") for number in range(6)]
        for handle in handles:
            assert await handle.query(Cart.total) == 0
        assert await handles[3].query(Cart.total) == 0
        assert await handles[0].query(Cart.total) == 0
        kept = engine._workflows.queries._replays
        assert list(kept) == ["5", "3", "0"]
    assert not kept


async def test_many_may_ask_at_once(place: str | Store) -> None:
    """Each gets an answer, while the log grows."""
    async with Engine(place, workflows=[Cart]) as engine:
        handle = await engine.start(Cart)

        async def ask() -> list[int]:
            return [await handle.query(Cart.total) for _ in range(10)]

        asking = [asyncio.create_task(ask()) for _ in range(5)]
        for _ in range(10):
            await handle.signal(Cart.add, "x")
        for answers in await asyncio.gather(*asking):
            assert answers == sorted(answers)
        async for recorded in handle.events():
            if recorded.seq == 21:
                break
        assert await handle.query(Cart.total) == 10


def test_a_coroutine_that_a_handler_returns_is_closed() -> None:
    """Nobody is warned of one that was never awaited."""
    code = Execution(Cart.__workflow__, "wf")  # type: ignore[abstract, attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ReadOnlyError, match="returned a coroutine"):
            code.aside(lambda: asyncio.sleep(1), ())
    code.close()


@workflow
class Rounds:
    """Begins anew at each signal, and may fail once."""

    def __init__(self) -> None:
        self.round = -1
        self.paid = 0

    async def run(self, number: int) -> int:
        self.round = number
        self.paid = await price_of("x" * number)
        if (await receive("next")) == "again":
            continue_as_new(number + 1)
        await fails_at_first(number)
        return number

    @query
    def here(self) -> list[int]:
        return [self.round, self.paid]


class Mended:
    """Whether the step below works by now."""

    now = False


@step
async def fails_at_first(number: int) -> int:
    if not Mended.now:
        raise LookupError(number)
    return number


async def test_a_query_sees_the_run_that_there_is(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a new run, in a copy, and after a failed workflow was sent round again."""
    monkeypatch.setattr(Mended, "now", False)
    async with Engine(memory, workflows=[Rounds]) as engine:
        handle = await engine.start(Rounds, 1)
        for number in (1, 2, 3):
            await settle()
            assert await handle.query(Rounds.here) == [number, number]
            await handle.signal("next", "again")
        await settle()
        copy = await handle.fork()
        assert await copy.query(Rounds.here) == [4, 4]
        await handle.signal("next", "end")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        assert await handle.query(Rounds.here) == [4, 4]
        Mended.now = True
        await handle.retry_from()
        assert await handle.result() == 4
        assert await handle.query(Rounds.here) == [4, 4]
        assert (await copy.status()).state is WorkflowState.RUNNING


async def test_whoever_was_removed_answers_no_more(place: str | Store, clock: ManualClock) -> None:
    """Nor for another workflow that has its id by now, however far that has come."""
    async with Engine(place, workflows=[Cart], clock=clock) as engine:
        for items in (["ring", "car"], [], ["a", "b", "c"]):
            handle = await engine.start(Cart, id="one")
            for item in items:
                await handle.signal(Cart.add, item)
            await handle.signal(Cart.close)
            assert await handle.query(Cart.total) <= sum(map(len, items))
            assert await handle.result() == len(items)
            assert await handle.query(Cart.total) == sum(map(len, items))
            await clock.advance(1)
            assert await sweep(engine._services, Retention(0)) == 1
        with pytest.raises(WorkflowNotFoundError):
            await handle.query(Cart.total)
