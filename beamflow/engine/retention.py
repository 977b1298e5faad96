"""The duty that takes out of the store what has ended long enough ago, a little at a time."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from beamflow import log
from beamflow.authoring.workflow import name_of
from beamflow.engine.archive import Ended, FileArchive, OwnArchive
from beamflow.errors import (
    CorruptLogError,
    DefinitionError,
    EngineStoppedError,
    FencedError,
    StoreError,
)
from beamflow.model.status import WorkflowState
from beamflow.stores.removal import RemovableQuery

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from beamflow.engine.archive import Archive
    from beamflow.engine.services import Services
    from beamflow.model.events import Recorded
    from beamflow.stores.base import Summary
    from beamflow.stores.removal import Removable

__all__ = ["Retention", "retain", "sweep"]

EVERY_S: Final = 60.0
_LOOKED_AT = 500
_WORKFLOWS_AT_ONCE = 50
_EVENTS_AT_ONCE = 500

Duration = float | timedelta | None


class Retention:
    """How long workflows stay in the store after they have ended. Without one they stay for ever.

    ::

        Engine(
            "sqlite:///app.db",
            workflows=[order, ping],
            retention=Retention(
                timedelta(days=30),
                failed=timedelta(days=365),
                workflows={"ping": timedelta(hours=1)},
                archive="ended.jsonl",
            ),
        )

    What is open stays, and what somebody needs: a workflow whose dead letter is open, a parent of
    which a child is open that ends with it, a child whose parent may ask for its outcome again, a
    workflow whose shared results are valid. The id of one that was removed can be started anew.

    Durations are seconds or a timedelta, from the end of the workflow on; None: for ever.

    Args:
        after: how long whatever has ended stays.
        completed: how long what has completed stays, in place of ``after``.
        failed: how long what has failed stays, once its dead letter is closed.
        cancelled: how long what was cancelled or terminated stays.
        workflows: by the name in the log: how long workflows of that name stay, however they ended.
        archive: a file to which each workflow is appended as a line of JSON and synced before it is
            removed; or an async function that is called with its summary and its events, and has to
            return before it is. Both may get a workflow more than once: after a crash in between.
        every: seconds between two looks.

    Raises:
        DefinitionError: a duration is negative or no duration, or there is none at all.
    """

    def __init__(
        self,
        after: Duration = None,
        *,
        completed: Duration | UnsetType = UNSET,
        failed: Duration | UnsetType = UNSET,
        cancelled: Duration | UnsetType = UNSET,
        workflows: Mapping[str, Duration] | None = None,
        archive: str | Path | Callable[[Summary, list[Recorded]], Awaitable[object]] | None = None,
        every: float | timedelta = EVERY_S,
    ) -> None:
        """Check the durations."""
        rest = _microseconds("after", after)
        self._states = {
            state: rest if given is UNSET else _microseconds(state.value, given)
            for state, given in (
                (WorkflowState.COMPLETED, completed),
                (WorkflowState.FAILED, failed),
                (WorkflowState.CANCELLED, cancelled),
            )
        }
        if not isinstance(workflows, Mapping | None):
            raise _refused("workflows", workflows, "a dict of names and durations")
        self._workflows = {
            name_of(name): _microseconds(f"workflows[{name!r}]", given)
            for name, given in (workflows or {}).items()
        }
        if {None} == {*self._states.values(), *self._workflows.values()}:
            message = (
                "Retention() is refused: it keeps everything for ever; say how long: after=..."
            )
            raise DefinitionError(message)
        self.archive = _archive(archive)
        every_us = _microseconds("every", every)
        if not every_us:
            raise _refused("every", every, "seconds above 0")
        self.every_s = every_us / 1e6

    def queries(self, now: int) -> Iterator[RemovableQuery]:
        """Return what to ask for, for each state and each of the names."""
        named = tuple(self._workflows)
        for state, stays in self._states.items():
            for name, stays_named in self._workflows.items():
                if stays_named is not None:
                    yield RemovableQuery(
                        state=state, closed_before=now - stays_named, now=now, workflow=name
                    )
            if stays is not None:
                yield RemovableQuery(
                    state=state, closed_before=now - stays, now=now, others_than=named
                )


async def retain(services: Services, retention: Retention) -> None:
    """Sweep, again and again. What goes wrong with the store or the archive is tried again later."""
    while True:
        try:
            await sweep(services, retention)
        except FencedError as error:
            services.fenced(error)
        except (StoreError, EngineStoppedError, OSError) as error:
            log.warning("retention_put_off", error=str(error))
        await services.clock.sleep(retention.every_s)


async def sweep(services: Services, retention: Retention) -> int:
    """Remove all that may go by now; return how many workflows went.

    It takes at most half of the writer's time: between two commits it pauses for as long as the last took.

    Raises:
        StoreError: the store failed; the rest goes next time.
        OSError: the archive cannot be written; likewise.
    """
    removed = 0
    for query in retention.queries(services.now()):
        asked = replace(query, limit=_LOOKED_AT)
        while True:
            page = await services.store.removable(asked)
            for some in _portions(page.items):
                began = services.clock.monotonic()
                removed += await _let_go(services, retention.archive, some)
                took = services.clock.monotonic() - began
                if took > 0:
                    await services.clock.sleep(took)
            if page.cursor is None:
                break
            asked = replace(asked, after=page.cursor)
    if removed:
        log.info("workflows_removed", count=removed)
    return removed


async def _let_go(services: Services, archive: Archive | None, some: Sequence[Removable]) -> int:
    """Archive and remove a few workflows; those in memory are somebody's at the moment."""
    going = [item for item in some if item.id not in services.actors]
    if archive is not None:
        whole = [item for item in going if not item.begun]
        kept = await archive.keep(ended) if (ended := await _read(services, whole)) else set()
        going = [item for item in going if item.begun or item.id in kept]
    return len(await services.store.remove(going, now=services.now(), epoch=services.epoch))


