"""Versions side by side: what is open stays with the code that it was started with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DeadLetterReason,
    DuplicateWorkflowError,
    Engine,
    UnknownWorkflowError,
    WorkflowFailedError,
    WorkflowParkedError,
    receive,
    step,
    workflow,
)
from beamflow.engine.definitions import Definitions
from beamflow.events import SignalReceived, WorkflowStarted
from supervision.testing import settle

if TYPE_CHECKING:
    from beamflow.stores.base import Store
    from supervision.testing import ManualClock


@step
async def pack(what: str) -> str:
    return f"packed {what}"


@step
async def wrap(what: str) -> str:
    return f"wrapped {what}"


@workflow(name="order")
async def order_1(what: str) -> str:
    word: str = await receive("word", str)
    return f"{await pack(what)} {word}"


@workflow(name="order", version=2)
async def order_2(what: str) -> str:
    gift = await wrap(what)
    word: str = await receive("word", str)
    return f"{gift} {word}"


@workflow(name="order", version=2)
async def other_order_2(what: str) -> str:
    return what


def test_a_definition_is_found_by_name_and_version() -> None:
    """An unknown one names those that there are."""
    there = Definitions([order_2, order_1, order_1])
    assert there.get("order", 1) is order_1
    assert there.get("order", 2) is order_2
    with pytest.raises(UnknownWorkflowError, match="'order' in version 1, 2, not in version 3"):
        there.get("order", 3)
    with pytest.raises(UnknownWorkflowError, match=r"'gift' \(it has: order\)"):
        there.get("gift", 1)
    with pytest.raises(UnknownWorkflowError, match="it has: none"):
        Definitions([]).get("gift", 1)


def test_a_name_and_version_belong_to_one_workflow() -> None:
    """Two of them are refused, whichever is meant."""
    with pytest.raises(DuplicateWorkflowError, match="called 'order', version 2"):
        Definitions([order_2, other_order_2])


async def test_the_one_that_is_started_is_the_one_given() -> None:
    """Not another object of the same name and version, nor a version that the engine has not."""
    async with Engine("memory://", workflows=[order_1, order_2]) as engine:
        with pytest.raises(UnknownWorkflowError, match="another workflow called 'order'"):
            await engine.start(other_order_2, "tea")
    async with Engine("memory://", workflows=[order_1]) as engine:
        with pytest.raises(UnknownWorkflowError, match="in version 1, not in version 2"):
            await engine.start(order_2, "tea")


@pytest.mark.invariant("I30")
async def test_an_open_workflow_stays_with_its_version(
    place: str | Store, clock: ManualClock
) -> None:
    """Over a restart with both, without its own, and with both again."""
    async with Engine(place, workflows=[order_1], clock=clock) as engine:
        await engine.start(order_1, "tea", id="old")
    async with Engine(place, workflows=[order_2, order_1], clock=clock) as engine:
        await engine.start(order_2, "tea", id="new")
        starts = [(await engine.handle(each).history())[0].event for each in ("old", "new")]
        assert [isinstance(one, WorkflowStarted) and one.version for one in starts] == [1, 2]
        await engine.handle("new").signal("word", "now")
        assert await engine.handle("new").result() == "wrapped tea now"
    async with Engine(place, workflows=[order_2], clock=clock) as engine:
        with pytest.raises(WorkflowParkedError, match="in version 2, not in version 1"):
            await engine.handle("old").result()
        (letter,) = await engine.dead_letters.list()
        assert letter.reason is DeadLetterReason.CODE_GONE
    async with Engine(place, workflows=[order_1, order_2], clock=clock) as engine:
        while await engine.dead_letters.list():  # it is let go on in its turn
            await settle()
        await engine.handle("old").signal("word", "then")
        assert await engine.handle("old").result() == "packed tea then"


async def test_a_start_says_which_code_it_was(place: str | Store, clock: ManualClock) -> None:
    """The fingerprint of the function stands in event 1."""
    async with Engine(place, workflows=[order_1], clock=clock) as engine:
        handle = await engine.start(order_1, "tea")
        first: Any = (await handle.history())[0].event
        assert first.fingerprint == order_1.fingerprint != ""


async def test_a_start_with_another_version_is_the_same_workflow(
    place: str | Store, clock: ManualClock
) -> None:
    """Starting is idempotent by id, name and arguments: a deployment in between changes nothing."""
    async with Engine(place, workflows=[order_1], clock=clock) as engine:
        await engine.start(order_1, "tea", id="one")
    async with Engine(place, workflows=[order_1, order_2], clock=clock) as engine:
        handle = await engine.start(order_2, "tea", id="one")
        await handle.signal("word", "then")
        assert await handle.result() == "packed tea then"
        history = await handle.history()
        assert sum(isinstance(one.event, WorkflowStarted) for one in history) == 1
        assert sum(isinstance(one.event, SignalReceived) for one in history) == 1


async def test_a_dead_letter_is_retried_with_its_version(
    place: str | Store, clock: ManualClock
) -> None:
    """The one that it failed with, also where there is a newer one."""
    fails = [True]

    @step
    async def ship() -> str:
        if fails:
            raise ValueError("no")
        return "shipped"

    @workflow(name="parcel")
    async def parcel_1() -> str:
        return f"first: {await ship()}"

    @workflow(name="parcel", version=2)
    async def parcel_2() -> str:
        return f"second: {await ship()}"

    async with Engine(place, workflows=[parcel_1, parcel_2], clock=clock) as engine:
        handle = await engine.start(parcel_1, id="one")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        fails.clear()
        again = await engine.dead_letters.retry("one")
        assert await engine.handle(again).result() == "first: shipped"
