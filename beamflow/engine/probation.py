"""After the death of a process: who may have killed it is let go on alone, or not any more.

A step that kills its process is begun again by the next one. Nothing in its workflow's log tells how
often: an attempt that was cut off leaves no event. So each engine that takes over from a dead one
notes, before it lets anything go on, whose attempts were under way, in a stream of its own. Those for
which that has happened before, with nothing in their log since, are suspects: they are let go on in
small groups, one after the other, with a note of each. A process that dies then has died of one of
the group. Whoever was alone in it twice in a row is parked.

Workflows that sleep, or wait for a signal or a child, have no attempt under way and are not held.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from beamflow import log
from beamflow.engine.messages import Poisoned, Waiting
from beamflow.engine.time_limit import TimeLimit
from beamflow.model.events import ProbationBegan, RecoveryBegan
from beamflow.model.ids import RECOVERIES
from supervision import ActorStoppedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from beamflow.engine.quarantine import Quarantine
    from beamflow.engine.services import Services
    from beamflow.model.events import Event, Recorded

__all__ = ["Probation", "Suspect", "in_groups", "judged"]

ALONE_MAX = 2
GROUPS_MAX = 16
WINDOW_S = 2.0
WINDOW_S_MAX = 600.0


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


class Probation:
    """Lets those who are held in quarantine go on, all that may.

    Args:
        services: what the engine's actors share.
        quarantine: where they are held.
    """

    def __init__(self, services: Services, quarantine: Quarantine) -> None:
        """Begin with all of them held."""
        self._services = services
        self._quarantine = quarantine
        self._seq = 0
        self._time = 0

    async def run(self) -> None:
        """Note who is held, then let them go on; returns when none is held any more."""
        services, quarantine = self._services, self._quarantine
        for ref in tuple(services.actors.values()):
            with suppress(ActorStoppedError):
                await ref.call(Waiting(), timeout=None)  # it has been woken for good
        history = await services.store.read(RECOVERIES)
        if history:
            self._seq, self._time = history[-1].seq, history[-1].time
        suspects = judged(quarantine.held, history, quarantine.epoch - 1)
        if suspects:
            under_way = {key: (one.seq, one.deaths, one.alone) for key, one in suspects.items()}
            await self._note(RecoveryBegan(under_way=under_way))
        quarantine.open(key for key, one in suspects.items() if one.deaths == 1)
        quarantine.hold_no_more()
        poisoned = [key for key, one in suspects.items() if one.alone >= ALONE_MAX]
        for workflow_id in poisoned:
            await self._park(workflow_id, suspects[workflow_id].deaths)
        groups = in_groups({key: one for key, one in suspects.items() if key not in poisoned})
        for group in groups:
            await self._watch(group, max(suspects[key].deaths for key in group))
        if groups:
            await self._note(ProbationBegan(workflows=()))

    async def _watch(self, group: tuple[str, ...], deaths: int) -> None:
        """Let a group go on; return when each of it has got on, or some time has passed."""
        services = self._services
        log.warning("workflows_on_probation", workflow_ids=group, deaths=deaths)
        await self._note(ProbationBegan(workflows=group))
        followers = {key: services.follow(key) for key in group}
        self._quarantine.open(group)
        window_s = min(WINDOW_S * 2 ** (deaths - 2), WINDOW_S_MAX)
        try:
            with suppress(TimeoutError), TimeLimit(services.clock, window_s):
                for follower in followers.values():
                    await follower.wait()
        finally:
            for key, follower in followers.items():
                services.unfollow(key, follower)

    async def _park(self, workflow_id: str, deaths: int) -> None:
        ref = self._services.actors.get(workflow_id)
        if ref is not None:
            with suppress(ActorStoppedError):
                await ref.call(Poisoned(deaths), timeout=None)
        self._quarantine.open([workflow_id])

    async def _note(self, event: Event) -> None:
        services = self._services
        self._time = max(services.now(), self._time)
        await services.store.append(
            RECOVERIES, self._seq, [event], time=self._time, epoch=services.epoch
        )
        self._seq += 1


def judged(held: Mapping[str, int], history: Sequence[Recorded], died: int) -> dict[str, Suspect]:
    """Tell what is known of each workflow that is held. Pure.

    Args:
        held: the last event of each one's log.
        history: what earlier recoveries have noted.
        died: epoch of the owner that has died; what older ones have noted does not count.
    """
    before: dict[str, tuple[int, int, int]] = {}
    on_probation: tuple[str, ...] = ()
    for recorded in history:
        if recorded.epoch == died:
            match recorded.event:
                case RecoveryBegan(under_way=under_way):
                    before, on_probation = under_way, ()
                case ProbationBegan(workflows=workflows):
                    on_probation = workflows
                case _:
                    pass
    found: dict[str, Suspect] = {}
    for workflow_id, seq in held.items():
        last = Suspect(*before.get(workflow_id, (0, 0, 0)))
        if last.seq != seq:
            found[workflow_id] = Suspect(seq, 1, 0)
            continue
        alone = last.alone + 1 if on_probation == (workflow_id,) else 0
        found[workflow_id] = Suspect(seq, last.deaths + 1, alone, workflow_id in on_probation)
    return found


def in_groups(suspects: Mapping[str, Suspect]) -> list[tuple[str, ...]]:
    """Divide those who are suspected into groups, those that the trail has led to first. Pure.

    Of either there are `GROUPS_MAX` at most, so a thousand take three deaths more to tell apart.
    """
    groups: list[tuple[str, ...]] = []
    for is_near in (True, False):
        among = sorted(
            key for key, one in suspects.items() if one.deaths > 1 and one.is_near is is_near
        )
        size = max(1, -(-len(among) // GROUPS_MAX))
        groups += [tuple(among[at : at + size]) for at in range(0, len(among), size)]
    return groups
