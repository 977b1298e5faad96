"""What all supervisors share: bringing children up and down, restarts, answers about them."""

from __future__ import annotations

import contextvars
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, NoReturn

from supervision.actor import Actor
from supervision.child import (
    BRUTAL_KILL,
    ChildCounts,
    ChildSpec,
    ChildState,
    ChildType,
    Isolation,
    OnSystemExit,
    Restart,
    body_and_info,
)
from supervision.clock import pass_turn
from supervision.errors import (
    AlreadyStartedError,
    ChildError,
    ChildStartError,
    NameTakenError,
    RestartLimitError,
    SpecError,
    ZombieLimitError,
)
from supervision.events import GaveUp, Restarted, ShutdownError, Started, StartFailed
from supervision.ladder import Ladder
from supervision.life import launch
from supervision.management import ParentRef
from supervision.messages import IGNORE, Call, ChildExited, Failure, Info
from supervision.reasons import (
    ABANDONED,
    KILLED,
    SHUTDOWN,
    TIMEOUT,
    ExitReason,
    Stop,
    TreeExit,
    is_normal,
    reason_of,
)
from supervision.record import Child, Retry
from supervision.ref import ActorRef, Exit, ref_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervision.cell import Cell
    from supervision.restarts import RestartIntensity

__all__ = ["Parent"]


