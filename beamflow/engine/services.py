"""What the parts of one engine share."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Protocol

from beamflow.engine.awake import AWAKE_MAX, IDLE_AFTER_S, Awake
from beamflow.engine.letterboxes import Letterboxes
from beamflow.engine.processes import Processes
from beamflow.engine.sleepers import Sleepers
from beamflow.engine.slots import STEPS_MAX, KeyedSlots, Slots
from beamflow.engine.threads import THREADS, Threads
from beamflow.engine.timers import TimerQueue
from beamflow.engine.workflow_loop import check_caller
from beamflow.errors import EngineStoppedError
from beamflow.model.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from beamflow.authoring.running_step import StepInfo
    from beamflow.engine.definitions import Definitions
    from beamflow.engine.quarantine import Quarantine
    from beamflow.engine.sharing import Key
    from beamflow.errors import BeamflowError, FencedError
    from beamflow.model.events import Event, WorkflowStarted
    from beamflow.policies.retry import Retry
    from beamflow.stores.base import Lease, Store
    from supervision import ActorRef, Clock

__all__ = ["AroundStep", "Others", "Services"]


class AroundStep(Protocol):
    """Stands around each attempt of a step or a compensation, inside its time-out.

    What it returns or raises is taken for what the function returned or raised.
    """

    async def __call__(
        self, info: StepInfo, retry: Retry, run: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Await ``run()``, before and after whatever there is to do.

        Args:
            info: which step of which workflow, and which attempt.
            retry: what happens if the attempt fails.
            run: the function, with its arguments.
        """


class Others(Protocol):
    """What the actor of one workflow may have done with other workflows."""

    async def exists(self, workflow_id: str) -> bool:
        """Tell whether there is such a workflow."""

    async def is_child(self, workflow_id: str, parent: str) -> bool:
        """Tell whether there is such a workflow, and it is a child of that one."""

    async def begin(self, workflow_id: str, started: WorkflowStarted) -> None:
        """Start a workflow; the same start twice is one."""

    async def end(
        self, workflow_id: str, waits: Callable[[asyncio.Future[Event]], object]
    ) -> Event:
        """Wait for the end of a workflow and return its last event; one that is parked may go on.

        Args:
            workflow_id: which workflow.
            waits: called with what its end will settle, once it is known to be still open.

        Raises:
            WorkflowNotFoundError: there is none; it has ended and was removed.
        """

    async def signal(self, workflow_id: str, signal_id: str, name: str, payload: object) -> None:
        """Send a signal, once for each id."""

    async def cancel(self, workflow_id: str, reason: str) -> None:
        """Tell a workflow to end; harmless when it has."""

    async def was_terminated(self, workflow_id: str) -> bool:
        """Tell whether a workflow was ended where it stood."""


