"""The main promises, end to end, with nothing but public names; also run against the wheel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from beamflow import (
    Engine,
    Retry,
    WorkflowHandle,
    current_step,
    now,
    random,
    receive,
    step,
    uuid4,
    workflow,
)
from beamflow.errors import (
    WorkflowExistsError,
    WorkflowFailedError,
    WorkflowNotFoundError,
)
from beamflow.events import StepCompleted

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Order:
    """An input with a field to go wrong."""

    customer: str
    cents: int


@dataclass(frozen=True)
class Approval:
    """A signal."""

    by: str


calls: list[str] = []
"""What the steps did, outside the engine's knowledge."""


@pytest.fixture(autouse=True)
def _fresh_ledger() -> None:
    calls.clear()


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/app.db"


@step
async def charge(order: Order) -> str:
    """Succeeds."""
    calls.append("charge")
    return f"charged {order.cents}"


@charge.compensation
async def refund(receipt: str, order: Order) -> None:
    """Undoes `charge`."""
    calls.append(f"refund {receipt} {order.customer}")


@step(retry=Retry(max_attempts=3, initial=0.01, jitter=0))
async def pack(order: Order) -> str:
    """Fails twice before it succeeds."""
    info = current_step()
    calls.append(f"pack {info.attempt} {info.idempotency_key}")
    if info.attempt < 3:
        raise ConnectionError("the packer is away")
    return f"parcel for {order.customer}"


@step
def ship(parcel: str) -> str:
    """Runs in a worker thread."""
    return f"shipped {parcel}"


@step
async def refuse(order: Order) -> None:
    """Fails for good."""
    raise ValueError(f"no {order.customer}")


@workflow
async def fulfil(order: Order) -> list[str]:
    """Two steps at once, a durable sleep, a third step."""
    receipt, parcel = await asyncio.gather(charge(order), pack(order))
    await asyncio.sleep(0.01)
    return [receipt, await ship(parcel)]


@workflow
async def approve(order: Order) -> str:
    """Waits for a person between two steps."""
    receipt = await charge(order)
    async with asyncio.timeout(3600):
        approval = await receive("approval", Approval)
    return f"{receipt}, approved by {approval.by}"


@workflow
async def doomed(order: Order) -> None:
    """Fails after its first step."""
    await charge(order)
    await refuse(order)


@workflow
async def chance() -> list[str]:
    """Asks for time, chance and an id."""
    return [now().isoformat(), str(random().random()), str(uuid4())]


ORDER = Order(customer="ann", cents=500)


async def test_a_workflow_runs_to_its_end(url: str) -> None:
    """Steps run at once, fail, are tried again, and the result comes back as its type."""
    async with Engine(url, workflows=[fulfil]) as engine:
        handle = await engine.start(fulfil, ORDER, id="order-1")
        assert await handle.result() == ["charged 500", "shipped parcel for ann"]
    packs = [call.split() for call in calls if call.startswith("pack")]
    assert [attempt for _, attempt, _ in packs] == ["1", "2", "3"]
    assert len({key for _, _, key in packs}) == 1


async def test_the_same_id_is_the_same_workflow(url: str) -> None:
    """A second start joins the first; another input is refused."""
    async with Engine(url, workflows=[fulfil]) as engine:
        first = await engine.start(fulfil, ORDER, id="order-1")
        again = await engine.start(fulfil, ORDER, id="order-1")
        assert await first.result() == await again.result()
        assert calls.count("charge") == 1
        with pytest.raises(WorkflowExistsError):
            await engine.start(fulfil, Order(customer="bob", cents=1), id="order-1")


async def test_a_failure_is_compensated_and_becomes_a_dead_letter(url: str) -> None:
    """What completed is undone; what failed waits for somebody."""
    async with Engine(url, workflows=[doomed]) as engine:
        handle = await engine.start(doomed, ORDER, id="order-1")
        with pytest.raises(WorkflowFailedError, match="no ann"):
            await handle.result()
        assert calls == ["charge", "refund charged 500 ann"]
        (letter,) = await engine.dead_letters.list()
        assert (letter.workflow_id, letter.step) == ("order-1", "refuse")
        assert letter.context == [{"customer": "ann", "cents": 500}]
        await engine.dead_letters.resolve("order-1", note="told ann")
        assert await engine.dead_letters.list() == []


async def test_an_unknown_id_is_a_typed_error(url: str) -> None:
    """Asking about nothing says so."""
    async with Engine(url, workflows=[fulfil]) as engine:
        with pytest.raises(WorkflowNotFoundError):
            await engine.handle("nobody").result()


async def test_a_restart_resumes_where_it_was(tmp_path: Path) -> None:
    """The recorded step does not run again; the signal reaches the resumed workflow."""
    url = f"sqlite:///{tmp_path}/app.db"
    async with Engine(url, workflows=[approve]) as engine:
        handle = await engine.start(approve, ORDER, id="order-1")
        async with asyncio.timeout(10):
            async for recorded in handle.events():
                if isinstance(recorded.event, StepCompleted):
                    break
    assert calls == ["charge"]
    async with Engine(url, workflows=[approve]) as engine:
        resumed: WorkflowHandle[str] = engine.handle("order-1")
        await resumed.signal("approval", Approval(by="maria"))
        assert await resumed.result() == "charged 500, approved by maria"
    assert calls == ["charge"]


async def test_time_and_chance_are_recorded(url: str) -> None:
    """Two workflows draw differently; each has one answer."""
    async with Engine(url, workflows=[chance]) as engine:
        one = await (await engine.start(chance, id="one")).result()
        two = await (await engine.start(chance, id="two")).result()
        assert one[1:] != two[1:]


async def test_steps_are_plain_functions_outside_a_workflow() -> None:
    """A unit test needs no engine."""
    assert await charge(ORDER) == "charged 500"
    assert await ship("it") == "shipped it"
