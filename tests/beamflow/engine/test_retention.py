"""What has ended long enough ago leaves the store; what is open, or needed, stays."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import Raw

from beamflow import (
    DefinitionError,
    Engine,
    Retention,
    Retry,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowState,
    continue_as_new,
    receive,
    step,
    workflow,
)
from beamflow.engine import retention as retention_file
from beamflow.engine.archive import ArchivedWorkflow
from beamflow.engine.retention import sweep
from beamflow.errors import StoreUnavailableError
from beamflow.model.events import WorkflowCompleted, WorkflowStarted
from beamflow.stores.removal import Removable
from supervision.testing import ManualClock, settle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from beamflow import Summary
    from beamflow.events import Recorded
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore

DAY = 86_400.0
ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@step
async def act(name: str) -> str:
    ran.append(name)
    return name


@step(retry=Retry(max_attempts=1))
async def break_down() -> None:
    raise LookupError("no")


@workflow
async def work(name: str) -> str:
    return await act(name)


@workflow
async def ping(name: str) -> str:
    return name


@workflow
async def fail() -> None:
    await break_down()


@workflow
async def wait(name: str) -> str:
    return await receive(name, str)


@workflow
async def linger() -> None:
    await receive("never")


@workflow
async def family() -> None:
    await work("child")
    await receive("go on")


@workflow
async def endless(runs: int) -> None:
    await work(f"run {runs}")
    await receive("go on")
    continue_as_new(runs + 1)


ALL = [work, ping, fail, wait, linger, family, endless]


def engine_on(place: str | Store, clock: ManualClock, **options: Any) -> Engine:
    return Engine(place, workflows=ALL, clock=clock, **options)


async def ids(engine: Engine) -> set[str]:
    return {found.id async for found in engine.find()}


async def test_what_has_ended_goes_by_itself(place: str | Store, clock: ManualClock) -> None:
    """A look a minute: what has ended a day ago is gone, with all that was known of it."""
    async with engine_on(place, clock, retention=Retention(timedelta(days=1))) as engine:
        done = await engine.start(work, "x", id="done", tags=["t"])
        await done.result()
        waiting = await engine.start(wait, "it", id="waiting")
        await clock.advance(DAY - 120)
        assert await ids(engine) == {"done", "waiting"}
        async with asyncio.timeout(10):
            while "done" in await ids(engine):
                await clock.advance(60)
        for ask in (done.result, done.status, done.history):
            with pytest.raises(WorkflowNotFoundError):
                await ask()
        assert await engine.count(tag="t") == 0
        await waiting.signal("it", "over")
        assert await waiting.result() == "over"


async def test_a_removed_id_can_be_started_anew(place: str | Store, clock: ManualClock) -> None:
    """The same start is another workflow then: its steps run again, also after a restart."""
    async with engine_on(place, clock) as engine:
        for _ in range(2):
            handle = await engine.start(work, "x", id="once")
            assert await handle.result() == "x"
        assert ran == ["x"]
        assert await sweep(engine._services, Retention(0)) == 0, "it has not ended before now"
        await clock.advance(1)
        assert await sweep(engine._services, Retention(0)) == 1
        handle = await engine.start(work, "y", id="once")
        assert await handle.result() == "y"
        assert ran == ["x", "y"]
    async with engine_on(place, clock) as engine:
        assert await engine.handle("once").result() == "y"
        assert [one.seq for one in await engine.handle("once").history()] == [1, 2, 3]


@pytest.mark.invariant("I41")
async def test_each_state_and_each_name_has_its_time(
    place: str | Store, clock: ManualClock
) -> None:
    """Durations by state, and by name before that; None keeps."""
    retention = Retention(
        10 * DAY, completed=DAY, cancelled=None, workflows={"ping": timedelta(hours=1), "wait": 0}
    )
    async with engine_on(place, clock) as engine:
        await (await engine.start(work, "x", id="work")).result()
        await (await engine.start(ping, "x", id="ping")).result()
        for one in ("failed", "open letter"):
            with pytest.raises(WorkflowFailedError):
                await (await engine.start(fail, id=one)).result()
        await engine.dead_letters.resolve("failed", "by hand")
        cancelled = await engine.start(linger, id="cancelled")
        await cancelled.cancel()
        while (await cancelled.status()).state is not WorkflowState.CANCELLED:
            await settle()
        for one, name in (("open", "never"), ("waited", "it")):
            handle = await engine.start(wait, name, id=one)
            await engine.handle(one).signal("it", "x")
        assert await handle.result() == "x"
        gone: list[str] = []
        for seconds in (1, 3_600, DAY, 9 * DAY, 100 * DAY):
            before = await ids(engine)
            await clock.advance(seconds)
            await sweep(engine._services, retention)
            gone.append(" ".join(sorted(before - await ids(engine))))
        assert gone == ["waited", "ping", "work", "failed", ""]
        await engine.dead_letters.resolve("open letter", "by hand")
        assert await sweep(engine._services, retention) == 1
        assert {"open", "cancelled"} <= await ids(engine)


@pytest.mark.invariant("I41")
async def test_a_tree_goes_when_nobody_asks_for_it_any_more(
    place: str | Store, clock: ManualClock
) -> None:
    """A child stays for its open parent, over restarts too; it goes with a parent that has ended."""
    async with engine_on(place, clock) as engine:
        parent = await engine.start(family, id="parent")
        while len(await ids(engine)) < 2 or ran != ["child"]:
            await settle()
        await settle()
    for _ in range(2):
        await clock.advance(DAY)
        async with engine_on(place, clock) as engine:
            assert await sweep(engine._services, Retention(0)) == 0
            assert len(await ids(engine)) == 2
    async with engine_on(place, clock) as engine:
        parent = engine.handle("parent")
        await parent.signal("go on")
        await parent.result()
        await clock.advance(1)
        assert await sweep(engine._services, Retention(0)) == 2
        assert ran == ["child"]


async def test_the_children_of_an_endless_parent_go(place: str | Store, clock: ManualClock) -> None:
    """Those of the run that it is in stay, those of earlier runs do not pile up."""
    async with engine_on(place, clock) as engine:
        parent = await engine.start(endless, 0, id="endless")
        for run in range(4):
            while ran[-1:] != [f"run {run}"]:
                await settle()
            while await engine.count(state=WorkflowState.RUNNING) > 1:
                await settle()
            await clock.advance(DAY)
            await sweep(engine._services, Retention(0))
            assert await engine.count() == 2
            await parent.signal("go on")
        await parent.terminate()


# Archives


async def test_each_workflow_is_a_line_before_it_goes(
    place: str | Store, clock: ManualClock, tmp_path: Path
) -> None:
    """Its summary and all of its events; lines of earlier sweeps stay, a torn one stands alone."""
    file = tmp_path / "ended.jsonl"
    async with engine_on(place, clock) as engine:
        for number in range(3):
            handle = await engine.start(work, f"x{number}", id=f"{number}", tags=["t"])
            await handle.result()
            history = await handle.history()
            await clock.advance(1)
            assert await sweep(engine._services, Retention(0, archive=file)) == 1
            if number == 1:
                with file.open("ab") as torn:
                    torn.write(b'{"summary":{"id":"torn')
    lines = file.read_bytes().splitlines()
    assert file.stat().st_mode & 0o777 == 0o600
    assert lines[2].startswith(b'{"summary":{"id":"torn')
    archived = [msgspec.json.decode(lines[n], type=ArchivedWorkflow) for n in (0, 1, 3)]
    assert [one.summary.id for one in archived] == ["0", "1", "2"]
    assert archived[2].summary.tags == ("t",)
    assert [one.seq for one in archived[2].events] == [one.seq for one in history]
    assert [one.time for one in archived[2].events] == [one.time for one in history]
    assert b"workflow_started" in bytes(archived[2].events[0].event)


@pytest.mark.invariant("I41")
async def test_the_archive_is_synced_before_the_removal(
    clock: ManualClock, memory: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the line, then its sync, then that of a new file's directory; only then it goes."""
    order: list[str] = []
    remove = memory.remove

    def synced(_handle: int) -> None:
        order.append("sync")

    async def removed(items: Sequence[Removable], *, now: int, epoch: int) -> tuple[str, ...]:
        order.append("remove")
        return await remove(items, now=now, epoch=epoch)

    monkeypatch.setattr("beamflow.engine.archive.os.fsync", synced)
    monkeypatch.setattr(memory, "remove", removed)
    async with engine_on(memory, clock) as engine:
        for number in range(2):
            await (await engine.start(work, "x", id=f"{number}")).result()
            await clock.advance(1)
            await sweep(engine._services, Retention(0, archive=tmp_path / "ended.jsonl"))
    assert order == ["sync", "sync", "remove", "sync", "remove"]


