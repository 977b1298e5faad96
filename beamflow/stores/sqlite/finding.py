"""From what is asked for to the statement that reads least.

The rows come from stretches of an index, one for each state that is wanted, and the other conditions
are looked up row by row; so each stretch is to be one of that condition which the fewest rows of the state
meet. A statement is put together from fixed texts; what anybody has asked for is bound.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from beamflow.model.status import WorkflowState
from beamflow.stores.base import WorkflowQuery, bounds_of
from beamflow.stores.sql import statement
from beamflow.stores.sqlite.labels import labels_of

__all__ = ["Arm", "Finding", "Source"]

ENOUGH = 5_000
"""Rows of a condition that are counted before it is taken for one that many meet."""


class Source(enum.Enum):
    """An index, and the rows of it that are read, for each state that is wanted.

    Those of a prefix are in no order of states: they are read once, and the only ``wanted.state``
    is all states in one.
    """

    LABEL = """beamflow_labels AS c
    WHERE
      c.kind = :kind{label} AND c.name = :name{label} AND c.value = :value{label}
      AND c.state = wanted.state"""
    NAME = """beamflow_workflows AS c
    WHERE c.workflow = :workflow AND c.version = wanted.version AND c.state = wanted.state"""
    PREFIX = """beamflow_workflows AS c
    WHERE
      c.id >= :prefix AND c.id < :prefix || char(0x10ffff)
      AND +c.state IN (SELECT value FROM json_each(wanted.state))"""
    STATE = """beamflow_workflows AS c
    WHERE c.state = wanted.state"""


class Arm(NamedTuple):
    """A part of a statement: the states whose rows come from one source."""

    source: Source
    label: int = 0
    """Which of the labels, if it is one."""


class _Shape(NamedTuple):
    """All that the text of a statement depends on."""

    arms: tuple[Arm, ...]
    labels: int
    is_named: bool
    has_prefix: bool
    direction: str = ""


_PIECES = {
    name: statement("sqlite", name)
    for name in ("wanted", "find", "found", "count", "counted", "probe")
}
_COUNT_ALL = statement("sqlite", "count_all")
_BOUNDS = statement("sqlite", "within")
_HAS_PREFIX = statement("sqlite", "has_prefix")
_HAS_NAME = statement("sqlite", "has_name")
_HAS_LABEL = statement("sqlite", "has_label")
_probed = msgspec.json.Decoder(tuple[list[tuple[int, int, int]], int])


class Finding:
    """One query on its way to its statement.

    Args:
        query: what is asked for; raises ValueError as `bounds_of` does.

    Attributes:
        arms: which states are read from where.
    """

    def __init__(self, query: WorkflowQuery) -> None:
        self._query = query
        self._bounds = bounds_of(query)
        self._labels = labels_of(query)
        states = WorkflowState if query.states is None else query.states
        self._states = [state.value for state in states]
        self._conditions = [Arm(Source.LABEL, index) for index in range(len(self._labels))]
        if query.workflow is not None:
            self._conditions.append(Arm(Source.NAME))
        first = self._conditions[0] if self._conditions else Arm(Source.STATE)
        self.arms: dict[Arm, list[str]] = {first: self._states}

    @property
    def probe(self) -> tuple[str, dict[str, Any]] | None:
        """What to ask before it is known what to read; None where there is no choice."""
        if not self._query.id_prefix and len(self._conditions) < 2:  # noqa: PLR2004 - of two there is a choice
            return None
        parameters = self._parameters() | {
            "states": _json(self._states),
            "labels": _json(self._labels),
            "enough": ENOUGH,
            "prefix": self._query.id_prefix or None,
            "workflow": self._query.workflow,
            "version": self._query.version,
        }
        return _PIECES["probe"], parameters

    def probed(self, answer: str) -> None:
        """Take the answer to `probe`: how many rows of each state meet each condition; the prefix."""
        counted, prefixed = _probed.decode(answer)
        number = {(state, place): rows for state, place, rows in counted}
        fewest = 0 if self._conditions else ENOUGH
        if self._conditions and self._states:
            self.arms = {}
            for index, state in enumerate(self._states):
                places = range(len(self._conditions))
                place = min(places, key=lambda place: number[index, place])
                self.arms.setdefault(self._conditions[place], []).append(state)
                fewest += number[index, place]
        if self._query.id_prefix and prefixed < min(fewest, ENOUGH):
            self.arms = {Arm(Source.PREFIX): [_json(self._states)]}

    def find(self, limit: int) -> tuple[str, dict[str, Any]]:
        """Return the statement of a page, and what to bind."""
        shape = self._shape("DESC" if self._query.newest_first else "ASC")
        return _statement("find", shape), {**self._parameters(), "limit": limit}

    def count(self) -> tuple[str, dict[str, Any]]:
        """Return the statement that counts, and what to bind."""
        if self._query == WorkflowQuery(states=self._query.states):
            return _COUNT_ALL, {"states": _json(self._states)}
        return _statement("count", self._shape()), self._parameters()

    def _shape(self, direction: str = "") -> _Shape:
        query = self._query
        arms, labels = tuple(self.arms), len(self._labels)
        return _Shape(arms, labels, query.workflow is not None, bool(query.id_prefix), direction)

    def _parameters(self) -> dict[str, Any]:
        query = self._query
        (low_time, low_id), (high_time, high_id) = self._bounds
        arms = list(self.arms.items())
        named = [number for number, (arm, _) in enumerate(arms) if arm.source is Source.NAME]
        parameters: dict[str, Any] = {
            "wanted": _json([(n, state) for n, (_, states) in enumerate(arms) for state in states]),
            "named": query.workflow if named else None,
            "named_arm": named[0] if named else -1,
            "workflow": query.workflow,
            "version": query.version,
            "prefix": query.id_prefix or None,
            "low_time": low_time,
            "low_id": low_id,
            "high_time": high_time,
            "high_id": high_id,
        }
        for index, label in enumerate(self._labels):
            for part, text in zip(("kind", "name", "value"), label, strict=True):
                parameters[f"{part}{index}"] = text
        return parameters


@lru_cache(maxsize=256)
def _statement(name: str, shape: _Shape) -> str:
    part = _PIECES["found" if name == "find" else "counted"]
    arms = "\n    UNION ALL\n".join(
        part.format(matching=_matching(arm, shape), arm=number, direction=shape.direction)
        for number, arm in enumerate(shape.arms)
    )
    return _PIECES[name].format(wanted=_PIECES["wanted"], arms=arms, direction=shape.direction)


def _matching(arm: Arm, shape: _Shape) -> str:
    """Return where rows come from, and what else they have to meet."""
    texts = [arm.source.value.format(label=arm.label), _BOUNDS]
    if shape.has_prefix and arm.source is not Source.PREFIX:
        texts.append(_HAS_PREFIX)
    if shape.is_named and arm.source is not Source.NAME:
        texts.append(_HAS_NAME)
    texts += [
        _HAS_LABEL.format(label=index)
        for index in range(shape.labels)
        if arm != Arm(Source.LABEL, index)
    ]
    return "".join(texts)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
