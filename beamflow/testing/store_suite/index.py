"""The indexes: summaries, shared results and dead letters, as the log says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec import UNSET, Raw
from msgspec.structs import replace

from beamflow.model.codec import encode_event
from beamflow.model.events import (
    Attribute,
    AttributesChanged,
    CancelRequested,
    CompensationStarted,
    DeadLetterReason,
    DeadLetterResolved,
    DeadLetterRetried,
    Event,
    ProgressReported,
    Recorded,
    WorkflowBegan,
    WorkflowCancelled,
    WorkflowContinued,
    WorkflowForked,
    WorkflowPaused,
    WorkflowResumed,
    WorkflowRetried,
)
from beamflow.model.ids import DEAD_LETTERS
from beamflow.stores.base import (
    DeadLetter,
    DeadLetterQuery,
    DeadLetterState,
    Kept,
    Lease,
    Store,
    Summary,
    WorkflowQuery,
)
from beamflow.stores.projection import (
    LabelsChanged,
    LetterClosed,
    LetterOpened,
    Projection,
    ResultKept,
    WorkflowMoved,
    WorkflowOpened,
    WorkflowUpdated,
    project,
)
from beamflow.testing.store_suite.samples import (
    START,
    completed,
    failed,
    failure,
    not_compensated,
    parked,
    shared,
    started,
    stepped,
)
from beamflow.testing.store_suite.served import ServedStore, Suite

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["IndexSuite"]


class _Index:
    """What the port promises of the indexes: the fold of `project` over what was recorded."""

    def __init__(self, records: Sequence[Recorded]) -> None:
        self.summaries: dict[str, Summary] = {}
        self.letters: dict[tuple[str, int], DeadLetter] = {}
        self.kept: dict[tuple[str, str], Kept] = {}
        for record in records:
            for change in project(record.stream, record.seq, record.time, record.event):
                self._apply(change)

    def _apply(self, change: Projection) -> None:
        match change:
            case WorkflowOpened(summary=summary):
                self.summaries[summary.id] = summary
            case WorkflowMoved(id=id, state=state, closed_at=closed_at, error=error):
                self._change(id, state=state, closed_at=closed_at)
                if error is not UNSET:
                    self._change(id, error=error)
                if closed_at is not None:
                    self._change(id, cancelling=False)
            case WorkflowUpdated(id=id):
                fields = msgspec.structs.asdict(change)
                self._change(id, **{k: v for k, v in fields.items() if v is not UNSET})
            case LabelsChanged(id=id):
                tags = {*self.summaries[id].tags, *change.add_tags} - {*change.remove_tags}
                attributes = self.summaries[id].attributes | change.attributes
                there = {name: value for name, value in attributes.items() if value is not None}
                self._change(id, tags=tuple(sorted(tags)), attributes=there)
            case LetterOpened(letter=letter):
                number = 1 + sum(one == letter.workflow_id for one, _ in self.letters)
                self.letters[letter.workflow_id, number] = replace(letter, number=number)
            case LetterClosed():
                self._close(change)
            case ResultKept(kept=kept):
                self.kept[kept.step, kept.key] = kept

    def _change(self, workflow_id: str, **fields: object) -> None:
        self.summaries[workflow_id] = replace(self.summaries[workflow_id], **fields)

    def _close(self, change: LetterClosed) -> None:
        closing = [
            place
            for place, letter in self.letters.items()
            if letter.workflow_id == change.workflow_id
            and letter.state is DeadLetterState.OPEN
            and change.number in {0, letter.number}
            and change.outcome in {None, letter.outcome}
        ]
        for place in closing[-1:]:
            self.letters[place] = replace(
                self.letters[place],
                state=change.state,
                closed_at=change.closed_at,
                note=change.note,
                retried_as=change.retried_as,
            )


_TAGS = ("vip", "a", "a b", 'a"', "ä\\")
_ATTRIBUTES: dict[str, Attribute] = {
    "city": "Bonn",
    'n"\\\0': 1,
    "of it": 1.5,
    "paid": True,
    "none": "",
    "text": '\0"\\',
}
_TAKEN_OVER = tuple(
    (START - 5, Raw(encode_event(event)))
    for event in (
        stepped(),
        ProgressReported(done=2),
        AttributesChanged(add_tags=("copied",), attributes={"city": "Köln"}),
        CancelRequested(deadline=START),
        failed(),
    )
)


class IndexSuite(Suite):
    """Summaries, shared results and dead letters."""

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
        (("a", started(begin_at=START + 9, deadline=START + 99)), ("a", WorkflowBegan())),
        (
            ("a", started()),
            ("a", CompensationStarted(error=failure(), steps=(1,))),
            ("a", WorkflowPaused()),
            ("a", WorkflowResumed(state="compensating")),
            ("a", CancelRequested(deadline=START + 50)),
            ("a", ProgressReported(done=1, total=4, note='a "quarter"\0')),
        ),
        (
            ("a", started()),
            ("a", CancelRequested(deadline=START + 50)),
            ("a", WorkflowCancelled(reason="not wanted", error=failure())),
        ),
        (
            ("a", started(tags=_TAGS, attributes=_ATTRIBUTES, parent="b", on_close="wait")),
            ("a", AttributesChanged(attributes={"city": None, "n": 2, 'n"\\\0': False})),
            ("a", AttributesChanged(add_tags=("vip", "new"), remove_tags=("a b", "none"))),
            ("a", ProgressReported(done=0.5)),
            ("a", completed()),
        ),
        (
            ("a", started()),
            ("a", WorkflowContinued(run=1, input=Raw(b"[]"))),
            ("a", stepped()),
            ("a", WorkflowContinued(run=2, input=Raw(b"[]"))),
        ),
        (
            ("a", started(tags=["original"])),
            ("a", WorkflowForked(source="b", at=3, events=_TAKEN_OVER)),
        ),
        (
            ("a", started()),
            ("a", failed()),
            ("a", WorkflowRetried(at=2, note="mended")),
            ("a", failed()),
            ("a", WorkflowRetried(at=2)),
        ),
        (
            ("a", started()),
            ("a", not_compensated()),
            ("a", not_compensated(retry_at=START)),
            (DEAD_LETTERS, parked("a")),
            (DEAD_LETTERS, parked("a", DeadLetterReason.CODE_GONE)),
            ("a", WorkflowCancelled(terminated=True)),
        ),
        (
            ("a", started()),
            ("a", not_compensated()),
            ("a", failed()),
            (DEAD_LETTERS, DeadLetterResolved(workflow_id="a", note="undone", letter=1)),
            (DEAD_LETTERS, DeadLetterResolved(workflow_id="a", note="again", letter=1)),
            (DEAD_LETTERS, DeadLetterRetried(workflow_id="a", retried_as="b", letter=2)),
        ),
        (
            ("a", started()),
            ("a", CompensationStarted(error=failure(), steps=(1,))),
            (DEAD_LETTERS, parked("a", DeadLetterReason.COMPENSATION_FAILED)),
            (
                DEAD_LETTERS,
                DeadLetterRetried(workflow_id="a", retried_as="a", state="compensating"),
            ),
        ),
        (
            ("a", started()),
            ("a", shared("k", b'"first"', START + 50)),
            ("a", shared("other", b"1", START + 50)),
            ("b", started()),
            ("b", shared("k", b'"\\u0000"', START + 90)),
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
    @pytest.mark.parametrize("then", ["at once", "reopened", "rebuilt"])
    async def test_the_indexes_are_what_project_says(
        self,
        served: ServedStore,
        lease: Lease,
        story: tuple[tuple[str, Event], ...],
        then: str,
    ) -> None:
        """Summaries and dead letters are the fold of `project` over the log, now and ever after."""
        store, records, ends = served.store, [], dict.fromkeys(["a", "b", DEAD_LETTERS], 0)
        for number, (stream, event) in enumerate(story):
            time = START + number
            await store.append(stream, ends[stream], [event], time=time, epoch=lease.epoch)
            ends[stream] += 1
            records.append(
                Recorded(stream=stream, seq=ends[stream], time=time, epoch=lease.epoch, event=event)
            )
        if then == "reopened":
            await served.restart()
        elif then == "rebuilt":
            await served.rebuild()
        index = _Index(records)
        for workflow_id in ("a", "b"):
            assert await store.summary(workflow_id) == index.summaries.get(workflow_id)
        found = await store.find(WorkflowQuery())
        assert {summary.id: summary for summary in found.items} == index.summaries
        letters = await store.dead_letters(DeadLetterQuery(states=None))
        assert {(one.workflow_id, one.number): one for one in letters.items} == index.letters
        for key in ("k", "other"):
            assert await store.kept("reserve", key, START) == index.kept.get(("reserve", key))

    async def test_a_rebuild_derives_all_that_is_shown(
        self, served: ServedStore, lease: Lease
    ) -> None:
        """Of many workflows, with their letters in the order in which they came."""
        store = served.store
        for number in range(60):
            one = f"{number}"
            for at, (_, event) in enumerate(self.STORIES[1 + number % 3]):
                await store.append(one, at, [event], time=START + number, epoch=lease.epoch)
        closing = [DeadLetterResolved(workflow_id=f"{n}", note="x") for n in range(2, 60, 6)]
        await store.append(DEAD_LETTERS, 0, closing, time=START + 99, epoch=lease.epoch)
        every = DeadLetterQuery(states=None)
        before = await store.find(WorkflowQuery()), await store.dead_letters(every)
        await served.rebuild()
        assert (await store.find(WorkflowQuery()), await store.dead_letters(every)) == before

    async def test_a_shared_result_expires(self, served: ServedStore, lease: Lease) -> None:
        """It is there until its time, under its step and key only; in the end it leaves the store."""
        store = served.store
        await store.append("a", 0, [started()], time=START, epoch=lease.epoch)
        for number in range(200):
            result = shared(f"{number}", b"%d" % number, START + number + 10)
            await store.append("a", number + 1, [result], time=START + number, epoch=lease.epoch)
        for _ in range(2):
            kept = await store.kept("reserve", "199", START + 208)
            assert kept is not None
            assert (kept.workflow_id, bytes(kept.result)) == ("a", b"199")
            assert await store.kept("reserve", "199", START + 209) is None
            assert await store.kept("other", "199", START) is None
            assert await store.kept("reserve", "0", START) is None
            await served.rebuild()

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
