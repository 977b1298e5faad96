"""Messages between two lives of a child: kept where the spec asks for it, in order, within a limit."""

from __future__ import annotations

import asyncio

import pytest

from supervision import (
    IGNORE,
    Actor,
    ActorStoppedError,
    Backoff,
    ChildSpec,
    ChildStartError,
    DeadLetter,
    MailboxFullError,
    Overflow,
    RestartLimitError,
    SpecError,
    Stop,
)
from supervision.testing import settle


class Keeper(Actor):
    """Notes what it gets in a list that outlives it."""

    def __init__(self, got: list[object]) -> None:
        self.got = got

    async def handle_call(self, request):
        if isinstance(request, BaseException):
            raise request
        self.got.append(request)
        return request

    async def handle_cast(self, message):
        await self.handle_call(message)


@pytest.fixture
def got() -> list[object]:
    return []


def spec(got, **options):
    options.setdefault("restart_stash", 3)
    options.setdefault("backoff", Backoff(minimum=1.0, maximum=1.0))
    return ChildSpec("keeper", lambda: Keeper(got), **options)


async def first(sup):
    return (await sup.which_children())[0].ref


async def test_what_waits_goes_to_the_next_life(world, got):
    """What was in the mailbox and what is sent while the child is down arrive, in order; so do calls."""
    async with world.supervisor(spec(got)) as sup:
        old = await first(sup)
        old.cast(ValueError("crash"))
        old.cast(1)
        await settle()
        assert not old.alive
        asked = asyncio.ensure_future(old.call(2, timeout=10))
        await settle()
        old.cast(3)
        assert got == []
        await world.clock.advance(1)
        assert await asked == 2
        assert got == [1, 2, 3]
        assert await old.call(4) == 4  # the ref has become one of the child
        assert (await first(sup)).incarnation > old.incarnation
    assert world.told(DeadLetter) == []


async def test_the_message_that_crashed_it_does_not_come_back(world, got):
    """A call that ended the life is answered with that; it is not tried again."""
    async with world.supervisor(spec(got)) as sup:
        old = await first(sup)
        with pytest.raises(ActorStoppedError, match="poison"):
            await old.call(ValueError("poison"))
        await world.clock.advance(1)
        assert await old.call("well") == "well"
        assert world.starts == {}


async def test_a_full_stash(world, got):
    """More than the limit are dead letters; a call is refused."""
    async with world.supervisor(spec(got)) as sup:
        old = await first(sup)
        await world.end(old)
        for number in range(4):
            old.cast(number)
        with pytest.raises(MailboxFullError):
            await old.call(4)
        await world.clock.advance(1)
        await settle()
        assert got == [0, 1, 2]
    assert [event.message for event in world.told(DeadLetter)] == [3]


@pytest.mark.parametrize("how", ["terminate", "normal", "give up", "stop"])
async def test_no_next_life(world, got, how):
    """When it turns out that there is none, calls fail and the rest are dead letters."""
    system = world.supervisor(spec(got, restart="transient"), max_restarts=int(how != "give up"))
    sup = await system.start()
    old = await first(sup)
    busy = asyncio.Event()
    old._cell.actor.handle_info = lambda _: busy.wait()
    old.send("hold")
    await settle()
    old.cast(Stop("normal" if how == "normal" else "boom"))
    old.cast(1)
    asked = asyncio.ensure_future(old.call(2))
    await settle()
    busy.set()
    await settle()
    if how == "terminate":
        await sup.terminate_child("keeper")
    elif how == "stop":
        await system.stop()
    with pytest.raises(ActorStoppedError):
        await asked
    letters = [event.message for event in world.told(DeadLetter)]
    assert letters == [1]
    with pytest.raises(ActorStoppedError):
        await old.call(3)
    if how == "terminate":
        await sup.restart_child("keeper")
        assert await old.call(4) == 4
    if how == "give up":
        with pytest.raises(RestartLimitError):
            await system.stop()
    else:
        await system.stop()


async def test_a_life_that_fails_to_start_hands_them_back(world, got):
    """A restart that fails keeps the messages for the next attempt."""
    fails = 2

    class Late(Keeper):
        async def init(self):
            nonlocal fails
            if got and fails:
                fails -= 1
                raise LookupError

    late = ChildSpec("keeper", lambda: Late(got), restart_stash=3)
    async with world.supervisor(late, max_restarts=5) as sup:
        old = await first(sup)
        old.cast(0)
        old.cast(ValueError("crash"))
        old.cast(1)
        old.cast(2)
        await settle()
        assert got == [0, 1, 2]
        assert fails == 0


