"""Names: unique and duplicate keys, cleanup in order, names used as refs."""

from __future__ import annotations

import asyncio

import pytest

from supervision import (
    ActorNotFoundError,
    ActorStoppedError,
    AlreadyStartedError,
    ChildSpec,
    Keys,
    NameTakenError,
    Registry,
    SpecError,
    Strategy,
)
from supervision.testing import settle


async def test_unique_keys(world):
    """A unique key belongs to one living actor; one actor may have several keys."""
    registry = Registry()
    async with world.supervisor(*world.specs(1, 2)) as sup:
        one, two = (await world.kids(sup)).values()
        registry.register("a", one, "value")
        registry.register("b", one)
        with pytest.raises(NameTakenError) as taken:
            registry.register("a", two)
        assert taken.value.ref == one
        with pytest.raises(NameTakenError):
            registry.register("a", one)
        assert registry.whereis("a") == one
        assert registry.keys(one) == ["a", "b"]
        assert registry.values("a", one) == ["value"]
        assert registry.values("a", two) == []
        assert len(registry) == 2
        registry.unregister("a", two)
        registry.unregister("a", one)
        registry.unregister("a", one)
        assert registry.whereis("a") is None
        registry.register("a", two)
    assert len(registry) == 0


async def test_keys_of_different_types_differ(world):
    """1, 1.0 and True are three keys."""
    registry = Registry()
    async with world.supervisor(world.spec(1)) as sup:
        one = (await world.kids(sup))[1]
        for key in (1, 1.0, True):
            registry.register(key, one)
        assert len(registry) == 3


async def test_duplicate_keys(world):
    """Actors share a duplicate key, also the same one twice.

    Dispatch gets all entries, or is not called.
    """
    registry = Registry(keys=Keys.DUPLICATE)
    async with world.supervisor(*world.specs(1, 2)) as sup:
        one, two = (await world.kids(sup)).values()
        registry.register("topic", one, 1)
        registry.register("topic", two, 2)
        registry.register("topic", one, 3)
        got = []
        registry.dispatch("topic", lambda entries: got.extend((e.ref, e.value) for e in entries))
        registry.dispatch("nothing", got.append)
        assert got == [(one, 1), (one, 3), (two, 2)]
        assert registry.values("topic", one) == [1, 3]
        assert registry.keys(one) == ["topic", "topic"]
        with pytest.raises(TypeError):
            registry.update_value("topic", one, lambda _: 0)
        registry.unregister("topic", one)
        assert [entry.ref for entry in registry.lookup("topic")] == [two]
    with pytest.raises(SpecError, match="invalid_keys"):
        Registry(keys="triplicate")


async def test_update_value(world):
    """An actor's value is replaced; somebody else's is not found."""
    registry = Registry()
    async with world.supervisor(*world.specs(1, 2)) as sup:
        one, two = (await world.kids(sup)).values()
        registry.register("n", one, 1)
        assert registry.update_value("n", one, lambda n: n + 1) == (2, 1)
        with pytest.raises(ActorNotFoundError):
            registry.update_value("n", two, lambda n: n)
        assert [e.value for e in registry.select(lambda e: e.value == 2)] == [2]


async def test_names_are_released_before_anybody_hears(world):
    """Whoever hears of an actor's end finds its name free.

    Monitors, its supervisor, its successor.
    """
    changes = []
    registry = Registry(listeners=(changes.append,))
    seen = []
    spec = ChildSpec(1, registry.via("name", lambda: world.worker(1)))
    async with world.supervisor(spec) as sup:
        one = registry.whereis("name")
        assert one == (await world.kids(sup))[1]
        one._cell.watch("probe", lambda _: seen.append(registry.whereis("name")))
        await world.end(one)
        assert seen == [None]
        two = registry.whereis("name")
        assert two == (await world.kids(sup))[1]
        assert two != one
        with pytest.raises(ActorStoppedError):
            registry.register("other", one)
    assert [(c.registered, c.ref) for c in changes] == [
        (True, one), (False, one), (True, two), (False, two),
    ]  # fmt: skip


async def test_S91_already_started_outside_supervisor(world):
    """A child whose name belongs to another actor fails with already_started and that actor's ref."""
    registry = Registry()
    async with world.supervisor() as sup, world.dynamic() as other:
        spec = ChildSpec(1, registry.via("name", lambda: world.worker(1)))
        outside = await other.start_child(spec)
        with pytest.raises(AlreadyStartedError) as taken:
            await sup.start_child(spec)
        assert taken.value.ref == outside
        assert await sup.which_children() == []
        with pytest.raises(AlreadyStartedError):
            await other.start_child(spec)
        assert await world.count(other) == [1, 1, 0, 1]
        assert world.starts[1] == 1


