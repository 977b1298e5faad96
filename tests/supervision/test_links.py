"""Monitors, links, trapped exits: who hears of whose end."""

from __future__ import annotations

import contextvars

import pytest

from supervision import (
    Actor,
    ActorStoppedError,
    ChildSpec,
    Down,
    Exit,
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


async def test_linking_with_the_dead(world):
    """Whichever side asks, the living one gets the exit signal noproc, and keeps nothing of the dead one."""
    specs = [world.spec(n, restart="temporary") for n in (1, 2, 3)]
    async with world.supervisor(*specs) as sup:
        dead, one, two = (await world.kids(sup)).values()
        await world.end(dead)
        one.link(dead)
        dead.link(two)
        await settle()
        assert (one.reason, two.reason) == ("noproc", "noproc")


async def test_a_dead_watcher_watches_nobody(world):
    """A monitor for an actor that has ended is over at once, and leaves nothing at those it should watch."""
    async with world.supervisor(world.spec(1), world.spec(2, restart="temporary")) as sup:
        one, dead = (await world.kids(sup)).values()
        await world.end(dead)
        assert not one.monitor(dead).active
        assert not one._cell.watchers


async def test_the_context_of_a_callback(world):
    """A monitor's callback runs in the context of who monitors, not in that of who has ended."""
    who = contextvars.ContextVar("who", default="nobody")
    seen = []
    async with world.supervisor(world.spec(1)) as sup:
        one = (await world.kids(sup))[1]
        who.set("watcher")
        one.monitor(lambda _: seen.append(who.get()))
        await world.end(one)
    assert seen == ["watcher"]
