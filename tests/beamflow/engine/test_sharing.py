"""Results shared by a key: one workflow makes it, the others have it, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DefinitionError,
    Engine,
    Retry,
    StepTimeoutError,
    WorkflowFailedError,
    WorkflowState,
    current_step,
    step,
    workflow,
)
from beamflow.engine.sharing import Claims, Key
from beamflow.engine.slots import KeyedSlots
from beamflow.events import StepCompleted
from beamflow.stores.memory import MemoryStore
from beamflow.testing.chaos_engine import ChaosEngine
from supervision.testing import settle
from tests.beamflow.engine.cuts import cut_store

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from beamflow import Recorded, WorkflowHandle
    from beamflow.stores.base import Store
    from supervision.chaos import Chaos
    from supervision.testing import ManualClock

ran: list[str] = []
gates: dict[str, asyncio.Event] = {}
BEGUN = "a body has begun"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    ran.clear()
    gates.clear()
    gates[BEGUN] = asyncio.Event()
    yield
    gates.clear()


async def effect(what: str) -> None:
    ran.append(f"{current_step().workflow_id} {what}")
    gates[BEGUN].set()
    if what in gates:
        await gates[what].wait()


async def has_run(count: int) -> None:
    """Wait until so many bodies have begun, and whatever else can begin has."""
    async with asyncio.timeout(10):
        while len(ran) < count:
            gates[BEGUN].clear()
            await gates[BEGUN].wait()
    await settle()


@step
async def charge(order: str) -> str:
    await effect("charge")
    return f"receipt of {order} for {current_step().workflow_id}"


@step(retry=Retry(max_attempts=2, initial=60.0, max=60.0, jitter=0.0))
async def stumble(order: str) -> str:
    await effect("stumble")
    if current_step().workflow_id == "a":
        raise ConnectionError(order)
    return order


@step(deadline=30.0)
async def hasty(order: str) -> str:
    await effect("hasty")
    return order


@workflow
async def sell(order: str) -> str:
    return await charge.idempotent(f"charge:{order}", ttl=3600)(order)


@workflow
async def tries(order: str) -> str:
    return await stumble.idempotent(order, ttl=3600)(order)


@workflow
async def hurries(order: str) -> str:
    return await hasty.idempotent(order, ttl=3600)(order)


@workflow
async def twice(order: str) -> list[str]:
    call = charge.idempotent(order, ttl=3600)
    return await asyncio.gather(call(order), call(order))


ALL = [sell, tries, hurries, twice]


def made(history: Iterable[Recorded]) -> list[str]:
    """Return the keys whose results were made here, not taken over."""
    events = [recorded.event for recorded in history]
    return [one.key for one in events if isinstance(one, StepCompleted) and one.key]


async def test_others_have_the_result_of_the_first(place: str | Store) -> None:
    """With the same key only; again after a restart; the log says whose result it is."""
    async with Engine(place, workflows=ALL) as engine:
        first = await (await engine.start(sell, "tea", id="a")).result()
        assert first == "receipt of tea for a"
        assert await (await engine.start(sell, "tea", id="b")).result() == first
        assert await (await engine.start(sell, "cup", id="c")).result() == "receipt of cup for c"
    async with Engine(place, workflows=ALL) as engine:
        assert await (await engine.start(sell, "tea", id="d")).result() == first
        assert await engine.handle("b").result() == first
        event = (await engine.handle("d").history())[1].event
        assert isinstance(event, StepCompleted)
        assert (event.taken_from, event.key) == ("a", "")
    assert ran == ["a charge", "c charge"]


async def test_those_that_come_meanwhile_wait(place: str | Store) -> None:
    """And have the result once it is durable; also within one workflow."""
    gates["charge"] = asyncio.Event()
    async with Engine(place, workflows=ALL) as engine:
        handles = [await engine.start(sell, "tea", id="a")]
        await has_run(1)
        handles += [await engine.start(sell, "tea", id=one) for one in "bc"]
        both = await engine.start(twice, "cup", id="d")
        await has_run(2)
        assert sorted(ran) == ["a charge", "d charge"]
        gates["charge"].set()
        results = {await handle.result() for handle in handles}
        assert results == {"receipt of tea for a"}
        assert await both.result() == ["receipt of cup for d"] * 2
    assert sorted(ran) == ["a charge", "d charge"]


async def test_it_is_kept_for_its_time(clock: ManualClock, memory: MemoryStore) -> None:
    """By the engine's clock, from when it was made."""
    async with Engine(memory, workflows=ALL, clock=clock) as engine:
        assert await (await engine.start(sell, "tea", id="a")).result() == "receipt of tea for a"
        await clock.advance(3599)
        assert await (await engine.start(sell, "tea", id="b")).result() == "receipt of tea for a"
        await clock.advance(1)
        assert await (await engine.start(sell, "tea", id="c")).result() == "receipt of tea for c"
        assert await (await engine.start(sell, "tea", id="d")).result() == "receipt of tea for c"


