"""Random workflows: programs as plain data, which one workflow interprets.

A program is a nested list, such as ``["all", [["step", "pay", 1], ["sleep", 5]]]``. Each ``step``
has a number of its own, so that it can be found in a log.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import anyio
from hypothesis import strategies as st

from beamflow import (
    now,
    on_query,
    on_signal,
    on_update,
    publish,
    random,
    receive,
    saga,
    snapshot,
    step,
    until,
    uuid4,
    workflow,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

Program = list[Any]

_traces: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Any]] = WeakKeyDictionary()
_branch: ContextVar[str] = ContextVar("branch", default="main")


class DeclinedError(Exception):
    """An error that a step declares."""


@step
async def pay(number: int) -> int:
    """Has a compensation."""
    return number


@pay.compensation
async def refund(result: int, number: int) -> None:
    """Undoes `pay`."""


@step(raises=[DeclinedError])
async def ask(number: int) -> int:
    """Has none."""
    return number


STEPS = {"pay": pay, "ask": ask}


def trace_of(loop: asyncio.AbstractEventLoop) -> list[Any]:
    """Return what the program on this loop has seen so far."""
    return _traces.setdefault(loop, [])


def shown(value: Any) -> Any:
    """Return the value, or what an exception comes to; some texts of asyncio's have addresses."""
    if isinstance(value, RuntimeError | asyncio.CancelledError):
        return type(value).__name__
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return value


class _Interpreter:
    """Runs one program; queues, locks and named tasks are shared by its branches."""

    def __init__(self) -> None:
        self.trace = trace_of(asyncio.get_running_loop())
        self.queues: dict[str, asyncio.Queue[Any]] = {
            "wide": asyncio.Queue(),
            "narrow": asyncio.Queue(maxsize=1),
        }
        self.lock = asyncio.Lock()
        self.places = asyncio.Semaphore(2)
        self.gate = asyncio.Event()
        self.handled = 0
        on_query("seen", lambda: [len(self.trace), self.handled, random().random()])
        self.named: dict[str, asyncio.Task[Any]] = {}

    def saw(self, what: str, value: Any) -> Any:
        self.trace.append((_branch.get(), what, shown(value), now().timestamp()))
        return value

    async def run(self, node: Program) -> Any:
        try:
            return self.saw(node[0], await self._run(node))
        except BaseException as error:
            if node[0] == "saga":
                self.trace.append(("saga failed", node[1]))
            self.saw(f"{node[0]} raised", error)
            raise

    async def branch(self, number: int | str, node: Program) -> Any:
        _branch.set(f"{_branch.get()}.{number}")
        return await self.run(node)

    def branches(self, nodes: list[Program]) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(self.branch(number, node)) for number, node in enumerate(nodes)]

    async def _run(self, node: Program) -> Any:
        match node:
            case ["step", name, number]:
                return await STEPS[name](number)
            case ["sleep", seconds]:
                return await asyncio.sleep(seconds)
            case ["receive", name]:
                return await receive(name)
            case ["publish" | "snapshot" | "on signal" | "on update" | "until", *_]:
                return await self._talk(node)
            case ["chance"]:
                return [random().random(), str(uuid4())]
            case ["raise"]:
                raise LookupError("on purpose")
            case ["seq", nodes]:
                return [await self.run(each) for each in nodes]
            case ["try", body, handler]:
                try:
                    return await self.run(body)
                except Exception as error:  # noqa: BLE001 - that is what authors write
                    self.saw("caught", error)
                    return await self.run(handler)
            case ["finally", body, last]:
                try:
                    return await self.run(body)
                finally:
                    await self.run(last)
            case ["limit", seconds, body]:
                async with asyncio.timeout(seconds):
                    return await self.run(body)
            case ["wait_for", seconds, body]:
                return await asyncio.wait_for(self.run(body), seconds)
            case ["saga", number, parallel, body]:
                async with saga(parallel=parallel):
                    try:
                        return await self.run(body)
                    except BaseException:
                        self.trace.append(("saga fails", number))
                        raise
            case _:
                return await self._run_together(node)

    async def _talk(self, node: Program) -> Any:
        match node:
            case ["publish", name, value]:
                return publish(name, [value, self.handled])
            case ["snapshot", name]:
                return snapshot(name)
            case ["on signal", name, body]:
                return on_signal(name, lambda: self._handle(name, body))
            case ["on update", name, body]:
                return on_update(name, lambda: self._handle(name, body))
            case ["until", count]:
                return await until(lambda: self.handled >= count)
            case _:
                raise AssertionError(node)

    async def _handle(self, name: str, body: Program) -> Any:
        _branch.set(f"handler of {name}")
        self.handled += 1
        try:
            return shown(await self.run(body))
        finally:
            self.handled += 1

    async def _run_together(self, node: Program) -> Any:
        match node:
            case ["all", nodes]:
                return await asyncio.gather(*self.branches(nodes))
            case ["settled", nodes]:
                settled = await asyncio.gather(*self.branches(nodes), return_exceptions=True)
                return [shown(each) for each in settled]
            case ["group", nodes]:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self.branch(number, each))
                        for number, each in enumerate(nodes)
                    ]
                return [task.result() for task in tasks]
            case ["race", nodes]:
                return await self._race(nodes)
            case ["as_completed", nodes]:
                return [await each for each in asyncio.as_completed(self.branches(nodes))]
            case ["put", name, value]:
                return await self.queues[name].put(value)
            case ["get", name]:
                return await self.queues[name].get()
            case ["locked", body]:
                async with self.lock:
                    return await self.run(body)
            case ["placed", body]:
                async with self.places:
                    return await self.run(body)
            case ["open"]:
                return self.gate.set()
            case ["pass"]:
                return await self.gate.wait()
            case ["yield"]:
                return await asyncio.sleep(0)
            case ["shielded", body]:
                return await asyncio.shield(asyncio.create_task(self.run(body)))
            case ["spawn", name, body]:
                self.named[name] = asyncio.create_task(self.branch("spawned", body))
                return None
            case ["cancel", name]:
                return name in self.named and self.named[name].cancel()
            case ["join", name]:
                joins_nobody = name not in self.named or ".spawned" in _branch.get()
                return None if joins_nobody else await self.named[name]
            case ["first of", nodes]:
                async for each in self._generate(nodes):
                    return each
                return None
            case ["nursery", nodes]:
                async with anyio.create_task_group() as group:
                    for number, each in enumerate(nodes):
                        group.start_soon(self.branch, number, each)
                return None
            case ["move on", seconds, body]:
                with anyio.move_on_after(seconds) as scope:
                    await self.run(body)
                return scope.cancelled_caught
            case _:
                raise AssertionError(node)

    async def _race(self, nodes: list[Program]) -> Any:
        tasks = self.branches(nodes)
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self.saw("in the order of the sets", [tasks.index(each) for each in (*done, *pending)])
        for task in pending:
            task.cancel()
        settled = await asyncio.gather(*pending, return_exceptions=True)
        return [shown(each) for each in settled]

    async def _generate(self, nodes: list[Program]) -> AsyncGenerator[Any, None]:
        try:
            for node in nodes:
                yield await self.run(node)
        finally:
            await self.run(["yield"])


