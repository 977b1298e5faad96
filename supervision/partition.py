"""The partition supervisor.

Equal children, one of them for each key (Elixir's PartitionSupervisor).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, overload
from zlib import crc32

from supervision.child import (
    BrutalKill,
    ChildSpec,
    ChildType,
    Isolation,
    Restart,
)
from supervision.errors import ActorNotFoundError, ChildError, ChildStartError, SpecError
from supervision.management import StartChild, SupervisorRef
from supervision.ref import ActorRef
from supervision.restarts import Backoff, is_count
from supervision.supervisor import Strategy, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from supervision.record import Child

__all__ = ["PartitionSupervisor", "PartitionSupervisorRef"]

_R = TypeVar("_R", bound=ActorRef)


@dataclass(frozen=True, slots=True)
class Resize:
    """Request: `PartitionSupervisorRef.resize`."""

    partitions: int


class PartitionSupervisorRef(SupervisorRef):
    """How a `PartitionSupervisor` is used and managed."""

    __slots__ = ()

    @property
    def partitions(self) -> int:
        """How many partitions there are to route to; 0 when the supervisor has ended."""
        return self._supervisor.partitions if self.alive else 0

    @overload
    def route(self, key: object) -> ActorRef: ...
    @overload
    def route(self, key: object, kind: type[_R]) -> _R: ...
    def route(self, key: object, kind: type[ActorRef] = ActorRef) -> ActorRef:
        """Give the child that a key belongs to. Never suspends.

        An int goes by its remainder, anything else by a checksum of its text; both are the same in
        every process. While the child is being restarted the ref is that of its last life.

        Args:
            key: Any object with a telling repr.
            kind: What refs the children have, for the type checker.

        Raises:
            ActorNotFoundError: There are no partitions, or the child has never come up.
            TypeError: The children's refs are of another kind.
        """
        if not self.alive or not self._supervisor.partitions:
            raise ActorNotFoundError(key)
        ref = self._supervisor.table[_slot(key, self._supervisor.partitions)]
        if ref is None:
            raise ActorNotFoundError(key)
        if not isinstance(ref, kind):
            raise TypeError(
                f"{ref!r} is no {kind.__name__}. Give route() the kind that the children have."
            )
        return ref

    async def resize(self, partitions: int) -> int:
        """Route to another number of partitions.

        The tail is stopped, or further children are started.

        Args:
            partitions: The new number; 0 or more.

        Returns:
            The old number.

        Raises:
            SpecError: It is no such number.
            ChildStartError: A child did not come up; the number stays as it was, and those that had come up
                are stopped again.
        """
        return cast("int", await self.call(Resize(partitions), timeout=None))

    @property
    def _supervisor(self) -> PartitionSupervisor:
        return cast("PartitionSupervisor", self._cell.actor)


class PartitionSupervisor(Supervisor):
    """Runs n equal children with the ids 0 to n-1, and finds the one for a key without asking anybody.

    Use it where one child would be the bottleneck, typically over `DynamicSupervisor`.

    Attributes:
        partitions: How many of them keys are routed to.
        table: The present, or last, life of each.
    """

    ref_type: ClassVar[type[ActorRef]] = PartitionSupervisorRef

    def __init__(
        self,
        start: Callable[[int], object],
        *,
        partitions: int | None = None,
        restart: Restart = Restart.PERMANENT,
        shutdown: float | BrutalKill | None = None,
        type: ChildType = ChildType.WORKER,
        start_timeout: float | None = None,
        backoff: Backoff | None = None,
        isolation: Isolation = Isolation.TASK,
        restart_stash: int = 0,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        name: str | None = None,
    ) -> None:
        """Check everything; nothing is started yet.

        Args:
            start: Called with the partition's number for each life of its child.
            partitions: How many; as many as there are cores by default.
            restart: As in `ChildSpec`.
            shutdown: As in `ChildSpec`.
            type: As in `ChildSpec`.
            start_timeout: As in `ChildSpec`.
            backoff: As in `ChildSpec`.
            isolation: As in `ChildSpec`.
            restart_stash: As in `ChildSpec`. With it, `route` gives a ref that outlives restarts.
            strategy: As in `Supervisor`.
            max_restarts: As in `Supervisor`.
            max_seconds: As in `Supervisor`.
            name: As in `Supervisor`.

        Raises:
            SpecError: With OTP's name for the first thing that is wrong.
        """
        count = (os.cpu_count() or 1) if partitions is None else partitions
        if not is_count(count):
            raise SpecError("invalid_partitions", partitions, "Give an int from 0, or None.")
        self._spec = partial(
            _spec,
            start,
            restart=restart,
            shutdown=shutdown,
            type=type,
            start_timeout=start_timeout,
            backoff=backoff,
            isolation=isolation,
            restart_stash=restart_stash,
        )
        super().__init__(
            [self._spec(number) for number in range(count)],
            strategy=strategy,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            name=name,
        )
        self.partitions = count
        self.table: list[ActorRef | None] = [None] * count

    @property
    def ref(self) -> PartitionSupervisorRef:
        """This life's own ref; there from before `init`."""
        return PartitionSupervisorRef(self._cell)

    def came_up(self, child: Child) -> None:
        """Route to the new life."""
        number = cast("int", child.spec.id)
        self.table.extend([None] * (number + 1 - len(self.table)))
        self.table[number] = child.info.ref

    async def manage(self, request: object) -> object:
        """Answer a management call."""
        if isinstance(request, Resize):
            return await self._resize(request.partitions)
        if isinstance(request, StartChild):
            raise SpecError("partitioned", request.spec, "Partitions are all equal: use resize().")
        return await super().manage(request)

    async def _resize(self, partitions: int) -> int:
        if not is_count(partitions):
            raise SpecError("invalid_partitions", partitions, "Give an int from 0.")
        before = self.partitions
        self.partitions = min(before, partitions)
        await self._drop_tail(partitions)
        try:
            for number in range(before, partitions):
                await self.start_new(self._spec(number))
        except (ChildStartError, ChildError):
            await self._drop_tail(before)
            raise
        self.partitions = partitions
        return before

    async def _drop_tail(self, first: int) -> None:
        """Stop the partitions from a number on; no restart of a group brings them back."""
        for number in sorted(cast("Iterable[int]", self._children), reverse=True):
            if number >= first:
                await self.terminate_known(number)
                self.forget(self._children[number])
        del self.table[first:]


def _spec(start: Callable[[int], object], number: int, **options: Any) -> ChildSpec:
    return ChildSpec(number, partial(start, number), **options)


def _slot(key: object, partitions: int) -> int:
    if isinstance(key, int):
        return abs(key) % partitions
    text = key if isinstance(key, str) else repr(key)
    return crc32(text.encode()) % partitions
