"""Refs: values, calls, bounded mailboxes, stop, exit, wait, monitor from outside."""

from __future__ import annotations

import asyncio

import pytest

from supervision import (
    Actor,
    ActorStoppedError,
    CallingSelfError,
    CallTimeoutError,
    ChildSpec,
    DeadLetter,
    MailboxFullError,
    Overflow,
    run,
)
from supervision.testing import settle


class Slow(Actor):
    """Works on a message until it may go on."""

    def __init__(self):
        self.go = asyncio.Event()
        self.got = []

    async def handle_call(self, request):
        await self.go.wait()
        self.got.append(request)
        return request

    async def handle_cast(self, message):
        await self.go.wait()
        self.got.append(message)


async def test_refs_are_values(world):
    """Refs to one life are equal and hash alike.

    Another life has another, with a greater incarnation.
    """
    async with world.supervisor(world.spec(1)) as sup:
        one, same = [(await world.kids(sup))[1] for _ in range(2)]
        assert one == same
        assert len({one, same}) == 1
        assert one != "something else"
        assert (one.id, one.path) == (1, "/root/1")
        await world.end(one)
        other = (await world.kids(sup))[1]
        assert other != one
        assert other.incarnation > one.incarnation
        assert repr(one) == f"<ActorRef /root/1#{one.incarnation} ended 'boom'>"
        assert (one.alive, one.reason, other.reason) == (False, "boom", None)


async def test_call_timeout_leaves_nothing(world):
    """After a timeout the work goes on, its answer is dropped, and no timer is left."""
    actor = Slow()
    async with world.run(actor) as ref:
        asked = asyncio.ensure_future(ref.call("late", timeout=2.0))
        await world.clock.advance(2)
        with pytest.raises(CallTimeoutError) as late:
            await asked
        assert (late.value.path, late.value.timeout_s) == ("/root", 2.0)
        actor.go.set()
        assert await ref.call("next") == "next"
        assert actor.got == ["late", "next"]
        assert world.clock.pending == 0


async def test_cancelled_call_leaves_nothing(world):
    """A caller that is cancelled drops the answer; the actor goes on."""
    actor = Slow()
    async with world.run(actor) as ref:
        asked = asyncio.ensure_future(ref.call("gone"))
        await settle()
        asked.cancel()
        await settle()
        actor.go.set()
        assert await ref.call("next") == "next"
        assert world.clock.pending == 0


async def test_calling_self():
    """An actor that calls or stops itself is told so instead of waiting for ever."""

    class Narcissus(Actor):
        async def handle_call(self, request):
            for verb in ("call", "stop"):
                with pytest.raises(CallingSelfError, match=verb):
                    await getattr(self.ref, verb)(request)
            return "fine"

    async with run(Narcissus()) as ref:
        assert await ref.call("normal") == "fine"


async def test_cast_to_the_dead_is_a_dead_letter(world):
    """A cast to an actor that has ended is dropped, and told to the observer only."""
    async with world.supervisor(world.spec(1)) as sup:
        one = (await world.kids(sup))[1]
        await world.end(one)
        one.cast("letter")
        one.send("info")
        letters = world.told(DeadLetter)
        assert [(e.path, e.message, e.why) for e in letters] == [
            ("/root/1", "letter", "noproc"),
            ("/root/1", "info", "noproc"),
        ]


async def test_stop_goes_ahead_of_messages(world):
    """stop ends the actor after its current message with the given reason.

    A permanent one is restarted.
    """
    async with world.supervisor(world.spec(1)) as sup:
        one = (await world.kids(sup))[1]
        one.cast("never handled")
        await one.stop()
        assert one.reason == "normal"
        assert world.reasons[1] == "normal"
        assert await world.count(sup) == [1, 1, 0, 1]
        await one.stop()


async def test_stop_in_time(world):
    """Stop raises when the actor has not ended in time; it is still asked to."""
    world.slow_stops[1] = 10.0
    async with world.supervisor(world.spec(1)) as sup:
        one = (await world.kids(sup))[1]
        stopping = asyncio.ensure_future(one.stop(timeout=2.0))
        await world.clock.advance(3)
        with pytest.raises(CallTimeoutError):
            await stopping
        await world.clock.advance(10)
        assert one.reason == "normal"
        world.slow_stops.clear()


