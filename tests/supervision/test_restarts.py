"""The restart window and backoff, as numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervision import Backoff, SpecError
from supervision.restarts import RestartIntensity


@given(
    st.integers(0, 5),
    st.floats(0.5, 10),
    st.lists(st.floats(0, 5), max_size=30),
)
def test_window_is_that_of_otp(limit, period, gaps):
    """A restart is permitted as long as no more than the limit, itself included, lie in the window."""
    window = RestartIntensity(limit, period)
    times, now = [], 0.0
    for gap in gaps:
        now += gap
        times.append(now)
        inside = [t for t in times if t >= now - period]
        assert window.permit(now) is (len(inside) <= limit)
        assert window.used(now) == len(inside)


def test_window_bound_is_inclusive():
    """A restart exactly one period ago still counts; a moment later it does not."""
    window = RestartIntensity(1, 5.0)
    assert window.permit(0.0)
    assert not window.permit(5.0)
    window = RestartIntensity(1, 5.0)
    assert window.permit(0.0)
    assert window.permit(5.001)


def test_backoff_is_that_of_pekko():
    """The delay doubles up to the cap; jitter comes after the cap."""
    backoff = Backoff(minimum=1, maximum=8, jitter=0.5)
    assert [backoff.delay(n) for n in range(5)] == [1, 2, 4, 8, 8]
    assert backoff.delay(4, 0.9) == pytest.approx(11.6)
    assert backoff.delay(10_000) == 8
    assert backoff.resets(4.5)
    assert not backoff.resets(4.4)
    assert Backoff(minimum=1, maximum=8, reset_after=1).resets(1)
    assert backoff.fits(4, 15)
    assert not backoff.fits(4, 14.9)
    assert not backoff.fits(1_000_000_000, 60)


@pytest.mark.parametrize(
    "options",
    [
        {"minimum": 0, "maximum": 1},
        {"minimum": 2, "maximum": 1},
        {"minimum": 1, "maximum": float("inf")},
        {"minimum": 1, "maximum": 1, "factor": 0.5},
        {"minimum": 1, "maximum": 1, "jitter": -1},
        {"minimum": 1, "maximum": 1, "reset_after": 0},
    ],
)
def test_bad_backoff(options):
    """A backoff that makes no sense is refused at once."""
    with pytest.raises(SpecError, match="invalid_backoff"):
        Backoff(**options)
