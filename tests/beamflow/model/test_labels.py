"""What an index can hold, and what it is refused."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest

from beamflow import PayloadError
from beamflow.model.labels import checked_attributes, checked_tags


def test_tags_are_kept_once_in_their_order() -> None:
    assert checked_tags(["b", "a b", "b", "ä"]) == ("b", "a b", "ä")


@pytest.mark.parametrize("tags", ["vip", [""], ["a\n"], [1], ["x" * 129], ["\ud800"], range(101)])
def test_what_is_no_tag(tags: Any) -> None:
    """The error names it, and says what would do."""
    with pytest.raises(PayloadError, match=r"printable|\['vip'\]|more than 100"):
        checked_tags(map(str, tags) if isinstance(tags, range) else tags)


def test_attributes_keep_their_types() -> None:
    given = {"a": "x\0y", "b": 1, "c": 1.5, "d": True, "e": -(2**63), "f": ""}
    assert {name: type(value) for name, value in checked_attributes(given).items()} == {
        name: type(value) for name, value in given.items()
    }


@pytest.mark.parametrize(
    "value",
    [
        None,
        math.nan,
        math.inf,
        2**63,
        b"x",
        ["x"],
        dt.date(2026, 1, 1),
        "x" * 513,
        "\ud800",
    ],
)
def test_what_is_no_value_of_an_attribute(value: Any) -> None:
    with pytest.raises(PayloadError, match="attribute 'a'"):
        checked_attributes({"a": value})


@pytest.mark.parametrize("name", ["", "a\0", "x" * 129, 1])
def test_what_is_no_name_of_an_attribute(name: Any) -> None:
    with pytest.raises(PayloadError, match="128 printable"):
        checked_attributes({name: 1})
