"""The stop ladder: ask, wait for the budget, cancel again and again, abandon."""

from __future__ import annotations

from asyncio import CancelledError, Future
from typing import TYPE_CHECKING, Final

from supervision.child import BRUTAL_KILL, INFINITY, BrutalKill
from supervision.events import StillStopping
from supervision.reasons import SHUTDOWN
from supervision.spawned import RECANCEL_GAP_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervision.cell import Cell
    from supervision.clock import Timer

__all__ = ["Ladder"]

REPORT_S: Final = 5.0


class Ladder:
    """Brings a set of children down, all at the same time, each within its budget.

    It waits for tasks, never for cooperation; a child that refuses to end is abandoned in the end.
    One timer serves all children with the same budget.
    """

    __slots__ = ("_left", "_owner", "_since", "_timers", "_wake", "stops")

    def __init__(self, owner: Cell, stops: Sequence[tuple[Cell, float | BrutalKill]]) -> None:
        """Prepare; nothing happens before `climb`.

        Args:
            owner: The supervisor. When it is killed itself, no budget counts any more.
            stops: The children, each with its budget.
        """
        self._owner = owner
        self.stops = [(cell, self._cut(cell, budget)) for cell, budget in stops if not cell.over]
        self._left = len(self.stops)
        self._timers: dict[float, Timer] = {}
        self._wake: Future[None] | None = None
        self._since = owner.runtime.clock.monotonic()

    async def climb(self, *, shielded: bool) -> None:
        """Stop them all and return when none of them is left.

        Args:
            shielded: Whether to absorb cancels of the calling task until then.
        """
        for cell, budget in self.stops:
            cell.watch(self, self._down)
            if budget is BRUTAL_KILL:
                cell.kill(brutal=True)
                continue
            cell.request_stop(SHUTDOWN)
            if not isinstance(budget, BrutalKill) and budget not in self._timers:
                self._set_timer(budget)
        self._owner.runtime.ladders.add(self)
        try:
            await self._all_down(shielded=shielded)
        finally:
            self._owner.runtime.ladders.discard(self)
            for timer in self._timers.values():
                timer.cancel()
            for cell, _ in self.stops:
                cell.unwatch(self)

    def hurry(self) -> None:
        """Begin again with budgets as short as the runtime says."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers = {}
        self._since = self._owner.runtime.clock.monotonic()
        self.stops = [(cell, self._cut(cell, budget)) for cell, budget in self.stops]
        for _, budget in self.stops:
            if not isinstance(budget, BrutalKill) and budget not in self._timers:
                self._set_timer(budget)

    def _cut(self, cell: Cell, budget: float | BrutalKill) -> float | BrutalKill:
        hurry_s = self._owner.runtime.hurry_s
        if hurry_s is None or isinstance(budget, BrutalKill):
            return budget
        if cell.orderly and budget == INFINITY:
            return budget  # a supervisor: it is as quick as its children
        return min(budget, hurry_s)

    async def _all_down(self, *, shielded: bool) -> None:
        while self._left:
            if self._owner.killed:
                self._hurry()
            self._wake = self._owner.runtime.loop.create_future()
            try:
                await self._wake
            except CancelledError:
                if not shielded:
                    raise

    def _down(self, _: Cell) -> None:
        self._left -= 1
        if self._left == 0 and self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _hurry(self) -> None:
        for cell, _ in self.stops:
            cell.kill()

    def _set_timer(self, budget: float) -> None:
        clock = self._owner.runtime.clock
        if budget < INFINITY:
            self._timers[budget] = clock.call_later(budget, self._over_budget, budget)
        elif self._owner.runtime.observer is not None:
            self._timers[budget] = clock.call_later(REPORT_S, self._report)

    def _over_budget(self, budget: float) -> None:
        clock = self._owner.runtime.clock
        late = clock.monotonic() - self._since - budget
        if late > RECANCEL_GAP_S:
            # the loop was blocked: let those end who only waited for a turn of it
            self._since = clock.monotonic() - budget
            self._timers[budget] = clock.call_later(RECANCEL_GAP_S, self._kill, budget)
        else:
            self._kill(budget)

    def _kill(self, budget: float) -> None:
        for cell, its_budget in self.stops:
            if its_budget == budget:
                cell.kill()

    def _report(self) -> None:
        runtime = self._owner.runtime
        waited = runtime.clock.monotonic() - self._since
        for cell, budget in self.stops:
            if budget == INFINITY and not cell.over:
                runtime.tell(StillStopping(cell.path, cell.incarnation, waited, _stack(cell)))
        self._timers[INFINITY] = runtime.clock.call_later(REPORT_S, self._report)


def _stack(cell: Cell) -> tuple[str, ...]:
    lines = []
    waits: object = None if cell.task is None else cell.task.get_coro()
    while (frame := getattr(waits, "cr_frame", None)) is not None:
        lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
        waits = getattr(waits, "cr_await", None)
    return tuple(lines)
