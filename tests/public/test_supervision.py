"""supervision by itself, with nothing but public names; also run against the wheel."""

from __future__ import annotations

import pytest

from supervision import (
    Actor,
    ActorStoppedError,
    ChildSpec,
    DynamicSupervisor,
    Restart,
    RestartLimitError,
    Strategy,
    Supervisor,
    run,
)


class Counter(Actor):
    """Counts casts; crashes on demand."""

    def __init__(self) -> None:
        self.count = 0

    async def handle_cast(self, message: object) -> None:
        """Count, or crash."""
        if message == "crash":
            raise RuntimeError("as asked")
        self.count += 1

    async def handle_call(self, request: object) -> object:
        """Tell the count."""
        return self.count


async def test_an_actor_takes_its_messages_in_order() -> None:
    """What was cast before a call is done when the call is answered."""
    async with run(Supervisor([ChildSpec("counter", Counter)])) as supervisor:
        counter = (await supervisor.which_child("counter")).ref
        assert counter is not None
        for _ in range(100):
            counter.cast("count")
        assert await counter.call("count?") == 100


async def test_a_crash_costs_one_life() -> None:
    """Its supervisor starts the child afresh; the other child has noticed nothing."""
    specs = [ChildSpec(name, Counter) for name in ("one", "two")]
    async with run(Supervisor(specs, strategy=Strategy.ONE_FOR_ONE)) as supervisor:
        one, two = [(await supervisor.which_child(name)).ref for name in ("one", "two")]
        assert one is not None
        assert two is not None
        two.cast("count")
        one.cast("crash")
        assert isinstance(await one.wait(1), RuntimeError)
        again = (await supervisor.which_child("one")).ref
        assert again is not None
        assert again.incarnation > one.incarnation
        assert await again.call("count?") == 0
        assert await two.call("count?") == 1
        with pytest.raises(ActorStoppedError):
            await one.call("count?")


async def test_a_supervisor_gives_up_in_the_end() -> None:
    """One restart too many ends it, with the child's error as the cause."""

    async def crash() -> None:
        raise RuntimeError("always")

    with pytest.raises(RestartLimitError) as caught:
        async with run(Supervisor([ChildSpec("crash", crash)], max_restarts=2)) as supervisor:
            await supervisor.wait(5)
    assert isinstance(caught.value.__cause__, RuntimeError)


async def test_children_start_on_demand() -> None:
    """A dynamic supervisor has as many as are asked for, and stops them all."""
    async with run(DynamicSupervisor()) as supervisor:
        refs = [
            await supervisor.start_child(ChildSpec(number, Counter, restart=Restart.TRANSIENT))
            for number in range(10)
        ]
        assert (await supervisor.count_children()).active == 10
    assert all(ref is not None and not ref.alive for ref in refs)
