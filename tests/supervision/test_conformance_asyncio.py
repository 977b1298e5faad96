"""The cases that OTP does not need and asyncio does (X), by their numbers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from supervision import (
    BRUTAL_KILL,
    Actor,
    ActorStoppedError,
    ChildSpec,
    ChildStartError,
    GaveUp,
    Restart,
    RestartLimitError,
    ShutdownError,
    Started,
    Stop,
    Supervisor,
    ThreadLeft,
    Watchdog,
    Zombie,
    run,
)
from supervision.testing import settle


def gives_up():
    return pytest.raises(RestartLimitError)


async def test_X01_unrequested_cancel(world):
    """A CancelledError that nobody asked for is an abnormal exit.

    A transient child is restarted.
    """
    async with world.supervisor(world.spec(1, restart=Restart.TRANSIENT)) as sup:
        one = (await world.kids(sup))[1]
        one.cast(asyncio.CancelledError())
        assert await one.wait() == "cancelled"
        assert await world.count(sup) == [1, 1, 0, 1]


async def test_X02_system_exit(world):
    """SystemExit ends the child that raises it and nobody else."""
    async with world.supervisor(*world.specs(1, 2)) as sup:
        one, two = (await world.kids(sup)).values()
        one.cast(SystemExit(3))
        reason = await one.wait()
        assert isinstance(reason, SystemExit)
        assert await world.count(sup) == [2, 2, 0, 2]
        assert two.alive


async def test_X03_keyboard_interrupt(world):
    """KeyboardInterrupt in a child stops the whole tree in order and is raised at the root."""
    task = asyncio.current_task()
    with pytest.raises(KeyboardInterrupt):
        async with world.supervisor(
            ChildSpec("in", lambda: Supervisor(world.specs(1, 2)), type="supervisor"), world.spec(3)
        ) as sup:
            inner = (await world.kids(sup))["in"]
            (await world.kids(inner))[1].cast(KeyboardInterrupt())
            await asyncio.Event().wait()
    assert world.journal[-3:] == [("stop", 1), ("stop", 2), ("stop", 3)]
    assert task.cancelling() == 0


@pytest.mark.parametrize("when", ["running", "starting"])
async def test_X02_system_exit_propagates(world, when):
    """A child that asks for it ends the whole tree with its SystemExit, in order, through all levels."""
    options = {"on_system_exit": "propagate", "restart": Restart.TRANSIENT}
    inner = ChildSpec("in", lambda: Supervisor([world.spec(1, **options)]), type="supervisor")
    with pytest.raises(SystemExit) as exit_:
        async with world.supervisor(inner, world.spec(2)) as sup:
            one = (await world.kids((await world.kids(sup))["in"]))[1]
            if when == "starting":
                world.failing[1] = SystemExit(3)
                one.cast("crash")
            else:
                one.cast(SystemExit(3))
            await asyncio.Event().wait()
    assert exit_.value.code == 3
    assert world.journal[-1] == ("stop", 2)
    assert world.starts[1] == 1 + (when == "starting")
    assert world.told(GaveUp) == []


@pytest.mark.parametrize(
    ("swallows", "kind", "shutdown", "reason"),
    [
        (1, asyncio.CancelledError, 1.0, "killed"),
        (3, asyncio.CancelledError, 1.0, "killed"),
        (1000, asyncio.CancelledError, 1.0, "abandoned"),
        (1000, asyncio.CancelledError, BRUTAL_KILL, "killed"),
        (1000, BaseException, 1.0, "abandoned"),
        (1000, BaseException, BRUTAL_KILL, "killed"),
    ],
)
async def test_X04_stubborn_child(world, swallows, kind, shutdown, reason):
    """A child that swallows cancels is cancelled again, closed when brutal, and else a visible zombie."""
    left = swallows

    async def swallow():
        nonlocal left
        while left > 0:
            left -= 1
            with contextlib.suppress(kind):
                await asyncio.get_running_loop().create_future()
        if swallows < 1000:
            await asyncio.get_running_loop().create_future()

    system = world.supervisor(ChildSpec(1, swallow, shutdown=shutdown))
    sup = await system.start()
    ref = (await world.kids(sup))[1]
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(2)
    told = (stopping.done(), ref.reason, len(world.told(Zombie)), system.zombies)
    left = 0
    for task in asyncio.all_tasks() - {asyncio.current_task(), stopping}:
        task.cancel()
    await settle()
    zombie = reason == "abandoned"
    assert told == (True, reason, zombie, zombie)
    assert system.zombies == 0


async def test_X05_blocked_loop_is_reported():
    """The lag of a stop that a child blocks is told with the child's name; the stop then completes."""

    class Blocking(Actor):
        async def terminate(self, reason):
            time.sleep(0.4)  # noqa: ASYNC251 - that is the point

    told = []
    async with run(
        Supervisor([ChildSpec(1, Blocking, shutdown=0.1), ChildSpec(2, Actor, shutdown=0.1)]),
        watchdog=Watchdog(0.1, told.append),
    ) as sup:
        refs = [info.ref for info in await sup.which_children()]
    assert [ref.reason for ref in refs] == ["shutdown", "shutdown"]
    assert told[0].path == "/root/1"


