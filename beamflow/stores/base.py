"""The store port: what the engine asks of a store, and what it derives from events.

A store keeps streams of events (`Log`), the right to write them (`Leases`), and what sleeps until
when (`Wakeups`). Its indexes (the
workflows' summaries, the dead letters) follow from the events, as `beamflow.stores.projection` says,
and are written in the same transaction as the events themselves; so every store agrees on them and
they can be rebuilt.

`ConflictError` is the only write error that the engine interprets. Whoever does not hear of the
outcome of an append reads the stream; nothing is retried blindly.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Raw

from beamflow.errors import PayloadError
from beamflow.model.codec import encode_event
from beamflow.model.events import Attribute, DeadLetterReason, Event, Failure, Recorded
from beamflow.model.status import WorkflowState
from beamflow.stores.removal import Removal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType
    from typing import Self

__all__ = [
    "AWAKE",
    "LIMIT_MAX",
    "NEVER",
    "DeadLetter",
    "DeadLetterPage",
    "DeadLetterQuery",
    "DeadLetterState",
    "Kept",
    "Lease",
    "Leases",
    "Log",
    "Page",
    "Place",
    "Progress",
    "Reader",
    "Sleep",
    "Store",
    "Summary",
    "Wakeups",
    "WorkflowQuery",
    "attribute_key",
    "encoded",
    "went_back",
]


_INTEGRAL_MAX = 2.0**53

Place = tuple[int, str]
"""When a workflow was started, and its id: where it stands in a listing."""

LIMIT_MAX = 10_000
"""Most items of one page."""

NEVER = 2**63 - 1
"""The time of what no time brings about."""


class Progress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far a workflow has said that it is."""

    done: float
    total: float | None = None
    note: str = ""