async def test_S79_simple_global_supervisor(world):
    """Named supervisors and workers come back under their names, however they end.

    No name outlives the top.
    """
    from supervision import Supervisor

    registry = Registry()

    def level():
        worker = ChildSpec("worker", registry.via("worker", lambda: world.worker(1)))
        return Supervisor([worker], max_seconds=60)

    named = ChildSpec("inner", registry.via("inner", level), type="supervisor")
    async with world.supervisor(
        named, strategy=Strategy.ONE_FOR_ALL, max_restarts=3, max_seconds=60
    ):
        for hit in ("inner", "worker"):
            before = registry.whereis("inner"), registry.whereis("worker")
            registry.whereis(hit).kill()
            await settle()
            after = registry.whereis("inner"), registry.whereis("worker")
            assert (after[0] != before[0]) is (hit == "inner")
            assert after[1] != before[1]
            assert not before[1].alive
        await world.end(registry.whereis("worker"))
        await registry.name("inner").ref.terminate_child("worker")
        assert registry.whereis("worker") is None
        again = await registry.name("inner").ref.restart_child("worker")
        assert registry.whereis("worker") == again
    assert len(registry) == 0


async def test_name_is_used_like_a_ref(world):
    """A name finds whoever has it now; calls to nobody are an error, casts are nothing."""
    registry = Registry()
    name = registry.name("n")
    assert not name.alive
    name.cast("nobody")
    name.send("nobody")
    for waiting in (name.call("nobody"), name.stop()):
        with pytest.raises(ActorNotFoundError):
            await waiting
    async with world.supervisor(ChildSpec(1, registry.via("n", lambda: world.worker(1)))):
        assert name.alive
        assert await name.call("hello") == "hello"
        one = name.ref
        name.cast("crash")
        await one.wait()
        await settle()
        assert name.ref != one
        name.send("info")
        await name.stop()
        assert repr(name) == "<Name 'n'>"


