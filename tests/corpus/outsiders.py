"""What others do to a workflow of the corpus, keyed by what its log shows.

Nothing here remembers anything: each act looks into the log whether it was done, so that a script
goes on where it was in whichever process and engine there is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from beamflow import (
    DeadLetterState,
    UnknownHandlerError,
    UpdateRejectedError,
    WorkflowNotFoundError,
    WorkflowState,
    WorkflowStateError,
)
from beamflow.model.codec import encode_json
from beamflow.model.events import (
    CancelRequested,
    SignalReceived,
    UpdateCompleted,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowResumed,
    WorkflowRetried,
    WorkflowStarted,
)

if TYPE_CHECKING:
    from beamflow import Engine, Recorded, WorkflowHandle
    from tests.corpus.world import World

__all__ = [
    "Act",
    "View",
    "answers",
    "ask_for",
    "cancel",
    "follows",
    "fork",
    "has_named",
    "has_shown",
    "is_labelled",
    "is_parked",
    "is_refused",
    "keyed",
    "pause",
    "play",
    "resolve",
    "resume",
    "retry",
    "retry_in_place",
    "seen",
    "shows",
    "signal",
    "terminate",
    "waits_for",
]

T = TypeVar("T")
Ask = Callable[[Callable[["Engine"], Awaitable[Any]]], Awaitable[Any]]


@dataclass(frozen=True)
class View:
    """What an outsider sees: the engine that is there, and the workflow it is about."""

    engine: Engine
    id: str
    world: World

    @property
    def handle(self) -> WorkflowHandle[Any]:
        """The workflow's handle."""
        return self.engine.handle(self.id)

    async def history(self, workflow_id: str = "") -> list[Recorded]:
        """The workflow's log, or another one's; empty when it is not there."""
        try:
            return await self.engine.handle(workflow_id or self.id).history()
        except WorkflowNotFoundError:
            return []

    async def is_over(self) -> bool:
        """Whether it has ended, and it is too late for whatever is left to do."""
        summary = await self.engine._services.opened.summary(self.id)
        return summary is not None and summary.state in _OVER

    async def count(self, kind: type, workflow_id: str = "", **fields: Any) -> int:
        """How many events of a type there are, with these fields."""
        return sum(
            isinstance(one.event, kind)
            and all(getattr(one.event, name) == value for name, value in fields.items())
            for one in await self.history(workflow_id)
        )


_OVER = {WorkflowState.COMPLETED, WorkflowState.CANCELLED}

Look = Callable[[View], Awaitable[bool]]


def seen(kind: type, count: int = 1, *, of: str = "", **fields: Any) -> Look:
    """Once there are so many events of a type in the log, or in that of another workflow."""

    async def look(view: View) -> bool:
        return await view.count(kind, of, **fields) >= count

    return look


async def is_parked(view: View) -> bool:
    """Once the workflow stands still."""
    summary = await view.engine._services.opened.summary(view.id)
    return summary is not None and summary.state is WorkflowState.PARKED


STARTED = seen(WorkflowStarted)


@dataclass(frozen=True)
class Act:
    """One act.

    Attributes:
        do: does it; may find that it is too late, or too early.
        done: whether it was done, as the log shows.
        when: whether it is time.
    """

    do: Callable[[View], Awaitable[object]]
    done: Look
    when: Look = STARTED


def signal(name: str, payload: Any = None, *, when: Look = STARTED, of: str = "") -> Act:
    """Send a signal, to the workflow or to another one; name and payload are sent once."""
    data = msgspec.Raw(encode_json(payload, name))

    async def done(view: View) -> bool:
        return any(
            isinstance(one.event, SignalReceived)
            and (one.event.name, bytes(one.event.payload)) == (name, bytes(data))
            for one in await view.history(of)
        )

    return Act(lambda view: view.engine.handle(of or view.id).signal(name, payload), done, when)


def keyed(name: str, payload: Any, *, key: str, when: Look = STARTED) -> Act:
    """Send a signal with a key, twice each time."""

    async def do(view: View) -> None:
        for _ in range(2):
            await view.handle.signal(name, payload, key=key)

    return Act(do, seen(SignalReceived, name=name, key=key), when)


def pause(when: Look = STARTED, count: int = 1) -> Act:
    """Pause it."""
    return Act(lambda view: view.handle.pause("a pause"), seen(WorkflowPaused, count), when)


def resume(when: Look = STARTED, count: int = 1) -> Act:
    """Let it go on."""
    return Act(lambda view: view.handle.resume("go on"), seen(WorkflowResumed, count), when)


def cancel(when: Look = STARTED, *, grace: float = 30.0) -> Act:
    """Tell it to end."""
    return Act(lambda view: view.handle.cancel("no more", grace=grace), seen(CancelRequested), when)