async def test_X05_blocked_loop(world):
    """A loop that was blocked for longer than the budgets kills nobody who only waited for a turn."""

    class Blocking(Actor):
        async def terminate(self, reason):
            world.clock._passed += 1.0

    system = world.dynamic()
    sup = await system.start()
    blocking = await sup.start_child(ChildSpec(1, Blocking, shutdown=0.1))
    world.slow_stops[2] = 0.01
    other = await sup.start_child(world.spec(2, shutdown=0.1))
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(0.2)
    await world.clock.advance(0.05)
    await stopping
    assert (blocking.reason, other.reason) == ("shutdown", "shutdown")


async def test_X06_waiting_in_a_thread(world):
    """An actor that waits for a thread ends at once; the thread is listed until it ends."""
    inside, go_on = threading.Event(), threading.Event()

    def wait():
        inside.set()
        go_on.wait()

    class Waiting(Actor):
        async def handle_call(self, request):
            return await self.run_blocking(divmod, request, 2)

        async def handle_cast(self, message):
            await self.run_blocking(wait)

    system = world.supervisor(ChildSpec(1, Waiting))
    try:
        async with system as sup:
            ref = (await world.kids(sup))[1]
            assert await ref.call(7) == (3, 1)
            assert system.leftovers == ()
            ref.cast("wait")
            await asyncio.to_thread(inside.wait)
            await sup.terminate_child(1)
            assert ref.reason == "shutdown"
            (left,) = system.leftovers
            assert (left.path, left.incarnation) == ("/root/1", ref.incarnation)
            assert left.function.endswith("wait")
            assert world.told(ThreadLeft) == [left]
    finally:
        go_on.set()
    async with asyncio.timeout(5):
        while system.leftovers:  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.01)  # the thread runs in the machine's time


async def test_X06_waiting_for_a_thread_to_begin(world):
    """A function whose turn has not come when its actor ends is never run, and leaves nothing."""
    go_on, ran = threading.Event(), []

    class Waiting(Actor):
        async def handle_cast(self, message):
            await self.run_blocking(ran.append, message)

    system = world.supervisor(ChildSpec(1, Waiting))
    with ThreadPoolExecutor(1) as single:
        asyncio.get_running_loop().set_default_executor(single)
        single.submit(go_on.wait)
        try:
            async with system as sup:
                (await world.kids(sup))[1].cast("late")
                await settle()
            assert system.leftovers == ()
        finally:
            go_on.set()
    assert ran == []


async def test_X06_a_thread_that_begins_too_late(world):
    """A function whose actor has left is not run any more, should its thread begin at that very moment."""
    from supervision.blocking import Job

    ran = []
    async with world.supervisor() as sup:
        job = Job(sup._cell.runtime, lambda: ran.append(1))
        assert not job.leave()
        with pytest.raises(asyncio.CancelledError):
            job.run()
    assert ran == []


async def test_X06_a_thread_that_raises_what_no_future_carries(world):
    """A StopIteration of a blocking function is a RuntimeError; asyncio alone would wait for ever."""

    class Asking(Actor):
        async def handle_call(self, request):
            with pytest.raises(RuntimeError, match="StopIteration"):
                await self.run_blocking(next, iter(()))
            return "went on"

    async with world.supervisor(ChildSpec(1, Asking)) as sup:
        assert await (await world.kids(sup))[1].call("go") == "went on"


