"""Blocks in blocks, each step failing, the log cut at each event: what stands is what was not undone."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import Engine, Retry, saga, step, workflow
from beamflow.events import CompensationCompleted, CompensationFailed, StepCompleted
from beamflow.model.ids import digest
from beamflow.stores.url import open_store
from beamflow.testing.store_suite import ServedStore
from tests.beamflow.engine.bookings import fresh, ledger
from tests.beamflow.engine.outage import fails

if TYPE_CHECKING:
    from beamflow import WorkflowHandle
    from beamflow.events import Event
    from beamflow.stores.base import Store


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


rows: set[str] = set()
"""What stands in somebody else's system; doing it twice changes nothing."""


@step
async def put(name: str, *, fails: bool) -> None:
    if fails:
        raise ValueError(name)
    rows.add(name)
    ledger.append(name)


@put.compensation(retry=Retry(max_attempts=2, initial=0))
async def drop(_done: None, name: str, *, fails: bool) -> None:
    ledger.append(f"un{name}")
    rows.discard(name)
    if ledger.count(f"un{name}") == 1 and name == "c":
        raise ConnectionError(name)


@workflow
async def nested(bad: str, caught: str) -> str:
    """Blocks a(b(c)d(parallel e f))g; a failure in one is caught around a block, or nowhere."""

    async def block(name: str, *steps: Any, parallel: bool = False) -> None:
        try:
            async with saga(parallel=parallel):
                for each in steps:
                    await (put(each, fails=each == bad) if isinstance(each, str) else each())
        except ValueError:
            if name != caught:
                raise

    def inner() -> Any:
        return block("inner", "c")

    def fan() -> Any:
        return block("fan", "e", "f", parallel=True)

    def middle() -> Any:
        return block("middle", "b", inner, "d", fan)

    await block("outer", "a", middle, "g")
    await put("h", fails=bad == "h")
    return "done"


_BLOCKS = {"inner": "c", "fan": "ef", "middle": "bcdef", "outer": "abcdefg"}


def expected(bad: str, caught: str) -> tuple[str, bool]:
    """Return what stands in the end, and whether the workflow returns."""
    if caught in _BLOCKS and bad in _BLOCKS[caught]:
        before = "abcdefgh"[: "abcdefgh".index(_BLOCKS[caught][0])]
        after = "abcdefgh"["abcdefgh".index(_BLOCKS[caught][-1]) + 1 :]
        return before + after, True
    return ("", False) if bad else ("abcdefgh", True)


@pytest.mark.invariant("I19")
@pytest.mark.invariant("I20")
@pytest.mark.parametrize(
    ("place", "caught"),
    [
        *(("memory", name) for name in ("inner", "fan", "middle", "outer", "nowhere")),
        ("sqlite", "middle"),
    ],
    indirect=["place"],
)
async def test_blocks_are_undone_wherever_the_log_is_cut(caught: str, place: str | Store) -> None:
    """Failing at each step, killed at each event: what stands is what was not undone, no more."""
    for bad in "abcdefgh":
        standing, returns = expected(bad, caught)
        async with Engine(place, workflows=[nested]) as engine:
            handle = await engine.start(nested, bad, caught, id=f"{bad}-whole")
            whole = await ended(handle, returns=returns)
            assert "".join(sorted(rows)) == standing
            assert_reversed(whole)
        for cut in range(1, len(whole)):
            rows.clear()
            ledger.clear()
            id = f"{bad}-{cut}"
            effects(whole[:cut])
            begun = "".join(sorted(rows))
            await write(place, id, whole[:cut])
            async with Engine(place, workflows=[nested]) as engine:
                resumed = await ended(engine.handle(id), returns=returns)
            assert resumed[:cut] == whole[:cut], (bad, cut)
            assert [kind_of(each) for each in resumed] == [kind_of(each) for each in whole], begun
            assert "".join(sorted(rows)) == standing
        rows.clear()
        ledger.clear()


def kind_of(event: Event) -> tuple[str, object]:
    return type(event).__name__, getattr(event, "op", None)


_DIGESTS = {
    digest("put", put.signature.arguments.encode((name,), {"fails": False})): name
    for name in "abcdefgh"
}


def effects(events: list[Event]) -> None:
    """Bring what stands outside to where these events left it."""
    names: dict[int, str] = {}
    for event in events:
        match event:
            case StepCompleted(name="put"):
                names[event.op] = _DIGESTS[event.digest]
                rows.add(names[event.op])
                ledger.append(names[event.op])
            case CompensationCompleted() | CompensationFailed():
                rows.discard(names[event.op])
                ledger.append(f"un{names[event.op]}")
            case _:
                pass


def assert_reversed(events: list[Event]) -> None:
    """What was undone was undone in reverse of its completion, each block by itself."""
    completed = [event.op for event in events if isinstance(event, StepCompleted)]
    fan = {
        event.op
        for event in events
        if isinstance(event, StepCompleted) and _DIGESTS[event.digest] in "ef"
    }
    reverse = [event.op for event in events if isinstance(event, CompensationCompleted)]
    assert len(set(reverse)) == len(reverse)
    for one, other in pairwise(reverse):
        assert completed.index(one) > completed.index(other) or {one, other} <= fan


async def ended(handle: WorkflowHandle[Any], *, returns: bool) -> list[Event]:
    if returns:
        assert await handle.result() == "done"
    else:
        await fails(handle, "ValueError")
    return [one.event for one in await handle.history()]


async def write(place: str | Store, id: str, events: list[Event]) -> None:
    """Put a workflow's log into a store that nobody serves."""
    store = open_store(place, clock=lambda: 0) if isinstance(place, str) else place
    served = ServedStore(store)
    await served.start()
    lease = await store.claim("test", 60)
    await store.append(id, 0, events, time=1, epoch=lease.epoch)
    await store.release(lease)
    await served.stop()
