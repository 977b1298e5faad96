"""What stands around each attempt, and what a store that nobody shares is spared."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import DefinitionError, Engine, Retry, WorkflowFailedError, step, workflow
from beamflow.errors import StepTimeoutError
from supervision.testing import ManualClock, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from beamflow import StepInfo
    from supervision.virtual import VirtualClock


@step(retry=Retry(max_attempts=3, initial=0.1), timeout=10.0)
async def reserve(name: str) -> str:
    return f"{name} reserved"


@reserve.compensation
def release(reservation: str, name: str) -> None:
    """Nothing is left of it."""


@workflow
async def book(name: str) -> str:
    reservation = await reserve(name)
    if name == "ann":
        return reservation
    raise ValueError(name)


class Diary:
    """Writes down what is attempted, and lets it pass from the second attempt on."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, int, int | None]] = []

    async def __call__(
        self, info: StepInfo, retry: Retry, run: Callable[[], Awaitable[Any]]
    ) -> Any:
        self.entries.append((info.workflow_id, info.step, info.attempt, retry.max_attempts))
        if info.attempt == 1 and info.step == "reserve":
            raise ConnectionError
        return await run()


async def test_it_stands_around_steps_and_compensations(virtual_clock: VirtualClock) -> None:
    """It knows which attempt it is, and what it raises is what the attempt has raised."""
    diary = Diary()
    async with Engine("memory://", workflows=[book], clock=virtual_clock) as engine:
        engine._services.around_step = diary
        handle = await engine.start(book, "bob", id="b")
        with pytest.raises(WorkflowFailedError, match="bob"):
            await handle.result()
    assert [entry[:3] for entry in diary.entries] == [
        ("b", "reserve", 1),
        ("b", "reserve", 2),
        ("b", "release", 1),
    ]


async def test_it_stands_inside_the_time_out(virtual_clock: VirtualClock) -> None:
    """An attempt that hangs in it is cut off as one that hangs by itself."""

    async def hang(_info: StepInfo, _retry: Retry, _run: Callable[[], Awaitable[Any]]) -> Any:
        await virtual_clock.sleep(3600.0)

    async with Engine("memory://", workflows=[book], clock=virtual_clock) as engine:
        engine._services.around_step = hang
        handle = await engine.start(book, "ann")
        with pytest.raises(WorkflowFailedError, match=StepTimeoutError.__name__):
            await handle.result()


async def test_a_lease_that_nobody_waits_for_is_not_renewed() -> None:
    """An idle engine on the memory store sets no timer at all, so a month passes in no time."""
    clock = ManualClock()
    async with Engine("memory://", workflows=[book], clock=clock) as engine:
        await settle()
        assert clock.pending == 0
        await clock.advance(400 * 86_400.0)
        handle = await engine.start(book, "ann")
        assert await handle.result() == "ann reserved"


async def test_a_lease_that_others_wait_for_is_renewed(tmp_path: Any) -> None:
    """On a file there is one timer, that of the lease."""
    clock = ManualClock()
    url = f"sqlite:///{tmp_path}/app.db"
    async with Engine(url, workflows=[book], clock=clock):
        await settle()
        assert clock.pending == 1


@workflow
async def patience() -> str:
    import asyncio

    await asyncio.sleep(30 * 86_400.0)
    return "done"


async def test_a_workflow_of_thirty_days_takes_milliseconds(virtual_clock: VirtualClock) -> None:
    """Fifty of them, each asleep for a month."""
    began, before = monotonic(), virtual_clock.now()
    async with Engine("memory://", workflows=[patience], clock=virtual_clock) as engine:
        handles = [await engine.start(patience, id=f"p-{number}") for number in range(50)]
        assert [await handle.result() for handle in handles] == ["done"] * 50
    assert virtual_clock.now() - before == pytest.approx(30 * 86_400.0, abs=1.0)
    assert monotonic() - began < 2.0


@pytest.mark.virtual_time
async def test_an_engine_without_the_clock_of_virtual_time_is_refused() -> None:
    """Its timers would wait for the machine's clock, and the test for ever."""
    with pytest.raises(DefinitionError, match="clock=virtual_clock"):
        async with Engine("memory://", workflows=[patience]):
            pass


async def test_a_file_takes_no_virtual_time(virtual_clock: VirtualClock, tmp_path: Path) -> None:
    """SQLite works in threads of its own, and the time-outs of the engine wait for them."""
    before = virtual_clock.now()
    store = f"sqlite:///{tmp_path}/app.db"
    async with Engine(store, workflows=[book], clock=virtual_clock) as engine:
        assert await (await engine.start(book, "ann")).result() == "ann reserved"
    assert virtual_clock.now() - before < 1.0
