"""Actors: callbacks in order, replies, spawned tasks, batches, stash, fairness."""

from __future__ import annotations

import asyncio

import pytest

from supervision import (
    IDLE,
    IGNORE,
    Actor,
    ActorStoppedError,
    ChildSpec,
    ChildStartError,
    Continue,
    DeadLetter,
    Down,
    Exit,
    Failure,
    StashFullError,
    Stop,
    Supervisor,
    TaskFailed,
    run,
)
from supervision.testing import settle


class Recorder(Actor):
    """Keeps whatever it gets."""

    def __init__(self):
        self.got = []

    async def handle_call(self, request):
        self.got.append(("call", request))
        return request

    async def handle_cast(self, message):
        self.got.append(("cast", message))

    async def handle_info(self, message):
        self.got.append(("info", message))


async def test_messages_come_in_order():
    """Casts, calls and infos of one sender are handled in the order in which they were sent."""
    async with run(Recorder()) as ref:
        actor = ref._cell.actor
        ref.cast(1)
        ref.send(2)
        assert await ref.call(3) == 3
        assert actor.got == [("cast", 1), ("info", 2), ("call", 3)]


async def test_continue_runs_before_any_message():
    """handle_continue follows init, may chain, and comes before messages that wait already."""

    class Continuing(Recorder):
        async def init(self):
            self.ref.cast("early")
            return Continue(1)

        async def handle_continue(self, term):
            self.got.append(("continue", term))
            return Continue(2) if term == 1 else None

    actor = Continuing()
    async with run(actor):
        await settle()
    assert actor.got == [("continue", 1), ("continue", 2), ("cast", "early")]


async def test_nonsense_from_init_is_a_crash():
    """An init that gives neither None, Continue nor IGNORE ends the actor with a TypeError."""

    class Wrong(Actor):
        async def init(self):
            return 42

    system = run(Wrong())
    with pytest.raises(TypeError, match="bad_return"):
        async with system as ref:
            await ref.wait()


async def test_crash_in_handle_call_reaches_the_caller():
    """The caller whose request ended the actor gets its exit reason.

    So do those who wait behind.
    """

    class Fragile(Recorder):
        async def handle_call(self, request):
            await settle()
            raise ValueError(request)

    system = run(Fragile())
    ref = await system.start()
    first, second = asyncio.ensure_future(ref.call(1)), asyncio.ensure_future(ref.call(2))
    for waiting in (first, second):
        with pytest.raises(ActorStoppedError) as stopped:
            await waiting
        assert isinstance(stopped.value.reason, ValueError)
    with pytest.raises(ActorStoppedError, match="noproc"):
        await ref.call(3)
    with pytest.raises(ValueError, match="1"):
        await system.stop()


async def test_failure_reaches_the_caller_only():
    """A Failure raises at the caller, the actor lives on."""

    class Refusing(Actor):
        async def handle_call(self, request):
            return Failure(LookupError(request))

    async with run(Refusing()) as ref:
        for request in ("a", "b"):
            with pytest.raises(LookupError, match=request):
                await ref.call(request)


async def test_deferred_reply():
    """A deferred call is answered later, from another callback, while others are served in between."""

    class Deferring(Actor):
        owed = None

        async def handle_call(self, request):
            if request == "later":
                self.owed = self.defer()
            return request

        async def handle_cast(self, message):
            assert self.owed.waiting
            self.owed.reply(message)
            assert not self.owed.waiting

    async with run(Deferring()) as ref:
        later = asyncio.ensure_future(ref.call("later"))
        await settle()
        assert await ref.call("now") == "now"
        assert not later.done()
        ref.cast("answer")
        assert await later == "answer"
        assert not ref._cell.unanswered
        owed = asyncio.ensure_future(ref.call("later"))
        await settle()
    with pytest.raises(ActorStoppedError, match="shutdown"):
        await owed


