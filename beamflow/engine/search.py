"""Finding workflows: from what is asked for to a query of the store, page after page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from msgspec.structs import replace

from beamflow.authoring.workflow import name_of
from beamflow.model.labels import checked_attributes, checked_tags
from beamflow.model.status import WorkflowState
from beamflow.stores.base import WorkflowQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from beamflow.authoring.workflow import Workflow
    from beamflow.engine.services import Services
    from beamflow.model.events import Attribute
    from beamflow.stores.base import Summary

__all__ = ["Filters", "find", "query_of"]


class Filters(TypedDict, total=False):
    """What workflows are found by; those that all of it fits. Each may be left out, or be None."""

    state: WorkflowState | Iterable[WorkflowState] | None
    """Only in this state, or in one of these."""
    workflow: str | Workflow[..., Any] | type | None
    """Only of this workflow: itself, in every version, or its name in the log."""
    version: int | None
    """Only of this version of ``workflow``."""
    started_after: datetime | None
    """Only started at this moment or later."""
    started_before: datetime | None
    """Only started before this moment."""
    tag: str | Iterable[str] | None
    """Only with this tag, or with all of these."""
    attributes: Mapping[str, Attribute] | None
    """Only with all these attributes: 1 and 1.0 are the same value, 1 and True are not."""
    parent: str | None
    """Only children of the workflow with this id."""
    id_prefix: str | None
    """Only those whose id begins so."""
    newest_first: bool
    """The latest start first; the oldest first otherwise."""


def query_of(
    *,
    state: WorkflowState | str | Iterable[WorkflowState] | None = None,
    workflow: str | Workflow[..., Any] | type | None = None,
    version: int | None = None,
    started_after: datetime | None = None,
    started_before: datetime | None = None,
    tag: str | Iterable[str] | None = None,
    attributes: Mapping[str, Attribute] | None = None,
    parent: str | None = None,
    id_prefix: str | None = None,
    newest_first: bool = False,
    limit: int = 100,
    after: str | None = None,
) -> WorkflowQuery:
    """Make the query of what is asked for; `Filters` says what each argument means.

    Raises:
        ValueError: a moment has no time zone, or there is no such state.
        DefinitionError: ``workflow`` is none.
        PayloadError: there can be no such tag or attribute.
    """
    states = (state,) if isinstance(state, WorkflowState | str) else state
    tags = (tag,) if isinstance(tag, str) else tag or ()
    return WorkflowQuery(
        states=None if states is None else frozenset(map(WorkflowState, states)),
        workflow=None if workflow is None else name_of(workflow),
        version=version,
        started_after=_microseconds(started_after, "started_after"),
        started_before=_microseconds(started_before, "started_before"),
        tags=checked_tags(tags, "tag"),
        attributes=checked_attributes(attributes or {}),
        parent=parent,
        id_prefix=id_prefix,
        newest_first=newest_first,
        limit=limit,
        after=after,
    )


async def find(services: Services, query: WorkflowQuery) -> AsyncIterator[Summary]:
    """Iterate over all that a query finds, a page at a time."""
    while True:
        page = await services.opened.find(query)
        for summary in page.items:
            yield summary
        if page.cursor is None:
            return
        query = replace(query, after=page.cursor)


def _microseconds(moment: datetime | None, name: str) -> int | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{name}={moment!r} names no moment: give it a time zone")
    since = moment - datetime.fromtimestamp(0, UTC)
    return since // timedelta(microseconds=1)
