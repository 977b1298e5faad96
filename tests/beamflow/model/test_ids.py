"""Ids come from what is handed in, and nothing unprintable becomes one."""

from __future__ import annotations

import pytest

from beamflow import DefinitionError
from beamflow.model import ids


def test_uuids_are_of_their_version() -> None:
    """Version and variant stand where RFC 9562 has them; the rest is what was handed in."""
    assert str(ids.uuid4(0)) == "00000000-0000-4000-8000-000000000000"
    assert str(ids.uuid4(2**128 - 1)) == "ffffffff-ffff-4fff-bfff-ffffffffffff"
    assert str(ids.uuid7(0x0123456789AB * 1000, 0)) == "01234567-89ab-7000-8000-000000000000"
    assert str(ids.uuid7(0, 2**74 - 1)) == "00000000-0000-7fff-bfff-ffffffffffff"


def test_uuid7_sorts_by_time() -> None:
    """Whatever the random bits are."""
    one, two = ids.uuid7(1_000_000, 2**74 - 1), ids.uuid7(1_001_000, 0)
    assert str(one) < str(two)


@pytest.mark.parametrize("good", ["a", "order-42", "Ünïcode ✓", "x" * 512, "a/b:c", "-h"])
def test_printable_ids_are_taken(good: str) -> None:
    """Most things are."""
    assert ids.checked_workflow_id(good) == good


@pytest.mark.parametrize("bad", ["", "x" * 513, "a\nb", "\0", "\ud800", "\x1b[1m", "$x", 7, None])
def test_other_ids_are_refused(bad: str) -> None:
    """Empty, long, with control characters or surrogates, reserved, no str at all."""
    with pytest.raises(DefinitionError, match="workflow id"):
        ids.checked_workflow_id(bad)


@pytest.mark.parametrize("bad", ["", "a\nb", "\ud800", 7, b"x"])
def test_names_that_no_log_can_hold_are_refused(bad: object) -> None:
    """What is no str would make the log unreadable."""
    with pytest.raises(DefinitionError, match="step name"):
        ids.checked_name(bad, "step")


def test_a_digest_tells_names_and_arguments_apart() -> None:
    """And it is short, and the same in every process."""
    assert ids.digest("a", b"[1]") == "fd778843daaa8d29"
    assert len({ids.digest(name, data) for name in "ab" for data in (b"[1]", b"[2]")}) == 4


def test_the_idempotency_key_names_one_step_of_one_workflow() -> None:
    """It is stable: outside systems keep it."""
    assert ids.idempotency_key("order-42", 7) == "order-42/7"
