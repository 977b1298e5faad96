"""Steps that write rows of their own in the commit that records them."""

from __future__ import annotations

import asyncio
import contextlib

from beamflow import current_step, step, transaction, workflow
from tests.corpus.case import case, returned
from tests.corpus.work import STUBBORN, do
from tests.corpus.world import effect

_TABLE = "CREATE TABLE IF NOT EXISTS bookings (customer TEXT, cents INTEGER)"


@step(retry=STUBBORN)
async def book(customer: str, cents: int) -> list[int]:
    effect("book", cents)
    async with transaction() as db:
        await db.execute(_TABLE)
        await db.execute("INSERT INTO bookings VALUES (?, ?)", (customer, cents))
        ((count, total),) = await db.execute(
            "SELECT count(*), sum(cents) FROM bookings WHERE customer = ?", (customer,)
        )
    return [count, total]


@case(
    ends=returned([[1, 5], [2, 12], [3, 22]]),
    effects=["book 5", "book 7", "between", "book 10"],
    needs_file=True,
)
@workflow
async def rows_written_once() -> list[list[int]]:
    totals = [await book("ann", 5), await book("ann", 7)]
    await do("between")
    return [*totals, await book("ann", 10)]


@step
async def book_and_fail(customer: str) -> None:
    async with transaction() as db:
        await db.execute(_TABLE)
        await db.execute("INSERT INTO bookings VALUES (?, 1)", (customer,))
        raise LookupError(customer)


@case(ends=returned([1, 3]), effects=["book 3"], needs_file=True)
@workflow
async def rows_of_a_failed_step() -> list[int]:
    with contextlib.suppress(LookupError):
        await book_and_fail("bob")
    return await book("bob", 3)


@case(
    ends=returned([[1, 1], [2, 3], [3, 6]]), effects=["book 1", "book 2", "book 3"], needs_file=True
)
@workflow
async def rows_written_side_by_side() -> list[list[int]]:
    tasks = [asyncio.create_task(book("eve", cents)) for cents in (1, 2, 3)]
    return sorted(await asyncio.gather(*tasks))


_FAMILY = (
    "CREATE TABLE IF NOT EXISTS parents (name TEXT PRIMARY KEY)",
    """CREATE TABLE IF NOT EXISTS children (
        name TEXT, parent TEXT REFERENCES parents DEFERRABLE INITIALLY DEFERRED
    )""",
)


@step(retry=STUBBORN)
async def bear(name: str) -> int:
    effect("bear", name)
    async with transaction() as db:
        for table in _FAMILY:
            await db.execute(table)
        await db.execute("INSERT INTO children VALUES (?, 'eve')", (name,))
        if current_step().attempt > 1:
            await db.execute("INSERT OR IGNORE INTO parents VALUES ('eve')")
        ((count,),) = await db.execute("SELECT count(*) FROM children")
    return int(count)


@case(ends=returned([1, 2]), effects=["bear abel", "beside it", "bear kain"], needs_file=True)
@workflow
async def rows_refused_at_the_commit_at_first() -> list[int]:
    first, _ = await asyncio.gather(bear("abel"), do("beside it"))
    return [first, await bear("kain")]