async def test_X07_cancelled_before_first_step(world):
    """A child that is cancelled before its first step has failed to start.

    Nothing is left of it.
    """

    def start():
        asyncio.get_running_loop().call_soon(cancel)
        return world.worker(1)

    def cancel():
        for task in asyncio.all_tasks():
            if task.get_name().endswith("/1"):
                task.cancel()

    async def body():
        raise AssertionError("it never runs")

    async with world.supervisor() as sup:
        asyncio.get_running_loop().call_soon(cancel)
        for child in (start, lambda: start() and body()):
            with pytest.raises(ChildStartError, match="cancelled"):
                await sup.start_child(ChildSpec(1, child))
        assert await sup.which_children() == []
    assert [event.path for event in world.told(Started)] == []


async def test_X08_slow_cleanup(world):
    """A cleanup that needs time within its budget is not cancelled a second time."""
    world.slow_stops[1] = 4.9
    system = world.supervisor(world.spec(1))
    sup = await system.start()
    ref = (await world.kids(sup))[1]
    stopping = asyncio.ensure_future(system.stop())
    await world.clock.advance(4.95)
    await stopping
    assert ref.reason == "shutdown"
    assert ("stop", 1) in world.journal


async def test_X09_cleanup_raises(world):
    """A cleanup that raises after a stop request is reported, and not a reason to restart."""
    world.endings[1] = OSError("disk")
    async with world.supervisor(world.spec(1)) as sup:
        ref = (await world.kids(sup))[1]
        await sup.terminate_child(1)
        assert isinstance(ref.reason, OSError)
        assert [event.path for event in world.told(ShutdownError)] == ["/root/1"]
        assert world.starts[1] == 1


async def test_X10_returns_after_stop_request(world):
    """A child function that returns after a stop request has ended with shutdown."""

    async def polite():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with world.supervisor(ChildSpec(1, polite)) as sup:
        ref = (await world.kids(sup))[1]
    assert ref.reason == "shutdown"


@pytest.mark.parametrize("how", ["cancel", "timeout", "anyio"])
async def test_X11_cancelled_from_outside(world, how):
    """A cancel from outside reaches the host of a tree after all children have stopped, and is balanced."""
    import anyio

    async def host():
        async with world.supervisor(*world.specs(1, 2)):
            if how == "anyio":
                scope.cancel()
            await asyncio.Event().wait()

    scope = anyio.CancelScope()
    if how == "cancel":
        task = asyncio.ensure_future(host())
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await host()
    else:
        with scope:
            await host()
        assert scope.cancelled_caught
    assert world.journal[-2:] == [("stop", 2), ("stop", 1)]
    assert asyncio.current_task().cancelling() == 0


async def test_X11_supervisor_task_cancelled(world):
    """A nested supervisor whose task is cancelled stops its children first.

    Its parent restarts it.
    """
    inner = ChildSpec("in", lambda: Supervisor(world.specs(1, 2)), type="supervisor")
    async with world.supervisor(inner) as sup:
        ref = (await world.kids(sup))["in"]
        (task,) = (t for t in asyncio.all_tasks() if t.get_name() == "/root/in")
        task.cancel()
        assert await ref.wait() == "cancelled"
        assert world.journal[-2:] == [("stop", 2), ("stop", 1)]
        await settle()
        assert world.starts == {1: 2, 2: 2}


@pytest.mark.parametrize("kind", ["static", "dynamic"])
async def test_X12_caller_cancelled_during_init(world, kind):
    """A child whose start_child was cancelled in its init is registered, and stopped with the rest."""
    world.slow_starts[1] = 1.0
    async with world.supervisor() if kind == "static" else world.dynamic() as sup:
        starting = asyncio.ensure_future(sup.start_child(world.spec(1)))
        await settle()
        starting.cancel()
        await world.clock.advance(2)
        assert await world.count(sup) == [1, 1, 0, 1]
        world.slow_starts[2] = 1000.0
        starting = asyncio.ensure_future(sup.start_child(world.spec(2)))
        await settle()
    with pytest.raises(ActorStoppedError):
        await starting
    assert world.starts[2] == 1
    assert {task for task in asyncio.all_tasks() if task.get_name().startswith("/root")} == set()


async def test_X13_own_tasks(world):
    """Tasks that an actor spawned end with it, before its terminate."""

    class Spawning(Actor):
        async def init(self):
            self.task = self.spawn(asyncio.Event().wait())

        async def terminate(self, reason):
            world.journal.append(("task", self.task.cancelled()))

    async with world.supervisor(ChildSpec(1, Spawning)):
        pass
    assert world.journal == [("task", True)]


