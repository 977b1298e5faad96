"""What a file is asked: streams, and what the indexes say. Nothing here writes."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from beamflow.errors import CorruptLogError, StoreUnavailableError
from beamflow.model.codec import checksum, decode_event
from beamflow.model.events import Recorded
from beamflow.model.status import ACTIVE_STATES, WorkflowState
from beamflow.stores.base import (
    LIMIT_MAX,
    DeadLetter,
    DeadLetterPage,
    DeadLetterQuery,
    DeadLetterState,
    Kept,
    Page,
    Place,
    Summary,
    WorkflowQuery,
)
from beamflow.stores.pages import (
    checked_limit,
    cursor_at,
    letter_cursor_at,
    letter_place_of,
    place_of,
)
from beamflow.stores.removal import Removable, RemovablePage
from beamflow.stores.sql import statement
from beamflow.stores.sqlite.finding import Finding, Found
from beamflow.stores.sqlite.problems import code_of

if TYPE_CHECKING:
    from beamflow.stores.removal import RemovableQuery
    from beamflow.stores.sqlite.readers import Readers

__all__ = ["Reading", "events_of"]

T = TypeVar("T")

_READ_EVENTS = 2_000

_READ = statement("sqlite", "read")
_END = statement("sqlite", "end")
_KEPT = statement("sqlite", "kept")
_SLEEPERS = statement("sqlite", "sleepers")
_AWAKE = statement("sqlite", "awake")
_SUMMARY = statement("sqlite", "summary")
_DEAD_LETTERS = statement("sqlite", "dead_letters")
_DEAD_LETTERS_OF = statement("sqlite", "dead_letters_of")
_REMOVABLE = statement("sqlite", "removable")
_REMOVING = statement("sqlite", "removing")
_IS_REMOVING = statement("sqlite", "is_removing")

_places = msgspec.json.Decoder(list[tuple[int, int, int, int, int]])
_summary = msgspec.json.Decoder(Summary)
_summaries = msgspec.json.Decoder(list[Summary])
_counts = msgspec.json.Decoder(dict[WorkflowState, int])
_wakings = msgspec.json.Decoder(tuple[Place, ...])
_kept = msgspec.json.Decoder(Kept)
_letter = msgspec.json.Decoder(DeadLetter)
_letters = msgspec.json.Decoder(
    list[tuple[str, int, WorkflowState, DeadLetterState, int | None, str, str]]
)
_stretch = msgspec.json.Decoder(tuple[list[Removable], int, Place | None])
_begun = msgspec.json.Decoder(list[Removable])


class Reading:
    """The reading half of a store in a file."""

    _readers: Readers

    async def read(self, stream: str, after: int = 0) -> list[Recorded]:
        """Return the events after a sequence number. The port tells the contract."""
        records: list[Recorded] = []
        while True:
            last = after + len(records)
            try:
                row = await self._read(
                    _READ, {"stream": stream, "after": last, "limit": _READ_EVENTS}
                )
            except StoreUnavailableError as error:
                if code_of(error.__cause__) != sqlite3.SQLITE_CORRUPT:
                    raise
                raise CorruptLogError(stream, last + 1, f"{error.__cause__}") from error
            try:
                found = events_of(stream, last, row)
            except CorruptLogError:
                if not await self._is_removed(stream):
                    raise
                return []
            records += found
            if len(found) < _READ_EVENTS:
                break
        if len(records) >= _READ_EVENTS and await self._is_removed(stream):
            return []  # it was removed while it was read
        return records

    async def _is_removed(self, stream: str) -> bool:
        """Tell whether a log that was read in pieces is being removed, or has been meanwhile."""
        if await self._left_of(stream) is not None:
            return True
        return not events_of(
            stream, 0, await self._read(_READ, {"stream": stream, "after": 0, "limit": 1})
        )

    async def end(self, stream: str) -> int:
        """Return the sequence number of the last event of a stream, 0 if there is none."""
        (seq,) = await self._read(_END, {"stream": stream})
        return int(seq)

    async def find(self, query: WorkflowQuery) -> Page:
        """Return one page of summaries. The port tells the contract."""
        limit, finding = checked_limit(query.limit), Finding(query)
        found = await self._readers.at_one_moment(lambda execute: finding.page(execute, limit + 1))
        return self._page(found, limit)

    async def count(self, query: WorkflowQuery) -> dict[WorkflowState, int]:
        """Return how many workflows match, by state. The port tells the contract."""
        whole = msgspec.structs.replace(query, after=None)
        return self._decoded(_counts, await self._readers.at_one_moment(Finding(whole).count))

    async def summary(self, workflow_id: str) -> Summary | None:
        """Return the summary of one workflow, or None."""
        row = await self._read(_SUMMARY, {"id": workflow_id})
        return _in_order(self._decoded(_summary, row[0])) if row else None

    async def sleepers(
        self, after: Place, before: int, *, limit: int = LIMIT_MAX
    ) -> tuple[Place, ...]:
        """Return whom time wakes, soonest first. The port tells the contract."""
        time, workflow_id = after
        parameters: dict[str, object] = {
            "after_time": time,
            "after_id": workflow_id,
            "before": before,
            "states": _names(ACTIVE_STATES),
            "limit": limit,
        }
        (text,) = await self._read(_SLEEPERS, parameters)
        return self._decoded(_wakings, text)

    async def awake(
        self, state: WorkflowState, now: int, *, after: str | None = None, limit: int = LIMIT_MAX
    ) -> Page:
        """Return those of a state that do not sleep, a page of them. The port tells the contract."""
        time, workflow_id = place_of(after)
        parameters: dict[str, object] = {
            "state": state.value,
            "now": now,
            "after_time": time,
            "after_id": workflow_id,
            "limit": checked_limit(limit) + 1,
        }
        (text,) = await self._read(_AWAKE, parameters)
        return self._page(Found([text], None), limit)

    async def kept(self, step: str, key: str, now: int) -> Kept | None:
        """Return the result that is shared under a key. The port tells the contract."""
        row = await self._read(_KEPT, {"step": step, "key": key, "now": now})
        return self._decoded(_kept, row[0]) if row else None

    async def dead_letters(self, query: DeadLetterQuery) -> DeadLetterPage:
        """Return one page of dead letters. The port tells the contract."""
        limit = checked_limit(query.limit)
        time, workflow_id, number = letter_place_of(query.after)
        row = await self._read(
            _DEAD_LETTERS if query.workflow_id is None else _DEAD_LETTERS_OF,
            {
                "states": _names(DeadLetterState if query.states is None else query.states),
                "workflow": query.workflow,
                "workflow_id": query.workflow_id,
                "after_time": time,
                "after_id": workflow_id,
                "after_number": number,
                "limit": limit + 1,
            },
        )
        letters = [
            msgspec.structs.replace(
                self._decoded(_letter, letter),
                number=number,
                outcome=outcome,
                state=state,
                closed_at=closed_at,
                note=note,
                retried_as=retried_as,
            )
            for letter, number, outcome, state, closed_at, note, retried_as in self._decoded(
                _letters, row[0]
            )
        ]
        cursor = letter_cursor_at(letters[limit - 1]) if len(letters) > limit else None
        return DeadLetterPage(items=tuple(letters[:limit]), cursor=cursor)

    async def removable(self, query: RemovableQuery) -> RemovablePage:
        """Return one page of what may be removed. The port tells the contract."""
        limit = checked_limit(query.limit)
        time, workflow_id = place_of(query.after)
        parameters = msgspec.structs.asdict(query) | {
            "state": query.state.value,
            "others_than": msgspec.json.encode(query.others_than).decode(),
            "after_time": time,
            "after_id": workflow_id,
        }
        del parameters["after"]
        (text,) = await self._read(_REMOVABLE, parameters)
        items, looked_at, last = self._decoded(_stretch, text)
        if query.after is None:
            (text,) = await self._read(_REMOVING, {})
            items = self._decoded(_begun, text) + items
        cursor = cursor_at(*last) if last is not None and looked_at == limit else None
        return RemovablePage(items=tuple(items), cursor=cursor)

    async def _left_of(self, workflow_id: str) -> int | None:
        """Return where the log of a workflow ended whose removal has begun; None of any other."""
        row = await self._read(_IS_REMOVING, {"stream": workflow_id})
        return None if row is None else int(row[0])

    def _page(self, found: Found, limit: int) -> Page:
        """Return the page that ends before a summary too many, or where no more was looked at."""
        items = [
            _in_order(summary)
            for text in found.texts
            for summary in self._decoded(_summaries, text)
        ]
        if len(items) > limit:
            last = items[limit - 1]
            return Page(items=tuple(items[:limit]), cursor=cursor_at(last.started_at, last.id))
        cursor = None if found.until is None else cursor_at(*found.until)
        return Page(items=tuple(items), cursor=cursor)

    async def _read(self, sql: str, parameters: dict[str, object]) -> Any:
        return await self._readers.row(sql, parameters)

    def _decoded(self, decoder: msgspec.json.Decoder[T], text: str) -> T:
        try:
            return decoder.decode(text)
        except msgspec.MsgspecError as error:
            raise StoreUnavailableError(
                repr(self), f"its index is damaged ({error})", "Restore it from a backup"
            ) from error


def events_of(stream: str, after: int, row: tuple[str, bytes | None]) -> list[Recorded]:
    """Build the events of one read, each of them checked."""
    try:
        places = _places.decode(row[0])
    except msgspec.MsgspecError as error:
        raise CorruptLogError(stream, after + 1, f"its columns are damaged: {error}") from error
    data, start, records = row[1] or b"", 0, []
    for place, (seq, time, epoch, crc, size) in enumerate(places, after + 1):
        if seq != place:
            raise CorruptLogError(stream, place, f"it is missing, the next one is {seq}")
        item = data[start : start + size]
        start += size
        if checksum(stream, seq, item) != crc:
            raise CorruptLogError(stream, seq, "its checksum does not match")
        try:
            event = decode_event(item)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptLogError(stream, seq, f"it cannot be decoded: {error}") from error
        records.append(Recorded(stream=stream, seq=seq, time=time, epoch=epoch, event=event))
    return records


def _in_order(summary: Summary) -> Summary:
    """Sort the tags as text: the index has them sorted as JSON."""
    if len(summary.tags) < 2:  # noqa: PLR2004 - there is nothing to sort
        return summary
    return msgspec.structs.replace(summary, tags=tuple(sorted(summary.tags)))


def _names(states: Any) -> str:
    return msgspec.json.encode([state.value for state in states]).decode()
