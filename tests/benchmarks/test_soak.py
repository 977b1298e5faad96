"""What the soak makes of its samples."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from benchmarks._soak import Sample, growth, judged

FLAT = Sample(
    at_s=0.0,
    rss=50_000_000,
    handles=17,
    tasks=150,
    wal=4_000_000,
    database=30_000_000,
    open=60,
    done=0,
    reader=False,
)


def an_hour(**per_minute: int) -> list[Sample]:
    """Make a sample a minute, of figures that grow by so much in each."""
    return [
        replace(
            FLAT,
            at_s=minute * 60.0,
            **{name: getattr(FLAT, name) + step * minute for name, step in per_minute.items()},
        )
        for minute in range(61)
    ]


def test_a_line_through_points() -> None:
    """Its slope is that of points on it, whatever lies evenly on both sides of it."""
    assert growth([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert growth([(0, 1), (0, -1), (3, 7), (3, 5)]) == pytest.approx(2)
    assert growth([(1, 1)]) == 0
    assert growth([(1, 1), (1, 2)]) == 0


def test_what_stays_is_flat() -> None:
    """None of it grows."""
    assert all(flat for _, _, flat in judged(an_hour()).values())


@pytest.mark.parametrize(
    ("name", "step"),
    [("rss", 500_000), ("handles", 1), ("tasks", 10), ("wal", 2_000_000), ("database", 300_000)],
)
def test_what_grows_is_said_to(name: str, step: int) -> None:
    """Each figure by itself, with how much a minute."""
    verdicts = judged(an_hour(**{name: step}))
    _, slope, flat = verdicts[name]
    assert slope == pytest.approx(step)
    assert not flat
    assert all(flat for other, (_, _, flat) in verdicts.items() if other != name)


def test_what_fills_up_at_first_does_not_count() -> None:
    """The first third of the time is not looked at."""
    samples = [
        replace(one, rss=min(one.rss, FLAT.rss + 20 * 3_000_000)) for one in an_hour(rss=3_000_000)
    ]
    assert judged(samples)["rss"][2]


def test_the_log_is_looked_at_while_nobody_holds_it_up() -> None:
    """Of what it grows by then, the other program is the cause."""
    samples = [
        replace(one, wal=900_000_000 if n > 40 else FLAT.wal, reader=n > 40)
        for n, one in enumerate(an_hour())
    ]
    median, _, flat = judged(samples)["wal"]
    assert (median, flat) == (FLAT.wal, True)
