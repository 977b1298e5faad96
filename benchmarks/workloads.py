"""What is measured: each workload against any contender, in the contender's process.

Each function returns figures by their names in `benchmarks.figures`; those in ``curves`` are drawn.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from math import log10
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import probe
from benchmarks.contenders.port import BRANCHES, LONG, PARALLEL, STEPS
from benchmarks.measures import (
    cpu_s,
    disk_bytes,
    idle,
    percentile,
    percentiles,
    rss_bytes,
    rss_peak_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from benchmarks.contenders.port import Contender

__all__ = ["WORKLOADS", "Figures"]

Figures = dict[str, Any]

ALONE_S = 4.0
"""How long one workflow after the other is run at most."""
LONG_S = 12.0
"""How long steps of long workflows are taken at most."""
WARM = 20
CROWD = 500
"""How many workflows are run at least for a point of the curve over how many are open."""
SIGNALS = 300
NEAR = 10
"""How many steps around the 10th and the 1,000th are looked at."""
TREE = 1 + BRANCHES + BRANCHES * BRANCHES


# Load


async def _load(
    contender: Contender,
    directory: Path,
    count: int,
    window: int,
    *,
    kind: str,
    workflows: int,
    steps: int,
) -> Figures:
    """Run ``count`` workflows, ``window`` of them open at any time."""
    await contender.open(directory)
    disk, warm = disk_bytes(directory), _warm(count)
    for number in range(warm):
        await contender.run(kind, f"{kind}-warm{number}")
    pids = contender.pids()
    cpu = cpu_s(pids)
    elapsed, latencies = await _crowd(contender, kind, count, window)
    cpu = cpu_s(pids) - cpu
    peak = rss_peak_bytes(pids)
    await contender.close()
    grown = disk_bytes(directory) - disk
    taken = count * steps
    figures = {
        "workflows_s": count * workflows / elapsed,
        "steps_s": taken / elapsed,
        "load_p50_ms": percentile(latencies, 50),
        "load_p99_ms": percentile(latencies, 99),
        "cpu_s": cpu / taken * 1e3,
        "rss_peak_mb": peak / 1e6,
        "curves": {"load": percentiles(latencies)},
    }
    if grown >= 0:  # a server that tidies up when it ends says nothing about its steps
        figures["disk_bytes"] = grown / (taken + warm * steps)
    return figures


async def _crowd(
    contender: Contender, kind: str, count: int, window: int
) -> tuple[float, list[float]]:
    """Run workflows, so many open at any time; return the seconds, and the milliseconds of each."""
    latencies: list[float] = []
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            began = time.perf_counter()
            await contender.run(kind, f"{kind}-{window}.{number}")
            latencies.append((time.perf_counter() - began) * 1e3)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as clients:
        for _ in range(min(window, count)):
            clients.create_task(client())
    return time.perf_counter() - began, latencies


def _warm(count: int) -> int:
    """Return how many are run before anything is measured; what comes first registers itself."""
    return max(1, min(WARM, count // 10))


async def five(contender: Contender, directory: Path, count: int, window: int) -> Figures:
    """Measure workload A: five steps in a row."""
    return await _load(contender, directory, count, window, kind="five", workflows=1, steps=STEPS)


async def parallel(contender: Contender, directory: Path, count: int, window: int) -> Figures:
    """Measure workload B: twenty steps at once."""
    return await _load(
        contender, directory, count, window, kind="parallel", workflows=1, steps=PARALLEL
    )


async def tree(contender: Contender, directory: Path, count: int, window: int) -> Figures:
    """Measure workload E: children of children."""
    steps = BRANCHES * BRANCHES
    return await _load(
        contender, directory, count, window, kind="tree", workflows=TREE, steps=steps
    )


async def io(contender: Contender, directory: Path, count: int, window: int) -> Figures:
    """Measure workload F: steps that wait for 10 ms."""
    return await _load(contender, directory, count, window, kind="io", workflows=1, steps=STEPS)


async def crowds(contender: Contender, directory: Path, count: int, _window: int) -> Figures:
    """Measure workload A with one workflow open, ten, and so on up to ``count``."""
    await contender.open(directory)
    await contender.run("five", "five-warm")
    points = []
    for window in (10**power for power in range(int(log10(count)) + 1)):
        made = min(count, max(CROWD, window))
        elapsed, _ = await _crowd(contender, "five", made, window)
        points.append([window, made / elapsed])
    await contender.close()
    return {
        "alone_s": points[0][1],
        "hundred_s": points[min(2, len(points) - 1)][1],
        "most_s": points[-1][1],
        "curves": {"crowds": points},
    }


# One at a time


async def alone(contender: Contender, directory: Path, count: int, _window: int) -> Figures:
    """Measure workload A with nothing beside it, from the start to the end and to the first step."""
    latencies: list[float] = []
    first: list[float] = []
    began = 0.0

    def ran(_key: str, stage: int) -> None:
        if stage == 0:
            first.append((time.perf_counter() - began) * 1e3)

    await contender.open(directory)
    for number in range(_warm(count)):
        await contender.run("five", f"five-warm{number}")
    probe.listen(ran)
    limit = time.perf_counter() + ALONE_S
    for number in range(count):
        began = time.perf_counter()
        await contender.run("five", f"five-{number}")
        ended = time.perf_counter()
        latencies.append((ended - began) * 1e3)
        if ended > limit:
            break
    probe.listen(None)
    await contender.close()
    return {
        "count": len(latencies),
        "alone_p50_ms": percentile(latencies, 50),
        "alone_p99_ms": percentile(latencies, 99),
        "first_step_ms": percentile(first, 50),
        "curves": {"alone": percentiles(latencies)},
    }


async def waits(contender: Contender, directory: Path, count: int, _window: int) -> Figures:
    """Measure workload C: what one that waits weighs, and how long after its signal it goes on."""
    latencies: list[float] = []
    sent = 0.0
    went_on, loop = asyncio.Event(), asyncio.get_running_loop()

    def ran(_key: str, _stage: int) -> None:
        latencies.append((time.perf_counter() - sent) * 1e3)
        loop.call_soon_threadsafe(went_on.set)  # an engine may run it on a loop of its own

    await contender.open(directory)
    warm = max(1, count // 10)
    await _start_all(contender, "waits", [f"waits-warm{number}" for number in range(warm)])
    await idle(contender.pids())
    before = rss_bytes(contender.pids())
    keys = [f"waits-{number}" for number in range(count)]
    await _start_all(contender, "waits", keys)
    await idle(contender.pids())
    weight = (rss_bytes(contender.pids()) - before) / count
    probe.listen(ran)
    limit = time.perf_counter() + 2 * ALONE_S
    for key in keys[:SIGNALS]:
        went_on.clear()
        sent = time.perf_counter()
        await contender.signal(key)
        await went_on.wait()
        if time.perf_counter() > limit:
            break
    probe.listen(None)
    await contender.close()
    return {
        "signals": len(latencies),
        "waiting_bytes": weight,
        "signal_p50_ms": percentile(latencies, 50),
        "signal_p99_ms": percentile(latencies, 99),
        "curves": {"signal": percentiles(latencies)},
    }


async def long(contender: Contender, directory: Path, count: int, _window: int) -> Figures:
    """Measure workload D: what each step of a thousand costs, once one has run before."""
    ends: list[list[float]] = []

    def ran(_key: str, _stage: int) -> None:
        ends[-1].append(time.perf_counter())

    await contender.open(directory)
    await contender.run("five", "five-warm")
    probe.listen(ran)
    limit = time.perf_counter() + LONG_S
    for number in range(count):
        ends.append([])
        try:
            async with asyncio.timeout(limit - time.perf_counter()):
                await contender.run("long", f"long-{number}")
        except TimeoutError:
            break
    probe.listen(None)
    whole = [one for one in ends if len(one) == LONG] or ends[:1]
    whole = whole[1:] or whole
    costs = [[(b - a) * 1e6 for a, b in pairwise(one)] for one in whole]
    reached = len(costs[0]) + 1
    early = median(cost for one in costs for cost in one[: NEAR * 2])
    late = median(cost for one in costs for cost in one[-NEAR * 2 :])
    figures = {
        "count": len(whole),
        "reached": reached,
        "steps_s": sum(map(len, costs)) / sum(one[-1] - one[0] for one in whole),
        "early_us": early,
        "late_us": late,
        "growth": late / early,
        "curves": {"long": _windows(costs, reached)},
    }
    if reached == LONG:
        await contender.close()
    return figures


def _windows(costs: Sequence[Sequence[float]], reached: int) -> list[list[float]]:
    """Return points of a curve: the number of a step, and what those around it cost."""
    width = max(5, reached // 40)
    return [
        [first + width / 2, median(cost for one in costs for cost in one[first : first + width])]
        for first in range(0, reached - width, width)
    ]


async def replay(contender: Contender, directory: Path, count: int, _window: int) -> Figures:
    """Measure how fast logs are replayed: a thousand steps each, to where the workflow waits."""
    keys = [f"remembers-{number}" for number in range(count)]
    remembers, ended = asyncio.Event(), asyncio.Event()
    left = {LONG - 1: len(keys), LONG: len(keys)}
    loop = asyncio.get_running_loop()

    def ran(_key: str, stage: int) -> None:
        if stage >= LONG - 1:
            left[stage] -= 1
            if not left[stage]:
                reached = remembers if stage < LONG else ended
                loop.call_soon_threadsafe(reached.set)  # an engine may run it on a loop of its own

    await contender.open(directory)
    probe.listen(ran)
    await _start_all(contender, "remembers", keys)
    await remembers.wait()
    await idle(contender.pids())
    await contender.close()
    began = time.perf_counter()
    await contender.open(directory)
    await asyncio.gather(*map(contender.signal, keys))
    await ended.wait()
    elapsed = time.perf_counter() - began
    probe.listen(None)
    await contender.close()
    return {"replay_events_s": count * (LONG + 1) / elapsed}


# Recovery


async def recovery(contender: Contender, directory: Path, count: int, _window: int) -> Figures:
    """Kill the process in the middle of ``count`` workflows, and see when they are back at work.

    All of them have begun, have run two further steps on average, and are taken up again by another
    process. ``back_s`` is when the last one that was open has run a step in it, from the opening of
    the engine on; ``twice`` are the steps that had run before and have run again.
    """
    marks = directory / "marks"
    command = [sys.executable, "-m", "benchmarks.cell", os.environ["BENCH_CONTENDER"], "first_life"]
    command += [f"--count={count}", f"--dir={directory}"]
    first_life = subprocess.run(command, check=False)  # noqa: S603, ASYNC221 - nothing runs beside it
    if first_life.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the process did not come to be killed: {first_life.returncode}")
    before = {tuple(line.split()) for line in marks.read_text().splitlines()}
    keys = [f"gated-{number}" for number in range(count)]
    last = str(STEPS - 1)
    unfinished = {key for key in keys if (key, last) not in before}
    absent, running, twice = set(unfinished), set(unfinished), 0
    first_back = back = done = 0.0
    ended, loop = asyncio.Event(), asyncio.get_running_loop()

    def ran(key: str, stage: int) -> None:
        nonlocal twice, first_back, back, done
        now = time.perf_counter()
        first_back = first_back or now
        twice += (key, str(stage)) in before
        absent.discard(key)
        if not absent:
            back = back or now
        if stage == STEPS - 1:
            running.discard(key)
            if not running:
                done = done or now
                loop.call_soon_threadsafe(ended.set)  # an engine may run it on a loop of its own

    probe.listen(ran)
    began = time.perf_counter()
    await contender.open(directory)
    await contender.resume(sorted(unfinished))
    await ended.wait()
    await idle(contender.pids())
    probe.listen(None)
    await contender.close()
    return {
        "open": len(unfinished),
        "first_back_s": first_back - began,
        "back_s": back - began,
        "done_s": done - began,
        "twice": twice,
    }


async def first_life(contender: Contender, directory: Path, count: int, _window: int) -> Figures:
    """Be the process that is killed: by itself, in the body of a step, after so many."""
    marks = os.open(directory / "marks", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    left = count + 2 * count

    def ran(key: str, stage: int) -> None:
        nonlocal left
        os.write(marks, f"{key} {stage}\n".encode())
        left -= 1
        if not left:
            for pid in (*contender.pids(), os.getpid()):
                os.kill(pid, signal.SIGKILL)

    probe.gate = probe.Gate(count)
    probe.listen(ran)
    await contender.open(directory)
    await _start_all(contender, "gated", [f"gated-{number}" for number in range(count)])
    await asyncio.Event().wait()
    raise AssertionError


async def imported(_contender: Contender, _directory: Path, count: int, _window: int) -> Figures:
    """Measure what ``import beamflow`` adds to the start of an interpreter."""

    def run_s(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - two words of ours
        return time.perf_counter() - began

    return {"import_s": median(run_s("import beamflow") - run_s("pass") for _ in range(count))}


WORKLOADS: dict[str, Callable[[Contender, Path, int, int], Coroutine[Any, Any, Figures]]] = {
    "A": five,
    "alone": alone,
    "B": parallel,
    "C": waits,
    "D": long,
    "E": tree,
    "F": io,
    "crowds": crowds,
    "recovery": recovery,
    "replay": replay,
    "import": imported,
    "first_life": first_life,
}


async def _start_all(contender: Contender, kind: str, keys: Sequence[str]) -> None:
    for first in range(0, len(keys), 500):
        await asyncio.gather(*(contender.start(kind, key) for key in keys[first : first + 500]))
