"""Chaos for trees: faults that strike actors while they handle messages, under test or in operation."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from supervision.clock import pass_turn
from supervision.events import Event
from supervision.faults import ChaosError, Fault, FaultPlan, Profile
from supervision.mailbox import Put
from supervision.messages import Call
from supervision.parent import Parent
from supervision.system import System
from supervision.virtual import Island, VirtualLoop

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable, Collection

    from supervision.cell import Cell
    from supervision.faults import Strike
    from supervision.ref import ActorRef
    from supervision.runtime import Handle, Kind, Runtime

__all__ = ["Chaos", "ChaosMonkey", "Injected"]

LATENCY_S: Final = (0.05, 0.5)
HANG_S: Final = (10.0, 60.0)
STALL_S: Final = (0.5, 5.0)
REALLY_STALL_S: Final = (0.05, 0.5)

_OF_MESSAGES: Final = (
    Fault.CRASH_BEFORE,
    Fault.CRASH_DURING,
    Fault.CRASH_AFTER,
    Fault.LATENCY,
    Fault.ERROR,
    Fault.HANG,
    Fault.DROP,
    Fault.DUPLICATE,
    Fault.DELAY,
    Fault.SWALLOWED_CANCEL,
    Fault.STALL,
    Fault.SUPERVISOR_KILLED,
)
_OF_BODIES: Final = (
    Fault.CRASH_BEFORE,
    Fault.CRASH_DURING,
    Fault.LATENCY,
    Fault.ERROR,
    Fault.STALL,
    Fault.SUPERVISOR_KILLED,
)


@dataclass(frozen=True, slots=True)
class Injected(Event):
    """A fault struck this child on purpose.

    Attributes:
        fault: Which.
        message: The type of the message that it was about to handle; "" for a child function.
    """

    fault: str
    message: str


class ChaosMonkey:
    """Lets faults strike the workers of one running tree, from `start` to `stop`.

    What it does is in the tree's event stream, as `Injected`. Supervisors are struck by way of
    their children; the root never is. In a tree that runs on the machine's time, hangs and stalls
    are real.

    Attributes:
        plan: What decides, and what has been done so far.
    """

    def __init__(
        self,
        tree: System[ActorRef] | ActorRef,
        *,
        profile: Profile | str = Profile.GENTLE,
        targets: Callable[[ActorRef], bool] | None = None,
        faults: Collection[str] | None = None,
        seed: int | None = None,
        plan: FaultPlan | None = None,
    ) -> None:
        """Get ready; nothing happens before `start`.

        Args:
            tree: The system, or any ref of it: faults strike all its workers.
            profile: How often.
            targets: Tells of a worker whether it may be struck; all by default.
            faults: The only faults that strike here; all by default.
            seed: What to decide by; a new one by default, see ``plan.seed``.
            plan: Decides in place of profile and seed.

        Raises:
            RuntimeError: The system has not been started.
        """
        ref = tree.ref if isinstance(tree, System) else tree
        self._runtime: Runtime = ref._cell.runtime
        self._targets = targets
        self._faults = None if faults is None else frozenset(map(str, faults))
        if plan is None:
            chosen = Random().getrandbits(32) if seed is None else seed  # noqa: S311 - no secret
            plan = FaultPlan(chosen, Profile(profile).rate)
        self.plan = plan

    def start(self) -> None:
        """Begin; harmless when it has.

        Raises:
            RuntimeError: Something else stands around this tree's callbacks.
        """
        if self._runtime.around is self:
            return
        if self._runtime.around is not None:
            raise RuntimeError("the tree has another chaos monkey or middleware. Stop that first.")
        self._runtime.around = self

    def stop(self) -> None:
        """End; what is under way (a hang, a delayed message) still takes its time."""
        if self._runtime.around is self:
            self._runtime.around = None

    async def __call__(self, ref: ActorRef, kind: Kind, message: object, handle: Handle) -> object:
        """Handle a message, or have something go wrong; for the tree."""
        cell = ref._cell
        if isinstance(cell.actor, Parent) or (self._targets is not None and not self._targets(ref)):
            return await handle()
        what = "" if kind == "body" else type(message).__name__
        drawn = self.plan.draw(f"{cell.path} {kind} {what}".rstrip(), self._possible(cell, kind))
        if drawn is None:
            return await handle()
        fault, details = drawn
        self._runtime.tell(Injected(cell.path, cell.incarnation, fault, what))
        return await _Mishap(cell, handle, details).strike(Fault(fault))

    def _possible(self, cell: Cell, kind: Kind) -> list[Fault]:
        above, item = cell._parent, cell.current
        left_out = set()
        if above is None or above._parent is None:
            left_out.add(Fault.SUPERVISOR_KILLED)
        if type(item) is Call and item.timeout is None:
            left_out.add(Fault.DROP)
        return [
            fault
            for fault in (_OF_BODIES if kind == "body" else _OF_MESSAGES)
            if fault not in left_out and (self._faults is None or fault in self._faults)
        ]


class _Mishap:
    """One message, and what becomes of it."""

    __slots__ = ("_cell", "_clock", "_details", "_handle", "_loop")

    def __init__(self, cell: Cell, handle: Handle, details: Random) -> None:
        self._cell = cell
        self._handle = handle
        self._details = details
        self._clock = cell.runtime.clock
        self._loop = cell.runtime.loop

    def strike(self, fault: Fault) -> Awaitable[object]:
        match fault:
            case Fault.CRASH_BEFORE:
                return self._crash_before()
            case Fault.CRASH_DURING:
                return self._crash_during()
            case Fault.CRASH_AFTER:
                return self._crash_after()
            case Fault.LATENCY:
                return self._late(LATENCY_S)
            case Fault.ERROR:
                return self._error()
            case Fault.HANG:
                return self._late(HANG_S)
            case Fault.DROP:
                return self._drop()
            case Fault.DUPLICATE:
                return self._duplicate()
            case Fault.DELAY:
                return self._delay()
            case Fault.SWALLOWED_CANCEL:
                return self._swallow()
            case Fault.STALL:
                return self._stall()
            case Fault.SUPERVISOR_KILLED:
                return self._kill_supervisor()

    async def _crash_before(self) -> object:
        self._cell.kill(brutal=True)
        await pass_turn()
        raise AssertionError("a killed actor runs on")

    async def _crash_during(self) -> object:
        wait_s = self._details.choice([0.0, self._details.uniform(*LATENCY_S)])
        if wait_s:
            self._clock.call_later(wait_s, self._kill)
        else:
            self._loop.call_soon(self._kill)
        reply = await self._handle()
        if self._cell.current is not None and not wait_s:
            await pass_turn()
        return reply

    async def _crash_after(self) -> object:
        await self._handle()
        return await self._crash_before()

    async def _late(self, between_s: tuple[float, float]) -> object:
        await self._clock.sleep(self._details.uniform(*between_s))
        return await self._handle()

    async def _error(self) -> object:
        if self._details.random() < 0.5:  # noqa: PLR2004 - heads or tails
            await self._handle()
        raise ChaosError(f"{self._cell.path} fails on purpose")

    async def _drop(self) -> object:
        item = self._cell.current
        if type(item) is Call:
            item.deferred = True
            self._cell.owe(item)
        return None

    async def _duplicate(self) -> object:
        await self._handle()
        return await self._handle()

    async def _delay(self) -> object:
        item = self._cell.current
        await self._drop()
        self._clock.call_later(self._details.uniform(*LATENCY_S), self._deliver, item)
        return None

    def _deliver(self, item: object) -> None:
        cell = self._cell
        if type(item) is Call:
            if cell.unanswered is not None:
                cell.unanswered.pop(item, None)
            item.deferred = False
        refused = cell.mailbox.put(item)
        if refused is Put.FULL:
            self._clock.call_later(LATENCY_S[0], self._deliver, item)
        elif refused is Put.CLOSED and type(item) is Call:
            cell.owe(item)
        elif refused is not None:
            cell.refused(refused, item)

    async def _swallow(self) -> object:
        self._loop.call_soon(self._cell.request_stop, "stopped on purpose")
        with suppress(asyncio.CancelledError):  # that is the fault
            await self._clock.sleep(self._details.uniform(*LATENCY_S))
        return await self._handle()

    async def _stall(self) -> object:
        if isinstance(self._loop, VirtualLoop):
            self._loop.stall(self._details.uniform(*STALL_S))
        else:
            time.sleep(self._details.uniform(*REALLY_STALL_S))  # noqa: ASYNC251, TID251 - that is the fault
        return await self._handle()

    async def _kill_supervisor(self) -> object:
        above = self._cell._parent
        assert above is not None
        above.kill(brutal=True)
        return await self._handle()

    def _kill(self) -> None:
        self._cell.kill(brutal=True)


class Chaos:
    """The ``chaos`` fixture: the faults of one seed, for one run of one test.

    ::

        @pytest.mark.chaos(profile="moderate", seeds=200)
        async def test_the_shop_survives(chaos):
            async with run(shop()) as root:
                chaos.attach(root)
                ...
                chaos.calm()
                await survives(root)

    Attributes:
        plan: What decides.
    """

    def __init__(self, plan: FaultPlan) -> None:
        """Made by the fixture; by hand for a test without it.

        Args:
            plan: What decides.
        """
        self.plan = plan
        self._islands: list[Island] = []

    @property
    def seed(self) -> int:
        """All that goes wrong comes from here; seed your own dice with it too."""
        return self.plan.seed

    @property
    def log(self) -> list[Strike]:
        """What has gone wrong so far, in order."""
        return self.plan.log

    @property
    def reached(self) -> Counter[str]:
        """How often each fault has really happened."""
        return self.plan.reached

    def attach(
        self,
        tree: System[ActorRef] | ActorRef,
        *,
        targets: Callable[[ActorRef], bool] | None = None,
    ) -> ChaosMonkey:
        """Let faults strike the workers of a running tree, until `calm` or the end of the test.

        Args:
            tree: The system, or any ref of it.
            targets: Tells of a worker whether it may be struck; all by default.
        """
        monkey = ChaosMonkey(tree, targets=targets, plan=self.plan)
        monkey.start()
        return monkey

    def calm(self) -> None:
        """Let nothing go wrong any more; what is under way (a hang) still takes its time."""
        self.plan.calm = True

    def island(self) -> Island:
        """Make a part of the program that can be cut off; it is buried at the end of the test."""
        island = Island()
        self._islands.append(island)
        return island

    def close(self) -> None:
        """Bury what was cut off; after the loop was closed."""
        self.calm()
        unheard = [island.bury() for island in self._islands]
        self._islands.clear()
        if any(unheard):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of coroutines that never began
                gc.collect()
