"""A small world to run trees in.

A clock that stands still, a journal, workers that do as they are told.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from supervision import (
    IGNORE,
    Actor,
    ActorRef,
    ChildSpec,
    DynamicSupervisor,
    Event,
    Stop,
    Supervisor,
    run,
)
from supervision.testing import ManualClock, settle

if TYPE_CHECKING:
    from supervision import System


class Worker(Actor):
    """Starts, ends and answers as its world says."""

    def __init__(self, world: World, name: object) -> None:
        self.world = world
        self.name = name

    async def init(self):
        world = self.world
        world.starts[self.name] = world.starts.get(self.name, 0) + 1
        slow = world.slow_starts.get(self.name)
        if slow:
            await world.clock.sleep(slow)
        if self.name in world.ignoring:
            return IGNORE
        if self.name in world.failing:
            raise world.failing[self.name]
        world.journal.append(("start", self.name))
        return None

    async def handle_call(self, request):
        return request

    async def handle_cast(self, message):
        raise message if isinstance(message, BaseException) else ValueError(message)

    async def terminate(self, reason):
        world = self.world
        slow = world.slow_stops.get(self.name)
        if slow:
            await world.clock.sleep(slow)
        world.journal.append(("stop", self.name))
        world.reasons[self.name] = reason
        ending = world.endings.get(self.name)
        if ending is not None:
            raise ending


class World:
    """What the tests of one tree share."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.events: list[Event] = []
        self.journal: list[tuple[str, object]] = []
        self.starts: dict[object, int] = {}
        self.reasons: dict[object, object] = {}
        self.failing: dict[object, BaseException] = {}
        self.ignoring: set[object] = set()
        self.slow_starts: dict[object, float] = {}
        self.slow_stops: dict[object, float] = {}
        self.endings: dict[object, BaseException] = {}

    def worker(self, name: object) -> Worker:
        return Worker(self, name)

    def spec(self, name: object, **options) -> ChildSpec:
        return ChildSpec(name, partial(Worker, self, name), **options)

    def specs(self, *names: object, **options) -> list[ChildSpec]:
        return [self.spec(name, **options) for name in names]

    def run(self, root: Actor) -> System:
        return run(root, clock=self.clock, observer=self.events.append)

    def supervisor(self, *specs: ChildSpec, **options) -> System:
        options.setdefault("max_seconds", 3600)
        return self.run(Supervisor(specs, **options))

    def dynamic(self, **options) -> System:
        options.setdefault("max_seconds", 3600)
        return self.run(DynamicSupervisor(**options))

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    async def end(self, ref: ActorRef, reason: object = "boom") -> None:
        """Have the child end by itself, and its supervisor settle that."""
        ref.cast(Stop(reason))
        await ref.wait()
        await settle()

    async def kids(self, sup) -> dict[object, ActorRef | None]:
        return {info.id: info.ref for info in reversed(await sup.which_children())}

    async def count(self, sup) -> list[int]:
        return list(await sup.count_children())


@pytest.fixture
def world() -> World:
    return World()
