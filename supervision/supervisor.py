"""The static supervisor: children in an order, three strategies."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from supervision.child import ChildSpec, ChildState, Restart, option_of, unique_specs
from supervision.errors import (
    AlreadyPresentError,
    AlreadyStartedError,
    ChildError,
    ChildNotFoundError,
    ChildRestartingError,
    ChildRunningError,
    ChildStartError,
    SpecError,
)
from supervision.management import (
    CountChildren,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartChild,
    SupervisorRef,
    TerminateChild,
    WhichChild,
    WhichChildren,
)
from supervision.messages import IGNORE, ChildExited, Ignore
from supervision.parent import Parent
from supervision.reasons import SHUTDOWN, ExitReason, Stop
from supervision.record import Child
from supervision.restarts import RestartIntensity

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from supervision.ref import ActorRef

__all__ = ["AutoShutdown", "Strategy", "Supervisor"]


class Strategy(StrEnum):
    """Whom a supervisor restarts with a child that failed."""

    ONE_FOR_ONE = "one_for_one"
    """Nobody else."""
    ONE_FOR_ALL = "one_for_all"
    """All others."""
    REST_FOR_ONE = "rest_for_one"
    """Those that were started after it."""


class AutoShutdown(StrEnum):
    """When the end of significant children ends their supervisor."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    """With the first of them."""
    ALL_SIGNIFICANT = "all_significant"
    """With the last of them."""


class Supervisor(Parent):
    """Starts children in order, restarts those that fail, stops them in reverse (OTP supervisor(3)).

    Its own `init` returns when all children have started. If one does not come up, those before it
    are stopped and the start fails with `ChildStartError`. Subclass it to do something before, see
    `setup`.

    Example::

        async with run(
            Supervisor(
                [
                    ChildSpec("store", Store),
                    ChildSpec("web", Web),
                ],
                strategy=Strategy.REST_FOR_ONE,
            )
        ) as supervisor:
            print(await supervisor.which_children())
    """

    ref_type: ClassVar[type[ActorRef]] = SupervisorRef

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
        name: str | None = None,
    ) -> None:
        """Check everything; nothing is started yet.

        Args:
            children: The children in the order of their start.
            strategy: Whom to restart with a child that failed.
            max_restarts: Restarts permitted within `max_seconds`; one more and the supervisor gives
                up: it stops all children and exits with ``"shutdown"``.
            max_seconds: Length of that sliding window.
            auto_shutdown: When the end of significant children ends the supervisor.
            name: The name of a root in paths.

        Raises:
            SpecError: With OTP's name for the first thing that is wrong.
        """
        self.strategy = option_of(Strategy, "invalid_strategy", strategy)
        self._intensity = RestartIntensity(max_restarts, max_seconds)
        self.auto_shutdown = option_of(AutoShutdown, "invalid_auto_shutdown", auto_shutdown)
        self.name = name
        self._children: dict[Hashable, Child] = {}
        for spec in unique_specs(children):
            self._check(spec)
            self._children[spec.id] = Child(spec)

    @property
    def ref(self) -> SupervisorRef:
        """This life's own ref; there from before `init`."""
        return SupervisorRef(self._cell)

    async def setup(self) -> Iterable[ChildSpec] | Ignore | None:
        """Prepare, in the supervisor's own task, before the first child starts.

        Returns:
            Further children, started after those of the constructor; or `IGNORE` to end without an
            error.
        """
        return None

    async def init(self) -> Ignore | None:
        """Start all children in order."""
        self.adopt_context()
        more = await self.setup()
        if more is IGNORE:
            return IGNORE
        if more is not None and not isinstance(more, Ignore):
            for spec in unique_specs([*(c.spec for c in self._children.values()), *more]):
                self._check(spec)
                self._children.setdefault(spec.id, Child(spec))
        try:
            for child in list(self._children.values()):
                await self._start_first(child)
        except BaseException:
            await self._stop_all()
            raise
        return None

    # Parent

    def children(self) -> Iterable[Child]:
        """Give all children in the order of their start."""
        return self._children.values()

    def find(self, event: ChildExited) -> Child | None:
        """Give the child whose present life the event is about."""
        child = self._children.get(event.child_id)
        if child is None or child.state is not ChildState.RUNNING or child.cell is None:
            return None
        return child if child.cell.incarnation == event.incarnation else None

    def forget(self, child: Child) -> None:
        """Remove a child for good."""
        child.end_for_now()
        self._children.pop(child.spec.id, None)

    async def bring_down_in_order(self, children: Iterable[Child], *, shielded: bool) -> None:
        """Stop children one after the other, the newest start first.

        Temporary ones are forgotten.
        """
        for child in reversed(list(children)):
            await self.bring_down([child], shielded=shielded)
            if child.spec.restart is Restart.TEMPORARY:
                self.forget(child)

    async def terminate(self, reason: ExitReason) -> None:  # noqa: ARG002 - a callback's signature
        """Stop all children, the newest start first; all at once when killed."""
        await self._stop_all()

    async def _stop_all(self) -> None:
        children = list(self.children())
        if self._cell.killed:
            await self.bring_down(children, shielded=True)
        else:
            await self.bring_down_in_order(children, shielded=True)
        for child in children:
            child.end_for_now()

    async def retry(self, child: Child) -> None:
        """Do one attempt to restart a child, and those that its end concerns."""
        group = self._group(child)
        if len(group) == 1:
            await self._again_or_ignored(child)
            return
        await self._stop_group(child, group)
        for member in self._group(child):
            if not await self._again_or_ignored(member):
                break

    async def wait_to_retry(self, child: Child) -> None:
        """Schedule the first restart of a child with a backoff; those it concerns wait stopped."""
        await self._stop_group(child, self._group(child))
        await super().wait_to_retry(child)

    async def not_restarted(self, child: Child) -> None:
        """Forget a temporary child, and see whether the end of a significant one ends the supervisor."""
        if child.spec.restart is Restart.TEMPORARY:
            self.forget(child)
        if child.spec.significant:
            self._auto_shutdown()

    async def manage(self, request: object) -> object:
        """Answer a management call."""
        match request:
            case StartChild(spec):
                return await self.start_new(spec)
            case TerminateChild(child_id):
                await self.terminate_known(child_id)
                return None
            case RestartChild(child_id):
                return await self.restart_known(child_id)
            case DeleteChild(child_id):
                self.forget(self._stopped(child_id))
                return None
            case WhichChild(child_id):
                return self._known(child_id).info
            case GetChildSpec(child_id):
                return self._known(child_id).spec
            case WhichChildren():
                return [child.info for child in reversed(self._children.values())]
            case CountChildren():
                return self.counted()
            case _:
                return self.no_such_request(request)

    # Starts

    async def _start_first(self, child: Child) -> ActorRef | None:
        await self.bring_up(child)
        if child.spec.restart is Restart.TEMPORARY:
            if child.state is ChildState.UNDEFINED:
                self.forget(child)
            else:
                child.forget_start()
        return child.info.ref

    async def start_new(self, spec: ChildSpec) -> ActorRef | None:
        """Do `SupervisorRef.start_child`."""
        unique_specs([spec])
        self._check(spec)
        known = self._children.get(spec.id)
        if known is not None:
            if known.info.ref is not None:
                raise AlreadyStartedError(spec.id, known.info.ref)
            raise AlreadyPresentError(spec.id)
        child = self._children[spec.id] = Child(spec)
        try:
            return await self._start_first(child)
        except (ChildStartError, ChildError) as error:
            self.forget(child)
            self.tell_failure(child, error, retrying=False)
            raise

    async def restart_known(self, child_id: Hashable) -> ActorRef | None:
        """Do `SupervisorRef.restart_child`."""
        child = self._stopped(child_id)
        try:
            return await self._start_first(child)
        except (ChildStartError, ChildError) as error:
            child.end_for_now()
            self.tell_failure(child, error, retrying=False)
            raise

    async def terminate_known(self, child_id: Hashable) -> None:
        """Do `SupervisorRef.terminate_child`."""
        child = self._known(child_id)
        await self.bring_down([child], shielded=False)
        child.end_for_now()
        if child.spec.restart is Restart.TEMPORARY:
            self.forget(child)

    def _known(self, child_id: Hashable) -> Child:
        try:
            child = self._children.get(child_id)
        except TypeError:  # it is not even hashable
            child = None
        if child is None:
            raise ChildNotFoundError(child_id)
        return child

    def _stopped(self, child_id: Hashable) -> Child:
        child = self._known(child_id)
        if child.state is ChildState.RESTARTING:
            raise ChildRestartingError(child_id)
        if child.state is not ChildState.UNDEFINED:
            raise ChildRunningError(child_id)
        return child

    # Restarts

    def _group(self, child: Child) -> list[Child]:
        if self.strategy is Strategy.ONE_FOR_ONE:
            return [child]
        children = list(self._children.values())
        if self.strategy is Strategy.ONE_FOR_ALL:
            return children
        return children[children.index(child) :]

    async def _stop_group(self, child: Child, group: list[Child]) -> None:
        others = [member for member in group if member is not child]
        await self.bring_down_in_order(others, shielded=False)

    async def _again_or_ignored(self, child: Child) -> bool:
        went_well = await self.again(child)
        if (
            went_well
            and child.state is ChildState.UNDEFINED
            and child.spec.restart is Restart.TEMPORARY
        ):
            self.forget(child)
        return went_well

    # Significant children

    def _check(self, spec: ChildSpec) -> None:
        self.check_backoff(spec)
        if spec.significant and self.auto_shutdown is AutoShutdown.NEVER:
            raise SpecError(
                "bad_combination",
                [("auto_shutdown", "never"), ("significant", True)],
                "Give the supervisor an auto_shutdown, or the child no significance.",
            )

    def _auto_shutdown(self) -> None:
        if self.auto_shutdown is AutoShutdown.ALL_SIGNIFICANT and any(
            child.spec.significant and child.state is not ChildState.UNDEFINED
            for child in self._children.values()
        ):
            return
        raise Stop(SHUTDOWN)
