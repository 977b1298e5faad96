"""After the death of a process: who may have killed it is let go on alone, or not any more.

A step that kills its process is begun again by the next one. Nothing in its workflow's log tells how
often: an attempt that was cut off leaves no event. So each engine that takes over from a dead one
notes, before it lets them go on, whose attempts were under way, in a stream of its own. Those for
which that has happened before, with nothing in their log since, are suspects: they are let go on in
small groups, one after the other, with a note of each. A process that dies then has died of one of
the group. Whoever was alone in it again and again, at times that nobody could know, is parked.

Workflows that sleep, or wait for a signal or a child, have no attempt under way and are not held.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from beamflow import log
from beamflow.engine.messages import Poisoned, Waiting
from beamflow.engine.suspects import judged, poisonous, turns
from beamflow.engine.time_limit import TimeLimit
from beamflow.model.events import ProbationBegan, RecoveryBegan
from beamflow.model.ids import RECOVERIES
from supervision import ActorStoppedError

if TYPE_CHECKING:
    from beamflow.engine.quarantine import Quarantine
    from beamflow.engine.services import Services
    from beamflow.engine.suspects import Suspect, Turn
    from beamflow.model.events import Event, Recorded

__all__ = ["Probation"]


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
        self._history: list[Recorded] | None = None
        self._seq = 0
        self._time = 0
        self._seen: set[str] = set()
        self._suspects: dict[str, Suspect] = {}

    async def admit(self, *, last: bool = False) -> None:
        """Note those who are held by now, and let those go on who are not suspected.

        Called again and again while workflows come into memory, so that the first do not wait for
        the last. Whoever is noted later than somebody else went on is none the worse: if the process
        dies in between, it has not been at work.

        Args:
            last: whether nobody is to be held any more who comes from here on.
        """
        services, quarantine = self._services, self._quarantine
        for workflow_id, ref in tuple(services.actors.items()):
            if workflow_id not in self._seen:
                self._seen.add(workflow_id)
                with suppress(ActorStoppedError):
                    await ref.call(Waiting(), timeout=None)  # it has been woken for good
        if self._history is None:
            self._history = await services.store.read(RECOVERIES)
            if self._history:
                self._seq, self._time = self._history[-1].seq, self._history[-1].time
        held = {key: seq for key, seq in quarantine.held.items() if key not in self._suspects}
        if last:  # at this moment: whoever came to be held later would stay so
            quarantine.hold_no_more()
        suspects = judged(held, self._history, quarantine.epoch - 1)
        if suspects:
            under_way = {key: (one.seq, one.deaths, one.alone) for key, one in suspects.items()}
            await self._note(RecoveryBegan(under_way=under_way))
        for workflow_id in poisonous(suspects):
            await self._park(workflow_id, suspects.pop(workflow_id).deaths)
        quarantine.open(key for key, one in suspects.items() if one.deaths == 1)
        self._suspects |= {key: one for key, one in suspects.items() if one.deaths > 1}

    async def let_go(self) -> None:
        """Let the suspects go on, each group in its turn; returns when none of them is held."""
        suspects, self._suspects = self._suspects, {}
        order = turns(suspects, self._services.random.random())
        if order:
            log.warning(
                "workflows_on_probation",
                workflow_ids=[key for turn in order for key in turn.workflows],
                deaths=max(one.deaths for one in suspects.values()),
                seconds=sum(turn.wait_s + turn.window_s for turn in order),
            )
        for turn in order:
            await self._watch(turn)
        if order:
            await self._note(ProbationBegan(workflows=()))

    async def end(self) -> None:
        """Let all go on, now that everybody has come who was at work; returns when none is held."""
        await self.admit(last=True)
        await self.let_go()

    async def _watch(self, turn: Turn) -> None:
        """Let a group go on; return when each of it has got on, or some time has passed."""
        services = self._services
        if turn.wait_s:
            await self._note(ProbationBegan(workflows=()))
            await services.clock.sleep(turn.wait_s)
        await self._note(ProbationBegan(workflows=turn.workflows))
        followers = {key: services.follow(key) for key in turn.workflows}
        self._quarantine.open(turn.workflows)
        try:
            with suppress(TimeoutError), TimeLimit(services.clock, turn.window_s):
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