class Summary(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A workflow as the index shows it. Times are microseconds since the Unix epoch."""

    id: str
    workflow: str
    version: int
    state: WorkflowState
    started_at: int
    closed_at: int | None = None
    error: str | None = None
    """``"builtins.ValueError: message"`` of a failed, compensating or parked workflow."""
    begin_at: int | None = None
    """When its code may begin, of one that was not to begin at once."""
    deadline: int | None = None
    """When it must have ended."""
    cancelling: bool = False
    """Whether it was told to end and has not ended yet."""
    parent: str | None = None
    """Id of the workflow that it is a child of."""
    on_close: str = ""
    """What becomes of a child when its parent ends: ``wait``, ``cancel`` or ``abandon``."""
    run: int = 0
    """Number of the current run; the first one is 0."""
    run_seq: int = 1
    """Sequence number at which the current run begins: ``read(id, run_seq - 1)`` is all of it."""
    progress: Progress | None = None
    tags: tuple[str, ...] = ()
    """Sorted."""
    attributes: dict[str, Attribute] = {}


class DeadLetterState(enum.Enum):
    """What has become of a dead letter."""

    OPEN = "open"
    RETRIED = "retried"
    RESOLVED = "resolved"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A failure for good: what, where, why, with what in hand."""

    workflow_id: str
    number: int = 0
    """Which of the workflow's letters, from 1."""
    workflow: str
    reason: DeadLetterReason
    step: str | None
    error: Failure
    attempts: int
    input: Raw
    """The arguments of the failed step, or of the workflow, as JSON."""
    created_at: int
    outcome: WorkflowState = WorkflowState.FAILED
    """How it left the workflow: failed, parked, or running where it goes on all the same."""
    state: DeadLetterState = DeadLetterState.OPEN
    closed_at: int | None = None
    note: str = ""
    retried_as: str = ""

    @property
    def context(self) -> object:
        """The arguments of the failed step, or of the workflow, as plain data."""
        return msgspec.json.decode(self.input)


class WorkflowQuery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which workflows, in order of start, a page at a time. What is None or empty asks nothing."""

    states: frozenset[WorkflowState] | None = None
    workflow: str | None = None
    version: int | None = None
    """Only with ``workflow``: a version of nothing in particular is refused."""
    started_after: int | None = None
    """Started at that time or later, microseconds since the Unix epoch."""
    started_before: int | None = None
    """Started before that time."""
    tags: tuple[str, ...] = ()
    """All of them."""
    attributes: dict[str, Attribute] = {}
    """All of them, with these values: 1 and 1.0 are the same, 1 and True are not."""
    parent: str | None = None
    """Id of the workflow that they are children of."""
    id_prefix: str | None = None
    newest_first: bool = False
    limit: int = 100
    after: str | None = None
    """``cursor`` of the page before."""


class DeadLetterQuery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which dead letters, oldest first; a page at a time."""

    states: frozenset[DeadLetterState] | None = frozenset({DeadLetterState.OPEN})
    workflow: str | None = None
    workflow_id: str | None = None
    limit: int = 100
    after: str | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Summaries, and where the next page begins (None: this was the last)."""

    items: tuple[Summary, ...]
    cursor: str | None


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Dead letters, and where the next page begins (None: this was the last)."""

    items: tuple[DeadLetter, ...]
    cursor: str | None


class Kept(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The result of a step that all workflows share, by the key it was called with."""

    step: str
    key: str
    workflow_id: str
    """Which workflow ran the body."""
    result: Raw
    expires_at: int


class Lease(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The right to write until ``expires_at``, microseconds by the store's clock."""

    owner: str
    epoch: int
    """Grows by one with each owner; what is written under an older one is refused."""
    expires_at: int
    inherited: bool = False
    """Whether the owner before has not given it back: it died."""


class Sleep(msgspec.Struct, frozen=True, gc=False):
    """A workflow that is out of memory and need not be in it before a time, or a message."""

    until: int
    """Microseconds since the Unix epoch, `NEVER` for a message alone; 0: it is awake."""
    is_watched: bool = False
    """Whether whoever recovers the store looks after it all the same: a child of it may have ended."""


AWAKE = Sleep(0)
"""It sleeps no longer."""


def encoded(stream: str, expected: int, events: Sequence[Event]) -> list[bytes]:
    """Write the events of an append as JSON, before anything of it reaches a store.

    Raises:
        PayloadError: an event cannot be written, as text with a lone surrogate.
        ValueError: there is no event, or ``expected`` is negative.
    """
    if not events or expected < 0:
        raise ValueError(
            f"an append to {stream!r} needs one event or more after a sequence number from 0, "
            f"not {len(events)} after {expected}"
        )
    try:
        return [encode_event(event) for event in events]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PayloadError(f"event for {stream!r}", f"{error}") from error


def went_back(stream: str, time: int) -> ValueError:
    """Make the error for an append whose time is before that of the stream's last event."""
    return ValueError(
        f"time {time} is before that of the last event of {stream!r}; nothing was written. "
        f"Append with max(now, last.time)"
    )


def attribute_key(value: Attribute) -> str:
    """Write an attribute's value so that values which are to be found as the same are the same."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _INTEGRAL_MAX:
        value = int(value)
    return msgspec.json.encode(value).decode()


class Log(Protocol):
    """Streams of events, and the indexes over them."""

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
        """Add events after sequence number ``expected``, all or none, with their projections.

        Returns when they are durable. Appends that wait at the same time share one commit; none is
        hurt by another one's failure or cancellation. Whoever is cancelled in here does not know
        the outcome and reads the stream to learn it.

        Args:
            stream: printable text, at most 512 characters.
            expected: sequence number of the last event of the stream, 0 for a new one.
            events: one or more.
            time: when it happened; not before the stream's last event, the caller sees to that
                (``max(now, last.time)``), for what is recorded is what its replay will see.
            epoch: that of the lease in hand.
            sleep: noted with the events, as by `Wakeups.sleep`; only passed where there is one.

        Raises:
            ConflictError: the stream does not end at ``expected``; nothing was written. It is also
                raised when these very events stand there already.
            FencedError: ``epoch`` is not that of the current lease; nothing was written.
            PayloadError: an event cannot be written as JSON, or is too large; nothing was written.
            ValueError: there is no event, or ``time`` goes back; nothing was written.
            StoreUnavailableError: the outcome is unknown; read the stream to learn it.
        """

    async def read(self, stream: str, after: int = 0) -> list[Recorded]:
        """Return the events of a stream after a sequence number, in order; empty if none.

        Raises:
            CorruptLogError: an event is damaged or missing.
            StoreUnavailableError: the store cannot be read.
        """

    async def end(self, stream: str) -> int:
        """Return the sequence number of the last event of a stream, 0 if there is none.

        Costs the same however long the stream is: no event is read, nor checked.
        """

    async def find(self, query: WorkflowQuery) -> Page:
        """Return one page of summaries, in order of start (of id within the same microsecond).

        A page is one moment of the store. It may hold fewer than the limit, even none, although
        there are more, for a store may bound what it looks at for one page: only a cursor of None
        says that it was the last. Over several pages, a workflow that is there all the time and
        matches all the time is seen exactly once.

        Raises:
            ValueError: ``limit`` is not from 1 to `LIMIT_MAX`, ``after`` is no cursor, or there is
                a version of no workflow.
        """

    async def count(self, query: WorkflowQuery) -> dict[WorkflowState, int]:
        """Return how many workflows match, by state, at one moment; states of none are left out.

        ``limit``, ``after`` and the order change nothing. Raises ValueError as `find` does.
        """

    async def summary(self, workflow_id: str) -> Summary | None:
        """Return the summary of one workflow, or None."""

    async def kept(self, step: str, key: str, now: int) -> Kept | None:
        """Return the result that is shared under a key of a step, or None when it has expired."""

    async def dead_letters(self, query: DeadLetterQuery) -> DeadLetterPage:
        """Return one page of dead letters, oldest first; raises ValueError as `find` does."""


class Leases(Protocol):
    """The right to run the workflows of this store: one owner at a time, with an epoch."""

    async def claim(self, owner: str, ttl_s: float) -> Lease:
        """Take the lease, with an epoch above every earlier one.

        It is free when it was released, has expired, or its owner is known to be dead: a store
        that was closed owns nothing any more.

        Args:
            owner: who, in words that help whoever is refused: ``"process 4711 on host-a"``.
            ttl_s: how long, in seconds, unless renewed.

        Raises:
            StoreLockedError: somebody else holds it and is alive or has not expired.
        """

    async def renew(self, lease: Lease, ttl_s: float) -> Lease:
        """Extend the lease; raises `FencedError` when it has been taken over or released."""

    async def release(self, lease: Lease) -> None:
        """Give the lease back at once; its epoch writes no more.

        Does nothing when it has been taken over.
        """


class Wakeups(Protocol):
    """Which workflows sleep, and until when, so that nobody has to hold them in memory to know.

    A note for whoever runs the workflows, and no fact: it is not derived from the log, `rebuild`
    forgets it, and a workflow of which there is none is taken for awake.
    """

    async def sleep(self, workflow_id: str, sleep: Sleep, *, epoch: int) -> None:
        """Note that a workflow sleeps, or is awake again; durable in the order of the appends.

        Raises:
            FencedError: ``epoch`` is not that of the current lease; nothing was noted.
            StoreUnavailableError: the outcome is unknown.
        """

    async def sleepers(
        self, after: Place, before: int, *, limit: int = LIMIT_MAX
    ) -> tuple[Place, ...]:
        """Return when sleeping workflows are to be woken, and their ids, soonest first.

        Those that have ended or are parked are left out, and those that no time wakes.

        Args:
            after: only places behind this one.
            before: only times before this one, microseconds since the Unix epoch.
            limit: how many at most.
        """

    async def awake(
        self, state: WorkflowState, now: int, *, after: str | None = None, limit: int = LIMIT_MAX
    ) -> Page:
        """Return one page of the workflows of a state that do not sleep, oldest start first.

        Those whose time has come by ``now`` are among them, and those that are watched. Raises
        ValueError as `Log.find` does.
        """


class Store(Log, Leases, Wakeups, Removal, Protocol):
    """A log with its leases and wake-ups, out of which what has ended goes; opened, served and closed.

    ``open`` comes first; ``serve`` runs beside everything else, under supervision; ``close`` comes
    last. A store can be opened again after it was closed, and keeps what it held. Everything but
    ``open`` and ``close`` raises `StoreUnavailableError` while the store is not open.
    """

    @property
    def shared(self) -> bool:
        """Whether others can open it: if not, its lease needs no renewal, for nobody waits for it."""

    async def open(self) -> None:
        """Open or create the store.

        Raises:
            StoreFormatError: it is something else, or of a newer schema; nothing was written.
            StoreLockedError: this very object is open already: a store serves one engine.
            StoreUnavailableError: it cannot be opened.
        """

    async def serve(self) -> None:
        """Commit what `append` is handed, until cancelled.

        Raises `StoreError` when the store cannot be trusted any more (a failed write or fsync);
        every append that waits then gets that error. Close, open and read before going on: until
        then every append is refused, also when a cancellation hit a commit in flight.
        """

    async def rebuild(self) -> None:
        """Derive all indexes from the events again; all or nothing.

        For a store that is open and not served: an index that was lost or is not trusted.

        Raises:
            CorruptLogError: an event is damaged; the indexes stay as they are.
            StoreUnavailableError: the store cannot be read or written; likewise.
        """

    async def close(self) -> None:
        """Close the store; harmless when it is closed.

        Appends that still wait get `StoreUnavailableError`. A lease in hand is not released but
        owned by nobody from here on; who opens the store again may renew it.
        """


class Reader(Protocol):
    """A store that is looked at and not touched: no lease, no write, also while an engine runs.

    Each answer is the store at one moment, and the next one may be another; nothing is held in between.
    """

    async def __aenter__(self) -> Self:
        """Begin to look.

        Raises:
            StoreFormatError: it is something else, or of a newer schema.
            StoreUnavailableError: it cannot be read, or is not there.
        """

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of it."""

    def unfinished(self) -> AsyncIterator[Summary]:
        """Iterate over all workflows that can still go on, by their start.

        One that is there and open all the time is seen exactly once. The summaries say what every
        schema has: id, workflow, version, state, start.
        """

    async def read(self, stream: str) -> list[Recorded]:
        """Return all events of a stream, in order; raises `CorruptLogError` for a damaged one."""
