"""Patches: an answer is the same in every life, and no log of old code is taken for one of new."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from beamflow import Engine, ReadOnlyError, on_query, patched, receive, step, workflow
from beamflow.engine.execution import replay
from beamflow.events import PatchMarked, SignalReceived, StepCompleted, WorkflowStarted
from beamflow.stores.memory import MemoryStore
from supervision.testing import settle
from tests.beamflow.engine.cuts import cut_store
from tests.beamflow.engine.driver import SECOND, Driver

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from beamflow import Workflow
    from beamflow.model.events import Event, Recorded
    from beamflow.stores.base import Sleep, Store
    from supervision.testing import ManualClock


@step
async def pay(amount: int) -> int:
    return amount


@step
async def bill(amount: int) -> int:
    return amount


@workflow(name="order")
async def old_order() -> str:
    await pay(1)
    await receive("go")
    await pay(2)
    return "paid"


@workflow(name="order")
async def new_order() -> str:
    await pay(1)
    await receive("go")
    if patched("bill"):
        await bill(2)
        return "billed"
    await pay(2)
    return "paid"


@workflow(name="order")
async def last_order() -> str:
    await pay(1)
    await receive("go")
    await bill(2)
    return "billed"


def markers(history: Sequence[Recorded]) -> list[str]:
    return [one.event.name for one in history if isinstance(one.event, PatchMarked)]


def went(history: Sequence[Recorded]) -> bool:
    return any(isinstance(one.event, SignalReceived) for one in history)


async def ended(definition: Workflow[..., Any], store: str | Store) -> tuple[str, list[Recorded]]:
    """Start the one workflow, or take it on from where it is, and send it on its way."""
    async with Engine(store, workflows=[definition]) as engine:
        handle = await engine.start(definition, id="one")
        async for recorded in handle.events():
            if isinstance(recorded.event, StepCompleted):
                break
        await handle.signal("go")
        return await handle.result(), await handle.history()


async def test_who_comes_there_first_takes_the_new_branch(
    place: str | Store, memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marker is in the log, and it came with what the code acted on."""
    appends: list[list[type]] = []
    append = memory.append

    async def counted(*args: Any, **options: Any) -> None:
        appends.append([type(each) for each in args[2]])
        await append(*args, **options)

    monkeypatch.setattr(memory, "append", counted)
    result, history = await ended(new_order, place)
    assert (result, markers(history)) == ("billed", ["bill"])
    if place is memory:
        (marked,) = (each for each in appends if PatchMarked in each)
        assert len(marked) == 2


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_code_that_is_changed_at_any_event_leads_on(tmp_path: Path, kind: str) -> None:
    """Who has been there with the old code stays with it; the end is recorded once, and replays."""
    _, history = await ended(old_order, "memory://")
    for cut in range(1, len(history)):
        file = tmp_path / f"{cut}.db" if kind == "sqlite" else None
        store = await cut_store(history, cut, file)
        has_been_there = went(history[:cut])
        async with Engine(store, workflows=[new_order]) as engine:
            handle = engine.handle("one")
            if not has_been_there:
                await handle.signal("go")
            result = await handle.result()
            now = await handle.history()
        if has_been_there:
            assert (result, markers(now)) == ("paid", []), cut
        else:
            assert (result, markers(now)) == ("billed", ["bill"]), cut
        for end in range(1, len(now) + 1):
            replay(new_order, "one", now[:end]).close()


async def test_a_patch_retires_without_a_word() -> None:
    """A marker that no code asks for is passed over: the question can go with the old branch."""
    result, history = await ended(new_order, "memory://")
    assert (result, markers(history)) == ("billed", ["bill"])
    for cut in range(1, len(history)):
        store = await cut_store(history, cut)
        async with Engine(store, workflows=[last_order]) as engine:
            handle = engine.handle("one")
            if not went(history[:cut]):
                await handle.signal("go")
            assert await handle.result() == "billed"