@workflow
async def interpreted(program: Any) -> Any:
    """Run a program."""
    return await _Interpreter().run(program)


# Strategies

_seconds = st.sampled_from([0, 1, 1, 2, 5])
_queues = st.sampled_from(["wide", "narrow"])
_signals = st.sampled_from(["red", "blue"])
_names = st.sampled_from(["tom", "ann"])

_leaves = st.one_of(
    st.tuples(st.just("step"), st.sampled_from(sorted(STEPS)), st.just(0)),
    st.tuples(st.just("step"), st.sampled_from(sorted(STEPS)), st.just(0)),
    st.tuples(st.just("sleep"), _seconds),
    st.tuples(st.just("receive"), _signals),
    st.tuples(st.just("put"), _queues, st.integers(0, 9)),
    st.tuples(st.just("get"), _queues),
    st.tuples(st.sampled_from(["chance", "raise", "open", "pass", "yield"])),
    st.tuples(st.sampled_from(["cancel", "join"]), _names),
    st.tuples(st.just("publish"), _names, st.integers(0, 9)),
    st.tuples(st.just("snapshot"), _names),
    st.tuples(st.just("until"), st.integers(1, 4)),
)


def _compound(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(children, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.sampled_from(["seq", "seq", "all", "settled", "group"]), some),
        st.tuples(st.sampled_from(["race", "as_completed", "first of"]), some),
        st.tuples(st.sampled_from(["try", "finally"]), children, children),
        st.tuples(st.sampled_from(["limit", "wait_for"]), _seconds, children),
        st.tuples(st.sampled_from(["locked", "placed", "shielded"]), children),
        st.tuples(st.just("spawn"), _names, children),
        st.tuples(st.just("on signal"), _signals, children),
        st.tuples(st.just("on update"), _names, children),
        st.tuples(st.just("saga"), st.just(0), st.booleans(), children),
    )


_plain = st.recursive(_leaves, _compound, max_leaves=10)
_with_anyio = st.one_of(
    st.tuples(st.just("nursery"), st.lists(_plain, min_size=1, max_size=3)),
    st.tuples(st.just("move on"), _seconds, _plain),
)
_saga_leaves = st.one_of(
    *[st.tuples(st.just("step"), st.just("pay"), st.just(0))] * 4,
    st.tuples(st.just("step"), st.just("ask"), st.just(0)),
    st.tuples(st.just("sleep"), _seconds),
    st.tuples(st.sampled_from(["raise", "raise", "open", "pass", "yield"])),
    st.tuples(st.sampled_from(["cancel", "join"]), _names),
)


def _saga_compound(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(children, min_size=2, max_size=4).map(lambda nodes: ["seq", nodes])
    block = st.tuples(st.just("saga"), st.just(0), st.booleans(), some)
    return st.one_of(block, block, block, _compound(children), _compound(block))


saga_programs = st.recursive(_saga_leaves, _saga_compound, max_leaves=14).map(
    lambda program: _numbered(program, iter(range(1, 1000)))
)
"""Any program of many steps that can be undone, in many sagas."""
_handlers = st.one_of(
    st.tuples(st.just("on signal"), _signals, _plain),
    st.tuples(st.just("on update"), _names, _plain),
)
programs = (
    st.tuples(
        st.lists(_handlers, max_size=2),
        st.lists(st.one_of(_plain, _plain, _with_anyio), min_size=1, max_size=4),
    )
    .map(lambda parts: ["seq", [*parts[0], *parts[1]]])
    .map(lambda program: _numbered(program, iter(range(1, 1000))))
)
"""Any program, its steps and sagas numbered from 1."""


def _numbered(node: Any, numbers: Iterator[int]) -> Any:
    if not isinstance(node, list | tuple):
        return node
    if node and node[0] == "step":
        return ["step", node[1], next(numbers)]
    if node and node[0] == "saga":
        return ["saga", next(numbers), node[2], _numbered(node[3], numbers)]
    return [_numbered(each, numbers) for each in node]
