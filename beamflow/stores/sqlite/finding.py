"""From what is asked for to the statement that reads least.

The rows come from one of four indexes and the other conditions are looked up row by row, so the
index is to be the one with the fewest rows that fit. A statement is put together from fixed texts;
what anybody has asked for is bound.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import msgspec

from beamflow.model.status import WorkflowState
from beamflow.stores.base import WorkflowQuery, bounds_of
from beamflow.stores.sql import statement
from beamflow.stores.sqlite.labels import labels_of

if TYPE_CHECKING:
    from beamflow.stores.sqlite.labels import Label

__all__ = ["Finding", "Source"]

ENOUGH = 5_000
"""Rows of a condition that are counted before it is taken for one that many meet."""


class Source(enum.Enum):
    """An index, and the rows of it that are read, for each state that is wanted.

    Those of a prefix are in no order of states: they are read once, and the only ``wanted.state``
    is all states in one.
    """

    LABEL = """beamflow_labels AS c
    WHERE c.kind = :kind AND c.name = :name AND c.value = :value AND c.state = wanted.state"""
    NAME = """beamflow_workflows AS c
    WHERE c.workflow = :named AND c.version = wanted.version AND c.state = wanted.state"""
    PREFIX = """beamflow_workflows AS c
    WHERE
      c.id >= :prefix AND c.id < :prefix || char(0x10ffff)
      AND +c.state IN (SELECT value FROM json_each(wanted.state))"""
    STATE = """beamflow_workflows AS c
    WHERE c.state = wanted.state"""


def _statement(name: str, source: Source, direction: str = "") -> str:
    matching = statement("sqlite", "matching").format(source=source.value)
    return statement("sqlite", name).format(
        wanted=statement("sqlite", "wanted"), matching=matching, direction=direction
    )


_FIND = {
    source: (_statement("find", source, "ASC"), _statement("find", source, "DESC"))
    for source in Source
}
_COUNT = {source: _statement("count", source) for source in Source}
_COUNT_ALL = statement("sqlite", "count_all")
_PROBE = statement("sqlite", "probe")
_counts = msgspec.json.Decoder(tuple[list[int], int, int])


class Finding:
    """One query on its way to its statement.

    Args:
        query: what is asked for; raises ValueError as `bounds_of` does.
    """

    def __init__(self, query: WorkflowQuery) -> None:
        self._query = query
        self._bounds = bounds_of(query)
        self._labels = labels_of(query)
        states = WorkflowState if query.states is None else query.states
        self._states = _json([state.value for state in states])
        self._source = Source.STATE
        self._label: Label | None = None
        if self._labels:
            self._take_label(0)
        elif query.workflow is not None:
            self._source = Source.NAME

    @property
    def probe(self) -> tuple[str, dict[str, object]] | None:
        """What to ask before it is known which index to read; None where there is no choice."""
        query = self._query
        prefix = query.id_prefix or None
        if len(self._labels) + (query.workflow is not None) + 2 * (prefix is not None) < 2:  # noqa: PLR2004 - of two there is a choice
            return None
        return _PROBE, {
            "labels": _json(self._labels),
            "states": self._states,
            "workflow": query.workflow,
            "prefix": prefix,
            "enough": ENOUGH,
        }

    def probed(self, answer: str) -> None:
        """Take the answer to `probe`."""
        labels, named, prefixed = _counts.decode(answer)
        fewest = min([*labels, *([] if self._query.workflow is None else [named]), ENOUGH])
        if self._query.id_prefix and prefixed < fewest:
            self._source = Source.PREFIX
        elif fewest in labels:
            self._take_label(labels.index(fewest))
        elif self._query.workflow is not None:
            self._source = Source.NAME

    def find(self, limit: int) -> tuple[str, dict[str, Any]]:
        """Return the statement of a page, and what to bind."""
        statements = _FIND[self._source]
        return statements[self._query.newest_first], {**self._parameters(), "limit": limit}

    def count(self) -> tuple[str, dict[str, Any]]:
        """Return the statement that counts, and what to bind."""
        if self._query == WorkflowQuery(states=self._query.states):
            return _COUNT_ALL, {"states": self._states}
        return _COUNT[self._source], self._parameters()

    def _take_label(self, index: int) -> None:
        self._source = Source.LABEL
        self._label = self._labels[index]

    def _parameters(self) -> dict[str, Any]:
        query = self._query
        by_name = self._source is Source.NAME
        label = self._label if self._source is Source.LABEL else None
        kind, name, value = label or (None, None, None)
        (low_time, low_id), (high_time, high_id) = self._bounds
        return {
            "states": _json([self._states]) if self._source is Source.PREFIX else self._states,
            "named": query.workflow if by_name else None,
            "workflow": None if by_name else query.workflow,
            "version": query.version,
            "prefix": query.id_prefix or None,
            "kind": kind,
            "name": name,
            "value": value,
            "labels": _json([one for one in self._labels if one != label]),
            "low_time": low_time,
            "low_id": low_id,
            "high_time": high_time,
            "high_id": high_id,
        }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
