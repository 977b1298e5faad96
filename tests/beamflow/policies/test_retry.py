"""When a failed attempt is made again, and after how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamflow import DefinitionError, PayloadError, Retry
from beamflow.policies.retry import NO_RETRY

BAD = ConnectionError("no")


def test_delays_grow_up_to_a_bound() -> None:
    """The delay after attempt n is initial * factor ** (n - 1), at most max."""
    retry = Retry(max_attempts=9, initial=0.5, factor=3, max=10, jitter=0)
    delays = [retry.delay_s(BAD, attempt=attempt, draw=0.99) for attempt in range(1, 6)]
    assert delays == [0.5, 1.5, 4.5, 10, 10]


def test_jitter_only_adds() -> None:
    """A draw of almost one adds almost the whole of it."""
    retry = Retry(initial=10, jitter=0.5)
    assert retry.delay_s(BAD, attempt=1, draw=0) == 10
    assert retry.delay_s(BAD, attempt=1, draw=0.5) == 12.5


def test_the_last_attempt_is_the_last() -> None:
    """max_attempts counts the first."""
    retry = Retry(max_attempts=2)
    assert retry.delay_s(BAD, attempt=1, draw=0) is not None
    assert retry.delay_s(BAD, attempt=2, draw=0) is None
    assert NO_RETRY.delay_s(BAD, attempt=1, draw=0) is None


def test_only_what_is_worth_it_is_tried_again() -> None:
    """give_up_on goes before retry_on; a value that does not fit will not fit later."""
    retry = Retry(retry_on=(OSError,), give_up_on=(FileNotFoundError,))
    assert retry.delay_s(BAD, attempt=1, draw=0) is not None
    assert retry.delay_s(FileNotFoundError(), attempt=1, draw=0) is None
    assert retry.delay_s(ValueError(), attempt=1, draw=0) is None
    assert Retry().delay_s(PayloadError("x", "y"), attempt=1, draw=0) is None


@given(
    st.builds(
        Retry,
        max_attempts=st.just(10**7),
        initial=st.floats(0, 1e9),
        factor=st.floats(1, 1e9),
        max=st.floats(0, 1e9),
        jitter=st.floats(0, 1e3),
    ),
    st.integers(1, 10**6),
    st.floats(0, 1, exclude_max=True),
)
def test_every_delay_fits_a_log(retry: Retry, attempt: int, draw: float) -> None:
    """Whatever is allowed gives a delay within its bounds, in 64 bits of microseconds."""
    delay = retry.delay_s(BAD, attempt=attempt, draw=draw)
    assert delay is not None
    assert 0 <= delay <= retry.max * (1 + retry.jitter)
    assert round(delay * 1e6) < 2**62


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", 2.5),
        ("max_attempts", "3"),
        ("initial", -1),
        ("initial", float("nan")),
        ("initial", float("inf")),
        ("initial", None),
        ("factor", 0.5),
        ("factor", "2"),
        ("max", -1),
        ("max", 1e300),
        ("jitter", -0.1),
        ("jitter", float("inf")),
        ("retry_on", ValueError),
        ("retry_on", (3,)),
        ("give_up_on", [ValueError]),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: object) -> None:
    """The error names the field and the value."""
    with pytest.raises(DefinitionError, match=rf"Retry\({name}="):
        Retry(**{name: value})  # type: ignore[arg-type]
