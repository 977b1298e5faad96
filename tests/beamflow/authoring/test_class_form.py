"""Workflows as classes: a fresh instance for each run, its attributes replayed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from beamflow import (
    DefinitionError,
    DuplicateWorkflowError,
    Engine,
    UnknownWorkflowError,
    now,
    query,
    receive,
    signal,
    start_child,
    step,
    until,
    update,
    workflow,
)
from beamflow.authoring.workflow import definition_of
from beamflow.events import ChildStarted
from tests.beamflow.engine.driver import START, Driver


@step
async def pack(item: str) -> str:
    return f"packed {item}"


@workflow
class Order:
    """An order that is packed while it grows."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.closed = False
        self.began_at = now()

    async def run(self, customer: str, plan: str = "basic") -> list[str]:
        await until(lambda: self.closed)
        return [customer, plan, *self.items, *[str(await receive("note"))]]

    @signal
    async def add(self, item: str) -> None:
        self.items.append(await pack(item))

    @signal(name="close")
    def finish(self) -> None:
        self.closed = True


definition = definition_of(Order)
assert definition is not None


def finished(driver: Driver) -> Any:
    driver.signal("close")
    driver.signal("note", b'"end"')
    return driver.result


def test_attributes_are_replayed() -> None:
    """Handlers change them, ``run`` sees them; a cut at any event brings them back."""
    driver = Driver.start(definition, "ann")
    driver.signal("add", b'"tea"')
    driver.signal("add", b'"jam"')
    driver.complete("pack", "packed tea")
    driver.complete("pack", "packed jam")
    assert finished(driver) == ["ann", "basic", "packed tea", "packed jam", "end"]
    for cut in range(1, len(driver.log) + 1):
        resumed = Driver.resume(definition, driver.log[:cut])
        for recorded in driver.log[cut:]:
            resumed.take(recorded.event)
        assert resumed.result == driver.result


def test_each_run_has_an_instance_of_its_own() -> None:
    """Made on the workflow's loop, when it begins."""
    one, other = Driver.start(definition, "ann"), Driver.start(definition, "bob", "gold")
    one.signal("add", b'"tea"')
    one.complete("pack", "packed tea")
    assert finished(other) == ["bob", "gold", "end"]
    assert finished(one) == ["ann", "basic", "packed tea", "end"]
    assert one.execution.now == START


async def test_a_class_is_started_by_itself() -> None:
    """And stays the class that it was: an instance is plain, for unit tests."""
    async with Engine("memory://", workflows=[Order]) as engine:
        handle = await engine.start(Order, "ann")
        await handle.signal(Order.add, "tea")
        await handle.signal(Order.finish)
        await handle.signal("note", "end")
        assert await handle.result() == ["ann", "basic", "packed tea", "end"]


async def test_an_instance_is_plain() -> None:
    """Its methods are methods; only on the class they stand for names."""

    @workflow
    @dataclass
    class Counter:
        count: int = 0
        seen: list[int] = field(default_factory=list)

        async def run(self) -> int:
            return self.count

        @signal
        def add(self, number: int) -> None:
            self.count += number

        @query
        def total(self) -> int:
            return self.count

        @update
        async def double(self) -> int:
            self.count *= 2
            return self.count

        @double.validator
        def check(self) -> None:
            if not self.count:
                raise ValueError("nothing to double")

    counter = Counter()
    with pytest.raises(ValueError, match="nothing to double"):
        counter.check()
    counter.add(3)
    assert counter.total() == 3
    assert await counter.double() == 6
    assert await counter.run() == 6
    with pytest.raises(DefinitionError, match="signal 'add' was called on the class"):
        Counter.add(3)


def test_handlers_are_inherited_and_overridden() -> None:
    """A subclass that is not decorated itself is no workflow."""

    class Base:
        @signal
        def one(self) -> None: ...

        @signal
        def two(self) -> None: ...

    class Derived(Base):
        async def run(self) -> None: ...

        @signal
        def two(self) -> None: ...

    assert definition_of(workflow(Derived)) is not None
    form = definition_of(Derived).form  # type: ignore[union-attr]
    assert form is not None
    assert [name for _, name in form.methods] == ["one", "two"]
    assert form.methods["signal", "two"] is Derived.two

    class More(Derived):
        pass

    assert definition_of(More) is None
    with pytest.raises(DefinitionError, match="no workflow; decorate it"):
        Engine("memory://", workflows=[More])


def local_types() -> type:
    @dataclass
    class Local:
        number: int

    @workflow
    class Uses:
        async def run(self, local: Local) -> int:
            return local.number

        @signal
        def send(self, local: Local) -> None: ...

    return Uses


def test_annotations_may_name_local_types() -> None:
    """Of the function that the class is defined in."""
    found = definition_of(local_types())
    assert found is not None
    assert found.signature.arguments.count == 1


class NoRun:
    pass


class PlainRun:
    def run(self) -> None: ...


class NeedsArguments:
    def __init__(self, number: int) -> None: ...

    async def run(self) -> None: ...


class Twice:
    async def run(self) -> None: ...

    @query(name="x")
    def one(self) -> int:
        return 1

    @query(name="x")
    def two(self) -> int:
        return 2


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (NoRun, "needs a method `async def run"),
        (PlainRun, "needs a method `async def run"),
        (NeedsArguments, "must be made without arguments"),
        (Twice, "two handlers for query 'x'"),
    ],
)
def test_a_class_that_cannot_be_one_is_refused(kind: type, said: str) -> None:
    """At its declaration."""
    with pytest.raises(DefinitionError, match=said):
        workflow(kind)


def test_a_signal_has_one_payload() -> None:
    """Known when an engine takes the class."""

    @workflow
    class Wrong:
        async def run(self) -> None: ...

        @signal
        def add(self, one: int, two: int) -> None: ...

    with pytest.raises(DefinitionError, match="a signal has one payload"):
        Engine("memory://", workflows=[Wrong])


async def test_classes_and_functions_share_their_names() -> None:
    """One name and version is one workflow; an engine knows its own."""

    @workflow(name="Order")
    async def other() -> None: ...

    with pytest.raises(DuplicateWorkflowError):
        Engine("memory://", workflows=[Order, other])
    async with Engine("memory://", workflows=[other]) as engine:
        with pytest.raises(UnknownWorkflowError):
            await engine.start(Order, "ann")


async def test_what_the_constructor_raises_fails_the_workflow() -> None:
    """It is code of the workflow."""

    @workflow
    class Broken:
        def __init__(self) -> None:
            raise LookupError("no")

        async def run(self) -> None: ...

    found = definition_of(Broken)
    assert found is not None
    driver = Driver.start(found)
    with pytest.raises(LookupError):
        _ = driver.result
    await asyncio.sleep(0)


async def test_a_class_may_be_a_child() -> None:
    """Of a class or a function; its handlers are there for whoever knows its id."""

    @workflow
    async def parent() -> list[str]:
        child = await start_child(Order, "ann", id="child")
        return await child.result()

    async with Engine("memory://", workflows=[parent, Order]) as engine:
        handle = await engine.start(parent)
        async for recorded in handle.events():
            if isinstance(recorded.event, ChildStarted):
                break
        child = engine.handle("child")
        assert (await child.status()).waiting_for == ("condition",)
        await child.signal(Order.finish)
        await child.signal("note", "end")
        assert await handle.result() == ["ann", "basic", "end"]