async def cancel(handle: WorkflowHandle[Any]) -> None:
    await handle.cancel()


async def terminate(handle: WorkflowHandle[Any]) -> None:
    await handle.terminate()


@pytest.mark.parametrize("end", [cancel, terminate])
async def test_the_next_one_takes_over_from_one_that_is_ended(
    place: str | Store, end: Callable[[WorkflowHandle[Any]], Coroutine[Any, Any, None]]
) -> None:
    """While its body runs; what it would have come to is nobody's result."""
    gates["charge"] = asyncio.Event()
    async with Engine(place, workflows=ALL) as engine:
        handles = [await engine.start(sell, "tea", id="a")]
        await has_run(1)
        handles += [await engine.start(sell, "tea", id=one) for one in "bc"]
        await settle()
        assert ran == ["a charge"]
        await end(handles[0])
        await has_run(2)
        gates["charge"].set()
        results = {await handle.result() for handle in handles[1:]}
        assert results < {"receipt of tea for b", "receipt of tea for c"}
    assert len(ran) == 2


async def test_the_next_one_takes_over_from_one_that_fails(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """For good: between two attempts nobody else is at it."""
    async with Engine(memory, workflows=ALL, clock=clock) as engine:
        failing = await engine.start(tries, "tea", id="a")
        await settle()
        other = await engine.start(tries, "tea", id="b")
        await settle()
        assert ran == ["a stumble"]
        await clock.advance(61)
        with pytest.raises(WorkflowFailedError):
            await failing.result()
        assert await other.result() == "tea"
    assert ran == ["a stumble", "a stumble", "b stumble"]


async def test_one_cancelled_between_two_attempts(clock: ManualClock, memory: MemoryStore) -> None:
    """It lets the next one be at it, without waiting for its time."""
    async with Engine(memory, workflows=ALL, clock=clock) as engine:
        failing = await engine.start(tries, "tea", id="a")
        await settle()
        other = await engine.start(tries, "tea", id="b")
        await settle()
        await failing.cancel()
        assert await other.result() == "tea"


async def test_one_that_waits_can_be_cancelled_and_is_not_waited_for(place: str | Store) -> None:
    """It was at nothing, so nobody notices."""
    gates["charge"] = asyncio.Event()
    async with Engine(place, workflows=ALL) as engine:
        handles = [await engine.start(sell, "tea", id="a")]
        await has_run(1)
        handles += [await engine.start(sell, "tea", id=one) for one in "bc"]
        await settle()
        await handles[1].cancel()
        assert (await handles[2].status()).state is WorkflowState.RUNNING
        gates["charge"].set()
        assert await handles[2].result() == "receipt of tea for a"
    assert ran == ["a charge"]


async def test_waiting_counts_for_the_deadline_of_the_step(
    clock: ManualClock, memory: MemoryStore
) -> None:
    """One that has waited for too long has failed, and its body has not run."""
    gates["hasty"] = asyncio.Event()
    async with Engine(memory, workflows=ALL, clock=clock) as engine:
        await engine.start(hurries, "tea", id="a")
        await settle()
        other = await engine.start(hurries, "tea", id="b")
        await clock.advance(31)
        with pytest.raises(WorkflowFailedError, match=StepTimeoutError.__name__):
            await other.result()
    assert ran == ["a hasty"]


async def test_all_hand_out_the_same_key() -> None:
    """So that an outside service knows the effect again, whoever takes over."""
    keys: list[str] = []

    @step
    async def pay() -> None:
        keys.append(current_step().idempotency_key)
        if len(keys) == 1:
            raise ValueError

    @workflow
    async def pays() -> None:
        await pay.idempotent("order-1", ttl=60)()

    async with Engine("memory://", workflows=[pays]) as engine:
        with pytest.raises(WorkflowFailedError):
            await (await engine.start(pays)).result()
        await (await engine.start(pays)).result()
    assert keys == ["$pay:order-1"] * 2


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_killed_at_any_append_it_is_made_once(kind: str, tmp_path: Any) -> None:
    """Two workflows, one key: whatever the log had of both, one has made it, both have it."""
    gates["charge"] = asyncio.Event()
    first = MemoryStore(clock=lambda: 0)
    async with Engine(first, workflows=ALL) as engine:
        handles = [await engine.start(sell, "tea", id=one) for one in "ab"]
        await has_run(1)
        gates["charge"].set()
        for handle in handles:
            await handle.result()
        histories = [await handle.history() for handle in handles]
    whole = sorted(
        (one for history in histories for one in history),
        key=lambda one: first._streams[one.stream][one.seq - 1].position,
    )
    assert len(whole) == 6
    for cut in range(2, len(whole) + 1):
        ran.clear()
        file = tmp_path / f"{cut}.db" if kind == "sqlite" else None
        place = await cut_store(whole, cut, file)
        async with Engine(place, workflows=ALL) as engine:
            handles = [engine.handle(one) for one in "ab"]
            results = [await handle.result() for handle in handles]
            histories = [await handle.history() for handle in handles]
        assert len(set(results)) == 1
        assert [*made(histories[0]), *made(histories[1])] == ["charge:tea"]
        assert len(ran) == (cut < 3)


@pytest.mark.chaos(profile="moderate", seeds=20)
async def test_under_chaos_it_is_made_once(chaos: Chaos) -> None:
    """Power cuts, lost commits, crashed actors: each key is recorded as made once."""
    async with ChaosEngine(chaos, workflows=[sell]) as engine:
        for number in range(9):
            await engine.start(sell, f"{number % 3}", id=f"{number}")
        chaos.calm()
        await engine.endings(within=86_400.0)
        keys: Counter[str] = Counter()
        for number in range(9):
            keys.update(made(await engine.handle(f"{number}").history()))
    assert set(keys.values()) == {1}


async def test_a_claim_of_one_that_is_leaving() -> None:
    """Whoever is cancelled while the store answers holds nothing."""
    keys: KeyedSlots[Key] = KeyedSlots(1)
    claims = Claims(keys)
    store = MemoryStore(clock=lambda: 0)
    await store.open()
    claims.close()
    with pytest.raises(asyncio.CancelledError):
        await claims.find(store, 1, ("s", "k"), 0)
    await keys.take(("s", "k"))
    await store.close()


def test_what_cannot_be_shared() -> None:
    """A key or a time that makes no sense; what others would have undone."""

    @step
    async def reserve() -> None: ...

    for key in ("", "a\n", "x" * 513, 1):
        with pytest.raises(DefinitionError, match="512 printable"):
            reserve.idempotent(key, ttl=1)  # type: ignore[arg-type]
    for ttl in (0, -1.0, float("nan"), float("inf"), "1"):
        with pytest.raises(DefinitionError, match="seconds above 0"):
            reserve.idempotent("k", ttl=ttl)  # type: ignore[arg-type]

    @reserve.compensation
    async def release(_reserved: None) -> None: ...

    with pytest.raises(DefinitionError, match="undo what the others rely on"):
        reserve.idempotent("k", ttl=1)


async def test_outside_a_workflow_the_step_just_runs() -> None:
    """Each time: there is no engine that could keep anything."""

    @step
    async def double(number: int) -> int:
        return 2 * number

    assert await double.idempotent("k", ttl=1)(2) == 4
    assert await double.idempotent("k", ttl=1)(3) == 6
