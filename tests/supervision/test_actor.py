"""Actors: callbacks in order, replies, batches, stash, fairness, system calls."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import weakref

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
    Failure,
    StashFullError,
    Stop,
    Supervisor,
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


@pytest.mark.parametrize(
    "callback", ["handle_continue", "handle_call", "handle_cast", "handle_info", "terminate"]
)
def test_who_overrides_a_callback_names_its_argument(callback):
    """An order may be called an order: type checkers take no other name where it could be a keyword."""
    _self, argument = inspect.signature(getattr(Actor, callback)).parameters.values()
    assert argument.kind is argument.POSITIONAL_ONLY


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
    """What get_state raises is raised at whoever looked; the actor lives on, as with OTP's sys:get_state."""

    class Shy(Actor):
        async def get_state(self):
            raise LookupError("nothing to see")

    async with world.supervisor(ChildSpec(1, Shy)) as sup:
        ref = (await world.kids(sup))[1]
        with pytest.raises(LookupError, match="nothing to see"):
            await ref.get_state()
        assert ref.alive


async def test_an_actor_that_ends_while_it_is_looked_at(world):
    """Whoever looked hears of the end."""

    class Leaving(Actor):
        async def get_state(self):
            raise Stop("seen")

    async with world.supervisor(ChildSpec(1, Leaving, restart="temporary")) as sup:
        with pytest.raises(ActorStoppedError, match="seen"):
            await (await world.kids(sup))[1].get_state()


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


async def test_an_idle_actor_lets_go_of_its_lane() -> None:
    """An empty one weighs a third of a waiting workflow."""
    lanes: list[weakref.ref[object]] = []

    class Sees(Actor):
        async def handle_cast(self, _message: object) -> None:
            lane = self._cell.mailbox.user
            assert lane is not None
            lanes.append(weakref.ref(lane))

    async with run(Supervisor([ChildSpec("sees", Sees)])) as root:
        seen = (await root.which_child("sees")).ref
        assert seen is not None
        seen.cast("look")
        await settle()
        assert lanes[0]() is None


async def test_a_start_timeout_that_init_swallows(world):
    """A start whose time is over has failed, even if init swallows its cancel and returns after all."""

    class Swallowing(Actor):
        async def init(self):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async with world.supervisor() as sup:
        starting = asyncio.ensure_future(
            sup.start_child(ChildSpec(1, Swallowing, start_timeout=1.0))
        )
        await world.clock.advance(2)
        with pytest.raises(ChildStartError) as failure:
            await starting
        assert failure.value.reason == "timeout"
        assert await world.count(sup) == [0, 0, 0, 0]


async def test_unstash_in_a_spawned_task(world):
    """What a spawned task unstashes is handled at once, though the actor is idle by then."""

    class Connecting(Recorder):
        ready = False

        async def init(self):
            self.connected = asyncio.Event()
            self.spawn(self.connect())

        async def connect(self):
            await self.connected.wait()
            self.ready = True
            self.unstash_all()

        async def handle_cast(self, message):
            if self.ready:
                self.got.append(message)
            else:
                self.stash()

    actor = Connecting()
    async with world.run(actor) as ref:
        ref.cast(1)
        ref.cast(2)
        await settle()
        actor.connected.set()
        await settle()
        assert actor.got == [1, 2]


class Careful(Actor):
    """Takes a second to clean up."""

    def __init__(self, world, cleaned):
        self.world = world
        self.cleaned = cleaned

    async def handle_cast(self, message):
        if message == "exit":
            self.ref.exit("of its own")
        else:
            raise Stop(message)

    async def terminate(self, reason):
        await self.world.clock.sleep(1)
        self.cleaned.append(reason)


@pytest.mark.parametrize(("message", "reason"), [("exit", "of its own"), ("normal", "normal")])
async def test_nobody_cuts_terminate_short(world, message, reason):
    """Neither an exit signal that an actor sends itself, nor a stop that comes while it cleans up already."""
    cleaned = []
    spec = ChildSpec(1, lambda: Careful(world, cleaned), restart="temporary")
    async with world.supervisor(spec) as sup:
        ref = (await world.kids(sup))[1]
        ref.cast(message)
        await settle()
        assert cleaned == []
        stopping = asyncio.ensure_future(sup.terminate_child(1))
        await world.clock.advance(1)
        await stopping
        assert cleaned == [reason]
        assert ref.reason == reason


async def test_a_message_just_in_time(world):
    """A message that comes as the idle time runs out is handled, and IDLE is not told ahead of it."""

    class Idling(Recorder):
        idle_timeout = 1.0

    actor = Idling()
    async with world.run(actor) as ref:
        await settle()
        world.clock.call_later(1.0, ref.cast, "message")
        for _, _, timer in sorted(world.clock._timers):
            timer.callback(*timer.args)
        await settle()
        assert actor.got == [("cast", "message")]


async def test_one_actor_lives_once(world):
    """A start function that gives an actor which lives already fails; one that has ended may live again."""
    actor = Recorder()
    async with world.supervisor(ChildSpec(1, lambda: actor)) as sup:
        with pytest.raises(ChildStartError, match="lives already, at /root/1"):
            await sup.start_child(ChildSpec(2, lambda: actor))
        first = (await world.kids(sup))[1]
        first.kill()
        await settle()
        assert (await world.kids(sup))[1].alive
