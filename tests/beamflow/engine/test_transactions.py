"""Transactions: a step's own rows and the event that records it are there together, or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
import traceback
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DefinitionError,
    Engine,
    EngineStoppedError,
    Retry,
    TransactionError,
    WorkflowFailedError,
    current_step,
    receive,
    step,
    transaction,
    workflow,
)
from beamflow.events import SignalReceived, StepCompleted, StepFailed
from beamflow.stores.memory import MemoryStore
from beamflow.stores.sqlite import SQLiteStore
from supervision.testing import ManualClock, settle
from tests.beamflow.engine.tables import made, outcomes, seen

if TYPE_CHECKING:
    from pathlib import Path


TABLE = "CREATE TABLE rows (word TEXT UNIQUE, key TEXT)"
INSERT = "INSERT INTO rows VALUES (?, ?)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a table of the user's and those of beamflow beside it."""
    return made(tmp_path / "app.db", TABLE)


def words(path: Path) -> list[str]:
    return [word for (word,) in seen(path, "SELECT word FROM rows ORDER BY rowid")]


@step
async def write(word: str) -> int:
    async with transaction() as db:
        await db.execute(INSERT, (word, current_step().idempotency_key))
        ((count,),) = await db.execute("SELECT count(*) FROM rows")
    return int(count)


@workflow
async def scribe(many: list[str]) -> list[int]:
    return [await write(word) for word in many]


@workflow
async def crowd(many: list[str]) -> list[int]:
    return await asyncio.gather(*(write(word) for word in many))


async def test_rows_are_committed_with_the_step(path: Path) -> None:
    """The step sees what it has written itself; others see it once the step is recorded."""
    seen: list[list[str]] = []

    @step
    async def look(word: str) -> str:
        async with transaction() as db:
            await db.executemany(INSERT, [(word, "a"), (f"{word}!", "b")])
            rows = await db.execute(
                "SELECT word FROM rows WHERE word = :word", {"word": f"{word}!"}
            )
            seen.append(words(path))
        seen.append(words(path))
        return str(rows[0][0])

    @workflow
    async def look_twice() -> list[str]:
        return [await look("one"), await look("two")]

    async with Engine(f"sqlite:///{path}", workflows=[look_twice]) as engine:
        assert await (await engine.start(look_twice)).result() == ["one!", "two!"]
    assert seen == [[], [], ["one", "one!"], ["one", "one!"]]
    assert words(path) == ["one", "one!", "two", "two!"]


async def test_many_take_turns(path: Path) -> None:
    """Branches of one workflow, and workflows beside each other and beside plain steps."""

    @step
    async def plain(number: int) -> int:
        return number

    @workflow
    async def bystander(number: int) -> int:
        for _ in range(5):
            number = await plain(number)
        return number

    async with Engine(f"sqlite:///{path}", workflows=[crowd, bystander]) as engine:
        handles = [
            await engine.start(crowd, [f"{number}-{word}" for word in "abcde"])
            for number in range(10)
        ]
        others = [await engine.start(bystander, number) for number in range(20)]
        counts = [count for handle in handles for count in await handle.result()]
        assert [await other.result() for other in others] == list(range(20))
    assert sorted(counts) == list(range(1, 51))
    assert len(set(words(path))) == 50


async def test_a_step_that_raises_leaves_no_rows(path: Path) -> None:
    """Not in the block, not behind it, not where its result cannot be recorded."""

    @step(retry=Retry(max_attempts=3, initial=0))
    async def third_time(word: str) -> Any:
        attempt = current_step().attempt
        async with transaction() as db:
            await db.execute(INSERT, (word, f"{attempt}"))
            if attempt == 1:
                raise ConnectionError("in the block")
        if attempt == 2:
            raise ConnectionError("behind it")
        return attempt

    @step
    async def unreadable(word: str) -> Any:
        async with transaction() as db:
            await db.execute(INSERT, (word, ""))
        return object()

    @workflow
    async def stubborn() -> Any:
        return await third_time("kept")

    @workflow
    async def hopeless() -> None:
        await unreadable("lost")

    async with Engine(f"sqlite:///{path}", workflows=[stubborn, hopeless]) as engine:
        assert await (await engine.start(stubborn)).result() == 3
        with pytest.raises(WorkflowFailedError, match="PayloadError"):
            await (await engine.start(hopeless)).result()
    assert words(path) == ["kept"]


