"""What an actor costs: start, memory, call, cast, restart, stop; pykka and bare asyncio beside it.

The floor is the least that asyncio can do: a task that waits for a future and takes messages from a
deque, with no supervisor, no ref and no time-out. pykka runs an actor in a thread of its own, and
restarts none. Times are CPU time, so that whatever else runs on the machine counts little. Every
figure is the median of rounds, each of which has a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._report import heading, median, rows
from supervision import Actor, ActorRef, ChildSpec, DynamicSupervisor, Restart, Supervisor, run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["main"]

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PYKKA_ACTORS = 1_000
SMALL, MEDIUM = 1_000, 10_000


class Echo(Actor):
    """Answers a call with what it was asked, counts casts, fails on command."""

    def __init__(self) -> None:
        self.left = 0
        self.done: asyncio.Future[None] | None = None

    async def handle_call(self, request: object) -> object:
        """Answer."""
        return request

    async def handle_cast(self, message: object) -> None:
        """Count down, or fail."""
        if isinstance(message, BaseException):
            raise message
        self.left -= 1
        if not self.left and self.done is not None:
            self.done.set_result(None)


class Bare:
    """The floor: a task, a deque, a future to wait for."""

    def __init__(self) -> None:
        self.mailbox: deque[object] = deque()
        self.waiter: asyncio.Future[None] | None = None
        self.left = 0
        self.done: asyncio.Future[None] | None = None

    def put(self, item: object) -> None:
        """Send."""
        self.mailbox.append(item)
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.set_result(None)

    async def live(self) -> None:
        """Take one message after the other."""
        loop, mailbox = asyncio.get_running_loop(), self.mailbox
        while True:
            while mailbox:
                item = mailbox.popleft()
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, asyncio.Future):
                    item.set_result(None)
                    continue
                self.left -= 1
                if not self.left and self.done is not None:
                    self.done.set_result(None)
            self.waiter = loop.create_future()
            await self.waiter


def main(argv: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks supervision", description=__doc__)
    parser.add_argument("--actors", type=int, default=100_000, help="idle actors to weigh")
    parser.add_argument("--messages", type=int, default=50_000, help="calls, and casts")
    parser.add_argument("--restarts", type=int, default=5_000, help="crashes to recover from")
    parser.add_argument("--rounds", type=int, default=3, help="figures are medians over these")
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.part:
        sys.stdout.write(json.dumps(PARTS[arguments.part](arguments)))
        return
    heading(f"supervised actors, {arguments.actors:,} of them idle; medians of {arguments.rounds}")
    ours, floor = _measured(arguments, "ours"), _measured(arguments, "floor")
    pykka = _measured(arguments, "pykka") if find_spec("pykka") else {}
    rows(
        ("", "supervision", "bare asyncio", "pykka", "of bare", "of pykka"),
        [_line(name, form, ours, floor, pykka) for name, form in FIGURES.items()],
    )
    if not pykka:
        sys.stdout.write("\npykka is not installed; the dependency group `bench` has it\n")
    by_number = _measured(arguments, "numbers")
    sys.stdout.write("\nthe cost of one more child does not depend on how many there are\n\n")
    rows(
        ("children", "start, µs each", "stop, µs each", "bytes each"),
        [
            (
                f"{count:,}",
                *(f"{by_number[f'{count} {what}']:,.1f}" for what in ("start", "stop", "bytes")),
            )
            for count in (SMALL, MEDIUM, arguments.actors)
        ],
    )


FIGURES = {
    "start of an actor, µs": "{:,.1f}",
    "memory of an idle actor, bytes": "{:,.0f}",
    "call and answer, with time-out, µs": "{:,.1f}",
    "cast, in a burst, µs": "{:,.2f}",
    "crash to restarted, µs": "{:,.1f}",
    "10,000 static children, start, ms": "{:,.0f}",
    "10,000 static children, stop in order, ms": "{:,.0f}",
    "10,000 dynamic children, start, ms": "{:,.0f}",
    "10,000 dynamic children, stop at once, ms": "{:,.0f}",
}


def _measured(arguments: argparse.Namespace, part: str) -> dict[str, float]:
    """Measure one part in a process of its own, several times."""
    command = [sys.executable, "-m", "benchmarks", "supervision", "--part", part]
    for name in ("actors", "messages", "restarts"):
        command += [f"--{name}", str(getattr(arguments, name))]
    rounds = [
        json.loads(subprocess.check_output(command, text=True))  # noqa: S603 - this file itself
        for _ in range(arguments.rounds)
    ]
    return {name: median([figures[name] for figures in rounds]) for name in rounds[0]}


def _line(name: str, form: str, *columns: dict[str, float]) -> tuple[str, ...]:
    ours, *others = (column.get(name) for column in columns)
    return (
        name,
        *("-" if value is None else form.format(value) for value in (ours, *others)),
        *("-" if value is None or ours is None else f"{ours / value:.2f}x" for value in others),
    )


# supervision


def _ours(arguments: argparse.Namespace) -> dict[str, float]:
    idle = asyncio.run(_our_idle(arguments.actors))
    return {
        **dict(zip(list(FIGURES)[:2], idle[::2], strict=True)),
        **asyncio.run(_our_messages(arguments.messages)),
        "crash to restarted, µs": asyncio.run(_our_restarts(arguments.restarts)),
        **asyncio.run(_our_many()),
    }


async def _our_idle(count: int) -> tuple[float, float, float]:
    """Give the microseconds to start, those to stop, and the bytes, of one actor."""
    spec = ChildSpec("echo", Echo, restart=Restart.TEMPORARY)
    system = run(DynamicSupervisor())
    sup = await system.start()
    refs: list[ActorRef | None] = [None] * count
    await sup.terminate_child(await _started(sup.start_child(spec)))
    gc.collect()
    before, began = _rss(), time.process_time()
    for number in range(count):
        refs[number] = await sup.start_child(spec)
    started = time.process_time() - began
    gc.collect()
    weight = _rss() - before
    began = time.process_time()
    await system.stop()
    return started / count * 1e6, (time.process_time() - began) / count * 1e6, weight / count


async def _started(starting: Coroutine[object, object, ActorRef | None]) -> ActorRef:
    ref = await starting
    if ref is None:
        raise AssertionError
    return ref


async def _our_messages(count: int) -> dict[str, float]:
    actor = Echo()
    async with run(Supervisor([ChildSpec("echo", lambda: actor)])) as sup:
        ref = (await sup.which_child("echo")).ref
        if ref is None:
            raise AssertionError
        began = time.process_time()
        for _ in range(count):
            await ref.call(None, timeout=5.0)
        called = time.process_time() - began
        actor.left, actor.done = count, asyncio.get_running_loop().create_future()
        began = time.process_time()
        for number in range(count):
            ref.cast(number)
        await actor.done
        cast = time.process_time() - began
    return {
        "call and answer, with time-out, µs": called / count * 1e6,
        "cast, in a burst, µs": cast / count * 1e6,
    }


async def _our_restarts(count: int) -> float:
    up: asyncio.Event = asyncio.Event()
    lives: list[Mortal] = []

    class Mortal(Echo):
        async def init(self) -> None:
            lives[:] = [self]
            up.set()

    async with run(Supervisor([ChildSpec("mortal", Mortal)], max_restarts=count)):
        began = time.process_time()
        for _ in range(count):
            up.clear()
            lives[0].ref.cast(ValueError())
            await up.wait()
        return (time.process_time() - began) / count * 1e6


async def _our_many() -> dict[str, float]:
    figures: dict[str, float] = {}
    system = run(Supervisor([ChildSpec(number, Echo) for number in range(MEDIUM)]))
    began = time.process_time()
    await system.start()
    figures["10,000 static children, start, ms"] = (time.process_time() - began) * 1e3
    began = time.process_time()
    await system.stop()
    figures["10,000 static children, stop in order, ms"] = (time.process_time() - began) * 1e3
    start, stop, _ = await _our_idle(MEDIUM)
    figures["10,000 dynamic children, start, ms"] = start * MEDIUM / 1e3
    figures["10,000 dynamic children, stop at once, ms"] = stop * MEDIUM / 1e3
    return figures


def _numbers(arguments: argparse.Namespace) -> dict[str, float]:
    figures: dict[str, float] = {}
    for count in (SMALL, MEDIUM, arguments.actors):
        names = (f"{count} start", f"{count} stop", f"{count} bytes")
        figures |= zip(names, asyncio.run(_our_idle(count)), strict=True)
    return figures


# The floor


def _floor(arguments: argparse.Namespace) -> dict[str, float]:
    return asyncio.run(_bare(arguments))


async def _bare(arguments: argparse.Namespace) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    figures: dict[str, float] = {}
    count = arguments.actors
    gc.collect()
    before, began = _rss(), time.process_time()
    actors = [Bare() for _ in range(count)]
    tasks = []
    for actor in actors:
        tasks.append(loop.create_task(actor.live()))
        await asyncio.sleep(0)
    figures["start of an actor, µs"] = (time.process_time() - began) / count * 1e6
    gc.collect()
    figures["memory of an idle actor, bytes"] = (_rss() - before) / count
    await _cancelled(tasks)
    actor = Bare()
    task = loop.create_task(actor.live())
    began = time.process_time()
    for _ in range(arguments.messages):
        future = loop.create_future()
        actor.put(future)
        await future
    called = time.process_time() - began
    figures["call and answer, with time-out, µs"] = called / arguments.messages * 1e6
    actor.left, actor.done = arguments.messages, loop.create_future()
    began = time.process_time()
    for number in range(arguments.messages):
        actor.put(number)
    await actor.done
    figures["cast, in a burst, µs"] = (time.process_time() - began) / arguments.messages * 1e6
    await _cancelled([task])
    began = time.process_time()
    tasks = [loop.create_task(Bare().live()) for _ in range(MEDIUM)]
    await asyncio.sleep(0)
    figures["10,000 dynamic children, start, ms"] = (time.process_time() - began) * 1e3
    began = time.process_time()
    await _cancelled(tasks)
    figures["10,000 dynamic children, stop at once, ms"] = (time.process_time() - began) * 1e3
    figures["crash to restarted, µs"] = await _bare_restarts(arguments.restarts)
    return figures


async def _bare_restarts(count: int) -> float:
    loop = asyncio.get_running_loop()
    task, actor = None, Bare()
    up = asyncio.Event()

    def again(ended: asyncio.Task[None]) -> None:
        nonlocal task, actor
        if not ended.cancelled() and ended.exception() is not None:
            actor = Bare()
            task = loop.create_task(actor.live())
            task.add_done_callback(again)
            loop.call_soon(up.set)

    task = loop.create_task(actor.live())
    task.add_done_callback(again)
    began = time.process_time()
    for _ in range(count):
        up.clear()
        actor.put(ValueError())
        await up.wait()
    elapsed = time.process_time() - began
    await _cancelled([task])
    return elapsed / count * 1e6


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# pykka


def _pykka(arguments: argparse.Namespace) -> dict[str, float]:
    import pykka  # noqa: PLC0415 - of the group `bench` only

    class Pykka(pykka.ThreadingActor):  # type: ignore[misc] # pykka is not looked into
        def on_receive(self, message: object) -> object:
            return message

    count = min(PYKKA_ACTORS, arguments.actors)
    figures: dict[str, float] = {}
    Pykka.start().stop()
    gc.collect()
    before, began = _rss(), time.process_time()
    refs = [Pykka.start() for _ in range(count)]
    figures["start of an actor, µs"] = (time.process_time() - began) / count * 1e6
    gc.collect()
    figures["memory of an idle actor, bytes"] = (_rss() - before) / count
    messages = min(arguments.messages, 20_000)
    began = time.process_time()
    for _ in range(messages):
        refs[0].ask(None, timeout=5.0)
    figures["call and answer, with time-out, µs"] = (time.process_time() - began) / messages * 1e6
    began = time.process_time()
    for number in range(messages):
        refs[0].tell(number)
    refs[0].ask(None)
    figures["cast, in a burst, µs"] = (time.process_time() - began) / messages * 1e6
    pykka.ActorRegistry.stop_all()
    return figures


def _rss() -> int:
    """Give the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "ours": _ours,
    "floor": _floor,
    "pykka": _pykka,
    "numbers": _numbers,
}
