"""Roots: start and stop by block and by hand, observers, failures."""

from __future__ import annotations

import asyncio
import signal

import pytest

from supervision import (
    Actor,
    ActorStoppedError,
    ChildSpec,
    ChildStartError,
    Exited,
    RestartLimitError,
    Supervisor,
    System,
    run,
)
from supervision.testing import settle


async def test_start_and_stop_by_hand(world):
    """A system that belongs to an object is started once and stopped as often as one likes."""
    system = System(Supervisor(world.specs(1, 2)), clock=world.clock, name="top")
    with pytest.raises(RuntimeError, match="start"):
        system.ref.alive  # noqa: B018 - the property raises
    await system.stop()
    ref = await system.start()
    assert ref == system.ref
    assert ref.path == "/top"
    with pytest.raises(RuntimeError, match="once"):
        await system.start()
    await system.stop()
    await system.stop()
    assert await system.wait() == "shutdown"
    assert world.journal == [("start", 1), ("start", 2), ("stop", 2), ("stop", 1)]


async def test_a_root_must_be_an_actor():
    """Anything but an actor is refused at once."""
    with pytest.raises(TypeError, match="Supervisor"):
        run("root")


async def test_block_sees_the_root_give_up(world):
    """When the root gives up the block goes on, sees it, and leaving raises the cause with its cause."""
    with pytest.raises(RestartLimitError) as failure:
        async with world.supervisor(world.spec(1), max_restarts=0) as sup:
            (await world.kids(sup))[1].cast("crash")
            assert await sup.wait() == "shutdown"
            assert isinstance(sup.cause, RestartLimitError)
            with pytest.raises(ActorStoppedError):
                await sup.count_children()
    assert isinstance(failure.value.__cause__, ValueError)
    assert (failure.value.path, failure.value.max_restarts) == ("/root", 0)


async def test_exception_of_the_block_goes_first(world):
    """An exception of the block stops the tree and is raised, whatever the tree has to say."""
    with pytest.raises(LookupError):
        async with world.supervisor(world.spec(1), max_restarts=0) as sup:
            (await world.kids(sup))[1].cast("crash")
            await sup.wait()
            raise LookupError


async def test_cancel_while_starting(world):
    """A host that is cancelled while the tree starts leaves no tree."""
    world.slow_starts[2] = 10.0
    starting = asyncio.ensure_future(world.supervisor(*world.specs(1, 2, 3)).start())
    await world.clock.advance(1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert world.journal == [("start", 1), ("stop", 1)]
    assert 3 not in world.starts


async def test_failed_start_stops_in_reverse(world):
    """When a child does not come up, those before it are stopped in reverse; nothing is retried."""
    world.failing[3] = LookupError("three")
    with pytest.raises(ChildStartError) as failure:
        await world.supervisor(*world.specs(1, 2, 3, 4)).start()
    assert failure.value.child_id == 3
    assert isinstance(failure.value.__cause__, LookupError)
    assert world.journal == [("start", 1), ("start", 2), ("stop", 2), ("stop", 1)]
    assert world.starts == {1: 1, 2: 1, 3: 1}


async def test_observer_that_raises(world):
    """An observer that raises is reported to the loop, and harms nothing."""
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def observer(event):
        raise ValueError(event)

    async with run(Supervisor(world.specs(1)), observer=observer) as sup:
        await world.end((await world.kids(sup))[1])
        assert await world.count(sup) == [1, 1, 0, 1]
    assert len(reported) == 5
    assert isinstance(reported[0]["exception"], ValueError)


@pytest.mark.parametrize("who", ["callback", "spawned"])
async def test_stopped_from_within(world, who):
    """An actor may stop the whole tree, itself or in a task of its own: it ends like all the others."""

    class Quitting(Actor):
        async def handle_cast(self, system):
            if who == "callback":
                await system.stop()
            else:
                self.spawn(system.stop())

    system = world.supervisor(ChildSpec(1, Quitting), world.spec(2))
    sup = await system.start()
    (await world.kids(sup))[1].cast(system)
    await settle()
    assert sup.reason == "shutdown"
    assert [(event.path, event.reason) for event in world.told(Exited)] == [
        ("/root/2", "shutdown"),
        ("/root/1", "shutdown"),
        ("/root", "shutdown"),
    ]
    await system.stop()


async def test_observer_that_fails_the_test(world):
    """What is no Exception does not keep a child from ending either."""

    class Outcome(BaseException):
        """As of pytest.fail()."""

    def observe(_):
        raise Outcome

    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with run(Supervisor([world.spec(1)]), observer=observe, clock=world.clock) as sup:
        await sup.terminate_child(1)
        assert (await world.kids(sup))[1] is None
    assert [type(context["exception"]) for context in told] == [Outcome] * 3


async def test_a_root_that_cannot_be_launched(world):
    """Its signals go back to whoever had them."""
    before = signal.getsignal(signal.SIGTERM)
    worker = world.worker(1)
    async with world.run(worker):
        with pytest.raises(TypeError, match="lives already"):
            await run(worker, signals=True).start()
        assert signal.getsignal(signal.SIGTERM) == before