@pytest.mark.invariant("I41")
async def test_what_cannot_be_archived_stays(place: str | Store, clock: ManualClock) -> None:
    """A function of the application's that raises keeps that one workflow, until it returns."""
    archived: list[str] = []
    refuse = {"1"}

    async def archive(summary: Summary, history: list[Recorded]) -> None:
        if summary.id in refuse:
            raise OSError("no space")
        assert isinstance(history[0].event, WorkflowStarted)
        assert isinstance(history[-1].event, WorkflowCompleted)
        archived.append(summary.id)

    retention = Retention(0, archive=archive)
    async with engine_on(place, clock) as engine:
        for number in range(3):
            await (await engine.start(work, "x", id=f"{number}")).result()
        await clock.advance(1)
        assert await sweep(engine._services, retention) == 2
        assert await ids(engine) == {"1"}
        refuse.clear()
        assert await sweep(engine._services, retention) == 1
    assert sorted(archived) == ["0", "1", "2"]


async def test_a_file_that_cannot_be_written_removes_nothing(
    memory: MemoryStore, clock: ManualClock, tmp_path: Path
) -> None:
    """The duty lives on, and does it once the directory is there."""
    file = tmp_path / "missing" / "ended.jsonl"
    async with engine_on(memory, clock, retention=Retention(0, archive=file)) as engine:
        await (await engine.start(work, "x", id="a")).result()
        await clock.advance(61)
        await clock.advance(61)
        assert await ids(engine) == {"a"}
        file.parent.mkdir()
        async with asyncio.timeout(10):
            while await ids(engine):
                await clock.advance(60)
                await asyncio.sleep(0)
    assert file.read_bytes().count(b"\n") == 1


