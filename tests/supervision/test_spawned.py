"""Tasks that actors spawn: their results, failures and ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import ClassVar

import pytest

from supervision import (
    BRUTAL_KILL,
    Actor,
    ActorStoppedError,
    ChildSpec,
    Stop,
    TaskFailed,
    run,
)
from supervision.testing import settle


async def test_spawned_task_crashes_its_actor():
    """What a spawned task raises ends the actor, after the current message and before the next one."""

    class Spawning(Actor):
        got: ClassVar[list[object]] = []

        async def handle_call(self, request):
            self.got.append(("call", request))

        async def handle_cast(self, message):
            self.spawn(self.fail())
            await settle()
            self.got.append("handled")

        async def fail(self):
            raise LookupError("task")

    actor = Spawning()
    system = run(actor)
    ref = await system.start()
    ref.cast(1)
    ref.cast(2)
    with pytest.raises(LookupError, match="task"):
        await asyncio.sleep(0)
        await ref.wait()
        await system.stop()
    assert actor.got == ["handled"]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
async def test_spawned_task_cannot_tear_the_loop_down(error):
    """SystemExit and KeyboardInterrupt in a spawned task are the exit reason of the actor."""

    class Spawning(Actor):
        async def handle_cast(self, message):
            self.spawn(self.fail())

        async def fail(self):
            raise error

    system = run(Spawning())
    ref = await system.start()
    ref.cast(1)
    assert await ref.wait() is error


async def test_spawned_task_may_be_awaited():
    """A spawned task gives its result; when it ends well the actor goes on, with no trace of it."""

    class Spawning(Actor):
        async def handle_call(self, request):
            return await self.spawn(asyncio.sleep(0, request), name="mine")

    async with run(Spawning()) as ref:
        assert await ref.call("result") == "result"
        await settle()
        assert not ref._cell.spawned._tasks


async def test_an_abandoned_task_is_a_zombie_until_it_ends():
    """Its actor ends without it and does not hear of its failure."""
    let_go = asyncio.Event()

    async def stubborn() -> None:
        await let_go.wait()
        raise LookupError("late")

    class Spawning(Actor):
        async def handle_call(self, request):
            task = self.spawn(stubborn())
            await settle()
            self.abandon(task)
            return task

    system = run(Spawning())
    ref = await system.start()
    task = await ref.call("spawn")
    assert system.zombies == 1
    await ref.stop()
    assert not task.done()
    assert system.zombies == 1
    let_go.set()
    await settle()
    assert system.zombies == 0
    assert isinstance(task.exception(), LookupError)


async def test_spawned_tasks_end_with_the_actor(world):
    """Spawned tasks are cancelled and waited for; failures while ending are told.

    Spawning then is refused.
    """

    class Spawning(Actor):
        async def init(self):
            self.spawn(self.slow_end())
            self.spawn(self.bad_end())

        async def slow_end(self):
            try:
                await asyncio.Event().wait()
            finally:
                await world.clock.sleep(1)
                world.journal.append("slow end")

        async def bad_end(self):
            try:
                await asyncio.Event().wait()
            finally:
                raise OSError("bad end")

        async def terminate(self, reason):
            world.journal.append(reason)
            with pytest.raises(ActorStoppedError):
                self.spawn(asyncio.sleep(0))

    system = world.run(Spawning())
    await system.start()
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(1)
    await stopping
    assert world.journal == ["slow end", "shutdown"]
    assert len(world.told(TaskFailed)) == 1


async def test_stubborn_spawned_task_becomes_a_zombie(world):
    """A spawned task that outlives every cancel is left behind as a zombie, the actor ends."""
    stubborn = True

    class Spawning(Actor):
        async def init(self):
            self.spawn(self.never())

        async def never(self):
            while stubborn:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    continue

        async def handle_cast(self, message):
            raise Stop("normal")

    async with world.run(Spawning()) as ref:
        ref.cast("stop")
        await world.clock.advance(10)
        assert ref.reason == "normal"
        assert len(ref._cell.runtime.zombies) == 1
        (task,) = ref._cell.runtime.zombies
        stubborn = False
        task.cancel()
        await settle()
        assert not ref._cell.runtime.zombies


class Deaf(Actor):
    """Swallows every cancel in its callback, and has a task that ticks beside it."""

    def __init__(self, world, ticks, hear):
        self.world = world
        self.ticks = ticks
        self.hear = hear

    async def init(self):
        self.spawn(self.tick())

    async def tick(self):
        while True:
            self.ticks.append(self.world.clock.now())
            await self.world.clock.sleep(1)

    async def handle_cast(self, message):
        while not self.hear.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.hear.wait()


@pytest.mark.parametrize(("shutdown", "reason"), [(BRUTAL_KILL, "killed"), (0.1, "abandoned")])
async def test_tasks_of_an_actor_that_was_cut_off(world, shutdown, reason):
    """They end with it, although it never came to end them itself."""
    ticks, hear = [], asyncio.Event()
    spec = ChildSpec(1, lambda: Deaf(world, ticks, hear), shutdown=shutdown, restart="temporary")
    async with world.supervisor(spec) as sup:
        ref = (await world.kids(sup))[1]
        ref.cast("listen no more")
        await settle()
        stopping = asyncio.ensure_future(sup.terminate_child(1))
        await world.clock.advance(1)
        await stopping
        assert ref.reason == reason
        ticked = len(ticks)
        await world.clock.advance(10)
        assert len(ticks) == ticked
        hear.set()
        await settle()


async def test_no_failure_hides_another(world):
    """Of two tasks that fail at the same instant the first ends the actor, and the other is told of."""

    class Two(Actor):
        async def init(self):
            self.spawn(self.fail("first"))
            self.spawn(self.fail("second"))

        async def fail(self, which):
            await asyncio.sleep(0)
            raise LookupError(which)

    async with world.supervisor(ChildSpec(1, Two, restart="temporary")) as sup:
        ref = (await world.kids(sup))[1]
        assert repr(await ref.wait()) == "LookupError('first')"
        assert [repr(event.error) for event in world.told(TaskFailed)] == ["LookupError('second')"]
