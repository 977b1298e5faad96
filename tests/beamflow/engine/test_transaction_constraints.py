"""Constraints of the user's own tables, those that are checked at the commit of the step among them."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from beamflow import (
    Engine,
    Retry,
    WorkflowFailedError,
    current_step,
    receive,
    step,
    transaction,
    workflow,
)
from beamflow.events import CompensationFailed, SignalReceived, StepCompleted, StepFailed
from supervision.testing import settle
from tests.beamflow.engine.tables import made, outcomes, seen

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A database in which each child has a parent, by the time of the commit."""
    return made(
        tmp_path / "family.db",
        """
        CREATE TABLE parents (name TEXT PRIMARY KEY);
        CREATE TABLE children (
            name TEXT,
            parent TEXT REFERENCES parents DEFERRABLE INITIALLY DEFERRED
        );
        CREATE TABLE pets (owner TEXT REFERENCES parents);
        """,
    )


def families(path: Path) -> list[tuple[str, str | None]]:
    """Who is there, with the parent if that one is."""
    query = "SELECT c.name, p.name FROM children c LEFT JOIN parents p ON p.name = c.parent"
    return seen(path, f"{query} ORDER BY c.rowid")


@step(retry=Retry(max_attempts=3, initial=0), raises=[sqlite3.IntegrityError])
async def bear(name: str, *, orphan_until: int = 0) -> int:
    attempt = current_step().attempt
    async with transaction() as db:
        await db.execute("INSERT INTO children VALUES (?, ?)", (name, f"of {name}"))
        if attempt > orphan_until:
            await db.execute("INSERT INTO parents VALUES (?)", (f"of {name}",))
    return attempt


@workflow
async def bears(orphan_until: int) -> str:
    try:
        return f"attempt {await bear('Kim', orphan_until=orphan_until)}"
    except sqlite3.IntegrityError as error:
        return str(error)


async def test_a_constraint_that_is_checked_at_the_commit_fails_the_step(family: Path) -> None:
    """As one that is checked before: it is tried again, and what it has written is gone."""
    async with Engine(f"sqlite:///{family}", workflows=[bears]) as engine:
        handle = await engine.start(bears, 2)
        assert await handle.result() == "attempt 3"
        errors = [one.error for one in await outcomes(handle, StepFailed)]
        assert [(one.type, one.message) for one in errors] == [
            ("sqlite3.IntegrityError", "FOREIGN KEY constraint failed")
        ] * 2
        assert len(await outcomes(handle, StepCompleted)) == 1
    assert families(family) == [("Kim", "of Kim")]


async def test_a_step_that_breaks_it_each_time_has_failed(family: Path) -> None:
    """For good, with the error of the database as its own; nobody is parked, the store is well."""
    async with Engine(f"sqlite:///{family}", workflows=[bears]) as engine:
        handle = await engine.start(bears, 9, id="one")
        assert await handle.result() == "FOREIGN KEY constraint failed"
        failures = await outcomes(handle, StepFailed)
        assert [one.attempt for one in failures] == [1, 2, 3]
        assert "checked only when" in (failures[-1].error.traceback or "")
        assert await engine.dead_letters.list() == []
        assert await (await engine.start(bears, 0)).result() == "attempt 1"
    assert families(family) == [("Kim", "of Kim")]


async def test_a_refused_commit_takes_nothing_else_along(family: Path) -> None:
    """Signals that came meanwhile, other branches and what the code had come to are there, once."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    @step(raises=[sqlite3.IntegrityError])
    async def slow() -> None:
        async with transaction() as db:
            await db.execute("INSERT INTO children VALUES ('Kim', 'nobody')")
            inside.set()
            await go_on.wait()

    @step
    async def look() -> str:
        return "seen"

    @workflow
    async def busy() -> list[str]:
        async def branch() -> str:
            try:
                await slow()
            except sqlite3.IntegrityError:
                return await look()
            return "never"

        return await asyncio.gather(branch(), receive("word", str), receive("word", str))

    async with Engine(f"sqlite:///{family}", workflows=[busy]) as engine:
        handle = await engine.start(busy)
        await handle.signal("word", "hello")
        await inside.wait()
        sent = asyncio.ensure_future(handle.signal("word", "again"))
        await settle()
        go_on.set()
        await sent
        assert await handle.result() == ["seen", "hello", "again"]
        assert len(await outcomes(handle, SignalReceived)) == 2
        assert len(await outcomes(handle, StepFailed)) == 1
    assert families(family) == []


async def test_a_compensation_that_breaks_it_is_tried_again(family: Path) -> None:
    @step
    async def nothing() -> None:
        pass

    @nothing.compensation(retry=Retry(max_attempts=3, initial=0))
    async def mourn(_none: None) -> None:
        async with transaction() as db:
            await db.execute("INSERT INTO children VALUES ('Kim', 'of Kim')")
            if current_step().attempt == 2:
                await db.execute("INSERT INTO parents VALUES ('of Kim')")

    @workflow
    async def fail() -> None:
        await nothing()
        raise ValueError

    async with Engine(f"sqlite:///{family}", workflows=[fail]) as engine:
        handle = await engine.start(fail)
        with pytest.raises(WorkflowFailedError, match="ValueError"):
            await handle.result()
        assert len(await outcomes(handle, CompensationFailed)) == 1
    assert families(family) == [("Kim", "of Kim")]


async def test_foreign_keys_are_enforced_in_the_block(family: Path) -> None:
    """Those that are not deferred by the statement itself, which may be caught."""

    @step
    async def adopt() -> str:
        async with transaction() as db:
            try:
                await db.execute("INSERT INTO pets VALUES ('nobody')")
            except sqlite3.IntegrityError as error:
                return str(error)
        return "adopted"

    @workflow
    async def try_it() -> str:
        return await adopt()

    async with Engine(f"sqlite:///{family}", workflows=[try_it]) as engine:
        assert await (await engine.start(try_it)).result() == "FOREIGN KEY constraint failed"