@pytest.mark.invariant("I41")
async def test_a_crash_between_archive_and_removal_archives_twice(
    place: str | Store, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never not at all: whatever is gone from the store is in the file."""
    file = tmp_path / "ended.jsonl"
    retention = Retention(0, archive=file)
    async with engine_on(place, clock) as engine:
        for number in range(3):
            await (await engine.start(work, "x", id=f"{number}")).result()
        await clock.advance(1)

        async def dies(*_: object, **__: object) -> tuple[str, ...]:
            raise StoreUnavailableError("it", "was killed", "Start again")

        with monkeypatch.context() as patch:
            patch.setattr(engine._services.store, "remove", dies)
            with pytest.raises(StoreUnavailableError):
                await sweep(engine._services, retention)
    assert file.read_bytes().count(b"\n") == 3
    async with engine_on(place, clock) as engine:
        assert await ids(engine) == {"0", "1", "2"}
        assert await sweep(engine._services, retention) == 3
    assert file.read_bytes().count(b"\n") == 6


# Beside others


@pytest.mark.invariant("I41")
async def test_who_goes_on_before_its_removal_stays(
    place: str | Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody sends a failed one round again between the look at who may go and the removal."""
    mended: list[str] = []

    @step(retry=Retry(max_attempts=1))
    async def fickle() -> None:
        if not mended:
            raise LookupError("no")

    @workflow
    async def once_more() -> str:
        await fickle()
        return await receive("word", str)

    async with Engine(place, workflows=[once_more], clock=clock, idle_after=0) as engine:
        store = engine._services.store
        handle = await engine.start(once_more, id="one")
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        await engine.dead_letters.resolve("one", "by hand")
        await clock.advance(1)
        remove = store.remove

        async def gone_on_before(items: Sequence[Removable], **options: Any) -> tuple[str, ...]:
            assert [item.id for item in items] == ["one"]
            mended.append("mended")
            await handle.retry_from()
            while engine._services.actors:
                await settle()
            return await remove(items, **options)

        monkeypatch.setattr(store, "remove", gone_on_before)
        assert await sweep(engine._services, Retention(0)) == 0
        await handle.signal("word", "still here")
        assert await handle.result() == "still here"


async def test_a_start_that_meets_the_removal_is_a_new_workflow(
    memory: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the id taken, and when it looks by whom, the workflow is gone."""
    async with engine_on(memory, clock) as engine:
        await (await engine.start(work, "x", id="a")).result()
        await clock.advance(1)
        summary = memory.summary

        async def removed_in_this_moment(workflow_id: str) -> Summary | None:
            monkeypatch.undo()
            items = [Removable("a", len(await memory.read("a")))]
            services = engine._services
            removed = await memory.remove(items, now=services.now(), epoch=services.epoch)
            assert removed == ("a",)
            return await summary(workflow_id)

        monkeypatch.setattr(memory, "summary", removed_in_this_moment)
        assert await (await engine.start(work, "x", id="a")).result() == "x"
        assert ran == ["x", "x"]


async def run_family(engine: Engine, clock: ManualClock) -> None:
    """Run a parent and its child to their ends, some time ago."""
    parent = await engine.start(family, id="parent")
    while (await parent.status()).waiting_for != ("signal go on",):
        await settle()
    await parent.signal("go on")
    await parent.result()
    await clock.advance(1)


async def test_a_child_that_is_removed_while_its_parent_asks_is_begun_anew(
    memory: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a parent that was itself removed and started anew: nobody waits for ever."""
    async with engine_on(memory, clock) as engine:
        services = engine._services
        others: Any = services.others
        end = others.end

        async def remove(*workflow_ids: str) -> None:
            items = [Removable(one, len(await memory.read(one))) for one in workflow_ids]
            now, epoch = services.now(), services.epoch
            assert await memory.remove(items, now=now, epoch=epoch) == workflow_ids

        async def removed_in_this_moment(workflow_id: str, waits: Any) -> Any:
            monkeypatch.undo()
            await services.store.append(
                "parent",
                len(await memory.read("parent")),
                [WorkflowCompleted(result=Raw(b"null"))],
                time=services.now(),
                epoch=services.epoch,
            )
            await remove(workflow_id)
            return await end(workflow_id, waits)

        await run_family(engine, clock)
        await remove("parent")
        monkeypatch.setattr(others, "end", removed_in_this_moment)
        parent = await engine.start(family, id="parent")
        async with asyncio.timeout(10):
            while ran != ["child", "child"]:
                await settle()
        del parent


@pytest.mark.invariant("I41")
async def test_who_is_in_memory_is_left_alone(memory: MemoryStore, clock: ManualClock) -> None:
    """Somebody may be about to send it round again."""
    async with engine_on(memory, clock) as engine:
        handle = await engine.start(work, "x", id="a")
        await handle.result()
        await settle()
        await clock.advance(1)
        ref: Any = object()
        engine._services.actors["a"] = ref
        assert await sweep(engine._services, Retention(0)) == 0
        del engine._services.actors["a"]
        assert await sweep(engine._services, Retention(0)) == 1


async def test_a_store_that_fails_is_asked_again_later(
    memory: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine goes on meanwhile, and the next look does it."""
    asked = 0
    removable = memory.removable

    async def fails_once(query: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreUnavailableError("it", "cannot be reached", "Try again")
        return await removable(query)

    monkeypatch.setattr(memory, "removable", fails_once)
    async with engine_on(memory, clock, retention=Retention(0)) as engine:
        await (await engine.start(work, "x", id="a")).result()
        assert asked == 1
        await clock.advance(61)
        assert await ids(engine) == set()


def test_portions_are_small() -> None:
    """So many workflows, so many events; a long log goes alone."""
    items = [Removable(f"{n}", 3) for n in range(120)] + [
        Removable("long", 9_000),
        Removable("short", 2),
    ]
    portions = list(retention_file._portions(items))
    assert [len(portion) for portion in portions] == [50, 50, 20, 1, 1]
    assert [item for portion in portions for item in portion] == items
    assert list(retention_file._portions([])) == []


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "for ever"),
        ({"after": None, "completed": None}, "for ever"),
        ({"after": -1}, "after=-1"),
        ({"after": "1 day"}, "after='1 day'"),
        ({"after": True}, "after=True"),
        ({"after": float("nan")}, "after=nan"),
        ({"failed": timedelta(days=-1)}, "failed="),
        ({"workflows": {"ping": "x"}}, r"workflows\['ping'\]="),
        ({"workflows": ["ping"]}, "workflows="),
        ({"workflows": {int: 1}}, "is no workflow"),
        ({"after": 1, "archive": 3}, "archive=3"),
        ({"after": 1, "archive": print}, "async function"),
        ({"after": 1, "every": 0}, "every=0"),
        ({"after": 1, "every": None}, "every=None"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], match: str) -> None:
    """At once, with the value and what is wanted."""
    with pytest.raises(DefinitionError, match=match):
        Retention(**options)


def test_an_engine_takes_a_retention_and_nothing_else() -> None:
    """A duration alone is refused."""
    wrong: Any = timedelta(days=1)
    with pytest.raises(DefinitionError, match="must be a Retention"):
        Engine("memory://", workflows=ALL, retention=wrong)