class Services:
    """Handed to every actor of an engine; outlives their restarts.

    Attributes:
        store: the log and its leases.
        definitions: the workflows that the engine was given.
        clock: where time comes from.
        random: where chance comes from (jitter, minted ids).
        threads: where plain functions run.
        steps: how many attempts may be under way.
        letterboxes: how many messages may be on their way to one workflow.
        processes: where steps run that are to be killed when they are cut off.
        watched: whether a watchdog looks for what blocks the loop, and names tasks.
        timers: callbacks of the wall clock.
        lease: the right to write, while the store is open.
        lease_until: the moment on the monotonic clock from which on somebody else may have taken it.
        keys: what somebody is at whose result all workflows share.
        others: what the actor of one workflow may have done with other ones.
        around_step: what stands around each attempt, if anything does.
        actors: the workflows in memory, by id.
        awake: how many of them there may be.
        sleepers: those that are to be woken in time.
        store_keeper: the actor that holds the store, once it is up.
        dead_letters: the actor that writes the dead letters' stream, once it is up.
        quarantine: what holds the attempts of workflows that were woken after the death of a process.
        crashes: how often a workflow's actor has crashed since it last got on, by id.
        stopped: whether the engine has not been entered, was left, or has given up.
        given_up: why it has given up by itself, once it has.
        recovering: whether some that are parked are still to be looked at since the store was opened.
    """

    def __init__(
        self,
        store: Store,
        definitions: Definitions,
        clock: Clock,
        random: Random,
        *,
        steps_max: int = STEPS_MAX,
        threads: int = THREADS,
        processes: int | None = None,
        awake_max: int = AWAKE_MAX,
        idle_after_s: float | None = IDLE_AFTER_S,
    ) -> None:
        """Start with nothing in memory and no lease."""
        self.store = store
        self.definitions = definitions
        self.clock = clock
        self.random = random
        self.steps = Slots(steps_max)
        self.letterboxes = Letterboxes()
        self.threads = Threads(threads)
        self.processes = Processes(processes)
        self.watched = False
        self.timers = TimerQueue(clock)
        self.keys: KeyedSlots[Key] = KeyedSlots(1)
        self.others: Others | None = None
        self.around_step: AroundStep | None = None
        self.lease: Lease | None = None
        self.lease_until = math.inf
        self._renewed = asyncio.Event()
        self.actors: dict[str, ActorRef] = {}
        self.awake = Awake(clock, self.actors, awake_max, idle_after_s)
        self.sleepers = Sleepers(store, self.timers, self.now, self.actors)
        self.store_keeper: ActorRef | None = None
        self.dead_letters: ActorRef | None = None
        self.quarantine: Quarantine | None = None
        self.crashes: dict[str, int] = {}
        self.stopped = True
        self.given_up: EngineStoppedError | None = None
        self.recovering = False
        self._ends: dict[str, list[asyncio.Future[Event]]] = {}
        self._followers: dict[str, list[asyncio.Event]] = {}

    def now(self) -> int:
        """Return the wall clock's time, microseconds since the epoch."""
        return int(self.clock.now() * 1_000_000)

    def mint_id(self) -> str:
        """Mint the id of a workflow or a signal, a UUID that sorts by time."""
        return str(uuid7(self.now(), self.random.getrandbits(74)))

    @property
    def opened(self) -> Store:
        """The store; raises `EngineStoppedError` while it is not open, `HostLoopError` to workflows."""
        check_caller()
        if self.lease is None:
            if self.given_up is not None:
                raise EngineStoppedError(f"{self.given_up}") from self.given_up.__cause__
            message = (
                "the engine is not running; use it inside `async with Engine(...) as engine:`"
                if self.stopped
                else "the store is being opened again; try again in a moment"
            )
            raise EngineStoppedError(message)
        return self.store

    @property
    def epoch(self) -> int:
        """The epoch to write under; raises `EngineStoppedError` without a lease."""
        if self.lease is None:
            message = "the store is being opened again; try again in a moment"
            raise EngineStoppedError(message)
        return self.lease.epoch

    def holds(self, lease: Lease, until: float) -> None:
        """Take note of a lease that is ours until a moment on the monotonic clock, for certain."""
        self.lease = lease
        self.lease_until = until
        self._renewed.set()

    async def lease_is_held(self) -> None:
        """Wait, after the loop was blocked for longer than the lease runs, until it is known to be ours.

        If it is not, whoever waits here is ended with everything else, before it has begun anything.
        """
        while self.clock.monotonic() >= self.lease_until:
            self._renewed.clear()
            await self._renewed.wait()

    # Who is in memory

    def come(self, workflow_id: str, ref: ActorRef) -> bool:
        """Give an actor the workflow's place in memory; False when somebody has it."""
        there = self.actors.get(workflow_id)
        if there is not None and there.alive:
            return False
        self.actors[workflow_id] = ref
        return True

    def leave(self, workflow_id: str, ref: ActorRef) -> None:
        """Take the place back, if it is this one's: whoever asks for it now looks into the log."""
        if self.actors.get(workflow_id) == ref:
            del self.actors[workflow_id]
            self.awake.left(workflow_id)

    # Who waits for what

    def wait_for_end(self, workflow_id: str) -> asyncio.Future[Event]:
        """Return a future of the workflow's last event; hand it to `wait_no_more` in any case.

        Raises:
            HostLoopError: workflow code asks.
        """
        check_caller()
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._ends.setdefault(workflow_id, []).append(future)
        return future

    def wait_no_more(self, workflow_id: str, future: asyncio.Future[Event]) -> None:
        """Forget a future of `wait_for_end`, and what it may say."""
        if not future.cancel() and not future.cancelled():
            future.exception()
        waiting = self._ends[workflow_id]
        waiting.remove(future)
        if not waiting:
            del self._ends[workflow_id]

    def ended(self, workflow_id: str, outcome: Event | BeamflowError) -> None:
        """Tell those who wait that the workflow has ended, or was parked."""
        for future in tuple(self._ends.get(workflow_id, ())):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def fenced(self, error: FencedError) -> None:
        """Have the keeper of the store stop everything: the lease is lost, nothing can be written."""
        if self.store_keeper is not None:
            self.store_keeper.cast(error)

    def begin(self) -> None:
        """Forget what an earlier life of the engine has left."""
        self.stopped = False
        self.given_up = None
        self.recovering = True
        self.actors.clear()
        self.crashes.clear()

    def all_ended(self, error: BeamflowError) -> None:
        """Tell everybody that nothing will come any more."""
        self.stopped = True
        self.awake.close(error)
        for workflow_id in tuple(self._ends):
            self.ended(workflow_id, error)
        self.look_again()

    @property
    def awaited(self) -> tuple[str, ...]:
        """The workflows whose end somebody waits for."""
        return tuple(self._ends)

    def look_again(self) -> None:
        """Have all who follow a log read it."""
        for followers in self._followers.values():
            for follower in followers:
                follower.set()

    def follow(self, workflow_id: str) -> asyncio.Event:
        """Return an event that is set whenever the workflow's log has grown."""
        follower = asyncio.Event()
        self._followers.setdefault(workflow_id, []).append(follower)
        return follower

    def unfollow(self, workflow_id: str, follower: asyncio.Event) -> None:
        """Undo `follow`."""
        followers = self._followers[workflow_id]
        followers.remove(follower)
        if not followers:
            del self._followers[workflow_id]

    def grown(self, workflow_id: str) -> None:
        """Tell those who follow that the log has grown."""
        if self._followers:
            for follower in self._followers.get(workflow_id, ()):
                follower.set()