async def test_lock():
    """A key's lock is held by one at a time, set free by a crash of its holder, and leaves nothing."""
    registry = Registry()
    order = []

    async def hold(number, key="k"):
        async with registry.lock(key):
            order.append(number)
            await settle_a_little()
            if number == 1:
                raise ValueError

    async def settle_a_little():
        for _ in range(3):
            await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(hold(n)) for n in (1, 2, 3)]
    other = asyncio.ensure_future(hold(9, "other"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == [1, 9]
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, other, return_exceptions=True)
    assert order == [1, 9, 3]
    assert isinstance(results[0], ValueError)
    assert registry._locks == {}


async def test_via_names_actors_only(world):
    """A function child cannot have a name; that is told at its start."""

    async def body():
        """Never runs."""

    def start():
        return "no actor"

    async with world.supervisor() as sup:
        with pytest.raises(Exception, match="via"):
            await sup.start_child(ChildSpec(1, Registry().via("n", start)))


# Cases of Elixir's RegistryTest


async def test_unregister_match(world):
    """Only those entries of an actor go whose value is wanted; listeners hear of each."""
    heard = []
    registry = Registry(keys=Keys.DUPLICATE, listeners=(heard.append,))
    async with world.supervisor(*world.specs(1, 2)) as sup:
        one, two = (await world.kids(sup)).values()
        for value in ("a", "b", "a"):
            registry.register("key", one, value)
        registry.register("key", two, "a")
        registry.unregister_match("key", one, lambda entry: entry.value == "a")
        assert [(e.ref, e.value) for e in registry.lookup("key")] == [(one, "b"), (two, "a")]
        assert sum(not change.registered for change in heard) == 2
        registry.unregister_match("key", one, lambda entry: entry.value == "b")
        registry.unregister_match("other", one, lambda _: True)
        assert [e.ref for e in registry.lookup("key")] == [two]


async def test_count_and_select(world):
    """Entries are counted and selected by any predicate over key, ref and value."""
    registry = Registry()
    async with world.supervisor(*world.specs(1, 2)) as sup:
        one, two = (await world.kids(sup)).values()
        registry.register("a", one, 1)
        registry.register("b", two, 2)
        registry.register("c", two, 3)
        assert registry.count() == 3
        assert registry.count(lambda entry: entry.ref == two) == 2
        assert [e.key for e in registry.select(lambda e: e.value != 2)] == ["a", "c"]
        assert registry.count(lambda entry: entry.key == "z") == 0


async def test_registering_over_a_dead_owner(world):
    """The name of an actor that has ended is free in the same turn, and its last ref cannot take one."""
    registry = Registry()
    async with world.supervisor(*world.specs(1, 2)) as sup:
        one, two = (await world.kids(sup)).values()
        registry.register("a", one)
        one.kill()
        await one.wait()
        registry.register("a", two)
        with pytest.raises(ActorStoppedError):
            registry.register("b", one)
        assert registry.whereis("b") is None


async def test_a_refused_registration_leaves_nothing(world):
    """A name that is taken stays with its owner, and goes with it."""
    registry = Registry()
    async with world.supervisor(*world.specs(1, 2)) as sup:
        one, two = (await world.kids(sup)).values()
        registry.register("a", one)
        with pytest.raises(NameTakenError):
            registry.register("a", two)
        two.kill()
        await two.wait()
        assert registry.whereis("a") == one
    assert len(registry) == 0


async def test_meta(world):
    """A registry keeps what belongs to it as a whole."""
    registry = Registry()
    registry.meta["version"] = 3
    assert registry.meta == {"version": 3}


async def test_dispatch_to_duplicates(world):
    """Dispatch runs in the caller, once, with all entries; and not at all when there are none."""
    registry = Registry(keys=Keys.DUPLICATE)
    calls = []
    async with world.supervisor(*world.specs(1, 2)) as sup:
        for ref in (await world.kids(sup)).values():
            registry.register("key", ref)
        registry.dispatch("key", calls.append)
        registry.dispatch("nobody's", calls.append)
        assert [len(entries) for entries in calls] == [2]


async def test_lock_is_released_when_its_holder_dies(world):
    """A holder that is killed gives the lock back, a waiter that is killed does not keep others waiting."""
    registry = Registry()
    got = []

    async def hold(name):
        async with registry.lock("key"):
            got.append(name)
            await asyncio.Event().wait()

    specs = [ChildSpec(n, lambda n=n: hold(n), restart="temporary") for n in "abc"]
    async with world.supervisor(*specs) as sup:
        await settle()
        a, b, _ = (await world.kids(sup)).values()
        assert got == ["a"]
        b.kill()
        a.kill()
        await settle()
        assert got == ["a", "c"]


async def test_names_watch_and_wait(world):
    """A name is monitored and pushed to like a ref, for as long as somebody has it."""
    registry = Registry()
    downs = []
    async with world.supervisor() as sup:
        start = registry.via("name", lambda: world.worker(1))
        ref = await sup.start_child(ChildSpec(1, start, restart="temporary"))
        name = registry.name("name")
        name.monitor(downs.append)
        await name.push(LookupError())
        await ref.wait()
        await settle()
        assert [down.ref for down in downs] == [ref]
        with pytest.raises(ActorNotFoundError):
            await name.push("x")
        with pytest.raises(ActorNotFoundError):
            name.monitor(downs.append)


async def test_several_names(world):
    """An actor may be started via several names, in every life; refused one of them, it gets none."""
    registry = Registry()
    both = registry.via("outer", registry.via("inner", lambda: world.worker(1)))
    async with world.supervisor(ChildSpec(1, both)) as sup:
        one = (await world.kids(sup))[1]
        assert registry.whereis("inner") == registry.whereis("outer") == one
        await world.end(one)
        again = (await world.kids(sup))[1]
        assert registry.whereis("inner") == registry.whereis("outer") == again
        more = registry.via("outer", registry.via("third", lambda: world.worker(2)))
        with pytest.raises(AlreadyStartedError):
            await sup.start_child(ChildSpec(2, more))
        assert registry.whereis("third") is None
    assert len(registry) == 0


async def test_a_listener_that_raises(world):
    """It disturbs neither who registers nor the end of who was; the loop's handler is told."""

    def listener(change):
        raise LookupError(change.key)

    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    registry = Registry(listeners=(listener,))
    async with world.supervisor(ChildSpec(1, registry.via("name", lambda: world.worker(1)))) as sup:
        assert registry.whereis("name") is not None
        await sup.terminate_child(1)
        assert registry.whereis("name") is None
    assert [repr(context["exception"]) for context in told] == ["LookupError('name')"] * 2


async def test_a_release_that_raises(world):
    """What somebody wanted done at the end of an actor does not keep it from ending."""

    def fails():
        raise LookupError("at the end")

    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with world.supervisor(world.spec(1)) as sup:
        one = (await world.kids(sup))[1]
        one.at_end("key", fails)
        await sup.terminate_child(1)
        assert one.reason == "shutdown"
    assert len(told) == 1
