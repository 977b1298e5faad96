"""Workflows that sleep for a day: how fast they are started, what they cost, how late the first wakes.

They are started in one process and woken in another, whose clock is set to shortly before the day is
over; so the second one shows too how an engine starts with all of them asleep.

The host sets the collector's thresholds, as a host with many objects in memory should: with Python's
own it takes more time than everything else, looking again and again at the workflows that are awake.
``--plain-gc`` leaves them as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from beamflow import Engine, workflow
from beamflow.model.events import TimerStarted
from supervision import SystemClock

__all__ = ["main"]

DAY_S = 86_400.0
AHEAD_S = 10.0
WATCHED = 100
THRESHOLDS = (50_000, 20, 50)


@workflow
async def sleeps_a_day(number: int) -> int:
    """Sleep."""
    await asyncio.sleep(DAY_S)
    return number


class LaterClock(SystemClock):
    """The machine's clock, so many seconds ahead."""

    def __init__(self, ahead_s: float) -> None:
        self.ahead_s = ahead_s

    def now(self) -> float:
        """Wall clock time in seconds since 1970, UTC."""
        return super().now() + self.ahead_s


def main(argv: list[str]) -> dict[str, float] | None:
    """Measure and print; return the figures, but in one of the two processes."""
    parser = argparse.ArgumentParser(prog="benchmarks.scale sleepers", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="how many sleep")
    parser.add_argument("--clients", type=int, default=1_000, help="how many are started at a time")
    parser.add_argument("--wake-s", type=float, default=10.0, help="how long to watch them wake")
    parser.add_argument(
        "--ahead-s", type=float, default=AHEAD_S, help="how long before the first is due to look"
    )
    parser.add_argument("--plain-gc", action="store_true", help="leave the collector alone")
    parser.add_argument("--dir", default=None, help="where the store is; a temporary directory")
    parser.add_argument("--json", default=None, help="a file to write the figures to")
    parser.add_argument("--phase", choices=("start", "wake"), help=argparse.SUPPRESS)
    parser.add_argument("--due", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.phase is not None:
        if not arguments.plain_gc:
            gc.set_threshold(*THRESHOLDS)
        phase = _start if arguments.phase == "start" else _wake
        sys.stdout.write(json.dumps(asyncio.run(phase(arguments))))
        return None
    with tempfile.TemporaryDirectory(dir=arguments.dir) as directory:
        figures = measured(arguments, directory)
    _show(arguments.count, figures)
    if arguments.json is not None:
        Path(arguments.json).write_text(json.dumps(figures, indent=2), encoding="utf-8")
    return figures


def measured(arguments: argparse.Namespace, directory: str) -> dict[str, float]:
    """Start them in one process, wake them in another; return the figures of both."""
    common = ["--count", f"{arguments.count}", "--clients", f"{arguments.clients}"]
    common += ["--wake-s", f"{arguments.wake_s}", "--dir", directory]
    common += ["--ahead-s", f"{arguments.ahead_s}"]
    common += ["--plain-gc"] if arguments.plain_gc else []
    figures = _phase("start", common)
    return figures | _phase("wake", [*common, "--due", f"{figures['first_due']}"])


def _phase(name: str, options: list[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scale", "sleepers", "--phase", name, *options]
    figures: dict[str, float] = json.loads(subprocess.check_output(command, text=True))  # noqa: S603 - this file itself
    return figures


def _show(count: int, figures: dict[str, float]) -> None:
    lines = {
        f"{count:,} sleepers, started a second": ("started_per_s", "{:,.0f}"),
        "memory when all sleep, MB": ("rss_mb", "{:,.0f}"),
        "memory at its peak, MB": ("peak_mb", "{:,.0f}"),
        "disk, bytes each": ("disk_bytes", "{:,.0f}"),
        "start of an engine over them, s": ("open_s", "{:.2f}"),
        "its memory, MB": ("open_rss_mb", "{:,.0f}"),
        "the first wakes late, ms": ("first_late_ms", "{:.1f}"),
        f"the first {WATCHED} are done late, ms, at most": ("watched_late_ms", "{:,.1f}"),
        "woken and done a second": ("woken_per_s", "{:,.0f}"),
        "memory while they wake, MB": ("wake_peak_mb", "{:,.0f}"),
    }
    for text, (name, form) in lines.items():
        sys.stdout.write(f"  {text:45} {form.format(figures[name]):>12}\n")


async def _start(arguments: argparse.Namespace) -> dict[str, float]:
    path = Path(arguments.dir) / "sleepers.db"
    async with Engine(f"sqlite:///{path}", workflows=[sleeps_a_day]) as engine:
        numbers = iter(range(arguments.count))

        async def client() -> None:
            for number in numbers:
                await engine.start(sleeps_a_day, number, id=f"{number}")

        began = time.perf_counter()
        async with asyncio.TaskGroup() as clients:
            for _ in range(arguments.clients):
                clients.create_task(client())
        elapsed = time.perf_counter() - began
        rss_mb = _memory_mb("VmRSS")
        (first,) = (await engine.page(limit=1)).items
        history = await engine.handle(first.id).history()
        due = next(one.event.due for one in history if isinstance(one.event, TimerStarted))
    return {
        "count": arguments.count,
        "started_per_s": arguments.count / elapsed,
        "rss_mb": rss_mb,
        "peak_mb": _memory_mb("VmHWM"),
        "disk_bytes": path.stat().st_size / arguments.count,
        "first_due": due / 1e6,
    }


async def _wake(arguments: argparse.Namespace) -> dict[str, float]:
    path = Path(arguments.dir) / "sleepers.db"
    clock = LaterClock(arguments.due - arguments.ahead_s - time.time())
    began = time.perf_counter()
    late: list[float] = []
    async with Engine(f"sqlite:///{path}", workflows=[sleeps_a_day], clock=clock) as engine:
        open_s = time.perf_counter() - began
        open_rss_mb = _memory_mb("VmRSS")

        async def watch(workflow_id: str) -> None:
            handle = engine.handle(workflow_id)
            history = await handle.history()
            due = next(one.event.due for one in history if isinstance(one.event, TimerStarted))
            await handle.result()
            late.append(clock.now() - due / 1e6)

        first = [one.id for one in (await engine.page(limit=min(WATCHED, arguments.count))).items]
        async with asyncio.TaskGroup() as group:
            for workflow_id in first:
                group.create_task(watch(workflow_id))
        done, began = await _completed(engine), time.perf_counter()
        while time.perf_counter() - began < arguments.wake_s and done < arguments.count:
            await asyncio.sleep(0.2)
            done = await _completed(engine)
        woken_s = clock.now() - arguments.due
    return {
        "open_s": open_s,
        "open_rss_mb": open_rss_mb,
        "first_late_ms": late[0] * 1e3,
        "watched_late_ms": max(late) * 1e3,
        "woken_per_s": done / woken_s,
        "wake_peak_mb": _memory_mb("VmHWM"),
    }


async def _completed(engine: Engine) -> int:
    return sum(
        count for state, count in (await engine.counts()).items() if state.value == "completed"
    )


def _memory_mb(name: str) -> float:
    """Return a figure of this process's memory, megabytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/{os.getpid()}/status has no {name}")
