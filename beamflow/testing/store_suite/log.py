# ruff: noqa: PLR2004 - this is a module of tests that happens to be shipped
"""Append and read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow.errors import ConflictError, FencedError, PayloadError, said
from beamflow.model.events import DeadLetterResolved, Event, Recorded, StepCompleted, WorkflowFailed
from beamflow.model.ids import DEAD_LETTERS
from beamflow.stores.base import DeadLetterQuery, Lease, Store
from beamflow.testing.store_suite.samples import START, completed, failed, failure, started, stepped
from beamflow.testing.store_suite.served import Suite

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["LogSuite"]


class LogSuite(Suite):
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

    async def test_the_end_of_a_stream(self, store: Store, lease: Lease) -> None:
        """It is where the last event stands; of a stream that is none it is nowhere."""
        assert await store.end("one") == 0
        events: list[Event] = [started(), stepped(1), stepped(2)]
        for number in range(2):
            await store.append(
                "one", 3 * number, events, time=START + 7 * number, epoch=lease.epoch
            )
        await store.append("two", 0, [started()], time=START + 9, epoch=lease.epoch)
        assert await store.end("one") == 6
        assert await store.end("two") == 1
        assert await store.end("on") == 0

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
        good: dict[str, Any] = {"time": START, "epoch": lease.epoch}
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
