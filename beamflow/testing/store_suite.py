# ruff: noqa: PLR2004 - this is a module of tests that happens to be shipped
"""The conformance suite of stores: every promise of the port has a test here.

A store author subclasses `StoreSuite` in a test module and says how to make a store::

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def make_store(self, tmp_path):
            return lambda clock: MyStore(tmp_path / "store", clock=clock)

The tests run under pytest with pytest-asyncio. Each of them gets an empty store, opened and
served, with a clock that only the test moves. What a store promises beyond the port (what it does
to a file, how it behaves when its disk fails) is for its own tests.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio
from msgspec import Raw
from msgspec.structs import replace

from beamflow.errors import (
    ConflictError,
    FencedError,
    PayloadError,
    StoreLockedError,
    StoreUnavailableError,
    said,
)
from beamflow.model.events import (
    CompensationStarted,
    DeadLettered,
    DeadLetterReason,
    DeadLetterResolved,
    DeadLetterRetried,
    Event,
    Failure,
    Recorded,
    StepCompleted,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowStarted,
)
from beamflow.model.ids import DEAD_LETTERS
from beamflow.model.status import OPEN_STATES, WorkflowState
from beamflow.stores.base import (
    LIMIT_MAX,
    DeadLetter,
    DeadLetterQuery,
    DeadLetterState,
    Lease,
    LetterClosed,
    LetterOpened,
    Store,
    Summary,
    WorkflowMoved,
    WorkflowOpened,
    WorkflowQuery,
    project,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

__all__ = ["ManualClock", "ServedStore", "StoreSuite"]

START = 1_700_000_000_000_000
SECOND = 1_000_000


class ManualClock:
    """A store's clock that stands still until it is told otherwise; microseconds."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        """Tell the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.now += round(seconds * SECOND)


class ServedStore:
    """A store with its `serve` running beside the test, to be restarted at will.

    Args:
        store: not open yet.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._server: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open and serve the store."""
        await self.store.open()
        self._server = asyncio.create_task(self.store.serve())  # noqa: TID251 - stop() ends it

    async def stop(self) -> None:
        """Stop serving and close the store; harmless when that is done."""
        server, self._server = self._server, None
        if server is not None:
            server.cancel()
            with suppress(asyncio.CancelledError, StoreUnavailableError):
                await server
        await self.store.close()

    async def restart(self) -> None:
        """Do what a restart of the engine does to a store."""
        await self.stop()
        await self.start()


def started(workflow: str = "onboard", **fields: object) -> WorkflowStarted:
    """Make an event that opens a workflow."""
    return msgspec.convert(
        {"type": "workflow_started", "workflow": workflow, "version": 1, "input": Raw(b"[]")}
        | fields,
        WorkflowStarted,
    )


def stepped(op: int = 1, result: bytes = b"null") -> StepCompleted:
    """Make an event that changes no index."""
    return StepCompleted(op=op, name="reserve", digest="d", result=Raw(result), started_at=START)


def completed() -> WorkflowCompleted:
    """Make an event that ends a workflow well."""
    return WorkflowCompleted(result=Raw(b'{"policy": 1}'))


def failure(message: str = "no money") -> Failure:
    """Make a failure."""
    return Failure(type="builtins.ValueError", message=message, args=Raw(b'["no money"]'))


def failed(workflow: str = "onboard", step: str | None = "reserve") -> WorkflowFailed:
    """Make an event that ends a workflow badly and opens a dead letter."""
    return WorkflowFailed(
        workflow=workflow,
        error=failure(),
        op=1,
        step=step,
        attempts=3,
        input=Raw(b'{"a" : [1.50]}'),
    )


def parked(workflow_id: str, reason: DeadLetterReason = DeadLetterReason.POISON) -> DeadLettered:
    """Make an event of the dead letters' own stream."""
    return DeadLettered(
        workflow_id=workflow_id, workflow="onboard", reason=reason, error=failure("stuck")
    )