def terminate(when: Look = STARTED) -> Act:
    """End it where it stands."""
    return Act(lambda view: view.handle.terminate("enough"), seen(WorkflowCancelled), when)


def retry(mends: str = "", *, when: Look = is_parked) -> Act:
    """Mend what is broken, then send the dead letter round again."""

    async def do(view: View) -> None:
        if mends:
            view.world.mend(mends)
        await view.engine.dead_letters.retry(view.id)

    async def done(view: View) -> bool:
        letters = await view.engine.dead_letters.list(state=DeadLetterState.RETRIED)
        return any(letter.workflow_id == view.id for letter in letters)

    return Act(do, done, when)


def retry_in_place(mends: str = "", *, step: str | None = None) -> Act:
    """Mend what is broken, then let a failed workflow go on from where it failed, or from a step."""

    async def do(view: View) -> None:
        if mends:
            view.world.mend(mends)
        await view.handle.retry_from(step, note="mended")

    return Act(do, seen(WorkflowRetried), seen(WorkflowFailed))


def resolve(when: Look) -> Act:
    """Close its dead letter by hand."""

    async def done(view: View) -> bool:
        letters = await view.engine.dead_letters.list(state=DeadLetterState.RESOLVED)
        return any(letter.workflow_id == view.id for letter in letters)

    return Act(lambda view: view.engine.dead_letters.resolve(view.id, "by hand"), done, when)


def fork(workflow_id: str, *, when: Look = STARTED, **options: Any) -> Act:
    """Begin a copy of it, under another id."""

    async def done(view: View) -> bool:
        return bool(await view.history(workflow_id))

    return Act(lambda view: view.handle.fork(workflow_id, **options), done, when)


def ask_for(name: str, *arguments: Any, id: str, replies: Any, when: Look = STARTED) -> Act:
    """Ask for an update, twice each time; there is one reply."""

    async def do(view: View) -> None:
        for _ in range(2):
            with contextlib.suppress(UnknownHandlerError):  # its code does not stand there yet
                assert await view.handle.update(name, *arguments, id=id) == replies

    return Act(do, seen(UpdateCompleted, id=id), when)


def is_refused(name: str, *arguments: Any) -> Look:
    """Once an update is known, and refused by its validator."""

    async def look(view: View) -> bool:
        try:
            await view.handle.update(name, *arguments)
        except UpdateRejectedError:
            return True
        except UnknownHandlerError:
            return False
        raise AssertionError(f"update {name}{arguments} was not refused")

    return look


def answers(name: str, *arguments: Any, answer: Any) -> Look:
    """Once a query gives that answer."""

    async def look(view: View) -> bool:
        try:
            return await view.handle.query(name, *arguments) == answer
        except UnknownHandlerError:
            return False

    return look


def shows(name: str, value: Any) -> Look:
    """Once the value is what is published."""

    async def look(view: View) -> bool:
        return await view.handle.published(name) == value

    return look


def has_shown(name: str, value: Any) -> Look:
    """Once the value was published."""

    async def look(view: View) -> bool:
        async for shown in view.handle.watch(name):
            if shown == value:
                return True
        return False

    return look


def waits_for(what: str) -> Look:
    """Once the workflow waits for it, in the words of its status."""

    async def look(view: View) -> bool:
        return what in (await view.handle.status()).waiting_for

    return look


def is_labelled(tag: str, **attributes: Any) -> Look:
    """Once it can be found by its labels."""

    async def look(view: View) -> bool:
        found = view.engine.find(tag=tag, attributes=attributes)
        return view.id in [summary.id async for summary in found]

    return look


def has_named(place: str) -> Look:
    """Once there is a snapshot of that name."""

    async def look(view: View) -> bool:
        return place in [each.name for each in await view.handle.snapshots()]

    return look


def follows(kind: type) -> Look:
    """Once an event of that type has come by."""

    async def look(view: View) -> bool:
        async for one in view.handle.events():
            if isinstance(one.event, kind):
                return True
        return False

    return look


async def play(
    acts: tuple[Act, ...],
    workflow_id: str,
    world: World,
    ask: Ask,
    news: Callable[[], Awaitable[object]],
) -> None:
    """Do all that is left to do.

    Args:
        acts: what to do, one after the other.
        workflow_id: to whom.
        world: what may have to be mended.
        ask: puts a question to the engine that is there; may ask it twice.
        news: waits until there may be something new in the log.
    """

    async def is_done(act: Act, engine: Engine) -> bool:
        view = View(engine, workflow_id, world)
        if await act.done(view):
            return True
        if await act.when(view):
            with contextlib.suppress(WorkflowStateError):  # somebody was faster: look again
                await act.do(view)
            if await act.done(view):
                return True
        return await view.is_over()

    for act in acts:
        while not await ask(partial(is_done, act)):
            await news()
