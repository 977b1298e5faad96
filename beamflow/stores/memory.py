"""The store that lives in memory: for tests, trials, and to say what the others must do."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from itertools import count, islice
from typing import TYPE_CHECKING, ClassVar

import msgspec
from msgspec import UNSET, MsgspecError
from msgspec.structs import replace

from beamflow.errors import (
    ConflictError,
    CorruptLogError,
    FencedError,
    StoreLockedError,
    StoreUnavailableError,
)
from beamflow.model.codec import decode_event
from beamflow.model.events import Recorded
from beamflow.model.status import ACTIVE_STATES, WorkflowState
from beamflow.stores.base import (
    LIMIT_MAX,
    NEVER,
    DeadLetter,
    DeadLetterPage,
    DeadLetterQuery,
    DeadLetterState,
    Kept,
    Lease,
    Page,
    Sleep,
    Summary,
    WorkflowQuery,
    attribute_key,
    encoded,
    went_back,
)
from beamflow.stores.pages import (
    bounds_of,
    checked_limit,
    cursor_at,
    letter_cursor_at,
    letter_place_of,
    place_of,
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
from beamflow.stores.removal import Removable, RemovablePage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from beamflow.model.events import Event
    from beamflow.stores.base import Place
    from beamflow.stores.removal import RemovableQuery

__all__ = ["MemoryStore"]

_KEPT_MIN = 64
"""Shared results from which on it is worth looking for those that have expired."""
_DONE = frozenset({WorkflowState.COMPLETED, WorkflowState.CANCELLED})
"""Nobody sends these round again."""
_UPDATED = ("cancelling", "progress", "run", "run_seq")


class _Entry(msgspec.Struct, frozen=True, gc=False):
    position: int
    time: int
    epoch: int
    data: bytes


class MemoryStore:
    """A store whose contents live and die with this object.

    It keeps events as the bytes that a file would hold, so nothing works here that would not
    survive; and it keeps them when it is closed, so opening it again is a restart.

    Args:
        clock: the time now, in microseconds since the Unix epoch; only leases look at it.
    """

    shared: ClassVar[bool] = False

    def __init__(self, *, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._streams: dict[str, list[_Entry]] = {}
        self._positions = count()
        self._summaries: dict[str, Summary] = {}
        self._starts: list[tuple[int, str]] = []
        self._letters: dict[str, list[DeadLetter]] = {}
        self._kept: dict[tuple[str, str], Kept] = {}
        self._kept_max = _KEPT_MIN
        self._asleep: dict[str, Sleep] = {}
        self._lease = Lease(owner="", epoch=0, expires_at=0)
        self._owner_lives = False
        self._is_open = False

    def __repr__(self) -> str:
        return "memory://"

    async def open(self) -> None:
        """Open the store; it holds what it held when it was closed."""
        if self._is_open:
            raise StoreLockedError("memory://", "another engine that was given this very object")
        self._is_open = True

    async def serve(self) -> None:
        """Wait to be cancelled: an append is done when it returns."""
        self._check_open()
        await asyncio.Event().wait()

    async def rebuild(self) -> None:
        """Derive all indexes from the events again. The port tells the contract."""
        self._check_open()
        records = [record for stream in self._streams for record in await self.read(stream)]
        records.sort(key=lambda record: self._streams[record.stream][record.seq - 1].position)
        self._summaries.clear()
        self._starts.clear()
        self._letters.clear()
        self._kept.clear()
        self._asleep.clear()
        for record in records:
            for change in project(record.stream, record.seq, record.time, record.event):
                self._apply(change)

    async def close(self) -> None:
        """Close the store and keep what it holds."""
        self._is_open = False
        self._owner_lives = False

    async def append(
        self,
        stream: str,
        expected: int,
        events: Sequence[Event],
        *,
        time: int,
        epoch: int,
        sleep: Sleep | None = None,
    ) -> None:
        """Add events, all or none. The port tells the contract."""
        if not self._is_open:
            self._check_open()
        data = encoded(stream, expected, events)
        self._check_epoch(epoch)
        entries = self._streams.get(stream, ())
        if len(entries) != expected:
            raise ConflictError(stream, expected)
        if entries and time < entries[-1].time:
            raise went_back(stream, time)
        projections = [
            change
            for seq, event in enumerate(events, expected + 1)
            for change in project(stream, seq, time, event)
        ]
        self._streams.setdefault(stream, []).extend(
            [_Entry(next(self._positions), time, epoch, item) for item in data]
        )
        for change in projections:
            self._apply(change)
        if sleep is not None:
            self._note(stream, sleep)

    async def sleep(self, workflow_id: str, sleep: Sleep, *, epoch: int) -> None:
        """Note that a workflow sleeps, or is awake again. The port tells the contract."""
        self._check_open()
        self._check_epoch(epoch)
        self._note(workflow_id, sleep)

    async def sleepers(
        self, after: Place, before: int, *, limit: int = LIMIT_MAX
    ) -> tuple[Place, ...]:
        """Return whom time wakes, soonest first. The port tells the contract."""
        self._check_open()
        places = sorted(
            (sleep.until, workflow_id)
            for workflow_id, sleep in self._asleep.items()
            if sleep.until < min(before, NEVER)
            and self._summaries[workflow_id].state in ACTIVE_STATES
        )
        return tuple(islice((place for place in places if place > after), limit))

    async def awake(
        self, state: WorkflowState, now: int, *, after: str | None = None, limit: int = LIMIT_MAX
    ) -> Page:
        """Return those of a state that do not sleep, a page of them. The port tells the contract."""
        self._check_open()
        query = WorkflowQuery(states=frozenset({state}), after=after)
        matching = self._matching(query, *bounds_of(query))
        found = list(islice((one for one in matching if self._is_up(one, now)), limit + 1))
        last = found[limit - 1] if len(found) > checked_limit(limit) else None
        cursor = cursor_at(last.started_at, last.id) if last else None
        return Page(items=tuple(found[:limit]), cursor=cursor)

    async def read(self, stream: str, after: int = 0) -> list[Recorded]:
        """Return the events after a sequence number. The port tells the contract."""
        self._check_open()
        records = []
        for seq, entry in enumerate(self._streams.get(stream, [])[after:], after + 1):
            try:
                event = decode_event(entry.data)
            except MsgspecError as error:
                raise CorruptLogError(stream, seq, f"it cannot be decoded: {error}") from error
            records.append(
                Recorded(stream=stream, seq=seq, time=entry.time, epoch=entry.epoch, event=event)
            )
        return records

    async def end(self, stream: str) -> int:
        """Return the sequence number of the last event of a stream, 0 if there is none."""
        self._check_open()
        return len(self._streams.get(stream, []))

    async def find(self, query: WorkflowQuery) -> Page:
        """Return one page of summaries. The port tells the contract."""
        self._check_open()
        limit = checked_limit(query.limit)
        items = list(islice(self._matching(query, *bounds_of(query)), limit + 1))
        last = items[limit - 1] if len(items) > limit else None
        cursor = cursor_at(last.started_at, last.id) if last else None
        return Page(items=tuple(items[:limit]), cursor=cursor)

    async def count(self, query: WorkflowQuery) -> dict[WorkflowState, int]:
        """Return how many workflows match, by state. The port tells the contract."""
        self._check_open()
        whole = replace(query, after=None)
        return dict(Counter(one.state for one in self._matching(whole, *bounds_of(whole))))

    async def summary(self, workflow_id: str) -> Summary | None:
        """Return the summary of one workflow, or None."""
        self._check_open()
        return self._summaries.get(workflow_id)

    async def kept(self, step: str, key: str, now: int) -> Kept | None:
        """Return the result that is shared under a key. The port tells the contract."""
        self._check_open()
        kept = self._kept.get((step, key))
        return kept if kept is not None and kept.expires_at > now else None

    async def dead_letters(self, query: DeadLetterQuery) -> DeadLetterPage:
        """Return one page of dead letters. The port tells the contract."""
        self._check_open()
        limit, after = checked_limit(query.limit), letter_place_of(query.after)
        of = self._letters if query.workflow_id is None else (query.workflow_id,)
        found = [
            letter
            for workflow_id in of
            for letter in self._letters.get(workflow_id, ())
            if (query.states is None or letter.state in query.states)
            and query.workflow in {None, letter.workflow}
            and _place(letter) > after
        ]
        found.sort(key=_place)
        return DeadLetterPage(
            items=tuple(found[:limit]),
            cursor=letter_cursor_at(found[limit - 1]) if len(found) > limit else None,
        )

    async def removable(self, query: RemovableQuery) -> RemovablePage:
        """Return one page of what may be removed. The port tells the contract."""
        self._check_open()
        limit = checked_limit(query.limit)
        stretch = list(
            islice(
                self._matching(
                    WorkflowQuery(states=frozenset({query.state}), workflow=query.workflow),
                    place_of(query.after),
                    (query.closed_before, ""),
                    query.others_than,
                ),
                limit,
            )
        )
        cursor = (
            cursor_at(stretch[-1].started_at, stretch[-1].id) if len(stretch) == limit else None
        )
        needed = self._waiting_for_children()
        return RemovablePage(
            items=tuple(
                Removable(one.id, len(self._streams[one.id]))
                for one in stretch
                if (one.closed_at or 0) < query.closed_before
                and one.id not in needed
                and not self._is_needed(one, query.now)
            ),
            cursor=cursor,
        )

    async def remove(self, items: Sequence[Removable], *, now: int, epoch: int) -> tuple[str, ...]:
        """Remove workflows that have ended. The port tells the contract."""
        self._check_open()
        self._check_epoch(epoch)
        parents = self._waiting_for_children()  # what goes is no open child: they stay the same
        return tuple(
            item.id for item in items if item.id not in parents and self._remove(item, now)
        )

    async def claim(self, owner: str, ttl_s: float) -> Lease:
        """Take the lease. The port tells the contract."""
        self._check_open()
        now, held = self._clock(), self._lease
        if held.owner and self._owner_lives and now < held.expires_at:
            raise StoreLockedError("memory://", held.owner)
        lease = self._hold(owner, held.epoch + 1, now + round(ttl_s * 1_000_000))
        return replace(lease, inherited=bool(held.owner))

    async def renew(self, lease: Lease, ttl_s: float) -> Lease:
        """Extend the lease. The port tells the contract."""
        self._check_open()
        if lease.epoch != self._lease.epoch or not self._lease.owner:
            raise FencedError(lease.epoch)
        renewed = self._hold(lease.owner, lease.epoch, self._clock() + round(ttl_s * 1_000_000))
        return replace(renewed, inherited=lease.inherited)

    async def release(self, lease: Lease) -> None:
        """Give the lease back. The port tells the contract."""
        self._check_open()
        if lease.epoch == self._lease.epoch:
            self._lease = replace(self._lease, owner="")
            self._owner_lives = False

    def _waiting_for_children(self) -> set[str | None]:
        """Return the workflows that a child is open of which ends with them."""
        return {
            one.parent
            for one in self._summaries.values()
            if one.state.is_open and one.on_close != "abandon"
        }

    def _is_needed(self, summary: Summary, now: int) -> bool:
        """Tell whether a workflow is needed, for all but its children; see `beamflow.stores.removal`."""
        if summary.closed_at is None:
            return True
        if any(one.state is DeadLetterState.OPEN for one in self._letters.get(summary.id, ())):
            return True
        parent = self._summaries.get(summary.parent or "")
        if (
            parent is not None
            and parent.state not in _DONE
            and self._streams[parent.id][parent.run_seq - 1].time <= summary.closed_at
        ):
            return True
        return any(
            kept.workflow_id == summary.id and kept.expires_at > now for kept in self._kept.values()
        )

    def _remove(self, item: Removable, now: int) -> bool:
        summary = self._summaries.get(item.id)
        if (
            summary is None
            or len(self._streams[item.id]) != item.seq
            or self._is_needed(summary, now)
        ):
            return False
        del self._summaries[item.id], self._streams[item.id]
        del self._starts[bisect_left(self._starts, (summary.started_at, item.id))]
        self._letters.pop(item.id, None)
        self._asleep.pop(item.id, None)
        return True

    def _matching(
        self, query: WorkflowQuery, low: Place, high: Place, others_than: tuple[str, ...] = ()
    ) -> Iterator[Summary]:
        places = self._starts[bisect_right(self._starts, low) : bisect_left(self._starts, high)]
        for _, workflow_id in reversed(places) if query.newest_first else places:
            summary = self._summaries[workflow_id]
            if _matches(query, summary) and summary.workflow not in others_than:
                yield summary

    def _hold(self, owner: str, epoch: int, expires_at: int) -> Lease:
        self._lease = Lease(owner=owner, epoch=epoch, expires_at=expires_at)
        self._owner_lives = True
        return self._lease

    def _note(self, workflow_id: str, sleep: Sleep) -> None:
        if sleep.until and workflow_id in self._summaries:
            self._asleep[workflow_id] = sleep
        else:
            self._asleep.pop(workflow_id, None)

    def _is_up(self, summary: Summary, now: int) -> bool:
        sleep = self._asleep.get(summary.id)
        return sleep is None or sleep.is_watched or sleep.until <= now

    def _check_epoch(self, epoch: int) -> None:
        if epoch != self._lease.epoch or not self._lease.owner:
            raise FencedError(epoch)

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailableError("memory://", "the store is not open", "Open it first")

    def _apply(self, change: Projection) -> None:
        match change:
            case WorkflowOpened(summary=summary):
                former = self._summaries.get(summary.id)
                if former is not None:
                    self._starts.remove((former.started_at, former.id))
                self._summaries[summary.id] = summary
                insort(self._starts, (summary.started_at, summary.id))
            case LetterOpened(letter=letter):
                if letter.workflow_id not in self._summaries:
                    return  # it was removed, and its letter is derived again
                letters = self._letters.setdefault(letter.workflow_id, [])
                letters.append(replace(letter, number=len(letters) + 1))
            case LetterClosed():
                self._close_letter(change)
            case ResultKept(kept=kept):
                self._kept[kept.step, kept.key] = kept
                if len(self._kept) >= self._kept_max:
                    self._forget_expired(change.time)
            case _:
                changing = self._summaries.get(change.id)
                if changing is not None:
                    self._summaries[change.id] = _changed(changing, change)

    def _forget_expired(self, now: int) -> None:
        self._kept = {key: kept for key, kept in self._kept.items() if kept.expires_at > now}
        self._kept_max = max(_KEPT_MIN, 2 * len(self._kept))

    def _close_letter(self, change: LetterClosed) -> None:
        for letter in reversed(self._letters.get(change.workflow_id, ())):
            if (
                letter.state is DeadLetterState.OPEN
                and change.number in {0, letter.number}
                and change.outcome in {None, letter.outcome}
            ):
                self._letters[change.workflow_id][letter.number - 1] = replace(
                    letter,
                    state=change.state,
                    closed_at=change.closed_at,
                    note=change.note,
                    retried_as=change.retried_as,
                )
                return


def _changed(summary: Summary, change: WorkflowMoved | WorkflowUpdated | LabelsChanged) -> Summary:
    match change:
        case WorkflowMoved():
            return replace(
                summary,
                state=change.state,
                closed_at=change.closed_at,
                error=summary.error if change.error is UNSET else change.error,
                cancelling=summary.cancelling and change.closed_at is None,
            )
        case WorkflowUpdated():
            given = ((name, getattr(change, name)) for name in _UPDATED)
            return replace(summary, **{name: value for name, value in given if value is not UNSET})
        case LabelsChanged():
            tags = {*summary.tags, *change.add_tags} - {*change.remove_tags}
            attributes = {**summary.attributes, **change.attributes}
            return replace(
                summary,
                tags=tuple(sorted(tags)),
                attributes={
                    name: value for name, value in sorted(attributes.items()) if value is not None
                },
            )


def _place(letter: DeadLetter) -> tuple[int, str, int]:
    return letter.created_at, letter.workflow_id, letter.number


def _matches(query: WorkflowQuery, summary: Summary) -> bool:
    return (
        (query.states is None or summary.state in query.states)
        and query.workflow in {None, summary.workflow}
        and query.version in {None, summary.version}
        and query.parent in {None, summary.parent}
        and (query.id_prefix is None or summary.id.startswith(query.id_prefix))
        and {*query.tags} <= {*summary.tags}
        and all(
            name in summary.attributes
            and attribute_key(summary.attributes[name]) == attribute_key(value)
            for name, value in query.attributes.items()
        )
    )
