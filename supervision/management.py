"""How supervisors are managed: what they are asked, and the refs that ask it.

A child of a static supervisor is named by its id, that of a dynamic one by its ref.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from supervision.ref import ActorRef

if TYPE_CHECKING:
    from collections.abc import Hashable

    from supervision.child import ChildCounts, ChildSpec, ChildState, ChildType

__all__ = [
    "ChildInfo",
    "CountChildren",
    "DeleteChild",
    "DynamicSupervisorRef",
    "GetChildSpec",
    "ParentRef",
    "RestartChild",
    "StartChild",
    "SupervisorRef",
    "TerminateChild",
    "WhichChild",
    "WhichChildren",
]


class ChildInfo(NamedTuple):
    """One line of `which_children`.

    Attributes:
        id: The id in the child's spec.
        ref: Its present life; None when it does not run.
        state: Whether it runs, is being restarted, or neither.
        type: Worker or supervisor.
    """

    id: Hashable
    ref: ActorRef | None
    state: ChildState
    type: ChildType


@dataclass(frozen=True, slots=True)
class CountChildren:
    """Request: `ParentRef.count_children`."""


@dataclass(frozen=True, slots=True)
class WhichChildren:
    """Request: `ParentRef.which_children`."""


@dataclass(frozen=True, slots=True)
class StartChild:
    """Request: `SupervisorRef.start_child`."""

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class TerminateChild:
    """Request: terminate_child."""

    child: Hashable


@dataclass(frozen=True, slots=True)
class RestartChild:
    """Request: `SupervisorRef.restart_child`."""

    id: Hashable


@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Request: `SupervisorRef.delete_child`."""

    id: Hashable


@dataclass(frozen=True, slots=True)
class WhichChild:
    """Request: which_child."""

    child: Hashable


@dataclass(frozen=True, slots=True)
class GetChildSpec:
    """Request: get_childspec."""

    child: Hashable


class ParentRef(ActorRef):
    """What every supervisor answers. All of it suspends until the supervisor has time."""

    __slots__ = ()

    async def which_children(self) -> list[ChildInfo]:
        """List the children, the newest start first."""
        return cast("list[ChildInfo]", await self.call(WhichChildren(), timeout=None))

    async def count_children(self) -> ChildCounts:
        """Count specs, running children, supervisors and workers."""
        return cast("ChildCounts", await self.call(CountChildren(), timeout=None))


class SupervisorRef(ParentRef):
    """How a `Supervisor` is managed (OTP supervisor(3)).

    Each call suspends until the supervisor has done it, however long that takes; between two
    attempts of a restart that fails it has time. Refusals are `ChildError`, and change nothing.
    """

    __slots__ = ()

    async def start_child(self, spec: ChildSpec) -> ActorRef | None:
        """Add a child after all others and start it.

        Returns:
            Its ref; None when it says IGNORE, then its spec is kept unless it is temporary.

        Raises:
            AlreadyStartedError: A child with this id runs, or its name belongs to another actor.
            AlreadyPresentError: A child with this id is known and does not run.
            ChildStartError: It did not come up; its spec is not kept.
            SpecError: It is significant, and auto_shutdown is never.
        """
        return cast("ActorRef | None", await self.call(StartChild(spec), timeout=None))

    async def terminate_child(self, child_id: Hashable) -> None:
        """Stop a child, or the attempts to restart it; nothing happens when it does not run.

        Its spec is kept unless it is temporary. Counts neither as a restart nor for auto_shutdown.
        A later restart of the group starts it again.

        Raises:
            ChildNotFoundError: No child has this id.
        """
        await self.call(TerminateChild(child_id), timeout=None)

    async def restart_child(self, child_id: Hashable) -> ActorRef | None:
        """Start a child that does not run.

        Returns:
            Its ref; None when it says IGNORE.

        Raises:
            ChildNotFoundError: No child has this id.
            ChildRunningError: It runs.
            ChildRestartingError: It is being restarted.
            ChildStartError: It did not come up; its spec is kept.
        """
        return cast("ActorRef | None", await self.call(RestartChild(child_id), timeout=None))

    async def delete_child(self, child_id: Hashable) -> None:
        """Forget the spec of a child that does not run.

        Raises:
            ChildNotFoundError: No child has this id.
            ChildRunningError: It runs.
            ChildRestartingError: It is being restarted.
        """
        await self.call(DeleteChild(child_id), timeout=None)

    async def which_child(self, child_id: Hashable) -> ChildInfo:
        """Tell of one child.

        Raises:
            ChildNotFoundError: No child has this id.
        """
        return cast("ChildInfo", await self.call(WhichChild(child_id), timeout=None))

    async def get_childspec(self, child_id: Hashable) -> ChildSpec:
        """Give the spec of one child with all defaults.

        That of a temporary one has lost its start function.

        Raises:
            ChildNotFoundError: No child has this id.
        """
        return cast("ChildSpec", await self.call(GetChildSpec(child_id), timeout=None))


class DynamicSupervisorRef(ParentRef):
    """How a `DynamicSupervisor` is managed; children are named by their refs.

    The ref of a life that has ended names its child for as long as that is being restarted.
    """

    __slots__ = ()

    async def start_child(self, spec: ChildSpec) -> ActorRef | None:
        """Start a child; its id need not be unique.

        Returns:
            Its ref; None when it says IGNORE, then nothing is kept.

        Raises:
            MaxChildrenError: There are `max_children` already.
            ChildStartError: It did not come up; nothing is kept.
            SpecError: It is significant.
        """
        return cast("ActorRef | None", await self.call(spec, timeout=None))

    async def terminate_child(self, ref: ActorRef) -> None:
        """Stop a child, or the attempts to restart it.

        Raises:
            ChildNotFoundError: It is no child of this supervisor, or no longer.
        """
        await self.call(TerminateChild(ref), timeout=None)

    async def which_child(self, ref: ActorRef) -> ChildInfo:
        """Tell of one child.

        Raises:
            ChildNotFoundError: It is no child of this supervisor, or no longer.
        """
        return cast("ChildInfo", await self.call(WhichChild(ref), timeout=None))

    async def get_childspec(self, ref: ActorRef) -> ChildSpec:
        """Give the spec of one child; that of a temporary one has lost its start function.

        Raises:
            ChildNotFoundError: It is no child of this supervisor, or no longer.
        """
        return cast("ChildSpec", await self.call(GetChildSpec(ref), timeout=None))