class Parent(Actor):
    """An actor with children.

    One sequential loop: exits, retries and management calls, one at a time.
    """

    ref_type: ClassVar[type[ActorRef]] = ParentRef
    trap_exit: ClassVar[bool] = True
    orderly: ClassVar[bool] = True

    _context: contextvars.Context
    _intensity: RestartIntensity
    _extra_arguments: tuple[object, ...] = ()

    # What the kinds of supervisors differ in

    @abstractmethod
    def children(self) -> Iterable[Child]:
        """Give all children in the order of their start."""

    @abstractmethod
    def find(self, event: ChildExited) -> Child | None:
        """Give the child whose present life the event is about."""

    @abstractmethod
    def forget(self, child: Child) -> None:
        """Remove a child for good."""

    @abstractmethod
    async def manage(self, request: object) -> object:
        """Answer a management call."""

    @abstractmethod
    async def retry(self, child: Child) -> None:
        """Do one attempt to restart a child, with all that belongs to it."""

    @abstractmethod
    async def not_restarted(self, child: Child) -> None:
        """Settle a child that ended by itself and stays down."""

    def born(self, child: Child) -> None:
        """Take note of the first life of a child, whose init has not begun."""

    def came_up(self, child: Child) -> None:
        """Take note of a life whose init is through."""

    def unborn(self, child: Child) -> None:
        """Take note that the first life of a child failed to start."""

    def unexpected(self, spec: ChildSpec, reason: ExitReason) -> bool:
        """Tell whether a child that was asked to stop should have ended with another reason."""
        if spec.budget is BRUTAL_KILL or self._cell.killed:
            return reason != KILLED
        if spec.restart is not Restart.PERMANENT:
            return not is_normal(reason)
        return not (isinstance(reason, str) and reason == SHUTDOWN)

    # Callbacks

    async def handle_call(self, request: object) -> object:
        """Answer a management call.

        A refusal goes to the caller and does not end the supervisor.
        """
        try:
            return await self.manage(request)
        except (ChildError, ChildStartError, SpecError) as error:
            return Failure(error)

    def check_backoff(self, spec: ChildSpec) -> None:
        """Refuse a backoff that is so slow that the restart limit could never be reached.

        Raises:
            SpecError: ``bad_combination``.
        """
        limit = self._intensity
        if spec.backoff is None or spec.backoff.fits(limit.max_restarts, limit.max_seconds):
            return
        raise SpecError(
            "bad_combination",
            [("max_seconds", limit.max_seconds), ("backoff", spec.backoff)],
            f"{limit.max_restarts} restarts with this backoff take longer than max_seconds, so the supervisor "
            "would never give up: allow fewer restarts, in more seconds.",
        )

    def no_such_request(self, request: object) -> Failure:
        """Refuse a call that is not for supervisors."""
        error = TypeError(
            f"a supervisor does not understand {request!r}. Use the methods of its ref."
        )
        return Failure(error)

    async def handle_info(self, message: object) -> None:
        """Take exits and retries; links to strangers mean nothing, all else is a dead letter."""
        if type(message) is ChildExited:
            child = self.find(message)
            if child is not None:
                await self._child_exited(child, message.reason)
        elif type(message) is Retry:
            await self._retry_due(message)
        elif type(message) is not Exit:
            self._cell.dead_letter(message, "unhandled")

    async def handle_cast(self, message: object) -> None:
        """Supervisors take no casts: a dead letter."""
        self._cell.dead_letter(message, "unhandled")

    async def terminate(self, reason: ExitReason) -> None:  # noqa: ARG002 - a callback's signature
        """Stop all children."""
        children = list(self.children())
        await self.bring_down(children, shielded=True)
        for child in children:
            child.end_for_now()

    # Up

    def adopt_context(self) -> None:
        """Take this task's context as the base of every child's."""
        self._context = contextvars.copy_context()

    async def bring_up(self, child: Child, greeting: Call | None = None) -> None:
        """Start a child and wait for its init.

        Its state then is RUNNING, or UNDEFINED when it said IGNORE. The caller of `greeting` gets the ref as
        soon as the child's init is through, in the same turn of the loop as this supervisor.

        Raises:
            ChildStartError: It did not come up; its state is UNDEFINED.
            AlreadyStartedError: It needs a name that another actor has.
        """
        spec = child.spec
        body, info = self._make(child)
        if body is IGNORE:
            child.state = ChildState.UNDEFINED
            child.end_for_now()
            return
        try:
            cell, ready = launch(
                body,
                self._cell.runtime,
                parent=self._cell,
                child_id=spec.id,
                context=(self._context if child.context is None else child.context).copy(),
            )
        except NameTakenError as error:
            raise AlreadyStartedError(spec.id, error.ref) from error
        except TypeError as error:
            raise ChildStartError(spec.id, error) from error
        cell.info = info
        cell.greeting = greeting
        if child.link is not None:
            cell.link(child.link)
        if spec.restart_stash:
            child.hand_over(cell)
        before, child.cell = child.cell, cell
        child.state = ChildState.STARTING
        if before is None:
            self.born(child)
        if spec.start_timeout is None:
            outcome = await ready
        else:
            timer = cell.runtime.clock.call_later(spec.start_timeout, cell.fail_start, TIMEOUT)
            try:
                outcome = await ready
            finally:
                timer.cancel()
        if outcome is cell:
            child.state = ChildState.UNDEFINED
            if before is None:
                self.unborn(child)
            child.cell = before
            raise _start_error(spec, ref_of(cell))
        child.state = ChildState.UNDEFINED if outcome is IGNORE else ChildState.RUNNING
        if child.state is ChildState.RUNNING:
            self.came_up(child)
        else:
            child.end_for_now()
        if self._cell.runtime.observer is not None and child.state is ChildState.RUNNING:
            self._tell_start(child, cell)

    def _make(self, child: Child) -> tuple[object, object]:
        spec = child.spec
        if spec.isolation is Isolation.PROCESS:
            from supervision.process import ProcessActor  # noqa: PLC0415 - only who has one pays for it

            return ProcessActor(spec.start, self._extra_arguments), None
        try:
            made = spec.start(*self._extra_arguments)
        except BaseException as error:
            end_of_all(spec, error)
            if isinstance(error, AlreadyStartedError | NameTakenError):
                raise AlreadyStartedError(spec.id, error.ref) from error
            raise ChildStartError(spec.id, reason_of(error)) from error
        return body_and_info(made)

    def _tell_start(self, child: Child, cell: Cell) -> None:
        if child.restarts:
            cell.runtime.tell(Restarted(cell.path, cell.incarnation, child.restarts))
        else:
            cell.runtime.tell(Started(cell.path, cell.incarnation))

    # Down

    async def bring_down(self, children: Sequence[Child], *, shielded: bool) -> None:
        """Stop children, all at the same time, and wait until none of them runs."""
        alive = [(child, child.cell) for child in children if child.cell and not child.cell.over]
        if alive:
            killed = self._cell.killed
            stops = [(cell, BRUTAL_KILL if killed else child.spec.budget) for child, cell in alive]
            await Ladder(self._cell, stops).climb(shielded=shielded)
        for child in children:
            child.state = ChildState.UNDEFINED
        if self._cell.runtime.observer is not None:
            for child, cell in alive:
                if self.unexpected(child.spec, cell.reason):
                    cell.runtime.tell(ShutdownError(cell.path, cell.incarnation, cell.reason))
        if not shielded:
            for child, cell in alive:
                self._check_zombies(child, cell.reason)

    # Restarts

    async def _child_exited(self, child: Child, reason: ExitReason) -> None:
        end_of_all(child.spec, reason)
        child.state = ChildState.UNDEFINED
        self._check_zombies(child, reason)
        restart = child.spec.restart
        if restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and not is_normal(reason)):
            self.permit(child, reason)
            child.state = ChildState.RESTARTING
            if child.spec.backoff is None:
                await self.retry(child)
            else:
                await self.wait_to_retry(child)
        else:
            child.end_for_now()
            await self.not_restarted(child)

    def _check_zombies(self, child: Child, reason: ExitReason) -> None:
        runtime = self._cell.runtime
        limit, zombies = runtime.max_zombies, len(runtime.zombies)
        if reason is not ABANDONED or limit is None or zombies <= limit:
            return
        cause = ZombieLimitError(self._cell.path, child.spec.id, zombies, limit)
        self._give_up(child, reason, cause)

    async def wait_to_retry(self, child: Child) -> None:
        """Schedule the first restart of a child with a backoff."""
        backoff, cell = child.spec.backoff, child.cell
        if backoff is not None and cell is not None:
            lived = cell.runtime.clock.monotonic() - cell.born_at
            if backoff.resets(lived):
                child.failures = 0
        self.schedule(child, counted=True)

    def permit(self, child: Child, reason: ExitReason) -> None:
        """Count a restart.

        Raises:
            Stop: It is one too many: the supervisor gives up.
        """
        runtime = self._cell.runtime
        intensity = self._intensity
        if intensity.permit(runtime.clock.monotonic()):
            return
        cause = RestartLimitError(
            self._cell.path, child.spec.id, intensity.max_restarts, intensity.max_seconds
        )
        self._give_up(child, reason, cause)

    def _give_up(self, child: Child, reason: ExitReason, cause: Exception) -> NoReturn:
        runtime = self._cell.runtime
        if runtime.observer is not None:
            runtime.tell(GaveUp(self._cell.path, self._cell.incarnation, child.spec.id, reason))
        self.forget(child)
        cause.__cause__ = reason if isinstance(reason, BaseException) else None
        raise Stop(SHUTDOWN, cause=cause)

    def schedule(self, child: Child, *, counted: bool) -> None:
        """Send this supervisor a retry, after the child's backoff.

        Calls that wait already go first.
        """
        child.state = ChildState.RESTARTING
        child.attempt += 1
        retry = Info(Retry(child, child.attempt, counted=counted))
        backoff = child.spec.backoff
        mailbox = self._cell.mailbox
        if backoff is None:
            mailbox.admit(retry)
            return
        runtime = self._cell.runtime
        delay = backoff.delay(child.failures, runtime.chance())
        child.failures += 1
        runtime.clock.call_later(delay, mailbox.admit, retry)

    async def _retry_due(self, message: Retry) -> None:
        child = message.child
        if child.state is not ChildState.RESTARTING or child.attempt != message.attempt:
            return
        await pass_turn()
        if not message.counted:
            self.permit(child, child.failure)
        await self.retry(child)

    async def again(self, child: Child) -> bool:
        """Bring a child up once more.

        Tells whether that went well, else the next attempt is on its way.
        """
        child.restarts += 1
        try:
            await self.bring_up(child)
        except (ChildStartError, AlreadyStartedError) as error:
            child.failure = error
            self.tell_failure(child, error, retrying=True)
            self.schedule(child, counted=False)
            return False
        return True

    def tell_failure(self, child: Child, error: Exception, *, retrying: bool) -> None:
        """Tell the observer of a start that failed."""
        runtime = self._cell.runtime
        if runtime.observer is not None:
            incarnation = 0 if child.cell is None else child.cell.incarnation
            path = f"{self._cell.path}/{child.spec.id}"
            reason = error.reason if isinstance(error, ChildStartError) else error
            runtime.tell(StartFailed(path, incarnation, reason, retrying))

    # Answers

    def window(self, now: float) -> tuple[int, int]:
        """Tell how many restarts of the window are used, and how many there are."""
        return self._intensity.used(now), self._intensity.max_restarts

    def counted(self) -> ChildCounts:
        """Count the children."""
        specs = active = supervisors = 0
        for child in self.children():
            specs += 1
            active += (
                child.state is ChildState.RUNNING and child.cell is not None and not child.cell.over
            )
            supervisors += child.spec.type is ChildType.SUPERVISOR
        return ChildCounts(specs, active, supervisors, specs - supervisors)


def end_of_all(spec: ChildSpec, reason: ExitReason) -> None:
    """End the whole tree if that is what a child's exit reason stands for.

    Raises:
        Stop: It is; what ends every supervisor on the way up.
    """
    if isinstance(reason, KeyboardInterrupt | TreeExit):
        raise Stop(reason)
    if isinstance(reason, SystemExit) and spec.on_system_exit is OnSystemExit.PROPAGATE:
        raise Stop(TreeExit(reason.code))


def _start_error(spec: ChildSpec, ref: ActorRef) -> Exception:
    reason, cause = ref.reason, ref.cause
    end_of_all(spec, reason)
    if isinstance(reason, AlreadyStartedError | NameTakenError):
        error: Exception = AlreadyStartedError(spec.id, reason.ref)
    else:
        error = ChildStartError(spec.id, reason)
    error.__cause__ = cause
    return error