async def _read(services: Services, items: Sequence[Removable]) -> list[Ended]:
    """Read what is to be archived; what is damaged stays, for somebody to look at."""
    ended: list[Ended] = []
    for item in items:
        summary = await services.store.summary(item.id)
        try:
            history = await services.store.read(item.id)
        except CorruptLogError as error:
            log.error("workflow_not_archived", workflow_id=item.id, error=str(error))
            continue
        if summary is not None and len(history) == item.seq:
            ended.append(Ended(summary, history))
    return ended


def _portions(items: Sequence[Removable]) -> Iterator[Sequence[Removable]]:
    """Cut into portions of so many workflows, and so many events, at most; a long one goes alone."""
    portion: list[Removable] = []
    events = 0
    for item in items:
        if portion and (len(portion) == _WORKFLOWS_AT_ONCE or events + item.seq > _EVENTS_AT_ONCE):
            yield portion
            portion, events = [], 0
        portion.append(item)
        events += item.seq
    if portion:
        yield portion


def _archive(archive: Any) -> Archive | None:
    if archive is None:
        return None
    if isinstance(archive, str | Path):
        return FileArchive(archive)
    if callable(archive) and (
        inspect.iscoroutinefunction(archive)
        or inspect.iscoroutinefunction(getattr(archive, "__call__", None))  # noqa: B004 - of an object
    ):
        return OwnArchive(archive)
    raise _refused("archive", archive, "a path or an async function")


def _microseconds(name: str, duration: Any) -> int | None:
    if duration is None:
        return None
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise _refused(name, duration, "seconds, a timedelta, or None")
    if not (math.isfinite(seconds) and 0 <= seconds < 1e10):  # noqa: PLR2004 - 300 years
        raise _refused(name, duration, "seconds, a timedelta, or None")
    return round(seconds * 1e6)


def _refused(name: str, value: object, wanted: str) -> DefinitionError:
    return DefinitionError(f"Retention({name}={value!r}) is refused: it must be {wanted}")