async def test_an_answer_stays_where_the_code_asks_again(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Who was told no goes on with the old branch, though it comes there live the next time."""

    @workflow(name="loop")
    async def old_loop() -> list[bool]:
        for _ in range(4):
            await asyncio.sleep(10)
        return [False] * 4

    @workflow(name="loop")
    async def new_loop() -> list[bool]:
        answers = []
        for _ in range(4):
            answers.append(patched("x"))
            await asyncio.sleep(10)
        return answers

    async with Engine(memory, workflows=[old_loop], clock=clock) as engine:
        await engine.start(old_loop, id="one")
        await clock.advance(15)
    for _ in range(3):
        async with Engine(memory, workflows=[new_loop], clock=clock) as engine:
            await settle()
            await clock.advance(10)
            handle = engine.handle("one")
    async with Engine(memory, workflows=[new_loop], clock=clock) as engine:
        handle = engine.handle("one")
        assert await handle.result() == [False] * 4
        assert markers(await handle.history()) == []
        handle = await engine.start(new_loop, id="two")
        for _ in range(4):
            await clock.advance(11)
        assert await handle.result() == [True] * 4
        assert markers(await handle.history()) == ["x"]


@pytest.mark.invariant("I3")
async def test_an_answer_is_in_the_log_with_what_the_question_followed(
    clock: ManualClock,
) -> None:
    """With the start, most of all: no death of the process comes between the two."""
    appends: list[list[type]] = []

    class Listed(MemoryStore):
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
            appends.append([type(event) for event in events])
            await super().append(stream, expected, events, time=time, epoch=epoch, sleep=sleep)

    @workflow
    async def asked() -> str:
        way = "new" if patched("x") else "old"
        await receive("go")
        return way

    async with Engine(Listed(clock=lambda: 0), workflows=[asked], clock=clock) as engine:
        handle = await engine.start(asked, id="one")
        assert markers(await handle.history()) == ["x"]
        assert appends == [[WorkflowStarted, PatchMarked]]
        await handle.signal("go")
        assert await handle.result() == "new"


async def test_a_query_cannot_ask_for_a_patch(memory: MemoryStore, clock: ManualClock) -> None:
    """The answer would have to be recorded; one that the code has is there to be read."""

    @workflow
    async def asked() -> bool:
        on_query("other", lambda: patched("other"))
        on_query("own", lambda: patched("own"))
        own = patched("own")
        await receive("go")
        return own and patched("other")

    async with Engine(memory, workflows=[asked], clock=clock) as engine:
        handle = await engine.start(asked, id="one")
        await settle()
        with pytest.raises(ReadOnlyError):
            await handle.query("other")
        assert await handle.query("own") is True
        await handle.signal("go")
        assert await handle.result() is True
        assert markers(await handle.history()) == ["own", "other"]


# Any program, changed and cut anywhere

Program = list[Any]
code_is_new = [True]


async def run(nodes: Program) -> None:
    for node in nodes:
        match node:
            case ["step", number]:
                await pay(number)
            case ["sleep", seconds]:
                await asyncio.sleep(seconds)
            case ["all", branches]:
                await asyncio.gather(*(run([each]) for each in branches))
            case ["twice", body]:
                await run([*body, *body])
            case ["patch", name, new, old]:
                await run(new if code_is_new[0] and patched(name) else old)
            case _:
                raise AssertionError(node)


@workflow
async def interpreted(program: Any) -> None:
    await run(program)


_leaves = st.one_of(
    st.tuples(st.just("step"), st.integers(0, 9)), st.tuples(st.just("sleep"), st.integers(1, 3))
)


def _compound(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(children, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("patch"), st.sampled_from("ab"), some, some),
        st.tuples(st.just("all"), some),
        st.tuples(st.just("twice"), some),
    )


programs = st.lists(st.recursive(_leaves, _compound, max_leaves=8), min_size=1, max_size=4)
tapes = st.lists(st.integers(0, 255), max_size=40)
Answers = dict[str, bool]


def answers_of(driver: Driver) -> Answers:
    patches = driver.execution.patches
    return {} if patches is None else dict(patches.answers)


def go_on(driver: Driver, tape: Sequence[int]) -> dict[int, Answers]:
    """Let happen what the tape says; return the answers at the end of each append."""
    numbers: Iterator[int] = iter(tape)
    driver.take()
    at = {len(driver.log): answers_of(driver)}
    while not driver.execution.ended:
        there: list[Any] = [*driver.calls, *driver.timers]
        number = next(numbers, None)
        if number is None or not there:
            break
        what = there[number % len(there)]
        if isinstance(what, int):
            driver.fire(what)
        else:
            driver.take(driver.completed(what, what.op), after=SECOND)
        driver.take()  # what follows is in the same append
        at[len(driver.log)] = answers_of(driver)
    return at


def assert_kept(earlier: Answers, later: Answers) -> None:
    assert earlier.items() <= later.items()


@pytest.mark.invariant("I30")
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=300, deadline=None)
@given(programs, tapes, tapes, st.integers(0, 40))
def test_no_answer_ever_changes(
    program: Program, tape: list[int], other: list[int], age: int
) -> None:
    """Old code runs for a while, new code goes on, and is cut off at each append of its life."""
    code_is_new[0] = False
    driver = Driver.start(interpreted, program)
    go_on(driver, tape[:age])
    driver.execution.close()
    code_is_new[0] = True
    driver = Driver.resume(interpreted, driver.log)
    first = answers_of(driver)
    assert not any(first.values())
    lived = go_on(driver, tape[age:])
    driver.execution.close()
    log = driver.log
    event(f"both branches: {len(set(answers_of(driver).values())) == 2}")
    event(f"marked: {any(answers_of(driver).values())}")
    for end, answers in lived.items():
        again = Driver.resume(interpreted, log[:end])
        assert answers_of(again) == answers
        elsewhere = go_on(again, other)
        for later in elsewhere.values():
            assert_kept(answers, later)
        once_more = Driver.resume(interpreted, again.log)
        assert answers_of(once_more) == answers_of(again)
        assert len(markers(again.log)) == sum(answers_of(again).values())
        for each in (again, once_more):
            each.execution.close()


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=100, deadline=None)
@given(programs, tapes, tapes)
def test_who_is_cut_off_right_after_the_start_counts_as_old(
    program: Program, tape: list[int], other: list[int]
) -> None:
    """Nothing tells whether the old code has acted; no answer after that ever changes."""
    code_is_new[0] = True
    driver = Driver.start(interpreted, program)
    asked = answers_of(driver)
    assert all(asked.values())
    driver.execution.close()
    assert [type(one.event) for one in driver.log] == [WorkflowStarted]
    again = Driver.resume(interpreted, driver.log)
    assert not any(answers_of(again).values())
    lived = go_on(again, [*tape, *other])
    for end, answers in lived.items():
        cut = Driver.resume(interpreted, again.log[:end])
        assert answers_of(cut) == answers
        cut.execution.close()
    again.execution.close()