async def test_defer_needs_a_call():
    """Defer outside handle_call is a mistake that is told."""

    class Mistaken(Actor):
        async def handle_cast(self, message):
            self.defer()

    with pytest.raises(RuntimeError, match="handle_call"):
        async with run(Mistaken()) as ref:
            ref.cast(1)
            await ref.wait()


async def test_unhandled_messages():
    """An unexpected call or cast is a crash, an unexpected info a dead letter."""
    events = []
    async with run(Actor(), observer=events.append) as ref:
        ref.send("hm")
        await settle()
        assert [e.why for e in events if isinstance(e, DeadLetter)] == ["unhandled"]
    for message in (lambda ref: ref.cast(1), lambda ref: ref.call(1)):
        system = run(Actor())
        ref = await system.start()
        answer = message(ref)
        if answer is not None:
            with pytest.raises(ActorStoppedError):
                await answer
        assert isinstance(await ref.wait(), NotImplementedError)


async def test_take_queued_takes_a_batch():
    """take_queued gives the waiting casts in order, and stops before a call or an info."""

    class Batching(Recorder):
        async def handle_cast(self, message):
            self.got.append([message, *self.take_queued(2)])

    async with run(Batching()) as ref:
        actor = ref._cell.actor
        for number in range(4):
            ref.cast(number)
        ref.send("info")
        ref.cast(4)
        assert await ref.call("call") == "call"
        assert actor.got == [[0, 1, 2], [3], ("info", "info"), [4], ("call", "call")]


async def test_spawned_task_crashes_its_actor():
    """What a spawned task raises ends the actor, after the current message and before the next one."""

    class Spawning(Recorder):
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
        assert not ref._cell.spawned


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


async def test_monitor_tells_an_actor(world):
    """A monitoring actor gets one Down ahead of its user messages; noproc when there is nobody."""

    class Watching(Recorder):
        async def handle_call(self, request):
            if isinstance(request, tuple):
                self.monitors = [self.monitor(ref) for ref in request]
                return self.monitors
            return await super().handle_call(request)

    watching = Watching()
    async with world.run(watching) as ref, world.supervisor(*world.specs(1, 2)) as sup:
        one, two = (await world.kids(sup)).values()
        (first, _) = await ref.call((one, two))
        ref.cast("user")
        one.kill()
        await world.end(two, "two's reason")
        downs = [m for _, m in watching.got if isinstance(m, Down)]
        assert [(d.ref, d.reason) for d in downs] == [(one, "killed"), (two, "two's reason")]
        assert downs[0].incarnation == one.incarnation
        assert downs[0].monitor is first
        assert not ref._cell.monitors
        await ref.call((one,))
        await settle()
        assert watching.got[-1][1].reason == "noproc"


async def test_monitors_of_a_dead_watcher_are_forgotten(world):
    """An actor's monitors go with it, and leave nothing at those it watched."""

    class Watching(Actor):
        def __init__(self, target):
            self.target = target

        async def init(self):
            self.monitor(self.target)

    async with world.supervisor(world.spec(1)) as sup:
        one = (await world.kids(sup))[1]
        async with world.run(Watching(one)):
            assert len(one._cell.watchers) == 1
        assert not one._cell.watchers


async def test_links_share_fate(world):
    """The abnormal end of a linked actor ends its peer with the same reason.

    A normal end does not.
    """

    class Linking(Recorder):
        async def handle_call(self, request):
            verb, ref = request
            getattr(self, verb)(ref)

    async with world.supervisor(world.spec(1), ChildSpec("l", Linking), max_restarts=10) as sup:
        kids = await world.kids(sup)
        await kids["l"].call(("link", kids[1]))
        await world.end(kids[1], "normal")
        assert kids["l"].alive
        one = (await world.kids(sup))[1]
        await kids["l"].call(("link", one))
        await kids["l"].call(("unlink", one))
        await world.end(one)
        assert kids["l"].alive
        one = (await world.kids(sup))[1]
        await kids["l"].call(("link", one))
        await world.end(one, "together")
        assert kids["l"].reason == "together"
        linking = (await world.kids(sup))["l"]
        linking.cast("ignored")
        with pytest.raises(ActorStoppedError):
            await linking.call(("link", one))
            await linking.call(("unlink", one))
        assert await linking.wait() == "noproc"


