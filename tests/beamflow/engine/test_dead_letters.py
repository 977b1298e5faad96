"""Dead letters: what lands there, and the ways back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DeadLetterError,
    DeadLetterReason,
    DeadLetterState,
    Engine,
    PayloadError,
    UnknownWorkflowError,
    WorkflowExistsError,
    WorkflowState,
    WorkflowStateError,
    saga,
    step,
    workflow,
)
from beamflow.events import (
    DeadLetterResolved,
    DeadLetterRetried,
    WorkflowRetried,
    WorkflowStarted,
)
from beamflow.model.ids import DEAD_LETTERS
from beamflow.stores.memory import MemoryStore
from tests.beamflow.engine.outage import (
    fails,
    healthy,
    letters_log,
    parks,
    reserve,
    sell,
    ship,
    undo_me,
)

if TYPE_CHECKING:
    from beamflow.events import Recorded
    from beamflow.stores.base import Store
    from supervision.testing import ManualClock


@pytest.fixture(autouse=True)
def _nothing_works() -> None:
    healthy.clear()


@workflow
async def broken(what: str) -> None:
    raise KeyError(what)


# what has failed


async def test_a_failed_step_leaves_all_that_is_known_of_it(place: str | Store) -> None:
    """Reason, step, error, attempts, arguments; the same after a restart."""
    for _ in range(2):
        async with Engine(place, workflows=[sell]) as engine:
            await fails(await engine.start(sell, "tea", 3, id="one"))
            letter = await engine.dead_letters.show("one")
            assert [letter] == await engine.dead_letters.list()
            assert (letter.workflow_id, letter.workflow) == ("one", "sell")
            assert (letter.reason, letter.step) == (DeadLetterReason.STEP_FAILED, "ship")
            assert letter.error.type == "builtins.ConnectionError"
            assert letter.error.message == "no way for tea"
            assert (letter.attempts, letter.context) == (2, ["tea", 3])
            assert letter.state is DeadLetterState.OPEN


async def test_an_error_of_the_code_leaves_the_workflows_arguments(place: str | Store) -> None:
    """There is no step to blame."""
    async with Engine(place, workflows=[broken]) as engine:
        await fails(await engine.start(broken, "wheel", id="one"))
        letter = await engine.dead_letters.show("one")
    assert (letter.reason, letter.step) == (DeadLetterReason.WORKFLOW_ERROR, None)
    assert letter.context == ["wheel"]


async def test_letters_are_listed_by_state_and_workflow(
    memory: MemoryStore, clock: ManualClock
) -> None:
    """Oldest first, over as many pages as there are."""
    async with Engine(memory, workflows=[sell, broken], clock=clock) as engine:
        for number in range(120):
            await fails(await engine.start(broken, "wheel", id=f"{number:03}"))
            await clock.advance(1)
        await fails(await engine.start(sell, "tea", 1, id="sold"))
        queue = engine.dead_letters
        await queue.resolve("007", "done by hand")
        listed = [letter.workflow_id for letter in await queue.list()]
        assert listed == [f"{number:03}" for number in range(120) if number != 7] + ["sold"]
        assert [one.workflow_id for one in await queue.list(workflow="sell")] == ["sold"]
        (resolved,) = await queue.list(state=DeadLetterState.RESOLVED)
        assert (resolved.workflow_id, resolved.note) == ("007", "done by hand")
        assert len(await queue.list(state=None)) == 121
        assert await queue.list(state=DeadLetterState.RETRIED) == []


async def test_what_has_no_letter_is_a_typed_error(place: str | Store) -> None:
    """For one that works, one that is closed, and one that is nothing."""
    async with Engine(place, workflows=[sell]) as engine:
        healthy.add("tea")
        await (await engine.start(sell, "tea", 1, id="fine")).result()
        for name in ("fine", "nobody"):
            for call in (
                engine.dead_letters.show(name),
                engine.dead_letters.retry(name),
                engine.dead_letters.resolve(name, "?"),
            ):
                with pytest.raises(DeadLetterError, match=f"'{name}' has no"):
                    await call


async def test_a_failed_workflow_goes_on_from_the_step_that_failed(place: str | Store) -> None:
    """Under its id, as often as it takes; each failure leaves a letter of its own."""
    async with Engine(place, workflows=[sell]) as engine:
        handle = await engine.start(sell, "tea", 3, id="one")
        await fails(handle)
        before = await handle.history()
        assert await engine.dead_letters.retry("one") == "one"
        await fails(handle)
        healthy.add("tea")
        assert await engine.dead_letters.retry("one") == "one"
        assert await handle.result() == "3 shipped"
        assert (await handle.history())[: len(before)] == before
        assert await engine.dead_letters.list() == []
        assert len(await engine.dead_letters.list(state=None)) == 2
        assert (await engine.dead_letters.show("one")).retried_as == "one"
        assert (await engine.dead_letters.show("one")).state is DeadLetterState.RETRIED
        with pytest.raises(DeadLetterError):
            await engine.dead_letters.retry("one")


async def test_one_that_was_undone_is_retried_as_a_new_one(place: str | Store) -> None:
    """With the same input, as ``~1``, then ``~2``; the failed one stays as it is."""
    healthy.add("room")
    async with Engine(place, workflows=[undo_me]) as engine:
        handle = await engine.start(undo_me, "room", id="one")
        await fails(handle)
        before = await handle.history()
        assert await engine.dead_letters.retry("one") == "one~1"
        await fails(engine.handle("one~1"))
        assert await engine.dead_letters.retry("one~1") == "one~2"
        await fails(engine.handle("one~2"))
        assert await handle.history() == before
        started = (await engine.handle("one~2").history())[0].event
        assert isinstance(started, WorkflowStarted)
        assert started.retry_of == "one~1"
        assert (await engine.dead_letters.show("one")).retried_as == "one~1"
        assert (await engine.dead_letters.show("one")).state is DeadLetterState.RETRIED


async def test_retries_at_the_same_time_are_one(place: str | Store) -> None:
    """All send the same workflow round, or hear that the letter is closed."""
    async with Engine(place, workflows=[sell]) as engine:
        await fails(await engine.start(sell, "tea", 3, id="one"))
        healthy.add("tea")
        said = await asyncio.gather(
            *(engine.dead_letters.retry("one") for _ in range(5)), return_exceptions=True
        )
        assert {one for one in said if isinstance(one, str)} == {"one"}
        assert all(isinstance(one, str | DeadLetterError | WorkflowStateError) for one in said)
        assert await engine.handle("one").result() == "3 shipped"
        assert [one.id async for one in engine.find()] == ["one"]
        history = await engine.handle("one").history()
        assert sum(isinstance(one.event, WorkflowRetried) for one in history) == 1


async def test_new_ones_at_the_same_time_are_one(place: str | Store) -> None:
    """All come to the same new workflow, or hear that the letter is closed."""
    healthy.add("room")
    async with Engine(place, workflows=[undo_me]) as engine:
        await fails(await engine.start(undo_me, "room", id="one"))
        said = await asyncio.gather(
            *(engine.dead_letters.retry("one") for _ in range(5)), return_exceptions=True
        )
        assert {one for one in said if isinstance(one, str)} == {"one~1"}
        assert all(isinstance(one, str | DeadLetterError) for one in said)
        await fails(engine.handle("one~1"))
        assert [one.id async for one in engine.find()] == ["one", "one~1"]
        assert (await letters_log(engine)) == [DeadLetterRetried]


async def test_a_retry_that_was_cut_off_is_done_by_the_next(place: str | Store) -> None:
    """The new workflow was there already; the letter is closed, nothing runs twice."""
    healthy.add("room")
    async with Engine(place, workflows=[undo_me]) as engine:
        await fails(await engine.start(undo_me, "room", id="one"))
        await fails(await engine.start(undo_me, "room", id="one~1"))
        assert await engine.dead_letters.retry("one") == "one~1"
        assert [one.workflow_id for one in await engine.dead_letters.list()] == ["one~1"]


async def test_a_retry_finds_its_id_taken(place: str | Store) -> None:
    """By something else: the letter stays open."""
    healthy.update({"room", "coffee"})
    async with Engine(place, workflows=[sell, undo_me]) as engine:
        await (await engine.start(sell, "coffee", 1, id="one~1")).result()
        await fails(await engine.start(undo_me, "room", id="one"))
        with pytest.raises(WorkflowExistsError):
            await engine.dead_letters.retry("one")
        assert [one.workflow_id for one in await engine.dead_letters.list()] == ["one"]


async def test_a_failed_workflow_whose_code_is_gone_cannot_be_retried(place: str | Store) -> None:
    """Until the code is back."""
    async with Engine(place, workflows=[sell]) as engine:
        await fails(await engine.start(sell, "tea", 3, id="one"))
    healthy.add("tea")
    async with Engine(place, workflows=[]) as engine:
        with pytest.raises(UnknownWorkflowError):
            await engine.dead_letters.retry("one")
        assert await engine.dead_letters.retry_all() == []
    async with Engine(place, workflows=[sell]) as engine:
        assert await engine.dead_letters.retry("one") == "one"
        assert await engine.handle("one").result() == "3 shipped"


async def test_resolving_closes_a_letter_and_nothing_else(place: str | Store) -> None:
    """With a note; the workflow stays failed, and the letter stays closed after a restart."""
    async with Engine(place, workflows=[sell]) as engine:
        await fails(await engine.start(sell, "tea", 3, id="one"))
        await engine.dead_letters.resolve("one", "told the customer")
        with pytest.raises(DeadLetterError):
            await engine.dead_letters.resolve("one", "again")
    async with Engine(place, workflows=[sell]) as engine:
        letter = await engine.dead_letters.show("one")
        assert (letter.state, letter.note) == (DeadLetterState.RESOLVED, "told the customer")
        assert letter.closed_at is not None
        assert await letters_log(engine) == [DeadLetterResolved]
        assert (await engine.handle("one").status()).state is WorkflowState.FAILED


@pytest.mark.parametrize("note", [None, 5, "\ud800"])
async def test_a_note_that_is_no_text_is_refused(place: str | Store, note: Any) -> None:
    """Nothing of it reaches a log, which no engine could read again."""
    async with Engine(place, workflows=[sell]) as engine:
        handle = await engine.start(sell, "tea", 3, id="one")
        await fails(handle)
        lease = engine._services.lease
        for ask in (engine.dead_letters.resolve("one", note), handle.retry_from(note=note)):
            with pytest.raises(PayloadError, match="note of"):
                await ask
        assert engine._services.lease is lease, "nothing was started again"
    async with Engine(place, workflows=[sell]) as engine:
        await engine.dead_letters.resolve("one", "told the customer")


# many at once


async def test_all_can_be_retried_at_once(place: str | Store) -> None:
    """Or those of one workflow, or of one reason; the ids say under which they go on."""
    async with Engine(place, workflows=[sell, broken, undo_me]) as engine:
        queue = engine.dead_letters
        await fails(await engine.start(sell, "tea", 1, id="tea"))
        await fails(await engine.start(sell, "milk", 2, id="milk"))
        await fails(await engine.start(broken, "wheel", id="wheel"))
        await parks(await engine.start(undo_me, "room", id="room"))
        healthy.update({"tea", "milk", "room"})
        assert await queue.retry_all(reason=DeadLetterReason.COMPENSATION_FAILED) == ["room"]
        await fails(engine.handle("room"))
        assert await queue.retry_all(workflow="sell") == ["tea", "milk"]
        assert await engine.handle("tea").result() == "1 shipped"
        assert await engine.handle("milk").result() == "2 shipped"
        assert await queue.retry_all(workflow="sell") == []
        assert sorted(await queue.retry_all()) == ["room~1", "wheel"]
        await fails(engine.handle("room~1"))
        await fails(engine.handle("wheel"))


async def test_one_that_cannot_be_retried_stops_no_other(place: str | Store) -> None:
    """It keeps its letter."""
    async with Engine(place, workflows=[sell, broken]) as engine:
        await fails(await engine.start(broken, "wheel", id="wheel"))
        await fails(await engine.start(sell, "tea", 1, id="tea"))
    healthy.add("tea")
    async with Engine(place, workflows=[sell]) as engine:
        assert await engine.dead_letters.retry_all() == ["tea"]
        assert await engine.handle("tea").result() == "1 shipped"
        assert [one.workflow_id for one in await engine.dead_letters.list()] == ["wheel"]


# several of one workflow


@step
async def refuse() -> None:
    raise ValueError


@workflow
async def unlucky() -> str:
    try:
        async with saga():
            await reserve("room")
            await refuse()
    except ValueError:
        return await ship("tea", 3)


async def states(engine: Engine) -> dict[int, DeadLetterState]:
    """In which state each letter is, by its number."""
    letters = await engine.dead_letters.list(state=None)
    assert {letter.workflow_id for letter in letters} == {"one"}
    return {letter.number: letter.state for letter in letters}


OPEN, RETRIED, RESOLVED = (
    DeadLetterState.OPEN,
    DeadLetterState.RETRIED,
    DeadLetterState.RESOLVED,
)


async def test_each_letter_of_a_workflow_is_shown_by_its_number(place: str | Store) -> None:
    """The latest one without a number; the same after a restart."""
    for _ in range(2):
        async with Engine(place, workflows=[unlucky]) as engine:
            await fails(await engine.start(unlucky, id="one"))
            show = engine.dead_letters.show
            first, second = await show("one", letter=1), await show("one", letter=2)
            assert (first.step, first.outcome) == ("reserve", WorkflowState.RUNNING)
            assert (second.step, second.outcome) == ("ship", WorkflowState.FAILED)
            assert await show("one") == second
            assert [first, second] == await engine.dead_letters.list()
            with pytest.raises(DeadLetterError, match="'one' has no dead letter 3"):
                await show("one", letter=3)


async def test_a_retry_is_about_the_letter_it_names(place: str | Store) -> None:
    """One of what the workflow has gone on without stays open; each failure is a letter more."""
    async with Engine(place, workflows=[unlucky]) as engine:
        handle = await engine.start(unlucky, id="one")
        await fails(handle)
        with pytest.raises(DeadLetterError, match=r"has gone on without.*letter=1\)"):
            await engine.dead_letters.retry("one", letter=1)
        assert await engine.dead_letters.retry("one", letter=2) == "one"
        await fails(handle)
        assert await states(engine) == {1: OPEN, 2: RETRIED, 3: OPEN}
    async with Engine(place, workflows=[unlucky]) as engine:
        with pytest.raises(DeadLetterError, match="no open dead letter 2"):
            await engine.dead_letters.retry("one", letter=2)
        healthy.add("tea")
        assert await engine.dead_letters.retry("one") == "one"
        assert await engine.handle("one").result() == "3 shipped"
        assert await states(engine) == {1: OPEN, 2: RETRIED, 3: RETRIED}
        with pytest.raises(DeadLetterError, match="has gone on without"):
            await engine.dead_letters.retry("one")


async def test_resolving_is_about_the_letter_it_names(place: str | Store) -> None:
    """The latest open one without a number; whoever is resolved is no more, the others are."""
    async with Engine(place, workflows=[unlucky]) as engine:
        await fails(await engine.start(unlucky, id="one"))
        resolve = engine.dead_letters.resolve
        await resolve("one", "released by phone", letter=1)
        assert await states(engine) == {1: RESOLVED, 2: OPEN}
        for number in (1, 3):
            with pytest.raises(DeadLetterError, match=f"no open dead letter {number}"):
                await resolve("one", "again", letter=number)
    async with Engine(place, workflows=[unlucky]) as engine:
        assert await engine.dead_letters.retry("one") == "one"
        await fails(engine.handle("one"))
        await engine.dead_letters.resolve("one", "sent by somebody else")
        assert await states(engine) == {1: RESOLVED, 2: RETRIED, 3: RESOLVED}
        notes = [one.note for one in await engine.dead_letters.list(state=RESOLVED)]
        assert notes == ["released by phone", "sent by somebody else"]
        with pytest.raises(DeadLetterError, match="has no open dead letter"):
            await engine.dead_letters.resolve("one", "once more")


async def test_all_letters_of_one_workflow_are_sent_round_by_the_one_that_can(
    place: str | Store,
) -> None:
    """What the workflow has gone on without stops no other letter."""
    async with Engine(place, workflows=[unlucky]) as engine:
        await fails(await engine.start(unlucky, id="one"))
        healthy.add("tea")
        assert await engine.dead_letters.retry_all() == ["one"]
        assert await engine.handle("one").result() == "3 shipped"
        assert await states(engine) == {1: OPEN, 2: RETRIED}


class Unread(MemoryStore):
    """A store whose dead letters' stream is too long for anybody to read."""

    async def read(self, stream: str, after: int = 0) -> list[Recorded]:
        """Read any other stream, or a single letter."""
        records = await super().read(stream, after)
        assert stream != DEAD_LETTERS or len(records) < 2
        return records


async def test_of_the_log_of_dead_letters_the_end_is_read() -> None:
    """However long it has become: an engine goes on where it ends, and so does the next one."""
    store = Unread(clock=lambda: 0)
    for number in range(3):
        async with Engine(store, workflows=[sell]) as engine:
            await fails(await engine.start(sell, "tea", 3, id=f"{number}"))
            await engine.dead_letters.resolve(f"{number}", "sent by somebody else")
            log = await MemoryStore.read(store, DEAD_LETTERS)
            assert [one.seq for one in log] == list(range(1, number + 2))