@pytest.mark.parametrize("where", ["init", "start"])
async def test_X14_failing_init_without_await(world, where):
    """A restart loop without awaits lets other tasks run, and management calls are answered."""
    attempts = 0

    def start():
        nonlocal attempts
        attempts += 1
        if attempts > 1 and where == "start":
            raise RuntimeError("not now")
        return world.worker(1)

    async with world.supervisor(ChildSpec(1, start), max_restarts=100_000) as sup:
        world.failing[1] = RuntimeError("not now")
        (await world.kids(sup))[1].cast(Stop("boom"))
        turns = 0
        while attempts < 100:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 50
        await sup.terminate_child(1)
        assert await world.kids(sup) == {1: None}


async def test_X15_stale_exit(world):
    """The exit of a life that is over changes nothing for the present one."""
    from supervision.messages import ChildExited

    async with world.supervisor(world.spec(1)) as sup:
        old = (await world.kids(sup))[1]
        await world.end(old)
        new = (await world.kids(sup))[1]
        sup._cell.mailbox.put_system(ChildExited(1, old.incarnation, "late"))
        await settle()
        assert (await world.kids(sup))[1] == new
        assert world.starts[1] == 2


async def test_X16_contextvars(world):
    """Every life sees the supervisor's base context: not the caller's, nor a dead life's."""
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    class Seeing(Actor):
        async def init(self):
            seen.append(variable.get())
            variable.set("dead life's")

        async def handle_cast(self, message):
            raise ValueError

    def start():
        variable.set("the start function's")
        return Seeing()

    variable.set("base")
    async with world.dynamic() as sup:
        variable.set("caller's")
        ref = await sup.start_child(ChildSpec(1, start))
        ref.cast("crash")
        await settle()
    assert seen == ["base", "base"]


@pytest.mark.parametrize("kind", ["leaf", "cancelled", "several", "interrupt"])
async def test_X17_exception_group(world, kind):
    """An exception group is one exit, classified by its worst leaf."""
    leaf = ValueError("leaf")
    groups = {
        "leaf": BaseExceptionGroup("g", [leaf, asyncio.CancelledError()]),
        "cancelled": BaseExceptionGroup("g", [asyncio.CancelledError()]),
        "several": ExceptionGroup("g", [leaf, ExceptionGroup("h", [KeyError()])]),
        "interrupt": BaseExceptionGroup("g", [leaf, KeyboardInterrupt()]),
    }
    system = world.supervisor(world.spec(1))
    sup = await system.start()
    one = (await world.kids(sup))[1]
    one.cast(groups[kind])
    reason = await one.wait()
    await settle()
    expected = {"leaf": leaf, "cancelled": "cancelled", "several": groups["several"]}
    if kind == "interrupt":
        assert isinstance(reason, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            await system.stop()
        return
    assert reason == expected[kind]
    assert world.starts[1] == 2
    await system.stop()


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="Python 3.12 has it")
async def test_X18_eager_task_factory(world):
    """A child that ends inside create_task is still seen."""

    async def at_once():
        world.journal.append("ran")

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with world.supervisor() as sup:
        ref = await sup.start_child(ChildSpec(1, at_once, restart=Restart.TRANSIENT))
        assert await ref.wait() == "normal"
        assert await world.count(sup) == [1, 0, 0, 1]
    assert world.journal == ["ran"]


async def test_X19_mass_crash(world):
    """Ten thousand crashes in one turn are one give-up and one stop."""
    with gives_up():
        async with world.dynamic(max_restarts=3) as sup:
            refs = [await sup.start_child(world.spec(1)) for _ in range(10_000)]
            for ref in refs:
                ref.cast("crash")
            assert await sup.wait() == "shutdown"
    assert len(world.told(GaveUp)) == 1
    assert not any(ref.alive for ref in refs)


async def test_X20_gc(world):
    """No task is collected before it ends, however often the collector runs."""
    async with world.supervisor(*world.specs(1, 2)) as sup:
        for _ in range(5):
            gc.collect()
            await world.end((await world.kids(sup))[1])
            gc.collect()
            world.clock._passed += 4000
        assert await world.count(sup) == [2, 2, 0, 2]