async def test_a_step_may_go_on_without_what_it_has_rolled_back(path: Path) -> None:
    """A block that raises is rolled back; the step that catches it completes all the same."""

    @step
    async def careful() -> str:
        try:
            async with transaction() as db:
                await db.execute(INSERT, ("twice", "a"))
                await db.execute(INSERT, ("twice", "b"))
        except sqlite3.IntegrityError as error:
            return str(error)
        return "written"

    @workflow
    async def try_it() -> str:
        return await careful()

    async with Engine(f"sqlite:///{path}", workflows=[try_it]) as engine:
        assert await (await engine.start(try_it)).result() == "UNIQUE constraint failed: rows.word"
    assert words(path) == []


async def test_a_compensation_has_a_transaction_too(path: Path) -> None:
    @write.compensation
    async def erase(_count: int, word: str) -> None:
        async with transaction() as db:
            await db.execute("DELETE FROM rows WHERE word = ?", (word,))

    @workflow
    async def fail() -> None:
        await write("one")
        await write("two")
        assert words(path) == ["one", "two"]
        raise ValueError

    try:
        async with Engine(f"sqlite:///{path}", workflows=[fail]) as engine:
            with pytest.raises(WorkflowFailedError):
                await (await engine.start(fail)).result()
    finally:
        write.compensated_by = None
    assert words(path) == []


class CutStore(SQLiteStore):
    """A store that fails once so many commits are done: before the next one, or right after it."""

    left = 1000
    after = False

    async def _execute(self, sql: str, parameters: dict[str, object]) -> Any:
        if "beamflow_journal" in sql:
            self.left -= 1
            if self.left < 0 and not self.after:
                raise sqlite3.OperationalError("cut")
        result = await super()._execute(sql, parameters)
        if "beamflow_journal" in sql and self.left < 0:
            raise sqlite3.OperationalError("cut")
        return result


def completed(path: Path) -> int:
    """How many steps the log has as completed, seen from outside."""
    query = "SELECT count(*) FROM beamflow_events WHERE data ->> 'type' = 'step_completed'"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute(query).fetchone()[0])


@pytest.mark.parametrize("after", [False, True])
async def test_cut_at_any_write_there_are_both_or_neither(tmp_path: Path, *, after: bool) -> None:
    """The store fails at each write, or right after it; the next engine goes on from there."""
    for cut in range(1, 30):
        path = tmp_path / f"{cut}.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(TABLE)
        store = CutStore(path, clock=lambda: 0)
        store.left, store.after = cut, after
        with suppress(EngineStoppedError):
            async with Engine(store, workflows=[crowd]) as engine:
                await (await engine.start(crowd, ["a", "b", "c"], id="one")).result()
        assert len(words(path)) == completed(path)
        async with Engine(f"sqlite:///{path}", workflows=[crowd]) as engine:
            handle = await engine.start(crowd, ["a", "b", "c"], id="one")
            assert sorted(await handle.result()) == [1, 2, 3]
        assert sorted(words(path)) == ["a", "b", "c"]
        if store.left >= 0:
            break
    else:
        pytest.fail("it was cut each time")
    assert cut > 3


