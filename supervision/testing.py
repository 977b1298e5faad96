"""For tests of trees: time that passes when the test says so, and words for what must hold."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, TypeVar, cast, overload

from supervision.child import ChildState, Restart
from supervision.clock import SystemClock, pass_turn
from supervision.parent import Parent
from supervision.ref import ref_of
from supervision.system import System
from supervision.tree import picture, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from supervision.cell import Cell
    from supervision.ref import ActorRef

__all__ = ["Effect", "Ledger", "ManualClock", "eventually", "restarted", "settle", "survives"]

_T = TypeVar("_T")

TURNS_MAX = 100_000


async def settle() -> None:
    """Suspend until no task of the running loop can go on without time passing or news from outside.

    Raises:
        RuntimeError: The tasks keep each other awake for ever; or the loop, such as uvloop's, does not show
            what it has ready.
    """
    loop = asyncio.get_running_loop()
    ready = getattr(loop, "_ready", None)
    if ready is None:
        raise RuntimeError(
            f"settle() cannot see into {loop!r}. Run this test on asyncio's own loop."
        )
    for _ in range(TURNS_MAX):
        await pass_turn()
        if not ready:
            return
    raise RuntimeError(f"still busy after {TURNS_MAX} turns of the loop. Something spins.")


class ManualTimer:
    """A callback that waits for its time on a `ManualClock`."""

    __slots__ = ("args", "callback", "cancelled", "when")

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[object, ...]
    ) -> None:
        """Wait until `when`."""
        self.when = when
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the callback, and with it whoever it belongs to."""
        self.cancelled = True
        self.callback, self.args = bool, ()


class ManualClock:
    """A `Clock` whose time stands still until `advance`."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        """Stand at a time.

        Args:
            start: The wall clock time to begin with, in seconds since 1970.
        """
        self._start = start
        self._passed = 0.0
        self._order = count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def now(self) -> float:
        """Wall clock time in seconds since 1970, UTC."""
        return self._start + self._passed

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._passed

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task until that much time was given by `advance`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, _resolve, future)
        try:
            await future
        finally:
            timer.cancel()

    def call_later(
        self, seconds: float, callback: Callable[..., object], *args: object
    ) -> ManualTimer:
        """Run ``callback(*args)`` when that much time was given by `advance`."""
        timer = ManualTimer(self._passed + seconds, callback, args)
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> ManualTimer:
        """Run ``callback(*args)`` when `advance` has brought `now` to that time."""
        timer = self.call_later(max(0.0, when - self.now()), callback, *args)
        timer.when = max(timer.when, when - self._start)
        return timer

    @property
    def pending(self) -> int:
        """How many timers wait."""
        return sum(not timer.cancelled for _, _, timer in self._timers)

    async def advance(self, seconds: float) -> None:
        """Let time pass.

        Run what becomes due, in order, and let the loop settle before and after each.

        Args:
            seconds: How much.
        """
        until = self._passed + seconds
        await settle()
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            if timer.cancelled:
                continue
            self._passed = max(self._passed, when)
            timer.callback(*timer.args)
            await settle()
        self._passed = max(self._passed, until)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


# What must hold


@overload
async def eventually(
    check: Callable[[], Awaitable[_T]], *, within: float = ..., every: float = ...
) -> _T: ...


@overload
async def eventually(check: Callable[[], _T], *, within: float = ..., every: float = ...) -> _T: ...


async def eventually(
    check: Callable[[], object], *, within: float = 60.0, every: float = 0.05
) -> object:
    """Wait until a check gives something true; gives what it gave.

    Args:
        check: A function, or an async one. An `AssertionError` of it counts as not yet.
        within: Seconds by the running loop, so virtual ones on a `VirtualLoop`.
        every: Seconds between two looks.

    Raises:
        AssertionError: It never did. Tells what it gave last, or is what it raised last.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        problem: AssertionError | None = None
        try:
            given = check()
            found = await given if isinstance(given, Awaitable) else given
        except AssertionError as error:
            problem = error
        else:
            if found:
                return found
            problem = AssertionError(f"still {found!r} after {within} s")
        if loop.time() >= deadline:
            raise problem
        await SystemClock().sleep(every)


