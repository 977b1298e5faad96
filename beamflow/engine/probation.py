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

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from beamflow import log
from beamflow.engine.messages import Poisoned, Waiting
from beamflow.engine.suspects import judged, poisonous, trail, turns
from beamflow.engine.time_limit import TimeLimit
from beamflow.errors import CorruptLogError, FencedError
from beamflow.model.events import ProbationBegan, RecoveryBegan
from beamflow.model.ids import recoveries_of
from supervision import IGNORE, Actor, ActorStoppedError, Continue, Ignore, Stop

if TYPE_CHECKING:
    from collections.abc import Mapping

    from beamflow.engine.quarantine import Quarantine
    from beamflow.engine.services import Services
    from beamflow.engine.suspects import Suspect, Trail, Turn
    from beamflow.model.events import Event

__all__ = ["Probation"]

_NOTED_AT_ONCE = 500


class Probation(Actor):
    """Lets those who are held in quarantine go on, all that may; ends when none is held.

    Whoever comes to be held is noted and judged at once, and goes on if it is not suspected: the
    first do not wait for the last, and nobody for those who have their turns meanwhile. Suspects
    wait until everybody has come, or until they have all places, and then have their turns.

    Whoever is noted later than somebody else went on is none the worse: if the process dies in
    between, it has not been at work.

    Args:
        services: what the engine's actors share.
    """

    def __init__(self, services: Services) -> None:
        """Begin with all of them held."""
        self._services = services
        self._trail: Trail
        self._stream = ""
        self._seq = 0
        self._time = 0
        self._noting = asyncio.Lock()
        self._have_come = False
        self._suspects: dict[str, Suspect] = {}
        self._is_at_turns = False

    async def init(self) -> Continue | Ignore:
        """Have nothing to do unless the owner before has died."""
        quarantine = self._services.quarantine
        if quarantine is None:
            return IGNORE
        store, epoch = self._services.store, quarantine.epoch
        self._stream = recoveries_of(epoch)
        own = await store.read(self._stream)
        if own:
            self._seq, self._time = own[-1].seq, own[-1].time
        died = await store.read(recoveries_of(epoch - 1))
        self._trail = trail(died, self._services.now())
        quarantine.judge_anew()
        quarantine.news = self._look_again
        return Continue(None)

    async def handle_continue(self, _term: object) -> None:
        """See to those whom an earlier life has left."""
        await self._look()

    async def handle_cast(self, _news: object) -> None:
        """See to who is held by now."""
        self.take_queued()
        await self._look()

    async def terminate(self, reason: object) -> None:
        """Pass it on when the lease is lost."""
        self._services.awake.make_room(0)
        if isinstance(reason, FencedError):
            self._services.fenced(reason)

    def _look_again(self) -> None:
        self.ref.cast(None)

    @property
    def _quarantine(self) -> Quarantine:
        quarantine = self._services.quarantine
        assert quarantine is not None
        return quarantine

    async def _look(self) -> None:
        quarantine = self._quarantine
        last = quarantine.all_have_come
        if last and not self._have_come:
            await self._have_all_come()
        await self._admit(last=last)
        if self._is_at_turns:
            return
        if self._suspects and (last or quarantine.is_full):
            self._is_at_turns = True
            _ = self.spawn(self._let_go(), name="turns")
        elif last and not self._suspects:
            self._services.quarantine = None
            raise Stop("normal")

    async def _have_all_come(self) -> None:
        """Wait until whoever is in memory has begun what it is at, or is held before it."""
        for ref in tuple(self._services.actors.values()):
            with suppress(ActorStoppedError):
                await ref.call(Waiting(), timeout=None)  # it has been woken for good
        self._have_come = True

    async def _admit(self, *, last: bool) -> None:
        """Note those who are held by now, and let those go on who are not suspected.

        Args:
            last: whether nobody is to be held any more who comes from here on.
        """
        quarantine = self._quarantine
        arrived = [*quarantine.take_arrived().items()]
        if last:  # at this moment: whoever came to be held later would stay so
            quarantine.hold_no_more()
        for at in range(0, len(arrived), _NOTED_AT_ONCE):
            suspects = judged(dict(arrived[at : at + _NOTED_AT_ONCE]), self._trail)
            under_way = {key: (one.seq, one.deaths, one.alone) for key, one in suspects.items()}
            await self._note(RecoveryBegan(under_way=under_way))
            for workflow_id in poisonous(suspects):
                await self._park(workflow_id, suspects.pop(workflow_id).deaths)
            quarantine.open(key for key, one in suspects.items() if one.deaths == 1)
            self._suspects |= {key: one for key, one in suspects.items() if one.deaths > 1}
        self._make_room()

    def _make_room(self) -> None:
        self._services.awake.make_room(len(self._quarantine.held))

    async def _let_go(self) -> None:
        """Let the suspects go on that there are by now, each group in its turn."""
        suspects, self._suspects = self._suspects, {}
        order = turns(suspects, self._trail.lived_s, self._services.random.random())
        log.warning(
            "workflows_on_probation",
            workflow_ids=[key for turn in order for key in turn.workflows],
            deaths=max(one.deaths for one in suspects.values()),
            seconds=sum(turn.wait_s + turn.window_s for turn in order),
        )
        for turn in order:
            await self._watch(turn, suspects)
        await self._note(ProbationBegan(workflows=()))
        self._is_at_turns = self._quarantine.is_full = False
        self._look_again()

    async def _watch(self, turn: Turn, suspects: Mapping[str, Suspect]) -> None:
        """Let a group go on; return when each of it has got on, or some time has passed."""
        services = self._services
        if turn.wait_s:
            await self._note(ProbationBegan(workflows=()))
            await services.clock.sleep(turn.wait_s)
        await self._note(ProbationBegan(workflows=turn.workflows))
        followers = {key: services.follow(key) for key in turn.workflows}
        self._quarantine.open(turn.workflows)
        self._make_room()
        try:
            with suppress(TimeoutError), TimeLimit(services.clock, turn.window_s):
                for key, follower in followers.items():
                    await self._got_on(key, suspects[key].seq, follower)
        finally:
            for key, follower in followers.items():
                services.unfollow(key, follower)

    async def _got_on(self, workflow_id: str, seq: int, follower: asyncio.Event) -> None:
        """Wait until something new is in the log; followers are told to look for other reasons too."""
        news = None
        while not news:
            await follower.wait()
            follower.clear()
            try:
                news = await self._services.store.read(workflow_id, seq)
            except CorruptLogError:
                return  # it goes no further, and is parked by whoever reads it next

    async def _park(self, workflow_id: str, deaths: int) -> None:
        ref = self._services.actors.get(workflow_id)
        if ref is not None:
            with suppress(ActorStoppedError):
                await ref.call(Poisoned(deaths), timeout=None)
        self._quarantine.open([workflow_id])

    async def _note(self, event: Event) -> None:
        services = self._services
        async with self._noting:
            self._time = max(services.now(), self._time)
            await services.store.append(
                self._stream, self._seq, [event], time=self._time, epoch=services.epoch
            )
            self._seq += 1
