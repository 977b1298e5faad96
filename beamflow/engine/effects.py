"""What a workflow has going on in the world: attempts, timers and children, by what is in its log.

Everything here follows from commands and events that are durable already: append before depend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow.engine.children import Children
from beamflow.engine.messages import Dropped
from beamflow.engine.pending import Pending
from beamflow.model.commands import (
    CancelChild,
    CancelStep,
    CancelTimer,
    RunStep,
    StartChild,
    StartTimer,
)
from beamflow.model.events import (
    CancelForced,
    CancelRequested,
    Event,
    StepFailed,
    TimerCancelled,
    TimerStarted,
    WorkflowResumed,
)
from beamflow.stores.base import AWAKE, NEVER, Sleep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow.engine.child_call import ChildCall
    from beamflow.engine.execution import Execution
    from beamflow.engine.messages import ChildNews
    from beamflow.engine.services import Services
    from beamflow.engine.steering import Steering
    from beamflow.model.commands import Command
    from supervision import Actor

__all__ = ["Effects"]


class Effects:
    """Begins and ends what the code asks for; whatever comes of it is cast to the actor.

    Args:
        actor: whose tasks all of it runs in, and who is told.
        services: what the engine's actors share.
        workflow_id: which workflow.

    Attributes:
        pending: the attempts and timers of this run.
    """

    __slots__ = ("_actor", "_children", "_services", "_workflow_id", "pending")

    def __init__(self, actor: Actor, services: Services, workflow_id: str) -> None:
        """Begin with nothing."""
        self._actor = actor
        self._services = services
        self._workflow_id = workflow_id
        self._children: Children | None = None
        self.pending = Pending(actor, services, workflow_id)

    # What follows from what was recorded

    def act(
        self,
        code: Execution,
        steering: Steering,
        commands: Sequence[Command],
        events: Sequence[Event],
    ) -> None:
        """Do what the code has asked for, and what events make due.

        Raises:
            UnknownWorkflowError: the code of a child is gone.
        """
        for command in commands:
            match command:
                case RunStep(op=op):
                    self.attempt(code, steering, op)
                case StartTimer(op=op):
                    timer = code.timers.get(op)
                    if timer is not None and not timer.cancelled():
                        self.pending.arm(op, timer.due, is_timer=True)
                case CancelTimer(op=op):
                    self.pending.disarm(op)
                case CancelStep(op=op):
                    self.pending.cancel_step(op, code.calls.get(op))
                case StartChild(op=op):
                    self._begin_child(code.children.get(op), steering)
                case CancelChild(op=op):
                    child = code.children.get(op)
                    if child is not None:
                        self._offspring.cancel(child)
                case _:
                    pass
        if self._children is not None:
            self._close_children(code, steering)
        for event in events:
            if type(event) is StepFailed:
                self.attempt(code, steering, event.op)

    def steered(self, code: Execution, steering: Steering, event: Event) -> None:
        """Act on what has been decided from outside; raises as `act` does."""
        match event:
            case CancelForced():
                self.pending.cut_off()
                self._actor.ref.cast(Dropped(0))  # nothing else may come that lets it end
            case WorkflowResumed() | CancelRequested():
                self._run_steps(code, steering)
                self._begin_children(code, steering)
            case _:
                pass
        self.pending.set_alarms(steering.alarms())

    def reissue(self, code: Execution, steering: Steering) -> list[Event]:
        """After a replay, ask again for all that the log has no outcome of; raises as `act` does.

        On the way back no step runs: before it began, each attempt under way had come to its end.

        Returns:
            What is in the log only by implication.
        """
        code.take_commands()
        unrecorded: list[Event] = []
        self._run_steps(code, steering)
        self._begin_children(code, steering)
        self.pending.set_alarms(steering.alarms())
        for op, timer in tuple(code.timers.items()):
            if not timer.cancelled():
                self.pending.arm(op, timer.due, is_timer=True)
                if not timer.recorded:
                    unrecorded.append(TimerStarted(op=op, due=timer.due))
            elif timer.recorded:
                unrecorded.append(TimerCancelled(op=op))
            else:
                del code.timers[op]
        if code.notes is not None:
            unrecorded += code.notes.unrecorded
        return unrecorded

    def attempt(self, code: Execution, steering: Steering, op: int) -> None:
        """Make the next attempt of a step if it is wanted, unless the workflow is paused."""
        call = code.calls.get(op)
        if call is not None and call.is_wanted and not steering.paused:
            self.pending.run_step(call)

    def compensate(self, code: Execution) -> None:
        """Make the compensations that are next."""
        for unwinding in code.unwindings:
            for undo in unwinding.ready():
                self.pending.compensate(undo)

    def news(self, message: ChildNews) -> tuple[Event, ...]:
        """Return what is to be recorded of a child."""
        return self._offspring.events_of(message)

    # How it stands

    def is_idle(self, code: Execution, steering: Steering) -> bool:
        """Whether nothing is under way, or about to be, that the end of the code has to wait for."""
        return not (
            self.pending.attempts
            or steering.paused
            or (self._children is not None and self._children.busy)
            or any(call.is_wanted for call in code.calls.values())
        )

    @property
    def rest(self) -> bool:
        """Whether there is nothing to do until time passes, a message comes or a child ends."""
        children = self._children
        return not (
            self.pending.attempts
            or self.pending.loans
            or (children is not None and not children.rest)
        )

    def sleep(self) -> Sleep:
        """Return until when nothing has to be done that is known of now."""
        children = self._children
        if children is not None and children.hears:
            return AWAKE
        until = min((timer.due for timer in self.pending.timers.values()), default=NEVER)
        return Sleep(until, is_watched=children is not None and children.any)

    # The end

    def renew(self, run: int, steering: Steering) -> None:
        """Leave what is of the run before: another one begins."""
        self.close()
        self.pending = Pending(self._actor, self._services, self._workflow_id)
        self.pending.run = run
        self.pending.set_alarms(steering.alarms())

    def close(self) -> None:
        """Let no timer fire any more, and wait for no child; the attempts end with their actor."""
        self.pending.close()
        if self._children is not None:
            self._children.leave()

    # Behind it

    @property
    def _offspring(self) -> Children:
        if self._children is None:
            self._children = Children(self._actor, self._services, self._workflow_id)
        return self._children

    def _run_steps(self, code: Execution, steering: Steering) -> None:
        """Begin every step that has no outcome and is not under way."""
        pending = self.pending
        if code.way_back is not None or steering.paused or steering.forced:
            return
        for op, call in code.calls.items():
            if op in pending.attempts or op in pending.timers:
                continue
            if call.is_wanted:
                pending.run_step(call)

    def _begin_children(self, code: Execution, steering: Steering) -> None:
        """Begin every child that has no outcome and is not under way; at the end, see to the rest."""
        for child in tuple(code.children.values()):
            self._begin_child(child, steering)
        self._close_children(code, steering)

    def _begin_child(self, child: ChildCall | None, steering: Steering) -> None:
        if child is not None and (child.recorded or not steering.paused):
            self._offspring.start(child)

    def _close_children(self, code: Execution, steering: Steering) -> None:
        """See to those that are left once the code has ended."""
        if code.ended and self._children is not None:
            self._children.close(forced=steering.forced)
