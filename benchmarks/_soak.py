"""A constant load for a long time: does anything grow that should not?

Workflows are started at a steady rate. Each makes steps, one of which fails at first, waits for a
signal, sleeps; some have a child, some fail for good and are resolved. What has ended is archived and removed
after a while. Beside it somebody lists and counts all the time, and another program holds a read
transaction open for a part of each two minutes. The first part of the time, in which the store fills up, is not
looked at; a line is laid through the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from beamflow import Engine, Retention, Retry, current_step, receive, step, workflow
from beamflow.stores.sqlite import SQLiteStore
from beamflow.stores.sqlite.wal import WAL_BYTES_MAX
from benchmarks._report import heading, median, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

__all__ = ["Sample", "growth", "main"]

CITIES = 50
FAILS_EVERY, CHILD_EVERY = 50, 10
SLEEP_S = 1.0
KEPT_S = 20.0
READER_EVERY_S, READER_HOLDS_S = 120.0, 40.0
FLAT_PER_HOUR = 0.10
"""What grows by less than this part of itself in an hour, or by less than its grain, does not grow."""
GRAINS = {
    "rss": 8e6,
    "handles": 2,
    "tasks": 100,
    "wal": WAL_BYTES_MAX,
    "database": 4e6,
    "open": 100,
}


class Sample(msgspec.Struct, frozen=True):
    """What was measured at one moment; sizes in bytes."""

    at_s: float
    rss: int
    handles: int
    tasks: int
    wal: int
    database: int
    open: int
    done: int
    reader: bool
    """Whether the other program had its transaction open."""


@step
async def reserve(number: int) -> str:
    """Do something small."""
    return f"reservation {number}"


@step(retry=Retry(max_attempts=3, initial=0.05))
async def charge(number: int) -> int:
    """Fail the first time, and for good now and then."""
    if number % FAILS_EVERY == 0:
        raise LookupError(number)
    if current_step().attempt == 1:
        raise ConnectionError(number)
    return number


@workflow
async def packed(number: int) -> int:
    """Be somebody's child."""
    await reserve(number)
    return number


@workflow
async def order(number: int) -> int:
    """Do a bit of everything."""
    await reserve(number)
    if number % CHILD_EVERY == 0:
        await packed(number)
    await receive("paid", int)
    await asyncio.sleep(SLEEP_S)
    return await charge(number)


def main(argv: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.scale soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long")
    parser.add_argument("--rate", type=float, default=100.0, help="workflows a second")
    parser.add_argument("--every-s", type=float, default=5.0, help="seconds between two samples")
    parser.add_argument(
        "--commit-ms", type=float, default=0.0, help="how long each commit takes more"
    )
    parser.add_argument("--dir", default=None, help="where the store is; a temporary directory")
    parser.add_argument("--json", default=None, help="a file to write the samples to")
    arguments = parser.parse_args(argv)
    heading(f"{arguments.rate:,.0f} workflows/s for {arguments.minutes:g} minutes")
    with tempfile.TemporaryDirectory(dir=arguments.dir) as directory:
        samples = asyncio.run(_Soak(arguments, Path(directory)).run())
    verdicts = judged(samples)
    _show(samples, verdicts)
    if arguments.json is not None:
        found = {"samples": samples, "per_minute": verdicts}
        Path(arguments.json).write_bytes(msgspec.json.format(msgspec.json.encode(found)))


class _SlowStore(SQLiteStore):
    """A store whose disk takes its time."""

    def __init__(self, path: Path, commit_s: float) -> None:
        super().__init__(path, clock=lambda: int(time.time() * 1e6))
        self._commit_s = commit_s

    async def _execute(self, sql: str, parameters: dict[str, object]) -> Any:
        if self._commit_s and "beamflow_journal" in sql:
            await asyncio.sleep(self._commit_s)
        return await super()._execute(sql, parameters)


class _Soak:
    """The load, and what is beside it."""

    def __init__(self, arguments: argparse.Namespace, directory: Path) -> None:
        self._rate = arguments.rate
        self._seconds = arguments.minutes * 60
        self._every_s = arguments.every_s
        self._commit_s = arguments.commit_ms / 1e3
        self._path = directory / "soak.db"
        self._archive = directory / "ended.jsonl"
        self._samples: list[Sample] = []
        self._done = 0
        self._reader = False
        self._began = time.monotonic()

    async def run(self) -> list[Sample]:
        """Run all of it, until the time is over."""
        retention = Retention(KEPT_S, archive=self._archive, every=2.0)
        store = _SlowStore(self._path, self._commit_s)
        engine = Engine(store, workflows=[order, packed], retention=retention)
        async with engine:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds), asyncio.TaskGroup() as group:
                    parts: list[Callable[[Engine], Coroutine[Any, Any, None]]] = [
                        self._start, self._operate, self._list, self._hold, self._sample,
                    ]  # fmt: skip
                    for part in parts:
                        group.create_task(part(engine))
        return self._samples

    async def _start(self, engine: Engine) -> None:
        number, began = 0, time.monotonic()
        async with asyncio.TaskGroup() as clients:
            while True:
                while number < (time.monotonic() - began) * self._rate:
                    number += 1
                    clients.create_task(self._client(engine, number))
                await asyncio.sleep(0.01)

    async def _client(self, engine: Engine, number: int) -> None:
        city = {"city": f"city {number % CITIES}"}
        handle = await engine.start(order, number, id=f"order-{number}", attributes=city)
        await handle.signal("paid", number)
        with contextlib.suppress(Exception):
            await handle.result()
        self._done += 1

    async def _operate(self, engine: Engine) -> None:
        while True:
            for letter in await engine.dead_letters.list():
                await engine.dead_letters.resolve(letter.workflow_id, "looked at")
            await asyncio.sleep(2.0)

    async def _list(self, engine: Engine) -> None:
        turn = 0
        while True:
            turn += 1
            await engine.page(newest_first=True, limit=50)
            await engine.page(attributes={"city": f"city {turn % CITIES}"}, limit=50)
            await engine.counts()
            await asyncio.sleep(0.2)

    async def _hold(self, _engine: Engine) -> None:
        while True:
            await asyncio.sleep(READER_EVERY_S - READER_HOLDS_S)
            with contextlib.closing(sqlite3.connect(self._path)) as other:
                other.execute("BEGIN")
                other.execute("SELECT count(*) FROM beamflow_meta").fetchall()
                self._reader = True
                await asyncio.sleep(READER_HOLDS_S)
            self._reader = False

    async def _sample(self, engine: Engine) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            gc.collect()
            counts = await engine.counts()
            wal = self._path.with_name(f"{self._path.name}-wal")
            sample = Sample(
                at_s=time.monotonic() - self._began,
                rss=_resident(),
                handles=_handles(),
                tasks=len(asyncio.all_tasks()),
                wal=wal.stat().st_size,
                database=self._path.stat().st_size,
                open=sum(number for state, number in counts.items() if state.is_open),
                done=self._done,
                reader=self._reader,
            )
            self._samples.append(sample)
            self._archive.unlink(missing_ok=True)  # it may be taken away at any moment


