"""A replay that fails tells which line of the author's code went another way."""

from __future__ import annotations

import asyncio
import itertools
import linecache
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from msgspec.structs import replace

from beamflow import PayloadError, publish, start_child, step, workflow
from beamflow.engine.replay import replay
from beamflow.errors import NondeterminismError
from beamflow.model.events import WorkflowContinued, WorkflowStarted
from tests.beamflow.engine.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from beamflow.model.events import Recorded


@step
async def pay(amount: int) -> str:
    return f"paid {amount}"


@step
async def ship(to: str) -> str:
    return f"shipped to {to}"


async def original() -> Any:
    await pay(1)
    await pay(2)
    return await ship("x")


@pytest.fixture
def log() -> list[Recorded]:
    """Two payments made, a third thing asked for."""
    driver = Driver.start(workflow(name="code")(original))
    driver.complete("pay", "paid 1")
    driver.complete("pay", "paid 2")
    driver.execution.close()
    return driver.log


def diverged(code: Callable[[], Coroutine[Any, Any, Any]], log: list[Recorded]) -> Any:
    with pytest.raises(NondeterminismError) as caught:
        replay(workflow(name="code")(code), "wf", log)
    assert caught.value.__cause__ is None
    return caught.value


async def inline() -> None:
    await pay(1)
    await ship("y")  # here


async def gathered() -> None:
    await pay(1)
    await asyncio.gather(
        ship("y"),  # here
        ship("z"),
    )


async def in_a_task() -> None:
    await pay(1)
    async with asyncio.TaskGroup() as group:
        group.create_task(ship("y"))  # here


@workflow
async def packing(what: str) -> str:
    return await ship(what)


async def in_a_child() -> None:
    await pay(1)
    await packing("y")  # here


async def in_two_children() -> None:
    await pay(1)
    await asyncio.gather(
        packing("y"),  # here
        packing("z"),
    )


async def in_a_started_child() -> None:
    await pay(1)
    await start_child(packing, "y")  # here


async def made_earlier() -> None:
    shipping = ship("y")  # here
    await pay(1)
    await shipping


async def helper() -> None:
    await ship("y")  # here


async def in_a_helper() -> None:
    await pay(1)
    await helper()


async def in_the_task_of_a_helper() -> None:
    await pay(1)
    await asyncio.create_task(helper())


async def in_a_nursery() -> None:
    await pay(1)
    async with anyio.create_task_group() as group:
        group.start_soon(ship, "y")  # here


async def asleep() -> None:
    await pay(1)
    await asyncio.sleep(5)  # here


async def asleep_in_a_task() -> None:
    await pay(1)
    await asyncio.gather(asyncio.sleep(5), asyncio.sleep(6))  # here


async def asleep_behind_its_back() -> None:
    await pay(1)
    sleeping = asyncio.create_task(asyncio.sleep(5))  # here
    await asyncio.Event().wait()
    await sleeping


async def bounded() -> None:
    await pay(1)
    async with asyncio.timeout(5):  # here
        await pay(2)


async def waits() -> None:
    await pay(1)
    await asyncio.Event().wait()  # here


async def returns() -> None:  # here
    await pay(1)


async def notes_something_else() -> None:
    publish("state", "new")
    await pay(1)
    publish("other", 1)  # here
    publish("more", 2)


async def notes_nothing() -> None:
    publish("state", "new")
    await pay(1)
    await asyncio.Event().wait()  # here


async def raises() -> None:
    await pay(1)
    raise ValueError("no")  # here


PLACES = [
    (inline, "step 'ship'"),
    (gathered, "step 'ship'"),
    (in_a_task, "step 'ship'"),
    (made_earlier, "step 'ship'"),
    (in_a_child, "child workflow 'packing'"),
    (in_two_children, "child workflow 'packing'"),
    (in_a_started_child, "child workflow 'packing'"),
    (in_a_helper, "step 'ship'"),
    (in_the_task_of_a_helper, "step 'ship'"),
    (in_a_nursery, "step 'ship'"),
    (asleep, "a timer"),
    (asleep_in_a_task, "a timer"),
    (asleep_behind_its_back, "a timer"),
    (bounded, "a timer"),
    (waits, "the code waits after 1 commands"),
    (returns, "the workflow ended after 1 commands"),
    (raises, "the workflow ended after 1 commands"),
]


