"""What one workflow has pending: attempts, as tasks of its actor, and timers."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from beamflow import log
from beamflow.engine.compensation_attempt import CompensationAttempt
from beamflow.engine.messages import Dropped, Due, Rung
from beamflow.engine.sharing import Claims
from beamflow.engine.steering import Alarm
from beamflow.engine.step_attempt import StepAttempt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from beamflow.engine.attempt import Attempt
    from beamflow.engine.execution import StepCall
    from beamflow.engine.saga import Undo
    from beamflow.engine.services import Services
    from beamflow.engine.timers import TimerEntry
    from beamflow.engine.transactions import Loan
    from beamflow.stores.base import Kept
    from supervision import Actor

__all__ = ["Pending"]


class Pending:
    """Begins what the log has no outcome of; whatever comes of it is cast to the actor.

    Args:
        actor: whose tasks the attempts are, and who is told.
        services: what the engine's actors share.
        workflow_id: which workflow.

    Attributes:
        run: number of the workflow's run.
        attempts: the attempts under way, by op.
        timers: timers of the code, and waits before an attempt, by op.
        loans: transactions that attempts have asked for.
        resumed_at: the last event of the log that the workflow was woken with; 0 if it was not.
        claims: keys of shared results that steps are at, once there has been one.
    """

    __slots__ = (
        "_actor",
        "_services",
        "_workflow_id",
        "attempts",
        "claims",
        "loans",
        "resumed_at",
        "run",
        "timers",
    )

    def __init__(self, actor: Actor, services: Services, workflow_id: str) -> None:
        """Begin with nothing."""
        self._actor = actor
        self._services = services
        self._workflow_id = workflow_id
        self.run = 0
        self.attempts: dict[int, Attempt] = {}
        self.timers: dict[int, TimerEntry] = {}
        self.loans: tuple[Loan, ...] = ()
        self.resumed_at = 0
        self.claims: Claims | None = None

    def run_step(self, call: StepCall) -> None:
        """Make the next attempt of a step, when it is time."""
        if call.retry_at and call.retry_at > self._services.now():
            self.arm(call.op, call.retry_at, is_timer=False)
        else:
            self._run(StepAttempt(self, self._services, self._workflow_id, call))

    def compensate(self, undo: Undo) -> None:
        """Make the next attempt of a compensation, when it is time."""
        op = undo.call.op
        if op in self.attempts or op in self.timers:
            return
        if undo.retry_at > self._services.now():
            self.arm(op, undo.retry_at, is_timer=False)
        else:
            self._run(CompensationAttempt(self, self._services, self._workflow_id, undo))

    def cancel_step(self, op: int, call: StepCall | None) -> None:
        """Let go of a step the code waits for no longer; ``call`` is None once it has its outcome.

        One that has a compensation is not cut off in the middle: what it did must be known, so that
        it can be undone.
        """
        if call is not None and call.is_wanted:
            return
        attempt = self.attempts.get(op)
        if attempt is None:
            self.disarm(op)
            self.let_go(op)
        else:
            attempt.cancel()

    def let_go(self, op: int) -> None:
        """Let somebody else make the shared result that a step was at, if it was at one."""
        if self.claims is not None:
            self.claims.let_go(op)

    def over(self, op: int) -> None:
        """Forget an attempt that has come to its end."""
        attempt = self.attempts.pop(op, None)
        if not self.attempts:
            self.attempts = {}  # an emptied one keeps its table
        if attempt is not None and not attempt.abandoned:
            attempt.task = None  # its context has the attempt: no cycle is left to the collector

    def arm(self, op: int, due: int, *, is_timer: bool) -> None:
        """Cast a `Due` to the actor at that time, microseconds since the epoch."""
        message = Due(op, self.run, is_timer=is_timer)
        self.timers[op] = self._services.timers.at(due, partial(self._actor.ref.cast, message))

    def disarm(self, op: int) -> None:
        """Forget a timer; harmless when there is none."""
        timer = self.timers.pop(op, None)
        if timer is not None:
            timer.cancel()

    def cut_off(self) -> None:
        """Cancel all attempts and wait for none of them."""
        for attempt in self.attempts.values():
            attempt.cancel()
            self._let_go(attempt)
        self.attempts.clear()
        if self.claims is not None:
            self.claims.let_go_of_all()

    def set_alarms(self, alarms: Mapping[Alarm, int]) -> None:
        """Cast a `Rung` to the actor at each of these times, and for no other alarm."""
        for alarm in Alarm:
            due = alarms.get(alarm)
            armed = self.timers.get(alarm.value)
            if armed is not None and armed.due != due:
                self.disarm(alarm.value)
                armed = None
            if armed is None and due is not None:
                rung = partial(self._actor.ref.cast, Rung(alarm))
                self.timers[alarm.value] = self._services.timers.at(due, rung)

    def close(self) -> None:
        """Let no timer fire any more; the attempts end with their actor."""
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()
        if self.claims is not None:
            self.claims.close()

    # For the attempts

    async def kept(self, call: StepCall, key: str) -> Kept | None:
        """Return the result that is shared under a key; with None this attempt is to make it."""
        if self.claims is None:
            self.claims = Claims(self._services.keys)
        services = self._services
        return await self.claims.find(
            services.opened, call.op, (call.step.name, key), services.now()
        )

    def tell(self, message: object) -> None:
        """Pass something on to the workflow."""
        self._actor.ref.cast(message)

    def abandon(self, attempt: Attempt) -> None:
        """Go on without a body that ignores its time-out."""
        if attempt.abandoned:
            return
        self._let_go(attempt)
        attempt.end(attempt.timed_out())

    def _let_go(self, attempt: Attempt) -> None:
        assert attempt.task is not None
        attempt.abandoned = True
        self._actor.abandon(attempt.task)
        log.warning(
            "step_abandoned",
            workflow_id=self._workflow_id,
            step=attempt.function.name,
            op=attempt.call.op,
            attempt=attempt.number,
            timeout_s=attempt.function.timeout,
        )

    def _run(self, attempt: Attempt) -> None:
        name = f"{attempt}" if self._services.watched else None
        self.attempts[attempt.call.op] = attempt
        attempt.run = self.run
        attempt.task = self._actor.spawn(self._report(attempt), name=name)

    async def _report(self, attempt: Attempt) -> None:
        quarantine, slots = self._services.quarantine, self._services.steps
        try:
            if self._services.clock.monotonic() >= self._services.lease_until:
                await self._services.lease_is_held()
            if quarantine is not None and self.resumed_at:
                await quarantine.passes(self._workflow_id, self.resumed_at)
            if not slots.take_at_once():
                await slots.take()
            try:
                outcome = await attempt.make()
            finally:
                slots.give_back()
        except asyncio.CancelledError:
            if not attempt.abandoned:
                attempt.end(Dropped(attempt.call.op))
            raise
        if not attempt.abandoned:
            attempt.end(outcome)