async def test_trapped_exits_are_messages(world):
    """An actor that traps exits hears of every end of its peers, also of normal ones."""

    class Trapping(Recorder):
        trap_exit = True

    trapping = Trapping()
    async with world.run(trapping) as ref, world.supervisor(*world.specs(1, 2)) as sup:
        one, two = (await world.kids(sup)).values()
        ref.link(one)
        ref.link(two)
        await world.end(one, "normal")
        await world.end(two, "boom")
        exits = [m for _, m in trapping.got]
        assert all(isinstance(m, Exit) for m in exits)
        assert [(m.ref, m.reason) for m in exits] == [(one, "normal"), (two, "boom")]
        ref.exit("please")
        await settle()
        assert ref.alive


async def test_stash():
    """Stashed messages, calls too, come back ahead of newer ones in their order.

    There is a bound.
    """

    class Stashing(Recorder):
        stash_limit = 3
        busy = True

        async def handle_call(self, request):
            if self.busy:
                self.stash()
                return None
            return await super().handle_call(request)

        async def handle_cast(self, message):
            if message == "ready":
                self.busy = False
                self.unstash_all()
            elif self.busy:
                self.stash()
            else:
                await super().handle_cast(message)

    stashing = Stashing()
    async with run(stashing) as ref:
        ref.cast(1)
        asked = asyncio.ensure_future(ref.call(2))
        await settle()
        ref.cast("ready")
        ref.cast(3)
        assert await asked == 2
        await settle()
        assert stashing.got == [("cast", 1), ("call", 2), ("cast", 3)]
    system = run(Stashing())
    ref = await system.start()
    asked = asyncio.ensure_future(ref.call(0))
    await settle()
    for number in range(3):
        ref.cast(number)
    with pytest.raises(ActorStoppedError):
        await asked
    assert isinstance(ref.reason, StashFullError)


async def test_fairness():
    """An actor with a full mailbox lets others run every 64 messages."""
    actor = Recorder()
    async with run(actor) as ref:
        for number in range(200):
            ref.cast(number)
        seen = []
        while len(actor.got) < 200:
            await asyncio.sleep(0)
            seen.append(len(actor.got))
        assert seen[:3] == [64, 128, 192]


