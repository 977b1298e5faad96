"""Which of those who were at work when a process died may have killed it, and when each may go on. Pure.

A host that kills at random must look like no workflow of its own. So a workflow is held to be a killer
by a number of deaths in a row only for which its turn was at a time that was drawn: whatever else ends
the process does not know that time, and meets it once in as many windows as it is drawn from.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from beamflow.model.events import ProbationBegan, RecoveryBegan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from beamflow.model.events import Recorded

__all__ = ["Suspect", "Trail", "Turn", "judged", "poisonous", "trail", "turns"]

DRAWS = (8, 32, 64, 64)
"""From how many windows the next turn of one is drawn that was alone once, twice and so on."""
ALONE_MAX = len(DRAWS) + 1
GROUPS_MAX = 16
WINDOW_S = 1.0
WINDOW_S_MAX = 64.0


class Suspect(NamedTuple):
    """What is known of a workflow whose attempts were under way when the process died."""

    seq: int
    """The last event of its log."""
    deaths: int
    """How often in a row the process has died so, with nothing in its log in between."""
    alone: int
    """How many of the last of them it was alone in, just begun."""
    is_near: bool = False
    """Whether it was in the group that had just begun when the process died last."""


class Trail(NamedTuple):
    """What the owner of a process that died had noted."""

    under_way: Mapping[str, Suspect]
    """Whose attempts were under way."""
    on_probation: tuple[str, ...]
    """Which of them had their turn when it died."""
    lived_s: float = inf
    """Seconds at most from the beginning of that turn to its death."""


class Turn(NamedTuple):
    """When some of the suspects go on."""

    workflows: tuple[str, ...]
    wait_s: float
    """Seconds before, in which nobody has a turn."""
    window_s: float
    """Seconds for which nobody else goes on, unless each of them gets on before."""


def trail(history: Sequence[Recorded], now: int) -> Trail:
    """Tell what the owner that has died had noted.

    Args:
        history: its notes; what older owners have noted does not count.
        now: the time at which the next one took over, as those of the notes.
    """
    under_way: dict[str, Suspect] = {}
    on_probation: tuple[str, ...] = ()
    lived_s = inf
    for recorded in history:
        match recorded.event:
            case RecoveryBegan():
                for key, noted in recorded.event.under_way.items():
                    under_way[key] = Suspect(*noted)
            case ProbationBegan(workflows=workflows):
                on_probation = workflows
                lived_s = max(0, now - recorded.time) / 1_000_000
            case _:
                pass
    return Trail(under_way, on_probation, lived_s)


def judged(held: Mapping[str, int], trail: Trail) -> dict[str, Suspect]:
    """Tell what is known of each workflow that is held.

    Args:
        held: the last event of each one's log.
        trail: what the owner that has died had noted.
    """
    on_probation = trail.on_probation
    found: dict[str, Suspect] = {}
    for workflow_id, seq in held.items():
        last = trail.under_way.get(workflow_id)
        if last is None or last.seq != seq:
            found[workflow_id] = Suspect(seq, 1, 0)
            continue
        alone = last.alone + 1 if on_probation == (workflow_id,) else 0
        found[workflow_id] = Suspect(seq, last.deaths + 1, alone, workflow_id in on_probation)
    return found


def poisonous(suspects: Mapping[str, Suspect]) -> list[str]:
    """Name those who are to be parked."""
    return [key for key, one in suspects.items() if one.alone >= ALONE_MAX]


def turns(suspects: Mapping[str, Suspect], lived_s: float, draw: float) -> list[Turn]:
    """Give each who was there more than once a turn.

    They go on in groups, those that the trail has led to first; of either kind there are `GROUPS_MAX`
    at most, so a thousand take three deaths more to tell apart. Whoever was alone in the last death
    comes last, at a time that is drawn among as many windows as `DRAWS` says. Its window is twice as
    long as it may have taken to strike.

    Args:
        suspects: those who are held, and not to be parked.
        lived_s: how long at most whoever had their turn in the last death had had it.
        draw: a number from 0 up to 1, drawn anew for each death.
    """
    again = {key: one for key, one in suspects.items() if one.deaths > 1}
    alone = [(key, one) for key, one in again.items() if one.alone]
    # a window in which somebody has died was long enough, for those before him too
    window_s_max = min(
        (_window_s(one.deaths - one.alone) for _, one in alone), default=WINDOW_S_MAX
    )
    found: list[Turn] = []
    for group in _groups(again):
        window_s = _window_s(max(again[key].deaths for key in group))
        found.append(Turn(group, 0.0, min(window_s, window_s_max)))
    window_s = min(max(WINDOW_S, 2 * lived_s), window_s_max)
    found += [Turn((key,), draw * DRAWS[one.alone - 1] * window_s, window_s) for key, one in alone]
    return found


def _groups(again: Mapping[str, Suspect]) -> Iterator[tuple[str, ...]]:
    for is_near in (True, False):
        among = sorted(
            key for key, one in again.items() if not one.alone and one.is_near is is_near
        )
        size = max(1, -(-len(among) // GROUPS_MAX))
        for at in range(0, len(among), size):
            yield tuple(among[at : at + size])


def _window_s(deaths: int) -> float:
    return min(WINDOW_S * 2.0 ** (deaths - 2), WINDOW_S_MAX)