async def test_without_a_stash_a_ref_ends_with_its_life(world, got):
    """By default nothing is kept, and an old ref reaches nobody."""
    async with world.supervisor(spec(got, restart_stash=0, backoff=None)) as sup:
        old = await first(sup)
        old.cast(ValueError("crash"))
        old.cast(1)
        await settle()
        with pytest.raises(ActorStoppedError):
            await old.call(2)
        assert got == []
    with pytest.raises(SpecError, match="invalid_restart_stash"):
        spec(got, restart_stash=-1)


async def test_what_waited_comes_before_what_came_while_it_ended(world, got):
    """A child that is restarted with its group gets its mailbox first, then what was sent as it stopped."""

    class Slow(Keeper):
        async def terminate(self, reason):
            await world.clock.sleep(1.0)

    slow = ChildSpec("slow", lambda: Slow(got), restart_stash=3)
    async with world.supervisor(world.spec(1), slow, strategy="one_for_all") as sup:
        ref = (await world.kids(sup))["slow"]
        await ref.suspend()
        ref.cast(1)
        (await world.kids(sup))[1].cast("crash")
        await settle()
        ref.cast(2)
        await world.clock.advance(1)
        await settle()
        assert got == [1, 2]
        stopping = asyncio.ensure_future(sup.terminate_child("slow"))
        await world.clock.advance(1)
        await stopping


@pytest.mark.parametrize("says", ["start", "init"])
@pytest.mark.parametrize("kind", ["static", "dynamic"])
async def test_a_restart_that_says_ignore(world, got, kind, says):
    """There is no next life, so what was kept for it is given up at once."""
    ignores = []

    class Ignoring(Keeper):
        async def init(self):
            return IGNORE if ignores else None

    def start():
        return IGNORE if ignores and says == "start" else Ignoring(got)

    backoff = Backoff(minimum=1.0, maximum=1.0)
    spec = ChildSpec("keeper", start, restart_stash=3, backoff=backoff)
    async with world.dynamic() if kind == "dynamic" else world.supervisor(spec) as sup:
        ref = await (sup.start_child(spec) if kind == "dynamic" else first(sup))
        ref.cast(ValueError("crash"))
        await settle()
        ignores.append(True)
        asked = asyncio.ensure_future(ref.call("anybody?", timeout=None))
        ref.cast("letter")
        await world.clock.advance(1)
        assert asked.done()
        with pytest.raises(ActorStoppedError):
            await asked
    assert [event.message for event in world.told(DeadLetter)] == ["letter"]


async def test_a_temporary_sibling_has_no_next_life(world):
    """Stopped with its group it is forgotten, so nothing is kept for it."""
    kept = world.spec(2, restart="temporary", restart_stash=3)
    async with world.supervisor(world.spec(1), kept, strategy="one_for_all") as sup:
        kids = await world.kids(sup)
        await world.end(kids[1])
        with pytest.raises(ActorStoppedError):
            await kids[2].call("anybody?", timeout=None)


async def test_a_first_start_that_fails_keeps_nothing(world):
    """Neither does one by restart_child: who has a ref of an earlier life is not left waiting."""
    async with world.supervisor(world.spec(1, restart_stash=3)) as sup:
        old = (await world.kids(sup))[1]
        await sup.terminate_child(1)
        world.failing[1] = LookupError("no")
        with pytest.raises(ChildStartError):
            await sup.restart_child(1)
        with pytest.raises(ActorStoppedError):
            await old.call("anybody?", timeout=None)


async def test_looking_through_an_old_ref(world, got):
    """get_state, suspend and resume reach the present life, or fail; no callback sees them."""
    async with world.supervisor(spec(got)) as sup:
        old = await first(sup)
        await world.end(old)
        with pytest.raises(ActorStoppedError):
            await old.get_state()
        await world.clock.advance(1)
        await old.suspend()
        old.cast("held")
        await settle()
        assert await old.get_state() == {"got": []}
        await old.resume()
        await settle()
    assert got == ["held"]


async def test_waiting_for_room_through_an_old_ref(world, got):
    """push, and calls where the mailbox has them wait, wait for room in the present life."""

    class Patient(Keeper):
        mailbox_limit = 1
        overflow = Overflow.WAIT

    async with world.supervisor(ChildSpec(1, lambda: Patient(got), restart_stash=3)) as sup:
        old = await first(sup)
        old.cast(ValueError("crash"))
        await settle()
        present = await first(sup)
        await present.suspend()
        present.cast(1)
        pushed = asyncio.ensure_future(old.push(2))
        await settle()
        asked = asyncio.ensure_future(old.call(3))
        await settle()
        await present.resume()
        await pushed
        assert await asked == 3
    assert got == [1, 2, 3]
