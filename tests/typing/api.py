"""What type checkers make of the public API. Checked by mypy, never run.

Each ``type: ignore`` is an expectation: mypy complains when there is nothing to ignore.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, assert_type
from uuid import UUID

import beamflow
from beamflow import (
    ChildHandle,
    Engine,
    Retry,
    Workflow,
    WorkflowHandle,
    patched,
    query,
    receive,
    signal,
    start_child,
    step,
    until,
    update,
    workflow,
)
from beamflow.testing import ChaosEngine, ChaosHandle

if TYPE_CHECKING:
    from supervision.chaos import Chaos


@dataclass(frozen=True)
class Application:
    """An input."""

    customer: str


@dataclass(frozen=True)
class Policy:
    """A result."""

    number: str


@step
async def check(application: Application) -> int:
    """A step of a coroutine function."""
    return len(application.customer)


@step
def price(application: Application, *, discount: float = 0.0) -> float:
    """A step of a plain function, awaited all the same."""
    return len(application.customer) * (1 - discount)


@step(retry=Retry(max_attempts=5), timeout=10)
async def reserve(customer: str, plan: str) -> str:
    """A step with options."""
    return customer + plan


@reserve.compensation
async def cancel(reservation: str, customer: str, plan: str) -> None:
    """A compensation takes the result and the arguments."""


@step
async def book(number: int) -> str:
    """A step whose compensation has options."""
    return str(number)


@book.compensation(retry=Retry(max_attempts=2))
async def unbook(booking: str, number: int) -> None:
    """It may have a policy of its own."""


@book.compensation
async def returns_it(booking: str, _number: int) -> bool:
    """What follows the result may have any name; the types of the function stay."""
    return bool(booking)


@reserve.compensation  # type: ignore[arg-type] # the result is a str
async def of_another_result(reservation: int, customer: str, plan: str) -> None:
    """A compensation of another result is refused."""


@reserve.compensation(timeout=3)  # type: ignore[arg-type] # the result is a str
def of_another_result_too(reservation: int, customer: str, plan: str) -> None:
    """With options as well."""


@workflow
async def onboard(application: Application, plan: str = "basic") -> Policy:
    """Types flow through steps, gather and receive."""
    score, premium = await asyncio.gather(check(application), price(application, discount=0.1))
    assert_type(score, int)
    assert_type(premium, float)
    assert_type(await reserve(application.customer, plan=plan), str)
    assert_type(await receive("approval", Application), Application)
    assert_type(await receive("anything"), Any)
    assert_type(beamflow.now(), datetime)
    assert_type(beamflow.random(), Random)
    assert_type(beamflow.uuid4(), UUID)
    assert_type(await returns_it("booking", 3), bool)
    await check("somebody")  # type: ignore[arg-type] # not an Application
    await reserve("somebody")  # type: ignore[call-arg] # the plan is missing
    return Policy(number=str(score))


@workflow(name="renamed", version=2)
async def renamed(number: int) -> str:
    """A workflow with options."""
    return str(number)


@workflow
async def parent(application: Application) -> str:
    """A child has its own result, called or held."""
    assert_type(await onboard(application), Policy)
    held = await start_child(renamed, 1, id="child", on_close="wait")
    assert_type(held, ChildHandle[str])
    assert_type(await held.result(), str)
    await start_child(renamed, "one")  # type: ignore[arg-type] # not a number
    await start_child(renamed, 1, on_close="forget")  # type: ignore[arg-type] # no such policy
    return held.id


@workflow
class Order:
    """A workflow as a class: its handlers are typed names on the class, methods on an instance."""

    def __init__(self) -> None:
        """Nothing is needed to make one."""
        self.paid = 0

    async def run(self, customer: str, plan: str = "basic") -> Policy:
        """It is started with these arguments."""
        await until(lambda: self.paid > 0)
        assert_type(self.total("EUR"), int)
        assert_type(await receive(Application), Application)
        assert_type(await start_child(Order, "bob"), ChildHandle[Policy])
        return Policy(customer + plan)

    @signal
    async def pay(self, amount: int) -> None:
        """A signal has one payload."""
        self.paid += amount

    @signal(name="halt")
    def stop(self) -> None:
        """Or none."""

    @query
    def total(self, currency: str = "EUR") -> int:
        """A query may have any parameters."""
        return self.paid if currency else 0

    @update
    async def add(self, item: Application) -> str:
        """An update may wait."""
        return item.customer

    @add.validator
    def check(self, item: Application) -> None:
        """Its validator takes what it takes."""

    @add.validator  # type: ignore[arg-type] # the item is an Application
    def check_another(self, item: int) -> None:
        """And nothing else."""

    @update(name="take_out")
    def remove(self, item: Application, count: int = 1) -> bool:
        """Or not wait."""
        return bool(item) and count > 0


async def talk(engine: Engine) -> None:
    """What is sent to a workflow class, and what comes back."""
    handle = await engine.start(Order, "ann")
    assert_type(handle, WorkflowHandle[Policy])
    assert_type(await engine.start(Order, "ann", "gold", id="1"), WorkflowHandle[Policy])
    await engine.start(Order, "ann", signal=(Order.pay, 3, "key"))
    await engine.start(Order, 42)  # type: ignore[arg-type] # not a str
    await engine.start(Order)  # type: ignore[arg-type] # the customer is missing
    await handle.signal(Order.pay, 3, key="first")
    await handle.signal(Order.stop)
    await handle.signal("pay", 3)
    await handle.signal(Application, Application("ann"))
    await handle.signal(Order.pay, "much")  # type: ignore[arg-type] # not an int
    await handle.signal(Order.pay)  # type: ignore[arg-type] # the payload is missing
    await handle.signal(Order.total, "EUR")  # type: ignore[arg-type] # that is a query
    assert_type(await handle.query(Order.total), int)
    assert_type(await handle.query(Order.total, "USD"), int)
    assert_type(await handle.query("total", "USD"), Any)
    assert_type(await handle.query("total", type=int), int)
    await handle.query(Order.total, 3)  # type: ignore[arg-type] # not a str
    await handle.query(Order.add)  # type: ignore[arg-type, call-arg] # that is an update
    assert_type(await handle.update(Order.add, Application("ann"), id="1"), str)
    assert_type(await handle.update(Order.remove, Application("ann")), bool)
    assert_type(await handle.update(Order.remove, Application("ann"), 2), bool)
    assert_type(await handle.update("take_out", type=bool), bool)
    await handle.update(Order.add, 3)  # type: ignore[arg-type] # not an Application
    await handle.update(Order.pay, 3)  # type: ignore[arg-type] # that is a signal
    assert_type(await handle.published("place"), Any)
    assert_type(await handle.published("place", Policy, timeout=3), Policy)
    async for number in handle.watch("number", int):
        assert_type(number, int)


async def host(application: Application) -> None:
    """What an application does."""
    async with Engine("sqlite:///app.db", workflows=[onboard, renamed]) as engine:
        handle = await engine.start(onboard, application, id="customer-42")
        assert_type(handle, WorkflowHandle[Policy])
        assert_type(await handle.result(), Policy)
        assert_type(
            await engine.start(onboard, application, "gold", id="customer-43"),
            WorkflowHandle[Policy],
        )
        assert_type(await engine.start(renamed, 1, id="number-1"), WorkflowHandle[str])
        assert_type(engine.handle("customer-42"), WorkflowHandle[Any])
        assert_type(await onboard(application), Policy)
        assert_type(engine.workflows, tuple[Workflow[..., Any], ...])
        assert_type(patched("name"), bool)
        await engine.start(onboard, 42, id="wrong")  # type: ignore[arg-type] # not an Application
        await engine.start(renamed, id="wrong")  # type: ignore[arg-type] # the number is missing


async def find(engine: Engine) -> None:
    """A workflow is looked for by itself, in either form, or by its name."""
    for which in ("order", onboard, Order):
        await engine.count(workflow=which)
        await engine.dead_letters.list(workflow=which)
    await engine.count(workflow=3)  # type: ignore[arg-type] # no workflow


async def under_chaos(chaos: Chaos) -> None:
    """A chaos engine takes what an engine takes."""
    async with ChaosEngine(chaos, workflows=[onboard, Order]) as engine:
        assert_type(await engine.start(onboard, Application("ann")), ChaosHandle[Policy])
        handle = await engine.start(Order, "ann", id="order-1")
        assert_type(await handle.result(), Policy)
        await handle.signal(Order.pay, 3, key="first")
        await handle.signal("pay", 3)
        await handle.signal(Order.pay, "much")  # type: ignore[arg-type] # not an int