async def survives(tree: System[ActorRef] | ActorRef, *, within: float = 300.0) -> None:
    """Wait until a tree is whole: its root lives, and every permanent child, all the way down.

    Args:
        tree: The system, or any ref of it.
        within: Seconds by the running loop to get there.

    Raises:
        AssertionError: It did not get there. Shows the tree, or why the root has ended.
    """
    root = _root_of(tree)
    await eventually(lambda: _assert_whole(root), within=within)


async def restarted(ref: ActorRef, *, within: float = 60.0) -> ActorRef:
    """Wait until another life of a child has followed the one that a ref addresses; gives its ref.

    Args:
        ref: The old life; its supervisor may have been restarted too.
        within: Seconds by the running loop.

    Raises:
        AssertionError: It still lives, or nothing has followed.
    """
    root = _root_of(ref)

    def followed() -> ActorRef:
        for cell in _running(root):
            if cell.path == ref.path and cell.incarnation > ref.incarnation:
                return ref_of(cell)
        raise AssertionError(f"no other life has followed {ref!r}")

    return await eventually(followed, within=within)


@dataclass(frozen=True, slots=True)
class Effect:
    """One line of a `Ledger`.

    Attributes:
        name: What was done.
        key: The idempotency key it came with.
        repeated: Whether the key had come before, so that nothing was done again.
    """

    name: Hashable
    key: Hashable
    repeated: bool


class Ledger:
    """What was done to the world outside; it is no part of what crashes. Threads may use it.

    ::

        async def charge(order: str, key: str) -> None:
            ledger.do(("charge", order), key=key)


        assert ledger.count(("charge", "o-1")) == 1

    Attributes:
        entries: All that came, in order.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.entries: list[Effect] = []
        self._keys: set[Hashable] = set()

    def do(self, name: Hashable, *, key: Hashable = None) -> bool:
        """Have an effect, once for each key; tells whether it had one.

        Args:
            name: What is done.
            key: An idempotency key; None makes each call an effect of its own.
        """
        repeated = key is not None and key in self._keys
        self._keys.add(key)
        self.entries.append(Effect(name, key, repeated))
        return not repeated

    def count(self, name: Hashable) -> int:
        """Tell how often something took effect."""
        return sum(entry.name == name and not entry.repeated for entry in self.entries)

    def asked(self, name: Hashable) -> int:
        """Tell how often something was asked for, with or without effect."""
        return sum(entry.name == name for entry in self.entries)


def _root_of(tree: System[ActorRef] | ActorRef) -> Cell:
    ref = tree.ref if isinstance(tree, System) else tree
    return cast("Cell", ref._cell.runtime.root)


def _running(cell: Cell) -> Iterator[Cell]:
    if cell.over:
        return
    yield cell
    if isinstance(cell.actor, Parent):
        for child in cell.actor.children():
            if child.state is ChildState.RUNNING and child.cell is not None:
                yield from _running(child.cell)


def _assert_whole(root: Cell) -> bool:
    ref = ref_of(root)
    if root.over:
        raise AssertionError(f"the tree has ended: {ref!r}") from ref.cause
    for cell in _running(root):
        if not isinstance(cell.actor, Parent):
            continue
        for child in cell.actor.children():
            alive = child.state is ChildState.RUNNING and child.cell and not child.cell.over
            wanted = child.spec.restart is Restart.PERMANENT
            pending = child.state in {ChildState.RESTARTING, ChildState.STARTING}
            if not alive and (wanted or pending):
                picture_of_it = picture(snapshot(root))
                raise AssertionError(f"{cell.path}/{child.spec.id} is down\n{picture_of_it}")
    return True