async def test_what_is_held_too_long_is_rolled_back(path: Path) -> None:
    """The attempt has failed and is cut off; the store has gone on meanwhile."""
    clock = ManualClock()
    held = asyncio.Event()

    @step(retry=Retry(max_attempts=2, initial=0))
    async def slow(word: str) -> int:
        async with transaction(limit=3) as db:
            await db.execute(INSERT, (word, ""))
            if current_step().attempt == 1:
                held.set()
                await asyncio.Event().wait()
        return current_step().attempt

    @workflow
    async def try_it() -> int:
        return await slow("one")

    @workflow
    async def other() -> list[int]:
        return [await write("other")]

    async with Engine(f"sqlite:///{path}", workflows=[try_it, other], clock=clock) as engine:
        handle = await engine.start(try_it)
        await held.wait()
        waiting = asyncio.ensure_future(engine.start(other, id="other"))
        await clock.advance(2.9)
        assert not waiting.done()
        await clock.advance(0.2)
        await waiting
        await clock.advance(0.1)
        assert await handle.result() == 2
        (failure,) = await outcomes(handle, StepFailed)
        assert "has held its transaction for 3 s" in failure.error.message
        assert await engine.handle("other").result()
    assert sorted(words(path)) == ["one", "other"]


async def test_a_statement_that_never_ends_is_interrupted(path: Path) -> None:
    clock = ManualClock()
    begun = asyncio.Event()

    @step
    async def endless() -> None:
        async with transaction() as db:
            begun.set()
            await db.execute(
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
            )

    @workflow
    async def try_it() -> str:
        try:
            await endless()
        except TransactionError as error:
            return str(error)
        return "done"

    async with Engine(f"sqlite:///{path}", workflows=[try_it], clock=clock) as engine:
        handle = await engine.start(try_it)
        await begun.wait()
        await clock.advance(6)
        assert "has held its transaction for 5 s" in await handle.result()


async def test_waiting_in_the_block_for_what_must_be_written_ends_by_the_limit(path: Path) -> None:
    """A signal that the step sends itself stands in line behind its own transaction."""
    clock = ManualClock()
    inside = asyncio.Event()

    @step
    async def knot(other: str) -> None:
        async with transaction() as db:
            await db.execute(INSERT, ("knot", ""))
            inside.set()
            await engine.handle(other).signal("go")

    @workflow
    async def waits() -> None:
        await receive("go")

    @workflow
    async def ties() -> str:
        try:
            await knot("waits")
        except TransactionError:
            return "untied"
        return "tied"

    async with Engine(f"sqlite:///{path}", workflows=[waits, ties], clock=clock) as engine:
        await engine.start(waits, id="waits")
        handle = await engine.start(ties)
        await inside.wait()
        await clock.advance(6)
        assert await handle.result() == "untied"
        await engine.handle("waits").result()
    assert words(path) == []