async def test_function_child_lives_and_stops(world):
    """A child function takes no messages; stop ends it at once, with the reason."""
    async with world.supervisor(ChildSpec("f", asyncio.Event().wait)) as sup:
        one = (await world.kids(sup))["f"]
        with pytest.raises(ActorStoppedError):
            await one.call("anything")
        await one.stop("enough")
        assert one.reason == "enough"
        assert await world.count(sup) == [1, 1, 0, 1]


async def test_exit_interrupts(world):
    """An exit signal ends an actor in the middle of a message, with terminate.

    Normal does nothing.
    """
    actor = Slow()
    system = world.run(actor)
    ref = await system.start()
    ref.cast("stuck")
    await settle()
    ref.exit("normal")
    await settle()
    assert ref.alive
    ref.exit("signal")
    assert await ref.wait() == "signal"
    ref.exit("late")
    with pytest.raises(ActorStoppedError, match="signal"):
        await system.stop()


async def test_wait(world):
    """Wait gives the exit reason, also long after the end, and has a timeout."""
    async with world.supervisor(world.spec(1)) as sup:
        one = (await world.kids(sup))[1]
        waiting = asyncio.ensure_future(one.wait(timeout=1.0))
        await world.clock.advance(2)
        with pytest.raises(CallTimeoutError):
            await waiting
        assert not one._cell.watchers
        await world.end(one)
        assert await one.wait() == await one.wait(timeout=1.0) == "boom"


async def test_monitor_with_a_callback(world):
    """A callback is called once with the Down; noproc when there is nobody.

    Not at all after cancel.
    """
    async with world.supervisor(world.spec(1)) as sup:
        one = (await world.kids(sup))[1]
        downs = []
        one.monitor(lambda down: (downs.append(down), late.cancel()))
        one.monitor(downs.append).cancel()
        late = one.monitor(downs.append)
        one.cast(SystemExit())
        await one.wait()
        await settle()
        assert [(down.ref, type(down.reason)) for down in downs] == [(one, SystemExit)]
        one.monitor(downs.append)
        await settle()
        assert downs[-1].reason == "noproc"


@pytest.mark.parametrize("overflow", list(Overflow))
async def test_bounded_mailbox(world, overflow):
    """A full mailbox rejects, or drops the oldest or the newest message as a dead letter."""
    actor = type("Bounded", (Slow,), {"mailbox_limit": 2, "overflow": overflow})()
    async with world.run(actor) as ref:
        ref.cast(0)
        await settle()
        asked = asyncio.ensure_future(ref.call(1))
        await settle()
        ref.cast(2)
        if overflow in {Overflow.REJECT, Overflow.WAIT}:
            with pytest.raises(MailboxFullError) as full:
                ref.cast(3)
            assert full.value.limit == 2
        if overflow is Overflow.REJECT:
            with pytest.raises(MailboxFullError):
                await ref.call(3)
        elif overflow is Overflow.WAIT:
            with pytest.raises(CallTimeoutError):
                await asyncio.gather(ref.call(3, timeout=1), world.clock.advance(1))
        else:
            ref.cast(3)
        actor.go.set()
        if overflow is Overflow.DROP_OLDEST:
            with pytest.raises(MailboxFullError):
                await asked
        else:
            assert await asked == 1
        await settle()
    kept = {
        Overflow.REJECT: [0, 1, 2],
        Overflow.WAIT: [0, 1, 2],
        Overflow.DROP_NEWEST: [0, 1, 2],
        Overflow.DROP_OLDEST: [0, 2, 3],
    }
    lost = {Overflow.DROP_NEWEST: [3], Overflow.DROP_OLDEST: [1]}.get(overflow, [])
    assert actor.got == kept[overflow]
    assert [e.message for e in world.told(DeadLetter) if e.why == "full"] == lost


async def test_push_waits_for_room():
    """Push suspends while a bounded mailbox is full, keeps order, and gives up when the actor ends."""
    actor = type("Bounded", (Slow,), {"mailbox_limit": 1})()
    system = run(actor)
    ref = await system.start()
    ref.cast(0)
    await settle()
    pushing = [asyncio.ensure_future(ref.push(n)) for n in (1, 2, 3)]
    await settle()
    assert [p.done() for p in pushing] == [True, False, False]
    actor.go.set()
    await asyncio.gather(*pushing)
    await settle()
    assert actor.got == [0, 1, 2, 3]
    actor.go.clear()
    ref.cast(4)
    await settle()
    ref.cast(5)
    pushing = asyncio.ensure_future(ref.push(6))
    await settle()
    await system.stop()
    await pushing