class _Index:
    """What the port promises of the indexes: the fold of `project` over what was recorded."""

    def __init__(self, records: Sequence[Recorded]) -> None:
        self.summaries: dict[str, Summary] = {}
        self.letters: dict[str, DeadLetter] = {}
        for record in records:
            for change in project(record.stream, record.time, record.event):
                match change:
                    case WorkflowOpened(summary=summary):
                        self.summaries[summary.id] = summary
                    case WorkflowMoved(id=id, state=state, closed_at=closed_at, error=error):
                        self.summaries[id] = replace(
                            self.summaries[id], state=state, closed_at=closed_at, error=error
                        )
                    case LetterOpened(letter=letter):
                        self.letters[letter.workflow_id] = letter
                    case LetterClosed():
                        self.letters[change.workflow_id] = replace(
                            self.letters[change.workflow_id],
                            state=change.state,
                            closed_at=change.closed_at,
                            note=change.note,
                            retried_as=change.retried_as,
                        )


class _Suite:
    """Fixtures that all parts share."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def make_store(self) -> Callable[[Callable[[], int]], Store]:
        """Return what makes an empty store of a clock. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture make_store")

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Give the store's clock."""
        return ManualClock()

    @pytest_asyncio.fixture
    async def served(
        self, make_store: Callable[[Callable[[], int]], Store], clock: ManualClock
    ) -> AsyncIterator[ServedStore]:
        """Give the store with what runs it."""
        served = ServedStore(make_store(clock))
        await served.start()
        yield served
        await served.stop()

    @pytest_asyncio.fixture
    async def store(self, served: ServedStore) -> Store:
        """Give the store, open and served."""
        return served.store

    @pytest_asyncio.fixture
    async def lease(self, store: Store) -> Lease:
        """Give the lease of the store."""
        return await store.claim("the test", 30.0)


