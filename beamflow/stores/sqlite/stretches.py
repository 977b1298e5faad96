"""The statements that read stretches of an index: put together from fixed texts, what is asked is bound."""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import NamedTuple

from beamflow.stores.sql import statement

__all__ = [
    "COUNT_ALL",
    "PREFIXED",
    "VERSIONS",
    "Arm",
    "Shape",
    "Source",
    "counting",
    "finding",
    "reaching",
]


class Source(enum.Enum):
    """An index, and the rows of it that are read, for each state that is wanted.

    Those of a prefix are in no order of states: they are read once, and the only state that is
    wanted is all states in one.
    """

    LABEL = """beamflow_labels AS c
    WHERE
      c.kind = :kind{label} AND c.name = :name{label} AND c.value = :value{label}
      AND c.state = {state}"""
    NAME = """beamflow_workflows AS c
    WHERE c.workflow = :workflow AND c.version = {version} AND c.state = {state}"""
    PREFIX = """beamflow_workflows AS c
    WHERE
      c.id >= :prefix AND c.id < :prefix || char(0x10ffff)
      AND +c.state IN (SELECT value FROM json_each({state}))"""
    STATE = """beamflow_workflows AS c
    WHERE c.state = {state}"""


class Arm(NamedTuple):
    """A part of a statement: the states whose rows come from one source."""

    source: Source
    label: int = 0
    """Which of the labels, if it is one."""


class Shape(NamedTuple):
    """All that the text of a statement depends on."""

    arms: tuple[Arm, ...]
    labels: int
    is_named: bool
    has_version: bool
    has_prefix: bool
    newest_first: bool


_PIECES = {
    name: statement("sqlite", name)
    for name in ("wanted", "find", "found", "count", "counted", "reach")
}
_BOUNDS = {False: statement("sqlite", "forward"), True: statement("sqlite", "backward")}
_DIRECTION = {False: "ASC", True: "DESC"}
_HAS_PREFIX = statement("sqlite", "has_prefix")
_HAS_NAME = statement("sqlite", "has_name")
_HAS_VERSION = statement("sqlite", "has_version")
_HAS_LABEL = statement("sqlite", "has_label")

COUNT_ALL = statement("sqlite", "count_all")
"""The statement that counts all workflows of some states."""

PREFIXED = statement("sqlite", "prefixed")
"""The statement that counts the ids with a prefix, so many at most."""

VERSIONS = statement("sqlite", "versions")
"""The statement that lists the versions of a workflow."""


def finding(shape: Shape) -> str:
    """Return the statement that reads a page; its first column is how many it holds."""
    return _statement("find", "found", shape)


def counting(shape: Shape) -> str:
    """Return the statement that counts, by state."""
    return _statement("count", "counted", shape)


@lru_cache(maxsize=64)
def reaching(arm: Arm, *, newest_first: bool) -> str:
    """Return the statement that tells where row ``:enough`` of one stretch is."""
    source = arm.source.value.format(label=arm.label, state=":state", version=":version")
    return _PIECES["reach"].format(
        matching=source + _BOUNDS[newest_first], direction=_DIRECTION[newest_first]
    )


@lru_cache(maxsize=256)
def _statement(whole: str, part: str, shape: Shape) -> str:
    direction = _DIRECTION[shape.newest_first]
    arms = "\n    UNION ALL\n".join(
        _PIECES[part].format(matching=_matching(arm, shape), arm=number, direction=direction)
        for number, arm in enumerate(shape.arms)
    )
    return _PIECES[whole].format(wanted=_PIECES["wanted"], arms=arms, direction=direction)


def _matching(arm: Arm, shape: Shape) -> str:
    """Return where rows come from, and what else they have to meet."""
    source = arm.source.value.format(
        label=arm.label, state="wanted.state", version="wanted.version"
    )
    texts = [source, _BOUNDS[shape.newest_first]]
    if shape.has_prefix and arm.source is not Source.PREFIX:
        texts.append(_HAS_PREFIX)
    if shape.is_named and arm.source is not Source.NAME:
        texts.append(_HAS_VERSION if shape.has_version else _HAS_NAME)
    texts += [
        _HAS_LABEL.format(label=index)
        for index in range(shape.labels)
        if arm != Arm(Source.LABEL, index)
    ]
    return "".join(texts)
