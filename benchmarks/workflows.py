"""Workflows a second, their latency, what a waiting one weighs, what the import costs.

The workload: a workflow of five steps in a row, each of which takes and returns a small struct and
does nothing else, so that what is measured is the durability. Every acknowledged start, every
step's result and the end are in the file, synced, before anything depends on them (SQLite, WAL,
``synchronous=FULL``), unless ``--store memory`` is given.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from beamflow import Engine, receive, step, workflow
from beamflow.events import StepCompleted
from benchmarks._report import heading, median, percentile, rows

__all__ = ["main"]


_TUNED = 10_000
"""What a host may set: by its own threshold of 700 the collector runs hundreds of times a second."""


class Order(msgspec.Struct):
    """What goes through the five steps."""

    number: int
    total: float
    done: list[str]


@step
async def advance(order: Order, stage: str) -> Order:
    """Do one stage of an order."""
    return Order(order.number, order.total + 1.0, [*order.done, stage])


@workflow
async def five_steps(order: Order) -> Order:
    """Take an order through its five stages."""
    for stage in ("checked", "reserved", "charged", "packed", "sent"):
        order = await advance(order, stage)
    return order


@workflow
async def waits(order: Order) -> Order:
    """Take one step, then wait for somebody."""
    order = await advance(order, "checked")
    await receive("approval")
    return order


def main(argv: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks workflows", description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "memory"), default="sqlite")
    parser.add_argument("--count", type=int, default=20_000, help="workflows to run")
    parser.add_argument("--open", type=int, default=2_000, help="how many are open at once")
    parser.add_argument("--waiting", type=int, default=10_000, help="waiting workflows to weigh")
    parser.add_argument("--rounds", type=int, default=3, help="figures are medians over these")
    parser.add_argument("--dir", default=None, help="where the files are made")
    parser.add_argument("--gc", type=int, default=0, help="gc.set_threshold; 0 is Python's own")
    parser.add_argument("--part", choices=("throughput", "lone", "waiting"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.gc:
        gc.set_threshold(arguments.gc)
    if arguments.part:
        sys.stdout.write(" ".join(map(str, asyncio.run(_measure(arguments)))))
        return
    heading(f"five-step workflows, {arguments.store} store, {arguments.open:,} open at once")
    throughput = _rounds(arguments, "throughput")
    tuned = _rounds(arguments, "throughput", "--gc", str(_TUNED))
    lone = _rounds(arguments, "lone")
    waiting = _rounds(arguments, "waiting")
    imports = [_import_s() for _ in range(9)]
    rows(
        ("", "median", "of rounds"),
        [
            _line("workflows/s", [r[0] for r in throughput], "{:,.0f}"),
            _line("steps/s", [r[0] * 5 for r in throughput], "{:,.0f}"),
            _line(f"workflows/s, gc.set_threshold({_TUNED:_})", [r[0] for r in tuned], "{:,.0f}"),
            _line("latency p50, ms", [r[1] * 1e3 for r in throughput], "{:,.0f}"),
            _line("latency p99, ms", [r[2] * 1e3 for r in throughput], "{:,.0f}"),
            _line("one alone p50, ms", [r[0] * 1e3 for r in lone], "{:.2f}"),
            _line("one alone p99, ms", [r[1] * 1e3 for r in lone], "{:.2f}"),
            _line("bytes per waiting workflow", [r[0] for r in waiting], "{:,.0f}"),
            _line("waiting resumed at start/s", [r[1] for r in waiting], "{:,.0f}"),
            _line("import beamflow, s", imports, "{:.3f}"),
        ],
    )


def _line(name: str, values: list[float], form: str) -> tuple[str, str, str]:
    return name, form.format(median(values)), " ".join(form.format(value) for value in values)


def _rounds(arguments: argparse.Namespace, part: str, *more: str) -> list[list[float]]:
    """Measure one part in a process of its own, several times."""
    command = [sys.executable, "-m", "benchmarks", "workflows", "--part", part, *more]
    for name in ("store", "count", "open", "waiting"):
        command += [f"--{name}", str(getattr(arguments, name))]
    if arguments.dir is not None:
        command += ["--dir", arguments.dir]
    return [
        [float(word) for word in subprocess.check_output(command, text=True).split()]  # noqa: S603
        for _ in range(arguments.rounds)
    ]


async def _measure(arguments: argparse.Namespace) -> tuple[float, ...]:
    with tempfile.TemporaryDirectory(dir=arguments.dir) as directory:
        url = (
            "memory://"
            if arguments.store == "memory"
            else f"sqlite:///{Path(directory) / 'bench.db'}"
        )
        match arguments.part:
            case "throughput":
                return await _throughput(url, arguments.count, arguments.open)
            case "lone":
                return await _lone(url)
            case _:
                return await _weigh(url, arguments.waiting)


async def _throughput(url: str, count: int, window: int) -> tuple[float, float, float]:
    """Return workflows a second, and p50 and p99 of the seconds from start to result."""
    latencies: list[float] = []
    numbers = iter(range(count))
    async with Engine(url, workflows=[five_steps]) as engine:

        async def client() -> None:
            for number in numbers:
                began = time.perf_counter()
                handle = await engine.start(five_steps, Order(number, 1.0, []))
                await handle.result()
                latencies.append(time.perf_counter() - began)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as clients:
            for _ in range(window):
                clients.create_task(client())
        elapsed = time.perf_counter() - began
    return count / elapsed, percentile(latencies, 50), percentile(latencies, 99)


async def _lone(url: str) -> tuple[float, float]:
    """Return p50 and p99 of the seconds that a workflow takes with nothing beside it."""
    latencies: list[float] = []
    async with Engine(url, workflows=[five_steps]) as engine:
        for number in range(500):
            began = time.perf_counter()
            handle = await engine.start(five_steps, Order(number, 1.0, []))
            await handle.result()
            latencies.append(time.perf_counter() - began)
    return percentile(latencies, 50), percentile(latencies, 99)


async def _weigh(url: str, count: int) -> tuple[float, float]:
    """Return bytes of memory per waiting workflow, and how many are resumed a second."""
    async with Engine(url, workflows=[waits]) as engine:
        await _start_waiting(engine, range(1_000))
        before = _resident()
        await _start_waiting(engine, range(1_000, 1_000 + count))
        weight = (_resident() - before) / count
    if url.startswith("memory"):
        return weight, float("nan")
    began = time.perf_counter()
    async with Engine(url, workflows=[waits]) as engine:
        for number in (0, count // 2, count + 999):
            handle = engine.handle(str(number))
            while not (await handle.status()).waiting_for:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        elapsed = time.perf_counter() - began
    return weight, (1_000 + count) / elapsed


async def _start_waiting(engine: Engine, numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, 1_000):
        chunk = range(start, min(start + 1_000, numbers.stop))
        handles = await asyncio.gather(
            *(engine.start(waits, Order(n, 1.0, []), id=str(n)) for n in chunk)
        )
        for handle in handles:
            async for recorded in handle.events():
                if isinstance(recorded.event, StepCompleted):
                    break


def _resident() -> int:
    """Return the bytes of this process that are in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _import_s() -> float:
    """Return the seconds that ``import beamflow`` adds to the start of an interpreter."""

    def run(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
        return time.perf_counter() - began

    return run("import beamflow") - run("pass")