class LogSuite(_Suite):
    """Append and read."""

    async def test_a_stream_that_was_never_written_is_empty(self, store: Store) -> None:
        """Reading what is not there gives nothing, and is no error."""
        assert await store.read("nobody") == []
        assert await store.read("nobody", after=7) == []

    async def test_what_was_appended_is_read_back(self, store: Store, lease: Lease) -> None:
        """An event comes back as it was, in its place, with its time and epoch."""
        events: list[Event] = [started(), stepped(1, b'{"b":1,"a":[]}'), failed()]
        for expected, event in enumerate(events):
            await store.append("one", expected, [event], time=START + expected, epoch=lease.epoch)
        assert await store.read("one") == [
            Recorded(stream="one", seq=seq, time=START + seq - 1, epoch=lease.epoch, event=event)
            for seq, event in enumerate(events, 1)
        ]

    async def test_the_payload_keeps_its_bytes(self, store: Store, lease: Lease) -> None:
        """Raw JSON inside an event is kept to the byte: spaces, order, numbers, escapes."""
        payload = (
            b'{ "z" : 1, "a":-0.0,\n"a":1e400 ,"n":123456789012345678901234567890,'
            b'"s":"\\u0000\\ud83d\\ude00"}'
        )
        await store.append("one", 0, [stepped(1, payload)], time=START, epoch=lease.epoch)
        (record,) = await store.read("one")
        assert isinstance(record.event, StepCompleted)
        assert bytes(record.event.result) == payload

    async def test_reading_on_after_a_place(self, store: Store, lease: Lease) -> None:
        """A read after a sequence number gives what comes after it and nothing else."""
        await store.append(
            "one", 0, [started(), stepped(1), stepped(2)], time=START, epoch=lease.epoch
        )
        assert [record.seq for record in await store.read("one", after=1)] == [2, 3]
        assert await store.read("one", after=3) == []
        assert await store.read("one", after=99) == []

    async def test_streams_do_not_touch_each_other(self, store: Store, lease: Lease) -> None:
        """Ids that look alike are different streams."""
        ids = [
            "a",
            "A",
            "a ",
            "ä",
            "a%",
            "a_",
            "a/1",
            "a'--",
            '"',
            "\\",
            "日本",
            "👩‍👩‍👧",
            "%s",
            "{0}",
            "0",
            "a" * 512,
        ]
        for number, stream in enumerate(ids):
            await store.append(stream, 0, [stepped(number)], time=START, epoch=lease.epoch)
        for number, stream in enumerate(ids):
            (record,) = await store.read(stream)
            assert (record.stream, record.event) == (stream, stepped(number))

    @pytest.mark.parametrize("expected", [0, 1, 3, 1000])
    async def test_a_stream_that_ends_elsewhere(
        self, store: Store, lease: Lease, expected: int
    ) -> None:
        """An append after any place but the last is a conflict and leaves nothing behind."""
        await store.append("one", 0, [started(), stepped(1)], time=START, epoch=lease.epoch)
        before = await store.read("one"), await store.summary("one")
        with pytest.raises(ConflictError) as caught:
            await store.append(
                "one", expected, [stepped(9), failed()], time=START, epoch=lease.epoch
            )
        assert (caught.value.stream, caught.value.expected) == ("one", expected)
        assert (await store.read("one"), await store.summary("one")) == before
        assert (await store.dead_letters(DeadLetterQuery())).items == ()

    async def test_a_gap_in_a_new_stream(self, store: Store, lease: Lease) -> None:
        """A stream begins with event 1."""
        with pytest.raises(ConflictError):
            await store.append("one", 1, [stepped()], time=START, epoch=lease.epoch)
        assert await store.read("one") == []

    async def test_the_same_append_again_is_a_conflict(self, store: Store, lease: Lease) -> None:
        """Whoever repeats an append is told so even if the very same events stand there."""
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        with pytest.raises(ConflictError):
            await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        assert len(await store.read("one")) == 1

    async def test_an_append_is_all_or_nothing(self, store: Store, lease: Lease) -> None:
        """When the last of several events cannot be written, none is."""
        with pytest.raises(PayloadError):
            await store.append(
                "one", 0, [started(), stepped(), started("\ud800")], time=START, epoch=lease.epoch
            )
        assert await store.read("one") == []
        assert await store.summary("one") is None
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)

    async def test_an_append_of_nothing(self, store: Store, lease: Lease) -> None:
        """No events, or a negative place, is the caller's mistake and is said to be."""
        with pytest.raises(ValueError, match="one event or more"):
            await store.append("one", 0, [], time=START, epoch=lease.epoch)
        with pytest.raises(ValueError, match="from 0"):
            await store.append("one", -1, [stepped()], time=START, epoch=lease.epoch)
        assert await store.read("one") == []

    async def test_time_never_goes_back_in_a_stream(self, store: Store, lease: Lease) -> None:
        """A time before the last event's is refused; the same time, or another stream's, is not."""
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        with pytest.raises(ValueError, match=r"last\.time"):
            await store.append("one", 1, [completed()], time=START - 1, epoch=lease.epoch)
        assert len(await store.read("one")) == 1
        await store.append("one", 1, [stepped()], time=START, epoch=lease.epoch)
        await store.append("two", 0, [started()], time=START - 1, epoch=lease.epoch)

    async def test_a_conflict_goes_before_a_time_that_goes_back(
        self, store: Store, lease: Lease
    ) -> None:
        """Whoever lost a race hears of the race, though its clock is behind as well."""
        await store.append("one", 0, [started(), stepped()], time=START, epoch=lease.epoch)
        for expected in (0, 1, 5):
            with pytest.raises(ConflictError):
                await store.append("one", expected, [stepped()], time=1, epoch=lease.epoch)

    @pytest.mark.parametrize("size", [1, 100_000, 12_000_000])
    async def test_large_payloads(self, store: Store, lease: Lease, size: int) -> None:
        """A payload of many megabytes is kept like any other, and so are its neighbours."""
        payload = b'"' + b"x" * size + b'"'
        await asyncio.gather(
            store.append("large", 0, [stepped(1, payload)], time=START, epoch=lease.epoch),
            store.append("small", 0, [stepped(2)], time=START, epoch=lease.epoch),
        )
        (record,) = await store.read("large")
        assert record.event == stepped(1, payload)
        assert len(await store.read("small")) == 1

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\0",
            "a\0b",
            "\u2028\r\n\t",
            "\U0001f469\u200d\U0001f467",
            "\ufeff'\"\\",
            "\x7f\x1b[31m",
        ],
    )
    async def test_any_text_is_kept(self, store: Store, lease: Lease, text: str) -> None:
        """Text of an event, of a summary and of a dead letter is kept whole, NUL and all."""
        event = WorkflowFailed(workflow="onboard", error=failure(text), step=text)
        await store.append("one", 0, [started(), event], time=START, epoch=lease.epoch)
        assert (await store.read("one"))[1].event == event
        summary = await store.summary("one")
        assert summary is not None
        assert summary.error == said("builtins.ValueError", text)
        (letter,) = (await store.dead_letters(DeadLetterQuery())).items
        assert (letter.error.message, letter.step) == (text, text)
        resolved = DeadLetterResolved(workflow_id="one", note=text)
        await store.append(DEAD_LETTERS, 0, [resolved], time=START, epoch=lease.epoch)
        (letter,) = (await store.dead_letters(DeadLetterQuery(states=None))).items
        assert letter.note == text

    async def test_a_lone_surrogate_is_refused(self, store: Store, lease: Lease) -> None:
        """Text that is no Unicode is refused before anything is written, and harms nobody."""
        with pytest.raises(PayloadError):
            await store.append(
                "one",
                0,
                [WorkflowFailed(workflow="w", error=failure("\udcff"))],
                time=START,
                epoch=lease.epoch,
            )
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        assert len(await store.read("one")) == 1

    async def test_a_stream_of_ten_thousand_events(self, store: Store, lease: Lease) -> None:
        """A long stream is read whole and in order, and its end is read alone."""
        for hundred in range(100):
            events = [stepped(hundred * 100 + number) for number in range(100)]
            await store.append("long", hundred * 100, events, time=START, epoch=lease.epoch)
        records = await store.read("long")
        assert [record.seq for record in records] == list(range(1, 10_001))
        assert records[-1].event == stepped(9_999)
        assert await store.read("long", after=9_990) == records[9_990:]

    async def test_one_of_many_writers_wins_a_place(self, store: Store, lease: Lease) -> None:
        """Of appends that race for one place one is written, the others hear of the conflict."""
        outcomes = await asyncio.gather(
            *(
                store.append("one", 0, [stepped(number)], time=START, epoch=lease.epoch)
                for number in range(20)
            ),
            return_exceptions=True,
        )
        assert sum(outcome is None for outcome in outcomes) == 1
        assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 19
        assert len(await store.read("one")) == 1

    async def test_hundreds_of_streams_at_once(self, store: Store, lease: Lease) -> None:
        """What many actors append at once is all there, each stream in its order."""

        async def write(stream: str) -> None:
            for number in range(5):
                event = stepped(number) if number else started()
                await store.append(stream, number, [event], time=START, epoch=lease.epoch)
                assert len(await store.read(stream)) == number + 1

        ids = [f"workflow-{number}" for number in range(300)]
        await asyncio.gather(*map(write, ids))
        for stream in ids:
            assert [record.seq for record in await store.read(stream)] == [1, 2, 3, 4, 5]

    async def test_one_bad_append_among_many(self, store: Store, lease: Lease) -> None:
        """Only the guilty appends of a moment are refused, each for its own reason."""
        await store.append("taken", 0, [started()], time=START, epoch=lease.epoch)
        good = {"time": START, "epoch": lease.epoch}
        late, early = good | {"epoch": lease.epoch - 1}, good | {"time": 1}
        bad: dict[int, tuple[type[Exception], Awaitable[None]]] = {
            7: (ConflictError, store.append("taken", 0, [started(), failed()], **good)),
            20: (FencedError, store.append("late", 0, [started()], **late)),
            21: (ConflictError, store.append("gap", 4, [stepped()], **good)),
            49: (ValueError, store.append("taken", 1, [stepped()], **early)),
        }
        appends = [
            bad[number][1]
            if number in bad
            else store.append(f"good-{number}", 0, [started()], **good)
            for number in range(50)
        ]
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        for number, outcome in enumerate(outcomes):
            assert isinstance(outcome, bad[number][0]) if number in bad else outcome is None
            assert len(await store.read(f"good-{number}")) == (number not in bad)
        assert len(await store.read("taken")) == 1
        assert await store.read("late") == await store.read("gap") == []

    async def test_a_cancelled_append_hurts_nobody_else(self, store: Store, lease: Lease) -> None:
        """A cancelled append is written whole or not at all, and the others are written."""

        async def write(stream: str) -> None:
            events: list[Event] = [started(), stepped(1), stepped(2)]
            await store.append(stream, 0, events, time=START, epoch=lease.epoch)

        for turns in range(6):
            ids = [f"{turns}-{number}" for number in range(20)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(write(stream)) for stream in ids]
                for _ in range(turns):
                    await asyncio.sleep(0)  # noqa: TID251 - passes a turn, waits for no time
                for task in tasks[::3]:
                    task.cancel()
            for number, stream in enumerate(ids):
                sizes = {0, 3} if number % 3 == 0 else {3}
                assert len(await store.read(stream)) in sizes


