"""Who may have killed the process, judged from what earlier recoveries have noted.

Whole series of deaths are played here without an engine: thousands of hosts that kill at random, with
and without a killer among the workflows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import count
from math import prod
from operator import itemgetter
from random import Random
from typing import TYPE_CHECKING

import pytest

from beamflow.engine.suspects import (
    ALONE_MAX,
    DRAWS,
    GROUPS_MAX,
    WINDOW_S,
    WINDOW_S_MAX,
    Suspect,
    Trail,
    judged,
    poisonous,
    trail,
    turns,
)
from beamflow.model.events import Event, ProbationBegan, Recorded, RecoveryBegan
from beamflow.model.ids import recoveries_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

NEVER = float("inf")
HOSTS_EACH = 5000 if os.environ.get("BEAMFLOW_EXHAUSTIVE") == "1" else 300


def noted(*events: Event) -> list[Recorded]:
    """One each second."""
    return [
        Recorded(stream=recoveries_of(7), seq=seq, time=seq * 1_000_000, epoch=7, event=event)
        for seq, event in enumerate(events, 1)
    ]


def known(held: dict[str, int], history: list[Recorded]) -> dict[str, Suspect]:
    return judged(held, trail(history, now=history[-1].time))


def test_only_who_has_not_got_on_is_known_again() -> None:
    history = noted(RecoveryBegan(under_way={"a": (5, 3, 1)}), ProbationBegan(workflows=("a",)))
    assert known({"a": 5}, history) == {"a": Suspect(5, 4, 2, is_near=True)}
    assert known({"a": 6}, history) == {"a": Suspect(6, 1, 0)}


def test_only_who_was_alone_is_counted_as_alone() -> None:
    under_way = RecoveryBegan(under_way={"a": (5, 3, 1), "b": (5, 3, 1)})
    for group in ((), ("a", "b"), ("b",)):
        history = noted(
            under_way, ProbationBegan(workflows=("a",)), ProbationBegan(workflows=group)
        )
        assert known({"a": 5}, history)["a"].alone == 0
    assert known({"a": 5}, noted(under_way))["a"].alone == 0


def test_who_comes_while_another_has_its_turn_takes_nothing_from_the_trail() -> None:
    """Recovery goes on meanwhile; what it notes of others says nothing of whose turn it is."""
    history = noted(
        RecoveryBegan(under_way={"a": (5, 3, 1)}),
        ProbationBegan(workflows=("a",)),
        RecoveryBegan(under_way={"b": (9, 1, 0)}),
    )
    found = known({"a": 5, "b": 9}, history)
    assert found == {"a": Suspect(5, 4, 2, is_near=True), "b": Suspect(9, 2, 0)}


def test_a_first_death_gives_nobody_a_turn() -> None:
    """All go on at once."""
    assert turns({"a": Suspect(5, 1, 0)}, NEVER, 0.5) == []


def test_who_was_alone_comes_last_at_a_time_that_is_drawn() -> None:
    """The others do not wait for it, nor longer than its window."""
    suspects = {"a": Suspect(5, 4, 1, is_near=True), "b": Suspect(5, 9, 0), "c": Suspect(5, 1, 0)}
    first, last = turns(suspects, 9.0, 0.25)
    assert first == (("b",), 0.0, 2 * WINDOW_S)
    assert last == (("a",), DRAWS[0] / 4 * 2 * WINDOW_S, 2 * WINDOW_S)


def test_who_was_alone_more_often_has_its_turn_among_more_windows() -> None:
    for alone, windows in enumerate(DRAWS, 1):
        (turn,) = turns({"a": Suspect(5, alone + 2, alone, is_near=True)}, 9.0, 0.5)
        assert turn.wait_s == windows / 2 * WINDOW_S
    assert prod(DRAWS) >= 2**20, "an innocent meets all of them once in a million rows"


def test_how_long_a_turn_had_lasted_is_known_from_its_note() -> None:
    begun = noted(RecoveryBegan(under_way={"a": (5, 3, 1)}), ProbationBegan(workflows=("a",)))
    assert trail(begun, now=2_500_000).lived_s == 0.5
    assert trail(begun, now=1_000_000).lived_s == 0.0, "somebody has set the clock back"
    assert trail(begun[:1], now=2_500_000).lived_s == NEVER


def test_who_was_alone_for_a_moment_waits_for_moments_however_many_have_died() -> None:
    """It has not killed later than that, so its window need not be longer."""
    for deaths in range(3, 20):
        suspects = {"a": Suspect(6, deaths, 1, is_near=True), "b": Suspect(5, deaths, 0)}
        before, turn = turns(suspects, 0.5, 0.99)
        assert turn.window_s == WINDOW_S
        assert turn.wait_s <= DRAWS[0] * WINDOW_S
        assert before.window_s >= turn.window_s, "another that kills is slow, perhaps"


# A whole series of deaths


def micros(time_s: float) -> int:
    return int(time_s * 1_000_000)


@dataclass
class Job:
    """A workflow of some steps, each of which takes its time and is made again when it is cut off."""

    name: str
    takes_s: list[float]
    kills_after_s: float = NEVER
    """How long after it has begun its first step takes the process along, each time."""
    slower: float = 1.0
    """Up to how many times as long that may take."""
    seq: int = 1
    parked: bool = False
    waited_s: float = 0.0
    """The longest wait for its turn."""

    @property
    def is_open(self) -> bool:
        return bool(self.takes_s) and not self.parked

    def first_end_s(self, begun_s: float) -> float:
        return NEVER if self.kills_after_s < NEVER else begun_s + self.takes_s[0]

    def strikes_after_s(self, draws: Random) -> float:
        return self.kills_after_s * draws.uniform(1.0, self.slower)

    def live(self, begun_s: float, until_s: float) -> None:
        """Run from its beginning until the process dies."""
        if self.kills_after_s < NEVER:
            return
        while self.takes_s and begun_s + self.takes_s[0] <= until_s:
            begun_s += self.takes_s.pop(0)
            self.seq += 1


@dataclass
class Host:
    """One process after the other, over the same jobs."""

    jobs: list[Job]
    draws: Random
    history: list[Recorded] = field(default_factory=list)
    epoch: int = 0
    time_s: float = 1.0
    deaths: int = 0
    down_s: float = 0.3
    """How long it takes until the next process is there."""
    places: int = 10_000
    """How many come into memory at once; the others come one after the other meanwhile."""
    comes_s: float = 1.0

    def __post_init__(self) -> None:
        self._by_name = {job.name: job for job in self.jobs}

    def live(self, killed_s: float) -> None:
        """One life, ended by the host at that time, or by one of the jobs before."""
        noted = trail(self.history, micros(self.time_s))
        self.epoch += 1
        self._notes: list[tuple[float, Event]] = []
        self._begins: dict[str, float] = {}
        at_once = [job for job in self.jobs if job.is_open]
        late = [at_once.pop() for _ in range(max(0, len(at_once) - self.places))][::-1]
        came_s = 0.0
        suspects = self._judge(at_once, noted, came_s)
        now_s = self._let_go(suspects, noted, came_s)
        suspects = {}
        for job in late:
            came_s += self.comes_s
            suspects |= self._judge([job], noted, came_s)
        self._let_go(suspects, noted, max(now_s, came_s))
        strikes = [
            begun_s + self._job(name).strikes_after_s(self.draws)
            for name, begun_s in self._begins.items()
        ]
        died_s = min([killed_s, *strikes])
        for name, begun_s in self._begins.items():
            job = self._job(name)
            job.waited_s = max(job.waited_s, begun_s)
            job.live(begun_s, died_s)
        self.deaths += died_s < NEVER
        self.history = [
            Recorded(
                stream=recoveries_of(self.epoch),
                seq=seq,
                time=micros(self.time_s + at_s),
                epoch=self.epoch,
                event=event,
            )
            for seq, (at_s, event) in enumerate(sorted(self._notes, key=itemgetter(0)), 1)
            if at_s <= died_s
        ]
        if died_s < NEVER:
            self.time_s += died_s + self.down_s

    def _judge(self, jobs: list[Job], noted: Trail, now_s: float) -> dict[str, Suspect]:
        """Note those who have come, and let the innocent go on."""
        suspects = judged({job.name: job.seq for job in jobs}, noted)
        under_way = {key: (one.seq, one.deaths, one.alone) for key, one in suspects.items()}
        self._notes.append((now_s, RecoveryBegan(under_way=under_way)))
        for name in poisonous(suspects):
            del suspects[name]
            self._job(name).parked = True
        self._begins |= {key: now_s for key, one in suspects.items() if one.deaths == 1}
        return suspects

    def _let_go(self, suspects: dict[str, Suspect], noted: Trail, now_s: float) -> float:
        """Give the suspects their turns; return when the last one is over."""
        for turn in turns(suspects, noted.lived_s, self.draws.random()):
            if turn.wait_s:
                self._notes.append((now_s, ProbationBegan(workflows=())))
                now_s += turn.wait_s
            self._notes.append((now_s, ProbationBegan(workflows=turn.workflows)))
            self._begins |= dict.fromkeys(turn.workflows, now_s)
            got_on_s = max(self._job(name).first_end_s(now_s) for name in turn.workflows)
            now_s = min(now_s + turn.window_s, got_on_s)
        self._notes.append((now_s, ProbationBegan(workflows=())))
        return now_s

    def _job(self, name: str) -> Job:
        return self._by_name[name]


def at_once_each_time(draws: Random) -> Iterator[float]:
    """A host that comes no further than so far, such as one whose health check fails."""
    after_s = draws.choice([0.0, 0.01, 0.5, 1.5, 10, 30])
    return (after_s for _ in count())


def now_and_then(draws: Random) -> Iterator[float]:
    """A host that kills without a memory, every second or every hour."""
    mean_s = draws.choice([0.2, 1, 5, 20, 60, 600, 3600])
    return (draws.expovariate(1 / mean_s) for _ in count())


def in_the_windows(draws: Random) -> Iterator[float]:
    """A host that kills when most turns are."""
    windows = draws.choice(DRAWS)
    return (draws.uniform(0, (windows + 1) * WINDOW_S) for _ in count())


def later_and_later(draws: Random) -> Iterator[float]:
    """A host that is started again with a growing delay of its own."""
    return (draws.random() * 2**life for life in count())


HOSTS = [at_once_each_time, now_and_then, in_the_windows, later_and_later]


def innocents(draws: Random) -> list[Job]:
    def takes_s() -> float:
        return draws.choice([0.001, 0.5, 3, 60, 3600]) * (0.5 + draws.random())

    return [
        Job(f"{number:03}", [takes_s() for _ in range(draws.randint(1, 3))])
        for number in range(draws.choice([1, 1, 2, 5, 20, 100]))
    ]


def outlives(
    host: Host, draws: Random, kills: Callable[[Random], Iterable[float]], seed: int
) -> None:
    """Kill up to forty processes, then let one live: nobody is parked, and all come to their end."""
    schedule = iter(kills(draws))
    host.down_s = draws.choice([0.0, 0.3, 60.0])
    for _ in range(draws.randint(1, 40)):
        host.live(next(schedule))
    host.live(NEVER)
    assert [job.name for job in host.jobs if job.parked] == [], seed
    assert not any(job.is_open for job in host.jobs), seed


@pytest.mark.invariant("I26")
@pytest.mark.parametrize("kills", HOSTS)
def test_no_innocent_is_parked_whatever_kills_the_process(
    kills: Callable[[Random], Iterable[float]],
) -> None:
    """Hosts kill up to forty processes each; once they let one live, all comes to its end."""
    for seed in range(HOSTS_EACH):
        draws = Random(seed)
        host = Host(innocents(draws), Random(f"draws {seed}"))
        outlives(host, draws, kills, seed)
        longest_s = (2 * GROUPS_MAX + max(DRAWS)) * WINDOW_S_MAX
        assert max(job.waited_s for job in host.jobs) <= longest_s, seed


@pytest.mark.invariant("I26")
@pytest.mark.parametrize("kills", HOSTS)
def test_no_innocent_is_parked_where_others_come_meanwhile(
    kills: Callable[[Random], Iterable[float]],
) -> None:
    """While suspects have their turns, those who were at work too come, and go on beside them."""
    for seed in range(HOSTS_EACH):
        draws = Random(seed)
        host = Host(innocents(draws), Random(f"draws {seed}"))
        host.places = draws.choice([1, 3, 10])
        host.comes_s = draws.choice([0.01, 1.0])
        outlives(host, draws, kills, seed)


def test_a_killer_that_comes_while_others_have_their_turn_is_parked_alone() -> None:
    """Whoever had the turn in which it struck is not taken for it in the end."""
    for seed in range(100):
        draws = Random(seed)
        jobs = innocents(draws)
        killer = Job("killer", [1.0], draws.choice([0.0, 0.5, 10.0]))
        jobs.insert(draws.randint(0, len(jobs)), killer)
        host = Host(jobs, Random(f"draws {seed}"))
        host.places = draws.choice([1, 3, 10])
        host.comes_s = draws.choice([0.01, 1.0])
        for _ in range(40):
            host.live(NEVER)
        assert [job.name for job in host.jobs if job.parked] == ["killer"], seed
        assert not any(job.is_open for job in host.jobs), seed


@pytest.mark.parametrize("kills_after_s", [0.0, 0.7, 3.0, 50.0])
@pytest.mark.parametrize("others", [0, 1, 15, 100, 1000])
def test_a_killer_is_parked_within_a_bound(others: int, kills_after_s: float) -> None:
    """Where nobody else kills: a first death, those that lead to it, and those that it was alone in."""
    misses = next(n for n in count() if WINDOW_S * 2**n > kills_after_s)
    narrowing = next(n for n in count() if GROUPS_MAX**n > others)
    for seed in range(5):
        jobs = [Job(f"{number:04}", [3600.0]) for number in range(others)]
        killer = Job(f"{Random(seed).randint(0, others):04}x", [1.0], kills_after_s)
        host = Host([*jobs, killer], Random(f"draws {seed}"))
        while not killer.parked:
            host.live(NEVER)
        assert host.deaths <= 1 + misses + narrowing + ALONE_MAX
        host.live(NEVER)
        assert not any(job.is_open or job.parked for job in jobs)


@pytest.mark.parametrize("kills_after_s", [0.01, 0.7, 3.0, 20.0])
def test_a_killer_that_does_not_keep_time_is_parked(kills_after_s: float) -> None:
    """It takes up to twice as long as the last time."""
    for seed in range(100):
        draws = Random(seed)
        jobs = innocents(draws)
        killer = Job("killer", [1.0], kills_after_s, slower=2.0)
        host = Host([*jobs, killer], Random(f"draws {seed}"))
        for _ in range(40):
            host.live(NEVER)
        assert [job.name for job in host.jobs if job.parked] == ["killer"], seed
        assert not any(job.is_open for job in jobs), seed


@pytest.mark.parametrize("kills", HOSTS)
def test_a_killer_is_parked_on_a_host_that_kills_too(
    kills: Callable[[Random], Iterable[float]],
) -> None:
    """Whatever the host has done meanwhile: once it stops, the killer alone is left to be found."""
    for seed in range(100):
        draws = Random(seed)
        jobs = innocents(draws)
        killer = Job("killer", [1.0], draws.choice([0.0, 0.5, 10.0]))
        host = Host([*jobs, killer], Random(f"draws {seed}"))
        schedule = iter(kills(draws))
        for _ in range(20):
            host.live(next(schedule))
        for _ in range(20):
            host.live(NEVER)
        assert [job.name for job in host.jobs if job.parked] == ["killer"], seed
        assert not any(job.is_open for job in jobs), seed
