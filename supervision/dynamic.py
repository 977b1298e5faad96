"""The dynamic supervisor: any number of independent children, started one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from supervision.child import BRUTAL_KILL, ChildSpec, ChildState, Restart
from supervision.errors import (
    ChildError,
    ChildNotFoundError,
    ChildStartError,
    MaxChildrenError,
    SpecError,
)
from supervision.management import (
    CountChildren,
    DynamicSupervisorRef,
    GetChildSpec,
    TerminateChild,
    WhichChild,
    WhichChildren,
)
from supervision.messages import Call, ChildExited
from supervision.parent import Parent
from supervision.reasons import NORMAL, ExitReason, is_normal
from supervision.record import Child
from supervision.ref import ActorRef, ref_of
from supervision.restarts import RestartIntensity, is_count

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = ["DynamicSupervisor"]


class DynamicSupervisor(Parent):
    """Starts children on request, one_for_one, and stops them all at the same time (Elixir DynamicSupervisor).

    The cost of a child does not depend on how many there are.
    """

    ref_type: ClassVar[type[ActorRef]] = DynamicSupervisorRef

    def __init__(
        self,
        *,
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        extra_arguments: tuple[object, ...] = (),
        name: str | None = None,
    ) -> None:
        """Check everything; nothing is started yet.

        Args:
            max_children: How many children there may be; those being restarted count. None for no
                limit.
            max_restarts: Restarts permitted within `max_seconds`; one more and the supervisor gives
                up.
            max_seconds: Length of that sliding window.
            extra_arguments: Given to every start function, at every start.
            name: The name of a root in paths.

        Raises:
            SpecError: With OTP's name for the first thing that is wrong.
        """
        if max_children is not None and not is_count(max_children):
            raise SpecError("invalid_max_children", max_children, "Give an int from 0, or None.")
        if not isinstance(extra_arguments, tuple):
            raise SpecError("invalid_extra_arguments", extra_arguments, "Give a tuple.")
        self._intensity = RestartIntensity(max_restarts, max_seconds)
        self.max_children = max_children
        self.name = name
        self._extra_arguments = extra_arguments
        self._children: dict[int, Child] = {}

    @property
    def ref(self) -> DynamicSupervisorRef:
        """This life's own ref; there from before `init`."""
        return DynamicSupervisorRef(self._cell)

    async def init(self) -> None:
        """Start without children."""
        self.adopt_context()

    # Parent

    def children(self) -> Iterable[Child]:
        """Give all children in the order of their start."""
        return self._children.values()

    def find(self, event: ChildExited) -> Child | None:
        """Give the child whose present life the event is about."""
        child = self._children.get(event.incarnation)
        return child if child is not None and child.state is ChildState.RUNNING else None

    def forget(self, child: Child) -> None:
        """Remove a child for good."""
        child.end_for_now()
        if child.cell is not None:
            self._children.pop(child.cell.incarnation, None)

    def born(self, child: Child) -> None:
        """List the child before its init begins, so that it is stopped whatever happens."""
        if child.cell is not None:
            self._children[child.cell.incarnation] = child

    def unborn(self, child: Child) -> None:
        """Keep nothing of a child that failed to start."""
        self.forget(child)

    async def retry(self, child: Child) -> None:
        """Do one attempt to restart a child; until one succeeds, its last life's ref names it."""
        before = child.cell
        if not await self.again(child) or before is None or child.cell is None:
            return
        self._children.pop(before.incarnation, None)
        if child.state is ChildState.RUNNING:
            self._children[child.cell.incarnation] = child

    async def not_restarted(self, child: Child) -> None:
        """Forget the child, whatever its spec says."""
        self.forget(child)

    def unexpected(self, spec: ChildSpec, reason: ExitReason) -> bool:
        """Tell whether a child that was asked to stop should have ended with another reason."""
        if spec.budget is BRUTAL_KILL or not is_normal(reason):
            return super().unexpected(spec, reason)
        return spec.restart is Restart.PERMANENT and isinstance(reason, str) and reason == NORMAL

    async def manage(self, request: object) -> object:
        """Answer a management call."""
        match request:
            case ChildSpec():
                return await self.start_new(Child(request), self.call_at_hand)
            case TerminateChild(ref):
                child = self._known(ref)
                await self.bring_down([child], shielded=False)
                self.forget(child)
                return None
            case WhichChild(ref):
                return self._known(ref).info
            case GetChildSpec(ref):
                return self._known(ref).spec
            case WhichChildren():
                return [child.info for child in reversed(self._children.values())]
            case CountChildren():
                return self.counted()
            case _:
                return self.no_such_request(request)

    @property
    def call_at_hand(self) -> Call | None:
        """The call that is handled now."""
        call = self._cell.current
        return call if type(call) is Call else None

    async def start_new(self, child: Child, greeting: Call | None = None) -> ActorRef | None:
        """Do `DynamicSupervisorRef.start_child`; see `bring_up` for the greeting."""
        spec = child.spec
        if self.max_children is not None and len(self._children) >= self.max_children:
            raise MaxChildrenError(spec.id)
        if spec.significant:
            raise SpecError(
                "bad_combination",
                [("auto_shutdown", "never"), ("significant", True)],
                "Children of a dynamic supervisor have no significance.",
            )
        if spec.backoff is not None:
            self.check_backoff(spec)
        try:
            await self.bring_up(child, greeting)
        except (ChildStartError, ChildError) as error:
            self.tell_failure(child, error, retrying=False)
            raise
        if child.state is not ChildState.RUNNING or child.cell is None:
            self.forget(child)
            return None
        if spec.restart is Restart.TEMPORARY:
            child.forget_start()
        return ref_of(child.cell)

    def _known(self, ref: object) -> Child:
        child = self._children.get(ref.incarnation) if isinstance(ref, ActorRef) else None
        if child is None or child.cell is None or ref_of(child.cell) != ref:
            raise ChildNotFoundError(ref)
        return child