async def test_callers_wait_for_room_in_turn(world):
    """With WAIT a call is let in when its turn comes, before anything sent later; its end answers it."""
    actor = type("Bounded", (Slow,), {"mailbox_limit": 1, "overflow": Overflow.WAIT})()
    system = world.run(actor)
    ref = await system.start()
    ref.cast(0)
    await settle()
    ref.cast(1)
    asked = [asyncio.ensure_future(ref.call(n)) for n in (2, 3)]
    pushed = asyncio.ensure_future(ref.push(4))
    await settle()
    actor.go.set()
    with pytest.raises(MailboxFullError):
        ref.cast(5)
    assert await asyncio.gather(*asked, pushed) == [2, 3, None]
    await settle()
    assert actor.got == [0, 1, 2, 3, 4]
    actor.go.clear()
    ref.cast(6)
    await settle()
    ref.cast(7)
    late = asyncio.ensure_future(ref.call(8))
    await settle()
    await system.stop()
    with pytest.raises(ActorStoppedError):
        await late


async def test_push_gives_up_in_time(world):
    """A push that found no room in time raises, and its message is never let in."""
    actor = type("Bounded", (Slow,), {"mailbox_limit": 1})()
    async with world.run(actor) as ref:
        ref.cast(0)
        await settle()
        ref.cast(1)
        with pytest.raises(MailboxFullError):
            await asyncio.gather(ref.push(2, timeout=1.0), world.clock.advance(1))
        actor.go.set()
        await settle()
    assert actor.got == [0, 1]


async def test_who_gave_up_waits_no_more(world):
    """Senders that gave up, in time or cancelled, leave nothing behind in a mailbox that stays full."""
    actor = type("Bounded", (Slow,), {"mailbox_limit": 1, "overflow": Overflow.WAIT})()
    async with world.run(actor) as ref:
        ref.cast(0)
        await settle()
        ref.cast(1)
        pushing = asyncio.gather(
            *(ref.push(n, timeout=1.0) for n in range(3)),
            *(ref.call(n, timeout=1.0) for n in range(3)),
            return_exceptions=True,
        )
        cancelled = asyncio.ensure_future(ref.call(9))
        await settle()
        assert len(ref._cell.mailbox._room) == 7
        cancelled.cancel()
        await world.clock.advance(1)
        assert not ref._cell.mailbox._room
        assert {type(error) for error in await pushing} == {MailboxFullError, CallTimeoutError}
        actor.go.set()
        await settle()
    assert actor.got == [0, 1]


async def test_looking_into_a_busy_actor_ends_in_time(world):
    """Its state can be seen between two messages only; whoever looks waits no longer than it likes."""
    actor = Slow()
    async with world.run(actor) as ref:
        ref.cast(0)
        await settle()
        with pytest.raises(CallTimeoutError):
            await asyncio.gather(ref.get_state(timeout=1.0), world.clock.advance(1))
        actor.go.set()


async def test_no_state_of_the_dead_is_kept(world):
    """A ref that outlives its actor keeps neither the actor nor its task."""
    async with world.supervisor(world.spec(1)) as sup:
        one = (await world.kids(sup))[1]
        await world.end(one)
        assert one._cell.actor is None
        assert one._cell.task is None


async def test_the_mailbox_of_the_dead_does_not_grow(world):
    """Whatever is asked of a ref to an actor that has ended, nothing of it is kept."""
    async with world.supervisor(world.spec(1, restart="temporary")) as sup:
        ref = (await world.kids(sup))[1]
        await world.end(ref)
        await ref.stop()
        ref.exit()
        ref.cast(1)
        mailbox = ref._cell.mailbox
        assert not mailbox.system
        assert not mailbox.user


async def test_what_a_child_function_is_told(world):
    """A child function takes no messages, and the error says so; it has not stopped."""

    async def body():
        await asyncio.Event().wait()

    async with world.supervisor(ChildSpec(1, body)) as sup:
        ref = (await world.kids(sup))[1]
        for ask in (ref.call("hello"), ref.get_state()):
            with pytest.raises(
                ActorStoppedError, match="a child function, which takes no messages"
            ):
                await ask
        assert ref.alive