async def test_fairness_by_time(world):
    """An actor whose messages take long lets others run after 5 ms."""

    class Slow(Recorder):
        async def handle_cast(self, message):
            world.clock._passed += 0.002
            self.got.append(message)

    actor = Slow()
    async with world.run(actor) as ref:
        for number in range(20):
            ref.cast(number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(actor.got) <= 8
        await settle()


async def test_swallowed_stop_ends_the_loop(world):
    """A callback that swallows the stop request ends the actor all the same, with terminate."""

    class Swallowing(Recorder):
        async def handle_cast(self, message):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.got.append("swallowed")

        async def terminate(self, reason):
            self.got.append(reason)

    actor = Swallowing()
    async with world.run(actor) as ref:
        ref.cast(1)
        ref.cast(2)
        await settle()
    assert actor.got == ["swallowed", "shutdown"]
    assert [e.message for e in world.told(DeadLetter)] == [2]


async def test_timeouts_work_in_terminate(world):
    """The cancel that ended the loop is balanced: timeouts and task groups work in terminate."""

    class Careful(Recorder):
        async def terminate(self, reason):
            try:
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            except TimeoutError:
                self.got.append("timeout")
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
            self.got.append("group")
            assert asyncio.current_task().cancelling() == 0

    actor = Careful()
    async with world.run(actor):
        pass
    assert actor.got == ["timeout", "group"]


async def test_ignoring_actor_ends_normally(world):
    """An actor whose init says IGNORE has ended normally, its spawned tasks with it, without terminate."""

    class Ignoring(Actor):
        async def init(self):
            self.task = self.spawn(asyncio.Event().wait())
            return IGNORE

        async def terminate(self, reason):
            raise AssertionError

    actor = Ignoring()
    async with world.run(actor) as ref:
        assert await ref.wait() == "normal"
        assert actor.task.cancelled()


async def test_start_timeout(world):
    """An init that takes longer than start_timeout fails with reason timeout and is killed."""
    world.slow_starts[1] = 100.0
    async with world.supervisor() as sup:
        starting = asyncio.ensure_future(sup.start_child(world.spec(1, start_timeout=2.0)))
        await world.clock.advance(2.1)
        with pytest.raises(ChildStartError) as failure:
            await starting
        assert failure.value.reason == "timeout"
        await sup.start_child(world.spec(2, start_timeout=2.0))
        await world.clock.advance(10)
        assert await world.count(sup) == [1, 1, 0, 1]
    assert world.journal == [("start", 2), ("stop", 2)]


async def test_idle_timeout(world):
    """After idle_timeout without a message handle_info gets IDLE.

    Every message begins the time anew.
    """

    class Idling(Recorder):
        idle_timeout = 10.0

    actor = Idling()
    async with world.run(actor) as ref:
        await world.clock.advance(9)
        ref.cast("message")
        await world.clock.advance(9)
        assert actor.got == [("cast", "message")]
        await world.clock.advance(1)
        assert actor.got[1:] == [("info", IDLE)]
        actor.idle_timeout = None
        await world.clock.advance(100)
        assert actor.got[1:] == [("info", IDLE)] * 2
        assert world.clock.pending == 0


async def test_suspend_and_resume(world):
    """A suspended actor answers system messages only.

    Then it goes on with what has come meanwhile.
    """
    actor = Recorder()
    async with world.run(actor) as ref:
        await ref.suspend()
        ref.cast(1)
        await settle()
        assert await ref.get_state() == {"got": []}
        await ref.resume()
        await settle()
        assert await ref.get_state() == {"got": [("cast", 1)]}
        await ref.suspend()
    assert ref.reason == "shutdown"
    for verb in (ref.suspend, ref.resume, ref.get_state):
        with pytest.raises(ActorStoppedError):
            await verb()


async def test_system_calls_of_a_dying_actor_fail():
    """A system call that waits when its actor ends fails like any other call."""

    class Dying(Actor):
        async def handle_cast(self, message):
            await settle()
            raise Stop("normal")

    async with run(Dying()) as ref:
        ref.cast(1)
        await asyncio.sleep(0)
        with pytest.raises(ActorStoppedError, match="normal"):
            await ref.get_state()


async def test_a_state_that_cannot_be_shown(world):
    """An actor that fails to show its state ends, and whoever looked hears of it."""

    class Shy(Actor):
        async def get_state(self):
            raise LookupError("nothing to see")

    async with world.supervisor(ChildSpec(1, Shy)) as sup:
        ref = (await world.kids(sup))[1]
        with pytest.raises(ActorStoppedError, match="nothing to see"):
            await ref.get_state()


async def test_callers_hear_of_an_end_in_the_order_of_their_calls() -> None:
    """Whoever asked first is told first, every time: it does not hang on where objects lie in memory."""

    class Deferring(Actor):
        async def handle_call(self, request):
            self.defer()

    heard: list[int] = []

    async def ask(ref, number: int) -> None:
        with pytest.raises(ActorStoppedError):
            await ref.call(number, timeout=None)
        heard.append(number)

    async with run(Supervisor([ChildSpec("one", Deferring)])) as root:
        [info] = await root.which_children()
        asking = [asyncio.ensure_future(ask(info.ref, number)) for number in range(50)]
        await settle()
        info.ref.kill()
        await asyncio.wait(asking)
    assert heard == [*range(50)]
