"""How a workflow comes into memory: begun anew, or brought by its log to where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from beamflow import log
from beamflow.engine.children import is_orphan
from beamflow.engine.consequences import check_outcome
from beamflow.engine.execution import new_execution
from beamflow.engine.messages import Begin
from beamflow.engine.parking import (
    PoisonError,
    is_to_be_looked_at,
    leave_parking,
    parked_error,
    sent_round,
)
from beamflow.engine.replay import replay
from beamflow.engine.retrying import retried
from beamflow.engine.steering import UNSTEERED
from beamflow.errors import (
    BeamflowError,
    CorruptLogError,
    FencedError,
    WorkflowExistsError,
    WorkflowNotFoundError,
)
from beamflow.model.events import (
    Ended,
    Event,
    Recorded,
    WorkflowCancelled,
    WorkflowContinued,
    WorkflowFailed,
    WorkflowForked,
    WorkflowStarted,
)
from beamflow.model.status import WorkflowState

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from beamflow.engine.execution import Execution
    from beamflow.engine.retrying import Retrial
    from beamflow.engine.services import Services
    from beamflow.engine.steering import Steering
    from beamflow.engine.stream import Stream
    from beamflow.errors import StoreError
    from beamflow.model.events import SignalReceived
    from beamflow.stores.base import Summary
    from supervision import Actor

__all__ = ["CRASHES_MAX", "Awakening", "Over", "Resumed", "different_start"]

CRASHES_MAX = 3
"""Crashes in a row, with nothing recorded in between, after which a workflow is not tried again."""


_PAUSE_S = 0.1
_PAUSES_MAX = 7
"""How often the pause is doubled: to 13 seconds."""


class Over(Exception):  # noqa: N818 - nothing is wrong: there is nothing to run
    """The workflow does not come into memory.

    Attributes:
        outcome: what those who wait for it are told.
        parent: id of its parent; empty for one without.
    """

    def __init__(self, outcome: Ended | BeamflowError, parent: str = "") -> None:
        """Say what it has come to."""
        super().__init__(outcome)
        self.outcome = outcome
        self.parent = parent


class Resumed(NamedTuple):
    """A workflow as its log has left it."""

    first: WorkflowStarted
    code: Execution
    steering: Steering


class Awakening:
    """Why a workflow comes into memory, and who is to hear of it. Outlives the lives of its actor.

    It is what the supervisor of the actors starts each life with.

    Args:
        actor: the type of the actor.
        services: what the engine's actors share.
        workflow_id: which workflow.
        started: its first event, when it is being started; None to go on from the log.
        second: what is recorded together with the start, if anything is.
        retrial: a request to go on although it has failed.
        accepted: settled once the start or the retrial is in the log, or cannot be.
        parked: whether it goes on after it was parked.
        summary: how the index shows it, where somebody has just read it; for the first life.
        messages: what it is woken by, as if they had been cast to it; for the first life: if that
            crashes, whoever has sent them sends them again.
    """

    __slots__ = (
        "_actor",
        "_failures",
        "_messages",
        "_parked",
        "_retrial",
        "_second",
        "_services",
        "_started",
        "_summary",
        "_workflow_id",
        "accepted",
    )

    def __init__(
        self,
        actor: Callable[[Services, str, Awakening], Actor],
        services: Services,
        workflow_id: str,
        *,
        started: WorkflowStarted | None = None,
        second: SignalReceived | WorkflowForked | None = None,
        retrial: Retrial | None = None,
        accepted: asyncio.Future[None] | None = None,
        parked: bool = False,
        summary: Summary | None = None,
        messages: tuple[object, ...] = (),
    ) -> None:
        self._actor = actor
        self._services = services
        self._workflow_id = workflow_id
        self._started = started
        self._second = second
        self._retrial = retrial
        self._parked = parked
        self._summary = summary
        self._messages = messages
        self._failures = 0
        self.accepted = accepted

    def __call__(self) -> Actor:
        """Make the actor, for each of its lives."""
        return self._actor(self._services, self._workflow_id, self)

    # A new one

    @property
    def begun(self) -> WorkflowStarted | None:
        """The start, if it is to be appended; None once it is in the log, or a log is to be read."""
        accepted = self.accepted
        return None if accepted is None or accepted.done() else self._started

    @property
    def events(self) -> tuple[Event, ...]:
        """What a new workflow's log begins with."""
        assert self._started is not None
        return (self._started,) if self._second is None else (self._started, self._second)

    @property
    def is_fork(self) -> bool:
        """Whether its log begins with what it takes over from another one."""
        return isinstance(self._second, WorkflowForked)

    def begin(self) -> Begin:
        """Return the message that begins it."""
        assert self.accepted is not None
        return Begin(self.events, self.accepted)

    def new_code(self) -> Execution:
        """Return its code, which has run nothing yet; raises `UnknownWorkflowError`."""
        assert self._started is not None
        definition = self._services.definitions.get(self._started.workflow, self._started.version)
        return new_execution(definition, self._workflow_id)

    def settle(self, problem: Exception | None = None) -> None:
        """Tell whoever starts the workflow that it is in the log, or why it is not; the first time."""
        accepted, self.accepted = self.accepted, None
        if accepted is None or accepted.done():
            return
        if problem is None:
            accepted.set_result(None)
        else:
            accepted.set_exception(problem)
            accepted.exception()  # whoever was cancelled meanwhile does not ask

    # One that is in the log

    async def resume(self, stream: Stream) -> Resumed:
        """Read the log and bring the code to where it was.

        Args:
            stream: brought to the end of the log.

        Raises:
            Over: there is nothing to run.
            NondeterminismError: likewise all of `PARKED_BY`; it is to be parked.
            StoreError: the log cannot be read.
        """
        services = self._services
        summary, self._summary = self._summary, None
        if summary is None:
            summary = await services.store.summary(self._workflow_id)
        history = _of_the_last_run(
            await services.store.read(self._workflow_id, summary.run_seq - 1 if summary else 0)
        )
        first = self._checked_start(history)
        stream.begin_after(history[-1])
        last = history[-1]
        if isinstance(last.event, Ended):
            history.append(await self._taken_back(stream, history, first))
        elif self._retrial is not None:
            self.settle()  # somebody else's has let it go on
        if not self._parked:
            await self._check_not_parked(summary)
        if services.crashes.get(self._workflow_id, 0) >= CRASHES_MAX:
            raise PoisonError(services.crashes[self._workflow_id])
        if self._started is None and await is_orphan(services, history, first):
            reason = f"its parent {first.parent!r} was terminated"
            end = WorkflowCancelled(reason=reason, terminated=True)
            await stream.record(end)
            raise Over(end, first.parent)
        definition = services.definitions.get(first.workflow, first.version)
        code = replay(definition, self._workflow_id, history)
        try:
            check_outcome(code)
            steering = UNSTEERED
            for recorded in history:
                steering = steering.after(recorded.event)
            await self._go_round(code, steering, history)
        except BaseException:
            code.close()
            raise
        self._failures = 0
        return Resumed(first, code, steering)

    async def hold_off(self, error: StoreError) -> None:
        """Wait before the next life tries again what the store has failed in: not at first, then longer.

        What is wrong may concern this workflow alone, and nobody else would stop it.
        """
        self._failures += 1
        if self._failures > 1 and not isinstance(error, FencedError):
            log.warning(
                "workflow_not_resumed",
                workflow_id=self._workflow_id,
                tries=self._failures,
                error=str(error),
            )
            exponent = min(self._failures - 2, _PAUSES_MAX)
            await self._services.clock.sleep(_PAUSE_S * 2**exponent)

    def take_messages(self) -> list[object]:
        """Return what it is woken by, once."""
        messages, self._messages = self._messages, ()
        return [*messages]

    def _checked_start(self, history: list[Recorded]) -> WorkflowStarted:
        """Return the first event; see to it that whoever starts the workflow means this one."""
        if not history:
            error = WorkflowNotFoundError(
                self._workflow_id, f"no workflow has the id {self._workflow_id!r}"
            )
            self.settle(error)
            raise Over(error)
        there = history[0].event
        if isinstance(there, WorkflowContinued) and there.start is not None:
            there = there.start
        if not isinstance(there, WorkflowStarted):
            self.settle()
            raise CorruptLogError(self._workflow_id, 1, "it is not the start of a workflow")
        if self._retrial is None:
            wanted = self._started
            self.settle(
                None if wanted is None else different_start(self._workflow_id, there, wanted)
            )
        elif self.accepted is None or self.accepted.done():
            self._retrial = None  # of an earlier life, which has seen to it
        return there

    async def _taken_back(
        self, stream: Stream, history: list[Recorded], first: WorkflowStarted
    ) -> Recorded:
        """Take the end of a failed workflow back; raises `Over` where nobody asks for that, or may."""
        services, end = self._services, history[-1].event
        assert isinstance(end, Ended)
        if self._retrial is None or not isinstance(end, WorkflowFailed):
            raise Over(end, first.parent)
        try:
            definition = services.definitions.get(first.workflow, first.version)
            event = retried(definition, self._workflow_id, history, self._retrial)
        except BeamflowError as error:
            self.settle(error)
            raise Over(end, first.parent) from error
        await stream.record(event)
        self.settle()
        return Recorded(
            stream=self._workflow_id,
            seq=stream.seq,
            time=stream.time,
            epoch=services.epoch,
            event=event,
        )

    async def _check_not_parked(self, summary: Summary | None) -> None:
        """One that is parked is moved by nobody who has not asked for that: no start, no message.

        Where recovery has not come to it yet, its turn is now.
        """
        if summary is None or summary.state is not WorkflowState.PARKED:
            return
        self._parked = await is_to_be_looked_at(self._services, self._workflow_id)
        if not self._parked:
            raise Over(await parked_error(self._services, self._workflow_id))

    async def _go_round(self, code: Execution, steering: Steering, history: list[Recorded]) -> None:
        """Leave parking; compensations that have failed for good are made again where they may be."""
        way_back = code.way_back
        if self._parked:
            if way_back is not None:
                way_back.start_over()
            state = steering.state(compensating=way_back is not None)
            await leave_parking(self._services, self._workflow_id, state)
        elif way_back is not None and way_back.failed:
            way_back.start_over(await sent_round(self._services, way_back.failed, history))


def _of_the_last_run(history: list[Recorded]) -> list[Recorded]:
    """Leave earlier runs out: another one may have begun since it was read where the last one does."""
    begins = [at for at, one in enumerate(history) if type(one.event) is WorkflowContinued]
    return history[begins[-1] :] if begins and begins[-1] else history


def different_start(
    workflow_id: str, there: WorkflowStarted, wanted: WorkflowStarted
) -> WorkflowExistsError | None:
    """Return the error for an id that is taken by another workflow or input; None for the same."""
    if there.workflow != wanted.workflow:
        what = f"a workflow {there.workflow!r}"
    elif bytes(there.input) != bytes(wanted.input):
        what = "another input"
    elif there.parent != wanted.parent:
        what = f"a child of {there.parent!r}" if there.parent else "a workflow without a parent"
    elif there.forked_from != wanted.forked_from:
        what = f"a fork of {there.forked_from}" if there.forked_from else "no such fork"
    else:
        return None
    message = (
        f"workflow id {workflow_id!r} is taken by {what}. Use another id, or "
        f"engine.handle({workflow_id!r}) for the workflow there is"
    )
    return WorkflowExistsError(workflow_id, message)