async def test_what_comes_to_the_workflow_meanwhile_is_taken_afterwards(path: Path) -> None:
    """A signal that is sent while the transaction is held is in the log behind the step."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    @step
    async def slow() -> None:
        async with transaction() as db:
            await db.execute(INSERT, ("slow", ""))
            inside.set()
            await go_on.wait()

    @workflow
    async def listens() -> str:
        _, word = await asyncio.gather(slow(), receive("word", str))
        return str(word)

    async with Engine(f"sqlite:///{path}", workflows=[listens]) as engine:
        handle = await engine.start(listens)
        await inside.wait()
        sent = asyncio.ensure_future(handle.signal("word", "hello"))
        await settle()
        assert not sent.done()
        go_on.set()
        await sent
        assert await handle.result() == "hello"
        kinds = [type(one.event) for one in await handle.history()]
        assert kinds.index(StepCompleted) < kinds.index(SignalReceived)
    assert words(path) == ["slow"]


async def test_a_step_that_is_given_up_leaves_no_rows(path: Path) -> None:
    """Timed out while it waits for its turn, while it holds it, or when the engine is left."""
    clock = ManualClock()
    inside = asyncio.Event()

    @step(timeout=2)
    async def slow(word: str) -> None:
        async with transaction(limit=8) as db:
            await db.execute(INSERT, (word, ""))
            inside.set()
            await asyncio.Event().wait()

    @workflow
    async def two() -> list[str]:
        results = await asyncio.gather(slow("a"), slow("b"), return_exceptions=True)
        return [type(result).__name__ for result in results]

    async with Engine(f"sqlite:///{path}", workflows=[two], clock=clock) as engine:
        handle = await engine.start(two, id="two")
        await inside.wait()
        await clock.advance(2.1)
        assert await handle.result() == ["StepTimeoutError"] * 2
        inside.clear()
        await engine.start(two, id="again")
        await inside.wait()
        leaving = asyncio.ensure_future(engine.__aexit__(None, None, None))
        await clock.advance(2.1)
        await leaving
    assert words(path) == []


async def test_an_owner_that_has_lost_its_lease_writes_no_rows(path: Path) -> None:
    """The lease is looked at in the same transaction."""
    inside, go_on = asyncio.Event(), asyncio.Event()

    @step
    async def late() -> None:
        inside.set()
        await go_on.wait()
        async with transaction() as db:
            await db.execute(INSERT, ("stolen", ""))

    @workflow
    async def try_it() -> None:
        await late()

    with pytest.raises(EngineStoppedError) as gave_up:
        async with Engine(f"sqlite:///{path}", workflows=[try_it]) as engine:
            handle = await engine.start(try_it)
            await inside.wait()
            with closing(sqlite3.connect(path)) as other, other:
                other.execute(
                    "UPDATE beamflow_leases SET epoch = epoch + 1, owner = 'a thief', os_locked = 0, "
                    "expires_at = 1 << 60"
                )
            go_on.set()
            await handle.result()
    assert "owned by a thief" in "".join(traceback.format_exception(gave_up.value))
    assert words(path) == []


async def test_the_lease_is_renewed_between_transactions(path: Path) -> None:
    """Never in one: it would be rolled back with it. However many wait, it has its turn."""
    clock = ManualClock()
    entered: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    @step
    async def slow(word: str) -> None:
        async with transaction() as db:
            await db.execute(INSERT, (word, ""))
            go_on = asyncio.Event()
            await entered.put(go_on)
            await go_on.wait()

    @workflow
    async def many() -> None:
        await asyncio.gather(*(slow(word) for word in "abcdef"))

    def expires_at() -> int:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT expires_at FROM beamflow_leases").fetchone()[0])

    async with Engine(f"sqlite:///{path}", workflows=[many], clock=clock) as engine:
        handle = await engine.start(many)
        for _ in range(6):
            go_on = await entered.get()
            await clock.advance(4)
            go_on.set()
            assert expires_at() > clock.now() * 1e6
        await handle.result()
    assert words(path) == list("abcdef")


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("SELECT * FROM beamflow_events", "is about 'beamflow_events'"),
        ("DELETE FROM BeamFlow_Leases", "is about 'beamflow_leases'"),
        ("DROP TABLE beamflow_events", "is about 'beamflow_events'"),
        ("CREATE TABLE beamflow_mine (a)", "is about 'beamflow_mine'"),
        ("CREATE INDEX beamflow_i ON rows (word)", "is about 'beamflow_i'"),
        ("ALTER TABLE rows RENAME TO beamflow_rows", "is about 'beamflow_'"),
        ("INSERT INTO beamflow_journal (kind) VALUES (0)", "is about 'beamflow_journal'"),
        ("COMMIT", "begins or ends a transaction"),
        ("ROLLBACK", "begins or ends a transaction"),
        ("ATTACH ':memory:' AS other", "attaches a database"),
        ("PRAGMA synchronous = OFF", "is a PRAGMA"),
    ],
)
async def test_what_is_not_the_steps_to_do_is_refused(path: Path, sql: str, problem: str) -> None:
    """The statement only: the transaction goes on."""

    @step
    async def meddle() -> str:
        async with transaction() as db:
            try:
                await db.execute(sql)
            except TransactionError as error:
                said = str(error)
            await db.execute(INSERT, ("meddled", "beamflow_is_fine_as_a_value"))
        return said

    @workflow
    async def try_it() -> str:
        return await meddle()

    async with Engine(f"sqlite:///{path}", workflows=[try_it]) as engine:
        assert problem in await (await engine.start(try_it)).result()
    assert words(path) == ["meddled"]


async def test_columns_and_functions_of_any_name_are_the_users(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (beamflow_id TEXT)")

    @step
    async def use() -> Any:
        async with transaction() as db:
            await db.execute("INSERT INTO mine (beamflow_id) VALUES (upper('a'))")
            await db.execute("CREATE TABLE IF NOT EXISTS more (a)")
            await db.execute("ALTER TABLE more ADD COLUMN b")
            return [list(row) for row in await db.execute("SELECT beamflow_id FROM mine")]

    @workflow
    async def try_it() -> Any:
        return await use()

    async with Engine(f"sqlite:///{path}", workflows=[try_it]) as engine:
        assert await (await engine.start(try_it)).result() == [["A"]]


@pytest.mark.parametrize("caught", [False, True])
async def test_a_transaction_that_a_statement_has_rolled_back_is_no_success(
    path: Path, *, caught: bool
) -> None:
    """The rows before it are gone, so the step has failed, and later statements are refused."""

    @step
    async def lose(word: str) -> None:
        async with transaction() as db:
            await db.execute(INSERT, (word, ""))
            with suppress(sqlite3.IntegrityError if caught else ()):
                await db.execute("INSERT OR ROLLBACK INTO rows VALUES (?, ?)", (word, ""))

    @workflow
    async def try_it() -> None:
        await lose("one")

    async with Engine(f"sqlite:///{path}", workflows=[try_it]) as engine:
        handle = await engine.start(try_it)
        error = "rolled the whole transaction back" if caught else "IntegrityError"
        with pytest.raises(WorkflowFailedError, match=error):
            await handle.result()
    assert words(path) == []


async def test_there_is_one_transaction_for_each_step(path: Path) -> None:
    """It is over with its block, and a second one is refused."""

    @step
    async def again(word: str) -> list[str]:
        said = []
        async with transaction() as db:
            await db.execute(INSERT, (word, ""))
        for use in (db.execute("SELECT 1"), transaction().__aenter__()):
            try:
                await use
            except TransactionError as error:
                said.append(str(error))
        return said

    @workflow
    async def try_it() -> list[str]:
        return await again("one")

    async with Engine(f"sqlite:///{path}", workflows=[try_it]) as engine:
        over, second = await (await engine.start(try_it)).result()
    assert "use the database inside its block" in over
    assert "there is one for each step" in second
    assert words(path) == ["one"]


async def test_a_store_without_tables_says_so() -> None:
    store = MemoryStore(clock=lambda: 0)
    async with Engine(store, workflows=[scribe]) as engine:
        with pytest.raises(WorkflowFailedError, match="keeps no tables of yours.*sqlite:///"):
            await (await engine.start(scribe, ["one"])).result()


async def test_a_transaction_belongs_into_a_step_on_the_loop(path: Path) -> None:
    @step
    def in_thread() -> str:
        try:
            asyncio.run(transaction().__aenter__())  # type: ignore[arg-type]
        except DefinitionError as error:
            return str(error)
        return ""

    @workflow
    async def try_it() -> str:
        return await in_thread()

    async with Engine(f"sqlite:///{path}", workflows=[try_it]) as engine:
        assert "make it an `async def`" in await (await engine.start(try_it)).result()
    with pytest.raises(DefinitionError, match="only inside an `async def` step"):
        await write("outside")
    with pytest.raises(DefinitionError, match=r"limit=0\) is refused"):
        async with transaction(limit=0):
            pass
