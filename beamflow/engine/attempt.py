"""One attempt: run the function, turn what comes out into an event."""

from __future__ import annotations

import abc
import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from beamflow import log
from beamflow.authoring.running_step import RunningStep, StepInfo, running_step
from beamflow.engine.failure import DescribedError, describe
from beamflow.engine.heartbeat import Pulse
from beamflow.engine.messages import Beat, Dropped
from beamflow.engine.time_limit import TimeLimit
from beamflow.engine.transactions import Loan
from beamflow.errors import DefinitionError, PayloadError, StepTimeoutError, TransactionError, said
from beamflow.model.events import (
    CompensationCompleted,
    CompensationFailed,
    StepCompleted,
    StepFailed,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from beamflow.authoring.idempotency import SharedKey
    from beamflow.authoring.step import Compensation, Step
    from beamflow.engine.services import Services
    from beamflow.engine.step_call import StepCall
    from beamflow.model.events import Event, Failure
    from beamflow.stores.base import Kept

__all__ = [
    "GRACE_S",
    "Attempt",
    "AttemptHost",
    "Attempted",
]

GRACE_S = 5.0
"""Seconds that a body has to end after its time-out, before the workflow goes on without it."""


class Attempted(msgspec.Struct, gc=False):
    """What an attempt came to: the event to record, and the step's decoded result."""

    event: StepCompleted | StepFailed | CompensationCompleted | CompensationFailed
    value: object = None


class AttemptHost(Protocol):
    """What an attempt asks of whoever has it made."""

    def abandon(self, attempt: Attempt) -> None:
        """Go on without a body that has not ended `GRACE_S` after it was cancelled."""

    def tell(self, message: object) -> None:
        """Pass something on to the workflow."""

    async def kept(self, call: StepCall, key: str) -> Kept | None:
        """Return the result that is shared under a key; with None the attempt is to make it."""


class Attempt(RunningStep):
    """One attempt, made once.

    Args:
        host: who has it made.
        services: what the engine's actors share.
        workflow_id: which workflow.
        call: which step of it.
        function: what to run, with its policy.
        number: number of the attempt, from 1.

    Attributes:
        abandoned: whether the workflow goes on without it; what it comes to is ignored then.
        run: number of the workflow's run.
        task: what makes it, once it is being made.
    """

    __slots__ = (
        "_cut",
        "_host",
        "_limits",
        "_loan",
        "_over",
        "_pulse",
        "_services",
        "_started_at",
        "_workflow_id",
        "abandoned",
        "call",
        "function",
        "number",
        "run",
        "task",
    )

    def __init__(
        self,
        host: AttemptHost,
        services: Services,
        workflow_id: str,
        call: StepCall,
        function: Step[..., Any] | Compensation[..., Any],
        *,
        number: int,
    ) -> None:
        """Prepare; nothing runs yet."""
        self._host = host
        self._services = services
        self._workflow_id = workflow_id
        self._started_at = 0
        self._limits: dict[str, TimeLimit] | None = None
        self._pulse: Pulse | None = None
        self._over = False
        self._loan: Loan | None = None
        self._cut: TransactionError | None = None
        self.call = call
        self.function = function
        self.number = number
        self.run = 0
        self.abandoned = False
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Cancel the task that makes it."""
        assert self.task is not None
        self.task.cancel()

    def __str__(self) -> str:
        """Name it, for people."""
        return f"attempt {self.number} of step {self.function.name!r} of {self._workflow_id!r}"

    async def make(self) -> Attempted:
        """Run the function once; raises `asyncio.CancelledError` only, when the task was cancelled."""
        self._started_at = self._services.now()
        if self.call.shared is not None:
            shared = await self._shared(self.call.shared)
            if shared is not None:
                return shared
            self._started_at = self._services.now()
        running_step.set(self)
        try:
            args, kwargs = self._arguments()
            plain = self.function.is_plain
            result = await (self._run if plain else self._limited)(args, kwargs)
            if self._loan is not None:
                self._check_loan(self._loan)
            return self._completed(result)
        except BaseException as error:
            if self._cut is not None:
                return self._failed_by_cut(self._cut, error)
            if self._is_for_us(error):
                raise
            return self.failed(error)
        finally:
            self._over = True

    def timed_out(self) -> Attempted:
        """Return what it comes to when its time is up."""
        exceeded = self._exceeded()
        assert exceeded is not None
        return self.failed(exceeded)

    def failed(self, error: BaseException) -> Attempted:
        """Return what it comes to when it raises."""
        draw = self._services.random.random()
        retry = self.function.retry
        if isinstance(error, DescribedError):
            delay_s = retry.delay_after(self.number, draw) if error.is_worth_another else None
        else:
            delay_s = retry.delay_s(error, attempt=self.number, draw=draw)
        retry_at = None if delay_s is None else self._services.now() + round(delay_s * 1e6)
        deadline = self.call.deadline
        if retry_at is not None and deadline is not None and retry_at >= deadline:
            error, retry_at = self._too_late_after(error), None
        if retry_at is not None and self._pulse is not None:
            self._pulse.flush()
        return Attempted(self._failure(error, retry_at))

    # What the body sees

    @property
    def info(self) -> StepInfo:
        """What is known of it."""
        last = self.call.heartbeat
        return StepInfo(
            workflow_id=self._workflow_id,
            step=self.function.name,
            op=self.call.op,
            attempt=self.number,
            idempotency_key=self.idempotency_key,
            last_heartbeat=None if last is None else msgspec.json.decode(last),
        )

    def beat(self, details: bytes) -> None:
        """Take a heartbeat, from any thread."""
        if self._over or self.abandoned:
            raise asyncio.CancelledError(f"{self} is over: nobody waits for what it comes to")
        if self._pulse is not None:
            self._pulse.beat(details)

    async def borrow(self, limit_s: float) -> Loan:
        """Wait for the store's transaction."""
        if self.function.place != "loop":
            raise DefinitionError(
                f"step {self.function.name!r} runs in a {self.function.place}: make it an `async def` "
                f"to use transaction()"
            )
        if self._loan is not None:
            raise TransactionError(
                f"step {self.function.name!r} has had its transaction: there is one for each step, and "
                f"it is committed with it. Put all statements into one block"
            )
        self._loan = loan = Loan(self, limit_s)
        self._host.tell(loan)
        await loan.granted
        return loan

    def cut(self, error: TransactionError) -> None:
        """End it: it has failed with this error."""
        self._cut = error
        self.cancel()

    def refused(self, error: Exception) -> Event:
        """Return what is recorded of it when its commit is refused, after it has completed."""
        return self.failed(error).event

    def end(self, outcome: Attempted | Dropped) -> None:
        """Tell the workflow what it came to: whoever has lent it a transaction hears it first."""
        if self._loan is not None:
            keep = isinstance(outcome, Attempted) and isinstance(
                outcome.event, StepCompleted | CompensationCompleted
            )
            if self._loan.end(outcome, keep=keep):
                return
        self._host.tell(outcome)

    # Running it

    async def _shared(self, shared: SharedKey) -> Attempted | None:
        """Return what another workflow has made already, or None; waits for one that is at it."""
        deadline = self.call.deadline
        left_s = None if deadline is None else max(0.0, (deadline - self._services.now()) / 1e6)
        try:
            with TimeLimit(self._services.clock, left_s):
                kept = await self._host.kept(self.call, shared.key)
            return None if kept is None else self._taken_over(kept)
        except (TimeoutError, PayloadError) as error:
            late = isinstance(error, TimeoutError)
            return self.failed(self._too_late_after(None) if late else error)

    def _taken_over(self, kept: Kept) -> Attempted:
        call = self.call
        event = StepCompleted(
            op=call.op,
            name=call.step.name,
            digest=call.digest,
            result=kept.result,
            started_at=self._started_at,
            attempt=self.number,
            taken_from=kept.workflow_id,
        )
        return Attempted(event, call.step.signature.result.decode(kept.result))

    def _check_loan(self, loan: Loan) -> None:
        """See that what was written in the transaction can be kept."""
        if self._cut is not None:
            raise self._cut
        loan.check()

    def _failed_by_cut(self, cut: TransactionError, error: BaseException) -> Attempted:
        if self._is_for_us(error):
            assert self.task is not None
            if self.task.uncancel():  # there is more to it than our own cut
                raise error
        return self.failed(cut)

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        around = self._services.around_step
        if around is None:
            return self._body(args, kwargs)
        return around(self.info, self.function.retry, partial(self._body, args, kwargs))

    def _body(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        function: Any = self.function.function
        if self.function.place == "loop":
            body: Awaitable[Any] = function(*args, **kwargs)
            return body
        if self.function.place == "process":
            return self._in_process()
        call = partial(function, *args, **kwargs)
        return self._services.threads.run(call, self._left_in_thread)

    async def _in_process(self) -> Any:
        step = self.call.step
        result = await self._services.processes.run(step, self.info, self.call.input, self.beat)
        return step.signature.result.decode(result)

    async def _limited(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function within its limits; its time begins when there is room for it."""
        function, now = self.function, self._services.now()
        self._limits = {}
        left_s = None if self.call.deadline is None else (self.call.deadline - now) / 1e6
        if left_s is not None and left_s <= 0:
            raise self._too_late_after(None)
        try:
            with self._limit("deadline", left_s):
                async with self._room():
                    self._started_at = self._services.now()
                    with self._limit("timeout", function.timeout), self._heart():
                        return await self._run(args, kwargs)
        except TimeoutError as error:
            exceeded = self._exceeded()
            if exceeded is None:
                raise
            raise exceeded from error

    def _room(self) -> AbstractAsyncContextManager[object]:
        match self.function.place:
            case "loop":
                return nullcontext()
            case "thread":
                return self._services.threads.room
            case "process":
                return self._services.processes.room

    def _limit(self, name: str, seconds: float | None) -> TimeLimit:
        limit = TimeLimit(self._services.clock, seconds, grace_s=GRACE_S, give_up=self._give_up)
        assert self._limits is not None
        self._limits[name] = limit
        return limit

    def _heart(self) -> TimeLimit:
        seconds = self.function.heartbeat_timeout
        if seconds is None:
            return self._limit("heartbeat_timeout", None)
        self._pulse = Pulse(
            self._services.clock,
            seconds,
            record=self._record_heartbeat,
            grace_s=GRACE_S,
            give_up=self._give_up,
        )
        assert self._limits is not None
        self._limits["heartbeat_timeout"] = self._pulse
        return self._pulse

    def _exceeded(self) -> StepTimeoutError | None:
        """Return the error for the limit that was exceeded, if one was."""
        for name, limit in (self._limits or {}).items():
            if limit.expired:
                return StepTimeoutError(self.function.name, getattr(self.function, name), name)
        return None

    def _too_late_after(self, error: BaseException | None) -> BaseException:
        """Return the error for a step that gets no other attempt before its deadline."""
        if isinstance(error, StepTimeoutError) and error.limit == "deadline":
            return error
        assert self.function.deadline is not None
        last = "" if error is None else _line(describe(error, for_good=False))
        late = StepTimeoutError(self.function.name, self.function.deadline, "deadline", last)
        late.__cause__ = error
        return late

    def _give_up(self) -> None:
        self._host.abandon(self)

    def _record_heartbeat(self, details: bytes) -> None:
        if not self.abandoned:
            self._host.tell(Beat(self.call.op, details))

    def _left_in_thread(self, left: int) -> None:
        log.warning(
            "thread_left",
            workflow_id=self._workflow_id,
            step=self.function.name,
            op=self.call.op,
            attempt=self.number,
            threads_left=left,
        )

    def _is_for_us(self, error: BaseException) -> bool:
        """Tell whether the error is about our task, and none of the step's own.

        Ctrl-C is raised wherever the main thread is; in another thread nobody but the body raises
        KeyboardInterrupt.
        """
        match error:
            case asyncio.CancelledError():
                return self.task is not None and self.task.cancelling() > 0
            case GeneratorExit():
                return asyncio.current_task() is not self.task
            case KeyboardInterrupt():
                return self.function.place == "loop"
            case _:
                return False

    # What steps and compensations differ in

    @property
    @abc.abstractmethod
    def idempotency_key(self) -> str:
        """The name of its effect."""

    @abc.abstractmethod
    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]: ...

    @abc.abstractmethod
    def _completed(self, result: Any) -> Attempted: ...

    @abc.abstractmethod
    def _failure(
        self, error: BaseException, retry_at: int | None
    ) -> StepFailed | CompensationFailed: ...


def _line(failure: Failure) -> str:
    return said(failure.type, failure.message)
