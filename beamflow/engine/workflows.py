"""The workflows in memory: each under the dynamic supervisor, one actor per id."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from beamflow.authoring.child import messenger
from beamflow.engine.awakening import Awakening
from beamflow.engine.messages import Waiting
from beamflow.engine.parking import is_to_be_looked_at
from beamflow.engine.queries import Queries
from beamflow.engine.slots import Slots
from beamflow.engine.terminator import Terminator
from beamflow.engine.workflow_actor import WorkflowActor
from beamflow.engine.workflow_loop import check_caller
from beamflow.errors import EngineStoppedError, WorkflowExistsError, WorkflowNotFoundError
from beamflow.model.status import ACTIVE_STATES, WorkflowState
from supervision import ActorStoppedError, ChildSpec, Down, DynamicSupervisor, Restart

if TYPE_CHECKING:
    from beamflow.engine.retrying import Retrial
    from beamflow.engine.services import Services
    from beamflow.model.events import SignalReceived, WorkflowForked, WorkflowStarted
    from beamflow.stores.base import Summary
    from supervision import ActorRef

__all__ = ["Workflows"]


class _Actors(DynamicSupervisor):
    """The supervisor of the actors: what steps ask of other workflows is in the context of them all."""

    def __init__(self, services: Services) -> None:
        super().__init__(max_restarts=10_000, max_seconds=1.0)
        self._services = services

    async def init(self) -> None:
        if self._services.others is not None:
            messenger.set(self._services.others)
        await super().init()


class Workflows:
    """Starts workflow actors, for new workflows and for those that are in the log.

    A workflow that crashes its actor again and again is parked by a count of its own, so that it
    never costs another one its life; the supervisor's intensity is far above what they can reach.

    Args:
        services: what the engine's actors share.

    Attributes:
        queries: asks them, in memory or not.
    """

    def __init__(self, services: Services) -> None:
        """Prepare; `supervisor` makes what the actors live under."""
        self._services = services
        self.queries = Queries(services)
        self._supervisor: DynamicSupervisor | None = None
        self._starting = Slots(_STARTING_MAX)

    def supervisor(self) -> DynamicSupervisor:
        """Make the supervisor of the actors, for each of its lives."""
        self._services.actors.clear()
        self._services.awake.begin()
        self._supervisor = _Actors(self._services)
        return self._supervisor

    async def begin(
        self,
        workflow_id: str,
        started: WorkflowStarted,
        second: SignalReceived | WorkflowForked | None = None,
    ) -> None:
        """Start a workflow; returns once its start is in the log. The same start twice is one.

        Args:
            workflow_id: its id.
            started: its first event.
            second: recorded together with the start; not where there is such a workflow already.

        Raises:
            WorkflowExistsError: the id is taken by another workflow or input.
            StoreError: the start may not be in the log; do it again to know.
            EngineStoppedError: likewise, the engine is stopping.
        """
        while True:
            there = self._awake(workflow_id)
            if there is None:
                try:
                    if await self._begin(workflow_id, started, second):
                        return
                except WorkflowNotFoundError:
                    continue  # it was there, had ended long ago, and was removed in this moment
            else:
                try:
                    problem = await there.call(started, timeout=None)
                except ActorStoppedError:
                    await there.wait()  # it takes no calls any more, and no place soon
                    continue
                if isinstance(problem, WorkflowExistsError):
                    raise problem
                return

    async def _begin(
        self,
        workflow_id: str,
        started: WorkflowStarted,
        second: SignalReceived | WorkflowForked | None,
    ) -> bool:
        """Start it in its turn; False when somebody else's actor is there, or the own one has ended.

        With few on their way at a time, those that have begun get on before others begin: each is in
        memory for a shorter time, and what it leaves is young garbage.
        """
        if not self._starting.take_at_once():
            await self._starting.take()
        try:
            accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            ref = await self._spawn(workflow_id, started, accepted, second=second)
            return ref is not None and await _settled(accepted, ref)
        finally:
            self._starting.give_back()

    async def retry(self, workflow_id: str, retrial: Retrial) -> bool:
        """Let a failed workflow go on; True once that is in the log, False when it may be.

        Raises:
            WorkflowStateError: it cannot go on from there.
            NondeterminismError: its code does not do what its log says up to there.
            UnknownWorkflowError: the engine was not given its code.
            StoreError: it may not be in the log.
            EngineStoppedError: likewise, the engine is stopping.
        """
        there = self._awake(workflow_id)
        if there is not None:
            try:
                await there.call(Waiting(), timeout=None)
            except ActorStoppedError:
                await there.wait()
            return False
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ref = await self._spawn(workflow_id, None, accepted, retrial=retrial)
        return ref is not None and await _settled(accepted, ref)

    async def tell(self, workflow_id: str, message: object) -> ActorRef | None:
        """Hand a message to a workflow that is in the log, bringing it into memory if need be.

        Returns whoever has got it, who may have ended by then; None when nobody has, for somebody
        else starts the workflow at this moment.

        Raises:
            HostLoopError: workflow code has called.
        """
        check_caller()
        there = self._awake(workflow_id)
        if there is not None:
            there.cast(message)
            return there
        return await self._spawn(workflow_id, None, None, messages=(message,))

    async def wake(self, workflow_id: str, summary: Summary | None = None) -> bool:
        """Bring a workflow into memory that is in the log, once there is a place.

        Suspends until there is one, but not for ever: whoever the others wait for is woken all the
        same.

        Args:
            workflow_id: which workflow.
            summary: how the index shows it, for whoever has just read it.

        Returns:
            Whether it was not there.
        """
        if self._awake(workflow_id) is not None:
            return False
        awake = self._services.awake
        await awake.enter(patience_s=_PATIENCE_S)
        try:
            if self._awake(workflow_id) is not None:
                return False
            return await self._spawn(workflow_id, None, None, summary=summary) is not None
        finally:
            awake.entered()

    async def wake_sleeper(self, workflow_id: str, is_to_be_seen: bool) -> None:  # noqa: FBT001 - as `Sleepers.run` says
        """Wake a workflow; where it is to be seen first whether it can go on, only if it can."""
        if is_to_be_seen:
            summary = await self._services.store.summary(workflow_id)
            if summary is None or summary.state not in ACTIVE_STATES:
                return
        await self.wake(workflow_id)

    async def unpark(self, workflow_id: str) -> None:
        """Start the actor of a workflow that is parked; one that is just being parked ends first."""
        while True:
            there = self._awake(workflow_id)
            if there is None:
                if await self._spawn(workflow_id, None, None, parked=True) is not None:
                    return
            else:
                try:
                    await there.call(Waiting(), timeout=None)
                except ActorStoppedError:
                    await there.wait()
                else:
                    return

    async def unpark_in_turn(self, workflow_id: str) -> None:
        """Do so once there is a place, as `wake` does."""
        awake = self._services.awake
        await awake.enter(patience_s=_PATIENCE_S)
        try:
            await self.unpark(workflow_id)
        finally:
            awake.entered()

    async def gone_on(self, workflow_id: str) -> None:
        """Wait until a workflow that was unparked goes on, as the log says, or is parked again.

        Raises:
            EngineStoppedError: its actor was stopped before; ask again.
        """
        there = self._awake(workflow_id)
        if there is None:
            return
        try:
            await there.call(Waiting(), timeout=None)
        except ActorStoppedError as error:
            if error.reason != "normal":
                raise EngineStoppedError(_NOT_UP) from error

    async def goes_on(self, workflow_id: str) -> bool:
        """Tell whether a workflow that was found parked goes on: one that recovery has not come to may.

        Suspends until it was looked at.

        Raises:
            StoreError: its log cannot be read.
            EngineStoppedError: the engine is stopping.
        """
        if await is_to_be_looked_at(self._services, workflow_id):
            await self.unpark(workflow_id)
        await self.gone_on(workflow_id)  # recovery may be at it, and done with all others
        summary = await self._services.opened.summary(workflow_id)
        return summary is None or summary.state is not WorkflowState.PARKED

    async def terminate(self, workflow_id: str, reason: str) -> bool:
        """End a workflow that is not in memory; False when it is.

        Raises:
            CorruptLogError: its log is damaged.
            StoreError: the end may not be in the log.
            EngineStoppedError: likewise, the engine is stopping.
        """
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        make = partial(Terminator, self._services, workflow_id, reason, acknowledged)
        ref = await self._start(ChildSpec(workflow_id, make, restart=Restart.TEMPORARY))
        if ref is None:
            return False
        monitor = ref.monitor(partial(_ended, acknowledged))
        try:
            await acknowledged
        finally:
            monitor.cancel()
        return True

    def _awake(self, workflow_id: str) -> ActorRef | None:
        ref = self._services.actors.get(workflow_id)
        return ref if ref is not None and ref.alive else None

    async def _spawn(
        self,
        workflow_id: str,
        started: WorkflowStarted | None,
        accepted: asyncio.Future[None] | None,
        *,
        second: SignalReceived | WorkflowForked | None = None,
        retrial: Retrial | None = None,
        parked: bool = False,
        summary: Summary | None = None,
        messages: tuple[object, ...] = (),
    ) -> ActorRef | None:
        awakening = Awakening(
            WorkflowActor,
            self._services,
            workflow_id,
            started=started,
            second=second,
            retrial=retrial,
            accepted=accepted,
            parked=parked,
            summary=summary,
            messages=messages,
        )
        return await self._start(ChildSpec(workflow_id, awakening, restart=Restart.TRANSIENT))

    async def _start(self, spec: ChildSpec) -> ActorRef | None:
        if self._supervisor is None:
            raise EngineStoppedError(_NOT_UP)
        try:
            return await self._supervisor.ref.start_child(spec)
        except ActorStoppedError as error:
            raise EngineStoppedError(_NOT_UP) from error


async def _settled(accepted: asyncio.Future[None], ref: ActorRef) -> bool:
    """Wait for the start to be in the log; False when the actor that saw to it ended before."""
    monitor = ref.monitor(partial(_give_up, accepted))
    try:
        await accepted
    except ActorStoppedError:
        return False
    else:
        return True
    finally:
        monitor.cancel()


def _give_up(accepted: asyncio.Future[None], down: Down) -> None:
    if not accepted.done():
        accepted.set_exception(ActorStoppedError(down.ref.path, down.reason))


def _ended(acknowledged: asyncio.Future[None], _down: object) -> None:
    if not acknowledged.done():
        acknowledged.set_exception(EngineStoppedError(_NOT_UP))


_PATIENCE_S = 1.0
_STARTING_MAX = 64
_NOT_UP = (
    "the engine's workflows are down at the moment; it is restarting after a failure, or stopping. "
    "Try again with the same id"
)
