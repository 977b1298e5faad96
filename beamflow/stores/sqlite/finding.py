"""From what is asked for to the statements that read least, a bounded number of rows for each page.

The rows come from stretches of an index, one for each state that is wanted, and the other conditions
are looked up row by row. So each stretch is to be one of that condition which the fewest rows meet where
the page begins: the one of which so many rows reach furthest. Up to there the answer is complete; what
is missing is read from there on, by what is rarest there, until so many rows were looked at that
the page ends short of its limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from beamflow.model.status import WorkflowState
from beamflow.stores.base import Place, WorkflowQuery
from beamflow.stores.pages import bounds_of
from beamflow.stores.sqlite import stretches
from beamflow.stores.sqlite.labels import labels_of
from beamflow.stores.sqlite.stretches import Arm, Shape, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Execute = Callable[[str, dict[str, Any]], Any]

__all__ = ["Finding", "Found"]

LOOKED_UP = (1_000, 2_000, 4_000, 8_000)
"""Rows of a stretch that are read at a time where other conditions are looked up for each of them."""

PASSED_OVER = (4_000, 8_000, 16_000, 32_000)
"""Where the row itself tells whether it is meant: of a prefix and one more condition, or none."""

PREFIXED = 2_000
"""From so many ids on a prefix is looked for in the order of start: each row in order of ids is a look
into the table, which costs thirty times as much."""

COUNTED = 5_000
"""Both where all is counted."""


class Found(NamedTuple):
    """What was read for a page: JSON arrays of summaries, and up to where if that is not all."""

    texts: list[str]
    until: Place | None


class Finding:
    """One query and what it reads.

    Args:
        query: what is asked for; raises ValueError as `bounds_of` does.

    Attributes:
        arms: which states are read from where.
        until: up to where they are read; None: to the end.
    """

    def __init__(self, query: WorkflowQuery) -> None:
        self._query = query
        self._low, self._high = bounds_of(query)
        self._labels = labels_of(query)
        states = WorkflowState if query.states is None else query.states
        self._states = [state.value for state in states]
        self._versions = [query.version]
        self._conditions = [Arm(Source.LABEL, index) for index in range(len(self._labels))]
        if query.workflow is not None:
            self._conditions.append(Arm(Source.NAME))
        if not self._conditions:
            self._conditions.append(Arm(Source.STATE))
        several = len(self._conditions) > 1 or bool(query.id_prefix)
        self._has_choice = several and bool(self._states)
        self.arms: dict[Arm, list[str]] = {self._conditions[0]: self._states}
        self.until: Place | None = None

    def page(self, execute: Execute, limit: int) -> Found:
        """Read up to so many summaries, all of one moment if all is executed in one transaction."""
        self._look_up_versions(execute)
        texts: list[str] = []
        for enough in self._pieces():
            if self._has_choice:
                self.choose(execute, enough, PREFIXED)
            number, text = execute(*self.finding(limit))
            texts.append(text)
            limit -= number
            if limit <= 0 or self.until is None:
                return Found(texts, None)
            self._go_on(self.until)
        return Found(texts, self.until)

    def count(self, execute: Execute) -> str:
        """Count all of them, as JSON: how many in each state."""
        if self._query == WorkflowQuery(states=self._query.states):
            (text,) = execute(stretches.COUNT_ALL, {"states": _json(self._states)})
            return str(text)
        self._look_up_versions(execute)
        if self._has_choice:
            self.choose(execute, COUNTED, COUNTED)
            self.until = None
        (text,) = execute(*self.counting())
        return str(text)

    def choose(self, execute: Execute, enough: int, prefixed: int) -> None:
        """Choose for each state what reaches furthest with so many rows; the nearest of these ends it.

        They are rows of all states together, about: the second that is as frequent is given a half
        of them, the third a third, and each ends those before it where it ends.
        A prefix that fewer ids have than ``prefixed`` is read instead, to the end.
        """
        self.arms, self.until, frequent = {}, None, 1
        for state in [*self._states]:
            arm, place = self._furthest(execute, state, max(1, enough // frequent))
            self.arms.setdefault(arm, []).append(state)
            if place is not None:
                self.until = place
                frequent += 1
                self._states.remove(state)
                self._states.insert(0, state)  # it ends the others earlier than they would it
        if self.until is not None and self._has_few_ids(execute, prefixed):
            self.arms, self.until = {Arm(Source.PREFIX): [_json(self._states)]}, None

    def finding(self, limit: int) -> tuple[str, dict[str, Any]]:
        """Return the statement of a page as far as it is read, and what to bind."""
        return stretches.finding(self._shape()), self._parameters() | {
            "wanted": self._wanted(),
            "limit": limit,
        }

    def counting(self) -> tuple[str, dict[str, Any]]:
        """Return the statement that counts all, and what to bind."""
        return stretches.counting(self._shape()), self._parameters() | {"wanted": self._wanted()}

    def _pieces(self) -> Sequence[int]:
        if not self._has_choice:
            return (0,)
        return PASSED_OVER if len(self._conditions) == 1 else LOOKED_UP

    def _look_up_versions(self, execute: Execute) -> None:
        query = self._query
        if query.workflow is not None and query.version is None:
            (text,) = execute(stretches.VERSIONS, {"workflow": query.workflow})
            self._versions = msgspec.json.decode(text)

    def _furthest(self, execute: Execute, state: str, enough: int) -> tuple[Arm, Place | None]:
        """Return what reaches furthest for a state, and how far; None: no less far than another state."""
        furthest: tuple[Arm, Place] | None = None
        for arm in self._conditions:
            place = self._reach(execute, arm, state, enough)
            if place is None:
                return arm, None
            if furthest is None or self._nearest(place, furthest[1]) != place:
                furthest = arm, place
        assert furthest is not None
        return furthest

    def _reach(self, execute: Execute, arm: Arm, state: str, enough: int) -> Place | None:
        sql = stretches.reaching(arm, newest_first=self._query.newest_first)
        parameters = self._parameters() | {"state": state, "enough": enough}
        versions = self._versions if arm.source is Source.NAME else [None]
        places = (execute(sql, parameters | {"version": version}) for version in versions)
        there = [place for place in places if place is not None]
        return self._nearest(*there) if there else None

    def _has_few_ids(self, execute: Execute, prefixed: int) -> bool:
        if not self._query.id_prefix:
            return False
        parameters = {"prefix": self._query.id_prefix, "prefixed": prefixed}
        (ids,) = execute(stretches.PREFIXED, parameters)
        return bool(ids < prefixed)

    def _nearest(self, *places: Place) -> Place:
        return max(places) if self._query.newest_first else min(places)

    def _go_on(self, place: Place) -> None:
        if self._query.newest_first:
            self._high = place
        else:
            self._low = place

    def _shape(self) -> Shape:
        query = self._query
        return Shape(
            arms=tuple(self.arms),
            labels=len(self._labels),
            is_named=query.workflow is not None,
            has_version=query.version is not None,
            has_prefix=bool(query.id_prefix),
            newest_first=query.newest_first,
        )

    def _wanted(self) -> str:
        return _json(
            [
                (number, state, version)
                for number, (arm, states) in enumerate(self.arms.items())
                for state in states
                for version in (self._versions if arm.source is Source.NAME else [None])
            ]
        )

    def _parameters(self) -> dict[str, Any]:
        query = self._query
        low, high = self._low, self._high
        if self.until is not None:
            low, high = (self.until, high) if query.newest_first else (low, self.until)
        parameters: dict[str, Any] = {
            "workflow": query.workflow,
            "version": query.version,
            "prefix": query.id_prefix or None,
            "low_time": low[0],
            "low_id": low[1],
            "high_time": high[0],
            "high_id": high[1],
        }
        for index, label in enumerate(self._labels):
            for part, text in zip(("kind", "name", "value"), label, strict=True):
                parameters[f"{part}{index}"] = text
        return parameters


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