@pytest.mark.parametrize(("code", "issued"), PLACES, ids=lambda each: getattr(each, "__name__", ""))
def test_both_sides_are_shown_with_the_line(code: Any, issued: str, log: list[Recorded]) -> None:
    """The line where the author asked for it, not where asyncio came to it."""
    error = diverged(code, log)
    assert (error.seq, error.recorded[:10]) == (3, "step 'pay'")
    assert issued in error.issued
    place, _, _function = error.place.partition(", in ")
    file, _, line = place.rpartition(":")
    assert file == __file__
    assert "# here" in linecache.getline(file, int(line))
    for said in (error.recorded, error.issued, f"at {error.place}"):
        assert said in str(error)


@pytest.mark.parametrize(
    ("code", "issued"),
    [
        (notes_something_else, "publish('other', 1)"),
        (notes_nothing, "nothing to be recorded here"),
    ],
)
def test_a_note_that_differs_has_its_line_too(code: Any, issued: str) -> None:
    """The one that the code took first and the log has not, or else where the code waits."""

    async def noting() -> None:
        publish("state", "new")
        await pay(1)
        publish("state", "paid")
        await pay(2)

    driver = Driver.start(workflow(name="code")(noting))
    driver.complete("pay", "paid 1")
    driver.take()
    driver.execution.close()
    error = diverged(code, driver.log)
    assert (error.recorded, error.issued) == ("publish('state', \"paid\")", issued)
    file, _, line = error.place.partition(", in ")[0].rpartition(":")
    assert "# here" in linecache.getline(file, int(line))


def test_what_has_its_outcome_already_is_named(log: list[Recorded]) -> None:
    """A log in which one number has two outcomes is no log of ours; both are shown."""
    again = replace(log[1], seq=3)
    error = diverged(original, [log[0], log[1], again])
    assert error.issued.startswith("step 'pay' with [1] (op 1,")
    assert error.issued.endswith("which has its outcome already")
    assert error.place.endswith(", in original")


@pytest.mark.parametrize(
    ("then", "changed", "advice"),
    [
        ("", None, "Bring the recorded code back"),
        ("0123456789abcdef", True, "The function has changed since this workflow was started"),
        ("now", False, "The function is what it was when this workflow was started"),
    ],
)
def test_it_says_whether_the_code_has_changed(
    then: str, changed: object, advice: str, log: list[Recorded]
) -> None:
    """By the fingerprint of the start; a log of before there was one does not tell."""
    started = log[0].event
    assert isinstance(started, WorkflowStarted)
    now = workflow(name="code")(inline).fingerprint
    event = replace(started, fingerprint=now if then == "now" else then)
    error = diverged(inline, [replace(log[0], event=event), *log[1:]])
    assert error.changed is changed
    assert advice in str(error)


def test_a_later_run_knows_the_code_of_the_start(log: list[Recorded]) -> None:
    """What begins a run brings the start along, for whoever reads no further back."""
    started = log[0].event
    assert isinstance(started, WorkflowStarted)
    begun = WorkflowContinued(
        run=1, input=started.input, start=replace(started, fingerprint="0123456789abcdef")
    )
    assert diverged(inline, [replace(log[0], event=begun), *log[1:]]).changed is True


def test_code_that_does_not_repeat_itself_is_named_so(log: list[Recorded]) -> None:
    """A second replay that comes to something else says more than any line."""
    lives = itertools.count()

    async def chance() -> None:
        if next(lives) % 2:
            await pay(1)
            await pay(2)
        await ship("x")

    error = diverged(chance, log)
    assert "does not repeat itself" in str(error)
    assert (error.seq, error.place, error.changed) == (2, "", None)


def test_what_else_goes_wrong_goes_by_as_it_is(log: list[Recorded]) -> None:
    """Only a difference is looked at twice."""

    @workflow(name="code")
    async def other(_number: int) -> None: ...

    with pytest.raises(PayloadError):
        replay(other, "wf", log)


def test_a_log_that_fits_is_replayed(log: list[Recorded]) -> None:
    """Up to its end, by the plain execution."""
    execution = replay(workflow(name="code")(original), "wf", log)
    assert [call.step.name for call in execution.calls.values()] == ["ship"]
    execution.close()
