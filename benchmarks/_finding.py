"""What it costs to find workflows among a million: a page of each kind of query, and its worst place.

The store is filled through the projection's own code, without the events: only the indexes are asked.
A query is asked for the first page, for one in the middle and for the last ones, oldest and newest
first; the figures are the median of these, and the worst of them (itself the median of several asks).
A page may be short: the last column is what it takes to have a whole one, or all. What no index serves
is asked too. Times are CPU time, so that whatever else runs on the machine counts little.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Raw
from msgspec.structs import replace

from beamflow.model.events import (
    Failure,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowStarted,
)
from beamflow.model.status import WorkflowState
from beamflow.stores.base import WorkflowQuery
from beamflow.stores.pages import cursor_at
from beamflow.stores.sql import statement
from beamflow.stores.sqlite import SQLiteStore
from beamflow.stores.sqlite.batch import Batch
from benchmarks._report import heading, median, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamflow.model.events import Attribute, Event

__all__ = ["fill", "main"]

START = 1_700_000_000_000_000
APART_US = 1_000
CITIES, CUSTOMERS, TENANTS = 10, 20_000, 3
OPEN_EVERY = 20
EARLY = 0.05
"""Which part of the workflows, the oldest, have the ids, tags and names that are nowhere else."""


def main(argv: list[str]) -> dict[str, float] | None:
    """Measure and print; return the time of the page that took longest, if each was asked for."""
    parser = argparse.ArgumentParser(prog="benchmarks.scale finding", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="workflows in the store")
    parser.add_argument("--rounds", type=int, default=5, help="figures are medians over these")
    parser.add_argument("--file", default=None, help="a store to fill and keep, or to ask again")
    parser.add_argument("--only", default="", help="queries whose name has this in it")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(arguments.file or Path(directory) / "finding.db")
        if not path.exists():
            began = time.perf_counter()
            asyncio.run(fill(path, arguments.count))
            took = time.perf_counter() - began
            sys.stdout.write(
                f"filled in {took:,.0f} s: {path.stat().st_size / arguments.count:,.0f} bytes of "
                f"indexes for each workflow\n"
            )
        heading(f"a page of 100 among {arguments.count:,} workflows, ms")
        lines, longest = asyncio.run(_ask(path, arguments))
        rows(("", "median", "worst place", "at", "to 100 or the end (pages)"), lines)
    return None if arguments.only else {"count": arguments.count, "page_ms": longest}


# Filling


async def fill(path: Path, count: int) -> None:
    """Make a store with so many workflows, of which one in twenty is open."""
    store = SQLiteStore(path, clock=lambda: START)
    await store.open()
    await store.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -500000")
    connection.execute("BEGIN IMMEDIATE")
    commit = statement("sqlite", "commit")
    for first in range(0, count, 500):
        batch = Batch()
        for number in range(first, min(first + 500, count)):
            for at, event in enumerate(_story(number, count)):
                batch.index(_id(number, count), 1 + at, _time(number) + at, event)
        connection.execute(commit, batch.parameters())
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _time(number: int) -> int:
    return START + number * APART_US


def _id(number: int, count: int) -> str:
    if number < count * EARLY:
        return f"early-{number * 7_919 % count:07}"
    return f"{'order' if number % 2 else 'refund'}-{number * 7_919 % count:07}"


def _name(number: int, count: int) -> str:
    return "import" if number < count * EARLY else ("order" if number % 2 else "refund")


def _story(number: int, count: int) -> Iterator[Event]:
    name = _name(number, count)
    tags = ["web" if number % 3 else "shop"]
    if number < count * EARLY:
        tags.append("early")
    if not number % 1_000:
        tags.append("rare")
    yield WorkflowStarted(
        workflow=name,
        version=1 + (number > count // 2),
        input=Raw(b"[]"),
        tags=tuple(tags),
        attributes={
            "city": f"city {number % CITIES}",
            "customer": number % CUSTOMERS,
            "tenant": f"tenant {number % TENANTS}",
            "half": "odd" if number % 2 else "even",
        },
        parent=_id(number - number % 50, count) if number % 10 == 1 else "",
    )
    match number % 100:
        case 0:
            yield WorkflowPaused()
        case kept if kept % OPEN_EVERY == 0:
            pass
        case 7:
            yield WorkflowFailed(
                workflow=name,
                error=Failure(type="builtins.ValueError", message="no", args=Raw(b"[]")),
                op=1,
                step="pay",
                attempts=3,
                input=Raw(b"[]"),
            )
        case _:
            yield WorkflowCompleted(result=Raw(b"null"))


# Asking


def _queries(count: int) -> dict[str, WorkflowQuery]:
    running = frozenset({WorkflowState.RUNNING})
    failed = frozenset({WorkflowState.FAILED})
    some: dict[str, Attribute] = {"customer": 77}
    bonn: dict[str, Attribute] = {"city": "city 7"}
    middle = _time(count // 2)
    return {
        "all": WorkflowQuery(),
        "state running": WorkflowQuery(states=running),
        "state failed": WorkflowQuery(states=failed),
        "name": WorkflowQuery(workflow="order"),
        "name, version": WorkflowQuery(workflow="order", version=2),
        "name, state": WorkflowQuery(workflow="order", states=failed),
        "time": WorkflowQuery(started_after=middle, started_before=middle + 10**9),
        "time, state": WorkflowQuery(started_after=middle, states=running),
        "tag of most": WorkflowQuery(tags=("web",)),
        "tag of few": WorkflowQuery(tags=("rare",)),
        "attribute of a tenth": WorkflowQuery(attributes=bonn),
        "attribute of few": WorkflowQuery(attributes=some),
        "parent": WorkflowQuery(parent=_id(50 * (count // 100), count)),
        "prefix of few": WorkflowQuery(id_prefix="order-00001"),
        "prefix of a half": WorkflowQuery(id_prefix="order-"),
        "prefix of 1/20, at the far end": WorkflowQuery(id_prefix="early-"),
        "prefix of 1/200, at the far end": WorkflowQuery(id_prefix="early-0"),
        "prefix of 1/20 anywhere": WorkflowQuery(id_prefix="order-0"),
        "prefix and name": WorkflowQuery(id_prefix="order-", workflow="order"),
        "prefix and state": WorkflowQuery(id_prefix="order-", states=failed),
        "name and tag": WorkflowQuery(workflow="order", tags=("web",)),
        "name, tag, state": WorkflowQuery(workflow="order", tags=("web",), states=failed),
        "name and attribute": WorkflowQuery(workflow="order", attributes=bonn),
        "tag and attribute": WorkflowQuery(tags=("web",), attributes=bonn),
        "tag, attribute, name, time": WorkflowQuery(
            tags=("web",), attributes=bonn, workflow="order", started_after=middle
        ),
        "two attributes, one of few": WorkflowQuery(attributes={**bonn, "customer": 77}),
        "three labels, few in common": WorkflowQuery(
            tags=("rare",), attributes={**bonn, "tenant": "tenant 1"}
        ),
        "name and tag that never meet": WorkflowQuery(workflow="order", tags=("early",)),
        "two labels that never meet": WorkflowQuery(attributes={"city": "city 7"}, tags=("rare",)),
        "two of many that never meet": WorkflowQuery(
            attributes={"city": "city 3"}, parent=None, tags=("early",), started_after=middle
        ),
        "name of half, prefix of half, never meet": WorkflowQuery(
            workflow="order", id_prefix="refund-"
        ),
        "tag of most, prefix at the far end": WorkflowQuery(tags=("web",), id_prefix="early-"),
        "name and attribute that take turns, never meet": WorkflowQuery(
            workflow="refund", attributes=bonn
        ),
        "two attributes that take turns, never meet": WorkflowQuery(
            attributes={**bonn, "half": "even"}
        ),
    }


async def _ask(path: Path, arguments: argparse.Namespace) -> tuple[list[tuple[str, ...]], float]:
    """Return the lines of the table, and the time of the page that took longest."""
    store = SQLiteStore(path, clock=lambda: START)
    await store.open()
    lines, longest = [], 0.0
    try:
        for name, query in _queries(arguments.count).items():
            if arguments.only in name:
                line, worst = await _line(store, name, query, arguments)
                lines.append(line)
                longest = max(longest, worst)
        counting = {
            "count of all": WorkflowQuery(),
            "count of a name": WorkflowQuery(workflow="order"),
        }
        for name, query in counting.items():
            if arguments.only not in name:
                continue
            times = []
            for _ in range(arguments.rounds):
                began = time.process_time()
                await store.count(query)
                times.append((time.process_time() - began) * 1e3)
            lines.append((name, f"{median(times):,.1f}", f"{max(times):,.1f}", "", ""))
    finally:
        await store.close()
    return lines, longest


async def _line(
    store: SQLiteStore, name: str, query: WorkflowQuery, arguments: argparse.Namespace
) -> tuple[tuple[str, ...], float]:
    figures: dict[str, float] = {}
    for newest_first in (False, True):
        way = "newest" if newest_first else "oldest"
        for where in (0.0, 0.5, 0.96):
            number = round(arguments.count * (1 - where if newest_first else where))
            cursor = cursor_at(_time(number), "") if where else None
            asked = replace(query, newest_first=newest_first, after=cursor)
            times = []
            for _ in range(arguments.rounds):
                began = time.process_time()
                await store.find(asked)
                times.append((time.process_time() - began) * 1e3)
            figures[f"{way} first, {where:.0%}"] = median(times)
    worst = max(figures, key=lambda place: figures[place])
    full = await _filled(store, replace(query, newest_first=worst.startswith("newest")))
    middle = f"{median(list(figures.values())):,.1f}"
    return (name, middle, f"{figures[worst]:,.1f}", worst, full), figures[worst]


async def _filled(store: SQLiteStore, query: WorkflowQuery) -> str:
    """Go from page to page until as many as one may hold were found, or all; say how long it took."""
    began, pages, items = time.process_time(), 0, 0
    while items < query.limit:
        page = await store.find(query)
        items, pages = items + len(page.items), pages + 1
        if page.cursor is None:
            break
        query = replace(query, after=page.cursor)
    return f"{(time.process_time() - began) * 1e3:,.0f} ({pages})"
