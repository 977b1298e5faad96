"""Pages of a listing: bounds, and cursors that come back as the places they were made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from beamflow.model.events import DeadLetterReason, Failure
from beamflow.stores.base import DeadLetter
from beamflow.stores.pages import (
    checked_limit,
    cursor_at,
    letter_cursor_at,
    letter_place_of,
    place_of,
)


@given(st.integers(-(2**62), 2**62), st.text())
def test_a_cursor_comes_back_as_the_place_it_was_made_of(time: int, workflow_id: str) -> None:
    """Any id may stand in a cursor, colons and all."""
    assert place_of(cursor_at(time, workflow_id)) == (time, workflow_id)


@given(st.integers(-(2**62), 2**62), st.text(), st.integers(1))
def test_a_cursor_of_dead_letters_comes_back(time: int, workflow_id: str, number: int) -> None:
    letter = DeadLetter(
        workflow_id=workflow_id,
        number=number,
        workflow="x",
        reason=DeadLetterReason.POISON,
        step=None,
        error=Failure(type="x", message=""),
        attempts=1,
        input=Raw(b"1"),
        created_at=time,
    )
    assert letter_place_of(letter_cursor_at(letter)) == (time, workflow_id, number)


def test_no_cursor_is_before_everything() -> None:
    assert place_of(None) < (-(2**62), "")
    assert letter_place_of(None) < (-(2**62), "", 0)


@pytest.mark.parametrize("cursor", ["", "a", ":", "1.5:a", "a:1", f"{2**63}:a", "1:\ud800"])
def test_what_is_no_cursor(cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor of the page before"):
        place_of(cursor)


@pytest.mark.parametrize("cursor", ["", "a", "1:", "1:a", "1:x:a"])
def test_what_is_no_cursor_of_dead_letters(cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor of the page before"):
        letter_place_of(cursor)


def test_a_limit_has_bounds() -> None:
    assert [checked_limit(1), checked_limit(10_000)] == [1, 10_000]
    for limit in (0, 10_001):
        with pytest.raises(ValueError, match="1 to 10,000"):
            checked_limit(limit)
