"""The actor of one open workflow: the only writer of its stream.

Whatever happens to the workflow (a step ends, a timer is due, a signal comes) reaches it as a
message. It turns messages into events, lets the code run on with them, and appends them together
with what follows for the log. Only when the store has committed that does it act on what the code
asks for, and tell anybody: append before depend. If it crashes, its supervisor starts another one,
which reads the stream and goes on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from msgspec import Raw
from msgspec.structs import replace

from beamflow import log
from beamflow.engine.attempt import Attempted
from beamflow.engine.awakening import CRASHES_MAX, Awakening, Over, different_start
from beamflow.engine.consequences import consequences
from beamflow.engine.effects import Effects
from beamflow.engine.execution import Execution, new_execution
from beamflow.engine.messages import (
    Beat,
    Begin,
    ChildNews,
    ChildrenRest,
    ControlRequest,
    Dropped,
    Due,
    Leave,
    Poisoned,
    Renewed,
    Rung,
    Signal,
    Unasked,
    Update,
    Waiting,
    acknowledge,
    refuse,
)
from beamflow.engine.parking import (
    PARKED_BY,
    PoisonError,
    letter_of,
    letter_of_compensation,
    park,
)
from beamflow.engine.reception import Reception
from beamflow.engine.steering import UNSTEERED
from beamflow.engine.stream import Stream
from beamflow.engine.transactions import Loan, lend
from beamflow.engine.waiting import waited_for
from beamflow.errors import (
    BeamflowError,
    ConflictError,
    CorruptLogError,
    DefinitionError,
    EngineStoppedError,
    FencedError,
    PayloadError,
    ReadOnlyError,
    StoreError,
    WorkflowStateError,
)
from beamflow.model.events import (
    CancelForced,
    CancelRequested,
    DeadLettered,
    Ended,
    Event,
    StepHeartbeat,
    TimerFired,
    WorkflowBegan,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowResumed,
    WorkflowStarted,
)
from beamflow.stores.base import AWAKE, NEVER, Sleep
from beamflow.stores.transactions import RefusedError
from supervision import IGNORE, Actor, ActorStoppedError, Continue, Ignore, Stop

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from beamflow.engine.services import Services
    from beamflow.model.commands import Command
    from beamflow.stores.transactions import OpenTransaction

__all__ = ["WorkflowActor"]


class WorkflowActor(Actor):
    """Runs one workflow from its log to its end.

    Args:
        services: what the engine's actors share.
        workflow_id: which workflow.
        awakening: why it comes into memory.
    """

    # killed or not: the author's code is never left to the collector
    orderly: ClassVar[bool] = True

    def __init__(self, services: Services, workflow_id: str, awakening: Awakening) -> None:
        """Prepare; nothing happens before `init`."""
        self.services = services
        self.workflow_id = workflow_id
        self._awakening = awakening
        self._first: WorkflowStarted | None = None
        self._execution: Execution | None = None
        self._steering = UNSTEERED
        self._reception = Reception(services, workflow_id)
        self._stream = Stream(services, workflow_id)
        self._lending = False
        self._is_told_to_leave = False
        self._rests = False
        self._effects = Effects(self, services, workflow_id)

    # Life

    async def init(self) -> Continue | Ignore:
        """Take the workflow's place in memory, unless it is taken."""
        if not self.services.come(self.workflow_id, self.ref):
            return IGNORE
        self.services.sleepers.woke(self.workflow_id)
        return Continue(None)

    async def handle_continue(self, _term: object) -> None:
        """Append the start, or read the log and replay it; then act."""
        try:
            if not await self._begin():
                await self._resume()
        except Over as over:
            self._go(over.outcome, over.parent)
        except PARKED_BY as error:
            await self._park(error)
        except StoreError as error:
            self._awakening.settle(error)
            await self._awakening.hold_off(error)
            raise

    async def _begin(self) -> bool:
        """Append the start with what follows from it; False when there is a log to go on from."""
        awakening = self._awakening
        self._first = awakening.begun
        if self._first is None:
            return False
        try:
            if awakening.is_fork:
                await self._stream.record(*awakening.events)
                return False
            self._execution = awakening.new_code()
            await self._take([awakening.begin()], [])
        except ConflictError:
            if self._stream.seq:
                raise
        except PayloadError as error:
            awakening.settle(error)
            raise Stop("normal") from error
        except Exception as error:
            if self.services.crashes.get(self.workflow_id, 0) + 1 >= CRASHES_MAX:
                awakening.settle(
                    error
                )  # the next life looks into the log, and does not begin again
            raise
        else:
            awakening.settle()
            return True
        if self._execution is not None:
            self._execution.close()
            self._execution, self._steering = None, UNSTEERED
        return False

    async def _resume(self) -> None:
        """Go on from the log, and record what is in it only by implication."""
        resumed = await self._awakening.resume(self._stream)
        self._first, self._execution, self._steering = resumed
        self._effects.pending.run = self._execution.run
        self._effects.pending.resumed_at = self._stream.seq
        messages = self._awakening.take_messages() + self.take_queued()
        await self._take(messages, self._effects.reissue(self._execution, self._steering))

    async def terminate(self, reason: object) -> None:
        """Leave memory: no code runs on, no timer fires."""
        services = self.services
        self.services.leave(self.workflow_id, self.ref)
        self._effects.close()
        del self._effects  # it has this actor: what has ended is not left to the collector
        if self._execution is not None:
            self._execution.close()
        if isinstance(reason, FencedError):
            services.fenced(reason)
        if isinstance(reason, BaseException) and not isinstance(reason, _NO_CRASH):
            crashes = services.crashes.get(self.workflow_id, 0) + 1
            services.crashes[self.workflow_id] = crashes
            log.error(
                "workflow_actor_crashed",
                workflow_id=self.workflow_id,
                crashes=crashes,
                error=repr(reason),
            )

    # Messages

    def handle_cast(self, message: object) -> Coroutine[Any, Any, None]:
        """Take what happened, with everything else that has happened meanwhile, in one append."""
        return self._take([message, *self.take_queued()], [])

    async def handle_call(self, request: object) -> object:
        """Answer `Waiting`, or whether a `WorkflowStarted` means this workflow; stand still if told to."""
        if isinstance(request, WorkflowStarted):
            assert self._first is not None
            return different_start(self.workflow_id, self._first, request)
        if isinstance(request, Poisoned):
            await self._park(PoisonError(request.deaths, killed="the process died beside it"))
        assert isinstance(request, Waiting)
        if self._execution is None:
            return ()
        return waited_for(self._execution, self._effects.pending.timers)

    async def _take(
        self,
        messages: list[object],
        events: list[Event],
        transaction: OpenTransaction | None = None,
    ) -> None:
        """Let the code run on with what has happened, record it and what follows, then act on it.

        The code runs before the append, in the same turn, so that a timer it sets or its end is one
        append with their cause. Nobody sees what it came to before that is durable: if the append
        fails, this life and all that it has computed are over.
        """
        if self._reception.asks(messages):
            try:
                await self._reception.prepare()
            except CorruptLogError as error:  # in an earlier run: nothing else has read that
                await self._park(error)
        code, stream = self._code, self._stream
        time = stream.next_time()
        problem = self._run_on(messages, events, time)
        commands = code.take_commands()
        if problem is None:
            problem = self._follow(commands, events, time)
        if events:
            try:
                await stream.append(events, time, transaction, self._sleep_after())
            except PayloadError as error:  # the store takes less than a payload may hold
                if not stream.seq:
                    raise
                await self._park(error)
            except BaseException as error:
                refuse(messages, error)
                raise
            self._appended(events, time)
        acknowledge(messages)
        if problem is not None:
            if isinstance(problem, PARKED_BY):
                await self._park(problem)
            raise problem
        try:
            self._act(commands, events)
        except DefinitionError as error:  # a child's code is gone
            await self._park(error)
        if (code.rollbacks or code.way_back is not None) and not self._steering.paused:
            await self._compensate()
        while self._effects.pending.loans and not self._lending:
            await self._lend()
        if not self._effects.pending.attempts or self._rests:
            await self._rest()

    def _run_on(
        self, messages: list[object], events: list[Event], time: int
    ) -> BaseException | None:
        """Turn messages into events, and let the code run on with each; return what went wrong.

        What has happened is recorded all the same. Messages behind the end are left out: whoever
        sent those hears of it.
        """
        problem: BaseException | None = None
        seq = self._stream.seq
        for event in events:
            seq += 1
            self._deliver(seq, time, event)
        for index, message in enumerate(messages):
            if problem is not None and type(message) is Update:
                continue  # nobody can look at it now; whoever sent it hears of what becomes of us
            for event in self._events_of(message):
                seq += 1
                events.append(event)
                if problem is None:
                    try:
                        self._deliver(seq, time, event, message)
                    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - see above
                        problem = error
                if type(event) is WorkflowCancelled:
                    del messages[index + 1 :]
                    return problem
        return problem

    def _follow(
        self, commands: list[Command], events: list[Event], time: int
    ) -> BaseException | None:
        """Add what follows from what the code has asked for, or come to; return what went wrong."""
        if events and type(events[-1]) is WorkflowCancelled:
            return None
        try:
            for event in consequences(self._code, commands, idle=self._is_idle):
                if type(event) is WorkflowContinued:
                    events.append(replace(event, start=self._first))
                    break
                events.append(event)
                self._deliver(self._stream.seq + len(events), time, event)
        except _RECORDED_FIRST as error:
            return error
        return None

    async def _lend(self) -> None:
        """Lend the store's transaction to an attempt that has asked for it."""
        loan, *rest = self._effects.pending.loans
        self._effects.pending.loans = tuple(rest)
        self._lending = True
        try:
            await lend(self.services, loan, self._take, self._stream.record)
        finally:
            self._lending = False

    def _is_idle(self) -> bool:
        return self._effects.is_idle(self._code, self._steering)

    def _events_of(self, message: object) -> tuple[Event, ...]:
        """Return the events a message comes to; none when it is out of date."""
        match message:
            case Attempted():
                self._effects.pending.over(message.event.op)
                return (message.event,)
            case Due() if message.run != self._effects.pending.run:
                return ()
            case Due(is_timer=True):
                self._effects.pending.timers.pop(message.op, None)
                timer = self._code.timers.get(message.op)
                return () if timer is None or timer.cancelled() else (TimerFired(op=message.op),)
            case Due():
                self._effects.pending.timers.pop(message.op, None)
                self._effects.attempt(self._code, self._steering, message.op)
                return ()
            case Dropped():
                self._effects.pending.over(message.op)
                self._effects.pending.let_go(message.op)
                return ()
            case Beat():
                if message.op not in self._code.calls:
                    return ()
                return (StepHeartbeat(op=message.op, details=Raw(message.details)),)
            case Renewed() | ChildrenRest():
                return ()
            case Leave():
                self._is_told_to_leave = True
                return ()
            case ChildNews():
                return self._effects.news(message)
            case Loan():
                self._effects.pending.loans += (message,)
                return ()
            case Signal():
                return self._reception.signal(self._code, message)
            case Begin():
                return message.events
            case Update():
                return self._reception.update(self._code, message)
            case Unasked():
                self._reception.forget(message.request)
                return ()
            case Rung():
                self._effects.pending.timers.pop(message.alarm.value, None)
                rung = self._steering.rung(
                    message.alarm, self.services.now(), compensating=self._code.way_back is not None
                )
                return () if rung is None else (rung,)
            case ControlRequest():
                return self._asked(message)
            case _:
                raise TypeError(message)

    def _asked(self, request: ControlRequest) -> tuple[Event, ...]:
        """Return what an operator's request comes to; one that is refused is told so at once."""
        try:
            return self._steering.asked(
                self.workflow_id,
                request.control,
                self.services.now(),
                reason=request.reason,
                grace_s=request.grace_s,
                compensating=self._code.way_back is not None,
            )
        except WorkflowStateError as error:
            if not request.acknowledged.done():
                request.acknowledged.set_exception(error)
            return ()

    # The log

    @property
    def _code(self) -> Execution:
        assert self._execution is not None
        return self._execution

    def _appended(self, events: list[Event], time: int) -> None:
        self._stream.advance(events, time)
        if self._reception.ledger is not None:
            self._reception.replied(events)
        if self._effects.pending.claims is not None:
            self._effects.pending.claims.recorded(events)

    def _deliver(self, seq: int, time: int, event: Event, message: object = None) -> None:
        if type(message) is Attempted:
            self._code.deliver(seq, time, event, message.value)
            return
        if type(event) in _STEERING:
            self._steering = self._steering.after(event)
        self._code.deliver(seq, time, event)

    # Acting

    def _act(self, commands: list[Command], events: list[Event]) -> None:
        """Do what the code has asked for, now that what led to it is durable."""
        if events and type(events[-1]) in _OF_A_RUN:
            self._over(events[-1])
            return
        self._effects.act(self._code, self._steering, commands, events)
        for event in events:
            if type(event) in _STEERING:
                self._effects.steered(self._code, self._steering, event)

    # Rest

    async def _rest(self) -> None:
        """Leave memory, where nothing is under way and the place is wanted; else be ready to."""
        awake, told = self.services.awake, self._is_told_to_leave
        self._is_told_to_leave = False
        self._rests = self._is_at_rest()
        if not self._rests:
            awake.works(self.workflow_id)
            return
        if (told or awake.is_crowded) and not self.has_queued():
            sleep = self._effects.sleep()
            rest_us = sleep.until - self.services.now()
            if rest_us > 0 and (told or awake.leaves_at_once(rest_us)):
                await self._stream.fall_asleep(sleep)
                if not self.has_queued() and self._is_at_rest() and sleep == self._effects.sleep():
                    self.services.leave(self.workflow_id, self.ref)
                    self.services.sleepers.slept(self.workflow_id, sleep.until)
                    raise Stop("normal")
        awake.rests(self.workflow_id, self.ref)

    def _is_at_rest(self) -> bool:
        """Tell whether there is nothing to do until time passes, a message comes or a child ends."""
        return self._effects.rest and not (self._lending or self._reception.owes)

    def _sleep_after(self) -> Sleep:
        """Return how long it will sleep, if it is to leave memory as soon as these are recorded."""
        code, pending = self._code, self._effects.pending
        if (
            not self.services.awake.is_crowded
            or pending.attempts
            or code.calls
            or code.children
            or code.ending
            or code.rollbacks
            or self._lending
            or self._reception.owes
            or self.has_queued()
        ):
            return AWAKE
        due = [timer.due for timer in code.timers.values() if not timer.cancelled()]
        until = min((*due, *self._steering.alarms().values()), default=NEVER)
        rest_us = until - self.services.now()
        leaves = rest_us > 0 and self.services.awake.leaves_at_once(rest_us)
        return Sleep(until) if leaves else AWAKE

    # The end

    async def _compensate(self) -> None:
        """Make the compensations that are next; a workflow with none but failed ones stands still."""
        code = self._code
        self._effects.compensate(code)
        way_back = code.way_back
        if way_back is not None and way_back.failed and not way_back.ready():
            undo = way_back.failed[0]
            await self._stand_still(
                letter_of_compensation(self.workflow_id, code.workflow.name, undo)
            )

    def _over(self, event: Event) -> None:
        """The end is recorded: tell those who wait for it, and leave; or begin the next run."""
        if isinstance(event, WorkflowContinued):
            self._renew(event)
            return
        assert isinstance(event, Ended)
        self._effects.pending.cut_off()
        assert self._first is not None
        self._go(event, self._first.parent)

    def _go(self, outcome: Ended | BeamflowError, parent: str = "") -> NoReturn:
        """Leave, and tell those who wait what it came to, a parent that sleeps too."""
        self.services.leave(self.workflow_id, self.ref)
        self.services.ended(self.workflow_id, outcome)
        if parent and isinstance(outcome, Ended):
            self.services.sleepers.wake(parent)
        raise Stop("normal")

    def _renew(self, event: WorkflowContinued) -> None:
        """Begin the next run, with nothing left of the one before."""
        old = self._code
        self._effects.renew(event.run, self._steering)
        old.close()
        self._execution = new_execution(old.workflow, self.workflow_id)
        self._execution.deliver(self._stream.seq, self._stream.time, event)
        self.ref.cast(Renewed())
        for request in self._reception.take_held():
            self.ref.cast(request)

    # Parking

    async def _park(self, error: BaseException) -> NoReturn:
        """Stand still until somebody mends the cause; the log stays as it is."""
        self._awakening.settle()
        named = self._first or await self.services.store.summary(self.workflow_id)
        workflow = "" if named is None else named.workflow
        await self._stand_still(letter_of(self.workflow_id, workflow, error))

    async def _stand_still(self, letter: DeadLettered) -> NoReturn:
        self._go(await park(self.services, letter))


_RECORDED_FIRST: tuple[type[BaseException], ...] = (*PARKED_BY, KeyboardInterrupt)
_NO_CRASH = (StoreError, EngineStoppedError, ActorStoppedError, ReadOnlyError, RefusedError)
_OF_A_RUN = frozenset({WorkflowCompleted, WorkflowFailed, WorkflowCancelled, WorkflowContinued})
_STEERING = frozenset(
    {
        WorkflowStarted,
        WorkflowBegan,
        WorkflowPaused,
        WorkflowResumed,
        CancelRequested,
        CancelForced,
    }
)