class IndexSuite(_Suite):
    """Summaries and dead letters."""

    STORIES: tuple[tuple[tuple[str, Event], ...], ...] = (
        (("a", started()),),
        (("a", started()), ("a", stepped()), ("a", completed())),
        (("a", started()), ("a", failed())),
        (("a", started()), ("a", failed(step=None))),
        (
            ("a", started()),
            ("a", CompensationStarted(error=failure(), steps=(3, 1))),
            ("a", failed()),
        ),
        (("a", started()), (DEAD_LETTERS, parked("a"))),
        (
            ("a", started()),
            (DEAD_LETTERS, parked("a")),
            (DEAD_LETTERS, DeadLetterRetried(workflow_id="a", retried_as="a")),
            ("a", completed()),
        ),
        (
            ("a", started()),
            (DEAD_LETTERS, parked("a")),
            (DEAD_LETTERS, DeadLetterRetried(workflow_id="a", retried_as="a")),
            (DEAD_LETTERS, parked("a", DeadLetterReason.CORRUPT_LOG)),
        ),
        (
            ("a", started()),
            ("a", failed()),
            (DEAD_LETTERS, DeadLetterRetried(workflow_id="a", retried_as="b")),
            ("b", started(retry_of="a")),
        ),
        (
            ("a", started()),
            ("b", started("other")),
            ("a", failed()),
            (DEAD_LETTERS, DeadLetterResolved(workflow_id="a", note="refunded by hand")),
            ("b", failed("other")),
        ),
    )

    @pytest.mark.parametrize("story", STORIES)
    @pytest.mark.parametrize("reopened", [False, True])
    async def test_the_indexes_are_what_project_says(
        self,
        served: ServedStore,
        lease: Lease,
        story: tuple[tuple[str, Event], ...],
        reopened: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        """Summaries and dead letters are the fold of `project` over the log, restart or not."""
        store, records, ends = served.store, [], dict.fromkeys(["a", "b", DEAD_LETTERS], 0)
        for number, (stream, event) in enumerate(story):
            time = START + number
            await store.append(stream, ends[stream], [event], time=time, epoch=lease.epoch)
            ends[stream] += 1
            records.append(
                Recorded(stream=stream, seq=ends[stream], time=time, epoch=lease.epoch, event=event)
            )
        if reopened:
            await served.restart()
        index = _Index(records)
        for workflow_id in ("a", "b"):
            assert await store.summary(workflow_id) == index.summaries.get(workflow_id)
        found = await store.find(WorkflowQuery())
        assert {summary.id: summary for summary in found.items} == index.summaries
        letters = await store.dead_letters(DeadLetterQuery(states=None))
        assert {letter.workflow_id: letter for letter in letters.items} == index.letters

    async def _start(self, store: Store, lease: Lease, *starts: tuple[str, int, str]) -> None:
        for workflow_id, time, workflow in starts:
            await store.append(
                workflow_id, 0, [started(workflow)], time=START + time, epoch=lease.epoch
            )

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
    async def test_pages_in_order_of_start(self, store: Store, lease: Lease, limit: int) -> None:
        """Pages follow start and then id, leave nothing out, and say when they end."""
        times = {"c": 5, "b": 5, "a": 9, "d": 1, "Z": 5, "ä": 5, ":": 5}
        await self._start(store, lease, *((one, time, "x") for one, time in times.items()))
        ids, cursor, pages = [], None, 0
        while cursor is not None or not pages:
            page = await store.find(WorkflowQuery(limit=limit, after=cursor))
            assert len(page.items) == limit or page.cursor is None
            ids += [summary.id for summary in page.items]
            cursor, pages = page.cursor, pages + 1
        assert ids == ["d", ":", "Z", "b", "c", "ä", "a"]
        assert pages == max(1, -(-7 // limit))

    async def test_filters(self, store: Store, lease: Lease) -> None:
        """Each filter does what it says, takes no wildcards, and they narrow each other."""
        orders, refunds = ["order-1", "order_2", "orderX3", "ORDER-4"], ["refund%5", "refund-6"]
        for number, one in enumerate(orders + refunds):
            await self._start(store, lease, (one, number, "order" if one in orders else "refund"))
        await store.append("order-1", 1, [completed()], time=START + 9, epoch=lease.epoch)
        await store.append("refund-6", 1, [failed("refund")], time=START + 9, epoch=lease.epoch)

        async def found(**fields: object) -> list[str]:
            page = await store.find(msgspec.convert(fields, WorkflowQuery))
            return [summary.id for summary in page.items]

        assert await found(workflow="order") == orders
        assert await found(workflow="ord") == []
        assert await found(id_prefix="order_") == ["order_2"]
        assert await found(id_prefix="refund%") == ["refund%5"]
        assert await found(id_prefix="") == await found()
        assert await found(id_prefix="order-1-and-more") == []
        assert await found(states=["completed"]) == ["order-1"]
        assert await found(states=["completed", "failed"]) == ["order-1", "refund-6"]
        assert await found(states=[]) == []
        assert await found(states=[state.value for state in OPEN_STATES], workflow="refund") == [
            "refund%5"
        ]
        assert await found(states=["running"], workflow="order", id_prefix="order") == [
            "order_2",
            "orderX3",
        ]

    async def test_pages_while_workflows_move(self, store: Store, lease: Lease) -> None:
        """Who matches from the first page to the last is seen once, whatever the others do."""
        ids = [f"workflow-{number}" for number in range(30)]
        await self._start(
            store, lease, *((one, number // 4, "x") for number, one in enumerate(ids))
        )
        query = WorkflowQuery(states=frozenset({WorkflowState.RUNNING}), limit=4)
        page = await store.find(query)
        seen = [summary.id for summary in page.items]
        moving = iter(range(0, 30, 3))
        while page.cursor is not None:
            number = next(moving)
            await store.append(ids[number], 1, [completed()], time=START + 99, epoch=lease.epoch)
            await self._start(store, lease, (f"late-{number}", 1_000 + number, "x"))
            page = await store.find(replace(query, after=page.cursor))
            seen += [summary.id for summary in page.items]
        assert {one for number, one in enumerate(ids) if number % 3} <= set(seen)
        assert len(seen) == len(set(seen))

    @pytest.mark.parametrize("limit", [0, -1, LIMIT_MAX + 1])
    async def test_a_page_has_a_bound(self, store: Store, limit: int) -> None:
        """A page size that is none is refused with the bounds."""
        with pytest.raises(ValueError, match="10,000"):
            await store.find(WorkflowQuery(limit=limit))
        with pytest.raises(ValueError, match="10,000"):
            await store.dead_letters(DeadLetterQuery(limit=limit))

    @pytest.mark.parametrize("cursor", ["", "nonsense", "x:1"])
    async def test_a_cursor_that_is_none(self, store: Store, cursor: str) -> None:
        """What is no cursor is refused with what to pass."""
        with pytest.raises(ValueError, match="cursor of the page before"):
            await store.find(WorkflowQuery(after=cursor))
        with pytest.raises(ValueError, match="cursor of the page before"):
            await store.dead_letters(DeadLetterQuery(after=cursor))

    async def test_dead_letters_are_listed_and_filtered(self, store: Store, lease: Lease) -> None:
        """Dead letters come oldest first, a page at a time, and only the open ones by default."""
        for number, one in enumerate(["c", "b", "a", "d"]):
            workflow = "order" if one in "ab" else "refund"
            await store.append(
                one,
                0,
                [started(workflow), failed(workflow)],
                time=START + number,
                epoch=lease.epoch,
            )
        closing: list[Event] = [
            DeadLetterResolved(workflow_id="b", note="done"),
            DeadLetterRetried(workflow_id="d", retried_as="e"),
        ]
        await store.append(DEAD_LETTERS, 0, closing, time=START + 9, epoch=lease.epoch)

        async def listed(**fields: object) -> list[str]:
            page = await store.dead_letters(msgspec.convert(fields, DeadLetterQuery))
            return [letter.workflow_id for letter in page.items]

        assert await listed() == ["c", "a"]
        assert await listed(states=None) == ["c", "b", "a", "d"]
        assert await listed(states=["resolved", "retried"]) == ["b", "d"]
        assert await listed(states=[]) == []
        assert await listed(workflow="order", states=None) == ["b", "a"]
        assert await listed(workflow_id="a") == ["a"]
        assert await listed(workflow_id="b") == []
        first = await store.dead_letters(DeadLetterQuery(states=None, limit=2))
        rest = await store.dead_letters(DeadLetterQuery(states=None, limit=2, after=first.cursor))
        assert [letter.workflow_id for letter in first.items + rest.items] == ["c", "b", "a", "d"]
        assert rest.cursor is None
        (letter,) = (await store.dead_letters(DeadLetterQuery(workflow_id="a"))).items
        assert letter.context == {"a": [1.5]}
        assert letter.state is DeadLetterState.OPEN


class LeaseSuite(_Suite):
    """One owner at a time."""

    async def test_a_lease_is_claimed_for_a_time(self, store: Store, clock: ManualClock) -> None:
        """The first claim gets the lease, with an epoch, until its time is over."""
        lease = await store.claim("first", 2.5)
        assert lease.owner == "first"
        assert lease.epoch >= 1
        assert lease.expires_at == clock.now + 2_500_000

    async def test_a_second_owner_is_refused(self, store: Store, clock: ManualClock) -> None:
        """While the lease runs nobody else gets it, and whoever asks is told who has it."""
        await store.claim("first", 10)
        clock.advance(9.9)
        with pytest.raises(StoreLockedError, match="first") as caught:
            await store.claim("second", 10)
        assert caught.value.owner == "first"

    async def test_a_lease_runs_out(self, store: Store, clock: ManualClock) -> None:
        """An expired lease goes to who asks, and then the old epoch may neither write nor renew."""
        old = await store.claim("first", 10)
        await store.append("one", 0, [started()], time=START, epoch=old.epoch)
        clock.advance(10)
        new = await store.claim("second", 10)
        assert new.epoch == old.epoch + 1
        with pytest.raises(FencedError) as caught:
            await store.append("one", 1, [failed()], time=START, epoch=old.epoch)
        assert caught.value.epoch == old.epoch
        with pytest.raises(FencedError):
            await store.renew(old, 10)
        assert len(await store.read("one")) == 1
        assert (await store.dead_letters(DeadLetterQuery())).items == ()
        await store.append("one", 1, [stepped()], time=START, epoch=new.epoch)

    async def test_release_after_a_take_over(self, store: Store, clock: ManualClock) -> None:
        """The old owner's release does nothing to the new owner."""
        old = await store.claim("first", 10)
        clock.advance(10)
        new = await store.claim("second", 10)
        await store.release(old)
        await store.append("one", 0, [started()], time=START, epoch=new.epoch)
        with pytest.raises(StoreLockedError, match="second"):
            await store.claim("third", 10)

    async def test_renewing(self, store: Store, clock: ManualClock) -> None:
        """A renewed lease keeps its epoch and outlives the time it was claimed for."""
        lease = await store.claim("first", 10)
        clock.advance(6)
        renewed = await store.renew(lease, 10)
        assert renewed == replace(lease, expires_at=clock.now + 10 * SECOND)
        clock.advance(6)
        with pytest.raises(StoreLockedError):
            await store.claim("second", 10)
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)

    async def test_an_expired_lease_that_nobody_took(
        self, store: Store, clock: ManualClock
    ) -> None:
        """Being late costs nothing as long as nobody has taken over."""
        lease = await store.claim("first", 10)
        clock.advance(60)
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        await store.renew(lease, 10)
        with pytest.raises(StoreLockedError):
            await store.claim("second", 10)

    async def test_releasing(self, store: Store) -> None:
        """A released lease is free at once, and what it wrote under writes no more."""
        lease = await store.claim("first", 10)
        await store.release(lease)
        with pytest.raises(FencedError):
            await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        with pytest.raises(FencedError):
            await store.renew(lease, 10)
        assert (await store.claim("second", 10)).epoch == lease.epoch + 1

    async def test_nobody_writes_without_a_lease(self, store: Store) -> None:
        """Before the first claim no epoch may write."""
        for epoch in (0, 1, -1):
            with pytest.raises(FencedError):
                await store.append("one", 0, [started()], time=START, epoch=epoch)
        assert await store.read("one") == []

    async def test_epochs_grow_for_ever(self, served: ServedStore, clock: ManualClock) -> None:
        """No epoch is given twice: not after a release, an expiry, or a restart."""
        epochs = []
        for turn in range(9):
            lease = await served.store.claim(f"owner {turn}", 10)
            epochs.append(lease.epoch)
            if turn % 3 == 0:
                await served.store.release(lease)
            elif turn % 3 == 1:
                clock.advance(10)
            else:
                await served.restart()
        assert epochs == sorted(set(epochs))

    async def test_the_death_of_an_owner_is_known(self, served: ServedStore) -> None:
        """A closed store owns nothing: its lease is free, however long it would have run."""
        old = await served.store.claim("first", 3600)
        await served.restart()
        new = await served.store.claim("second", 3600)
        assert new.epoch == old.epoch + 1
        with pytest.raises(FencedError):
            await served.store.append("one", 0, [started()], time=START, epoch=old.epoch)

    async def test_an_owner_that_comes_back(self, served: ServedStore) -> None:
        """Who opens the store again before anybody else claims goes on under its old epoch."""
        lease = await served.store.claim("first", 3600)
        await served.restart()
        await served.store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        await served.store.renew(lease, 3600)
        with pytest.raises(StoreLockedError, match="first"):
            await served.store.claim("second", 3600)


class LifecycleSuite(_Suite):
    """Open, serve, close."""

    async def test_a_restart_keeps_everything(self, served: ServedStore, lease: Lease) -> None:
        """What was acknowledged is there after close and open: events, summaries, dead letters."""
        store = served.store
        await store.append("one", 0, [started(), failed()], time=START, epoch=lease.epoch)
        await store.append("two", 0, [started()], time=START + 1, epoch=lease.epoch)
        before = (
            await store.read("one"),
            await store.find(WorkflowQuery()),
            await store.dead_letters(DeadLetterQuery()),
        )
        await served.restart()
        assert before == (
            await store.read("one"),
            await store.find(WorkflowQuery()),
            await store.dead_letters(DeadLetterQuery()),
        )
        lease = await store.claim("again", 30)
        with pytest.raises(ConflictError):
            await store.append("two", 0, [started()], time=START + 1, epoch=lease.epoch)
        await store.append("two", 1, [completed()], time=START + 1, epoch=lease.epoch)

    async def test_a_store_is_opened_once(self, store: Store, lease: Lease) -> None:
        """A second engine that is given this very object is refused, the first one goes on."""
        with pytest.raises(StoreLockedError):
            await store.open()
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)

    async def test_a_store_that_is_not_open(self, served: ServedStore, lease: Lease) -> None:
        """Whatever is asked of a closed store is refused, closing it again is not."""
        store = served.store
        await served.stop()
        await store.close()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.append("one", 0, [started()], time=START, epoch=lease.epoch),
            lambda: store.read("one"),
            lambda: store.find(WorkflowQuery()),
            lambda: store.summary("one"),
            lambda: store.dead_letters(DeadLetterQuery()),
            lambda: store.claim("me", 1),
            lambda: store.renew(lease, 1),
            lambda: store.release(lease),
            store.serve,
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError):
                await call()

    async def test_nobody_waits_for_a_closed_store(self, served: ServedStore, lease: Lease) -> None:
        """Closing answers every append that still waits, and keeps what it has acknowledged."""
        store = served.store

        async def write(stream: str) -> bool:
            try:
                await store.append(stream, 0, [started(), stepped()], time=START, epoch=lease.epoch)
            except StoreUnavailableError:
                return False
            return True

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(write(f"workflow-{number}")) for number in range(30)]
            await asyncio.sleep(0)  # noqa: TID251 - passes a turn, waits for no time
            await served.stop()
        await served.start()
        for number, task in enumerate(tasks):
            sizes = {2} if task.result() else {0, 2}
            assert len(await store.read(f"workflow-{number}")) in sizes


class StoreSuite(LogSuite, IndexSuite, LeaseSuite, LifecycleSuite):
    """All promises of the port. Subclass it and override the fixture ``make_store``."""