def _resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _handles() -> int:
    """Return how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def growth(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line through points, by least squares."""
    if len(points) < 2:  # noqa: PLR2004 - no line
        return 0.0
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def judged(samples: Sequence[Sample]) -> dict[str, tuple[float, float, bool]]:
    """Return of each figure its median, its growth a minute, and whether it is flat.

    Looks at what came after the first third. The write-ahead log is looked at while nobody else holds it up.
    """
    late = [sample for sample in samples if sample.at_s >= samples[-1].at_s / 3]
    verdicts = {}
    for name, grain in GRAINS.items():
        seen = [one for one in late if name != "wal" or not one.reader]
        values = [float(getattr(one, name)) for one in seen]
        slope = growth([(one.at_s / 60, value) for one, value in zip(seen, values, strict=True)])
        if not values:
            continue
        minutes = (late[-1].at_s - late[0].at_s) / 60
        grown = slope * minutes
        flat = grown <= grain or slope * 60 <= FLAT_PER_HOUR * median(values)
        verdicts[name] = (median(values), slope, flat)
    return verdicts


def _show(samples: Sequence[Sample], verdicts: dict[str, tuple[float, float, bool]]) -> None:
    wanted = [samples[len(samples) * n // 10] for n in range(10)] + [samples[-1]]
    header = ("minute", *GRAINS, "ended", "reader")
    lines = [
        (
            f"{one.at_s / 60:.1f}",
            *(_size(name, getattr(one, name)) for name in GRAINS),
            f"{one.done:,}",
            "holds" if one.reader else "",
        )
        for one in wanted
    ]
    rows(header, lines)
    sys.stdout.write("\n")
    rows(
        ("", "median", "a minute", "verdict"),
        [
            (
                name,
                _size(name, value),
                f"{_size(name, slope, sign='+')}",
                "flat" if flat else "GROWS",
            )
            for name, (value, slope, flat) in verdicts.items()
        ],
    )
    rate = samples[-1].done / samples[-1].at_s
    largest = max(one.wal for one in samples) / 1e6
    sys.stdout.write(
        f"\n{rate:,.0f} workflows ended a second; the write-ahead log was never larger than "
        f"{largest:,.0f} MB\n"
    )


def _size(name: str, value: float, sign: str = "") -> str:
    if name in {"rss", "wal", "database"}:
        return f"{value / 1e6:{sign},.1f} MB"
    return f"{value:{sign},.1f}" if sign else f"{value:,.0f}"
