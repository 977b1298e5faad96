"""The timer queue: never early, in order, whatever the wall clock does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamflow.engine import timers
from beamflow.engine.timers import TimerQueue
from supervision.testing import ManualClock

START = 1_700_000_000_000_000


def due(seconds: float) -> int:
    return START + round(seconds * 1_000_000)


async def test_callbacks_come_in_the_order_of_their_time(clock: ManualClock) -> None:
    """Whatever the order in which they were set; one that is due already comes soon."""
    queue = TimerQueue(clock)
    rung: list[float] = []
    for seconds in (30, 10, -5, 20, 0):
        queue.at(due(seconds), lambda seconds=seconds: rung.append(seconds))  # type: ignore[misc]
    assert rung == []
    await clock.advance(0.1)
    assert rung == [-5, 0]
    await clock.advance(19.8)
    assert rung == [-5, 0, 10]
    await clock.advance(100)
    assert rung == [-5, 0, 10, 20, 30]


@pytest.mark.invariant("I16")
async def test_no_callback_is_early(clock: ManualClock) -> None:
    """By the wall clock, to the microsecond."""
    queue = TimerQueue(clock)
    chance = random.Random(1)
    late: list[int] = []
    for _ in range(1000):
        when = due(chance.uniform(0, 3600))

        def ring(when: int = when) -> None:
            late.append(int(clock.now() * 1_000_000) - when)

        queue.at(when, ring)
    await clock.advance(3601)
    assert len(late) == 1000
    assert min(late) >= 0
    assert max(late) < 10


async def test_a_cancelled_one_never_comes(clock: ManualClock) -> None:
    """Nor does it disturb the others; cancelling twice, or too late, is harmless."""
    queue = TimerQueue(clock)
    rung: list[str] = []
    first = queue.at(due(1), lambda: rung.append("first"))
    queue.at(due(2), lambda: rung.append("second"))
    third = queue.at(due(3), lambda: rung.append("third"))
    first.cancel()
    first.cancel()
    await clock.advance(2.5)
    assert rung == ["second"]
    await clock.advance(1)
    assert rung == ["second", "third"]
    third.cancel()
    queue.at(due(4), lambda: rung.append("fourth"))
    await clock.advance(1)
    assert rung == ["second", "third", "fourth"]


async def test_a_callback_may_set_and_cancel_others(clock: ManualClock) -> None:
    """Also those that are due at the same time."""
    queue = TimerQueue(clock)
    rung: list[str] = []

    def first() -> None:
        rung.append("first")
        later.cancel()
        queue.at(due(1), lambda: rung.append("next"))

    queue.at(due(1), first)
    later = queue.at(due(2), lambda: rung.append("later"))
    await clock.advance(10)
    assert rung == ["first", "next"]


async def test_cancelled_ones_do_not_pile_up(clock: ManualClock) -> None:
    """A timeout around everything costs memory only while it lasts."""
    queue = TimerQueue(clock)
    keep = queue.at(due(100_000), lambda: None)
    for _ in range(10 * timers._SWEEP_MIN):
        queue.at(due(3600), lambda: None).cancel()
    assert len(queue._heap) < 3 * timers._SWEEP_MIN
    assert keep.callback is not None
    assert clock.pending == 1


@pytest.mark.invariant("I39")
async def test_a_clock_that_is_set_back_makes_nothing_early(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was due by the old time waits for the new one; set forward, it comes."""
    queue = TimerQueue(clock)
    rung: list[str] = []
    queue.at(due(10), lambda: rung.append("rung"))
    monkeypatch.setattr(clock, "_start", clock._start - 3600)
    await clock.advance(3600)
    assert rung == []
    await clock.advance(11)
    assert rung == ["rung"]


async def test_a_closed_queue_forgets_everything(clock: ManualClock) -> None:
    """Nothing is left in the host's loop."""
    queue = TimerQueue(clock)
    rung: list[str] = []
    queue.at(due(10), lambda: rung.append("rung"))
    queue.close()
    assert clock.pending == 0
    await clock.advance(20)
    assert rung == []


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=40))
async def test_what_is_not_cancelled_comes_once_and_in_order(
    wanted: list[tuple[int, bool]],
) -> None:
    """For any set of times and cancellations."""
    clock = ManualClock()
    queue = TimerQueue(clock)
    rung: list[int] = []
    entries = [
        queue.at(due(seconds), lambda seconds=seconds: rung.append(seconds))  # type: ignore[misc]
        for seconds, _ in wanted
    ]
    for entry, (_, cancelled) in zip(entries, wanted, strict=True):
        if cancelled:
            entry.cancel()
    await clock.advance(101)
    assert rung == sorted(seconds for seconds, cancelled in wanted if not cancelled)
