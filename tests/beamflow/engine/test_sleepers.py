"""The duty that wakes sleepers: each in time, and only those of the next hour known."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from beamflow.engine.sleepers import Sleepers
from beamflow.engine.timers import TimerQueue
from beamflow.stores.base import NEVER, Sleep
from beamflow.testing.store_suite.samples import SECOND, started
from supervision.testing import settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from beamflow.stores.base import Lease, Place
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock

HOUR = 3600 * SECOND
MOST = 40


class Dormitory:
    """A store with sleepers, the duty that wakes them, and what that has done."""

    def __init__(self, store: MemoryStore, clock: ManualClock, lease: Lease) -> None:
        self.store = store
        self.clock = clock
        self.timers = TimerQueue(clock)
        self.actors: set[str] = set()
        self.woken: list[tuple[str, int]] = []
        self.most_known = 0
        self._lease = lease
        self.duty = Sleepers(store, self.timers, self.now, self.actors, MOST)

    def now(self) -> int:
        return int(self.clock.now() * SECOND)

    async def put_to_bed(self, workflow_id: str, until: int, *, tell: bool = True) -> None:
        """Do what a workflow does that leaves memory."""
        await self.store.append(
            workflow_id,
            0,
            [started()],
            time=self.now(),
            epoch=self._lease.epoch,
            sleep=Sleep(until),
        )
        if tell:
            self.duty.slept(workflow_id, until)

    async def wake(self, workflow_id: str, _: bool) -> None:  # noqa: FBT001 - as it is called
        self.most_known = max(self.most_known, len(self.duty._known))
        self.woken.append((workflow_id, self.now()))


@pytest.fixture
async def dormitory(memory: MemoryStore, clock: ManualClock) -> AsyncIterator[Dormitory]:
    """A duty that is at work."""
    await memory.open()
    made = Dormitory(memory, clock, await memory.claim("the test", 1e9))
    duty = asyncio.create_task(made.duty.run(made.wake))
    await settle()
    yield made
    duty.cancel()
    await asyncio.wait({duty})
    made.duty.close()
    made.timers.close()
    await memory.close()


@pytest.mark.invariant("I16")
async def test_each_is_woken_once_and_in_time(dormitory: Dormitory) -> None:
    """Whenever they went to sleep and however far away their time is, no more than a few known."""
    chance = random.Random(1)
    began = dormitory.now()
    expected: dict[str, int] = {}
    for number in range(500):
        until = began + chance.choice((1, 3600, 86_400)) * chance.randrange(1, 100 * SECOND)
        expected[f"w-{number}"] = max(until, dormitory.now() + 1)
        await dormitory.put_to_bed(f"w-{number}", expected[f"w-{number}"])
        if not number % 50:
            await dormitory.clock.advance(7)
    await dormitory.clock.advance(101 * 86_400)
    assert len(dormitory.woken) == 500
    for workflow_id, time in dormitory.woken:
        assert 0 <= time - expected[workflow_id] < 10
    assert dormitory.most_known <= MOST


async def test_a_crowd_that_wakes_at_the_same_moment(dormitory: Dormitory) -> None:
    """All are woken then, though there is room for few of them."""
    until = dormitory.now() + 10 * SECOND
    for number in range(5 * MOST):
        await dormitory.put_to_bed(f"w-{number:03}", until)
    await dormitory.clock.advance(11)
    assert [workflow_id for workflow_id, _ in dormitory.woken] == [
        f"w-{number:03}" for number in range(5 * MOST)
    ]


async def test_only_those_of_the_next_hour_are_known(dormitory: Dormitory) -> None:
    """Those of later hours are looked up when their hour comes."""
    now = dormitory.now()
    for number in range(20):
        await dormitory.put_to_bed(f"w-{number:02}", now + HOUR // 2 + number * HOUR)
    assert set(dormitory.duty._known) == {"w-00"}
    await dormitory.clock.advance(10 * 3600)
    assert len(dormitory.woken) == 10
    assert len(dormitory.duty._known) <= 2


async def test_who_was_woken_by_somebody_else_is_let_be(dormitory: Dormitory) -> None:
    """And room that others have made is used for those who come later."""
    until = dormitory.now() + 10 * SECOND
    for number in range(2 * MOST):
        await dormitory.put_to_bed(f"w-{number:03}", until + number)
    known = set(dormitory.duty._known)
    for workflow_id in known:
        dormitory.actors.add(workflow_id)
        dormitory.duty.woke(workflow_id)
    await dormitory.clock.advance(11)
    assert {workflow_id for workflow_id, _ in dormitory.woken} == {
        f"w-{number:03}" for number in range(2 * MOST)
    } - known


async def test_who_sleeps_anew_is_woken_at_the_later_time(dormitory: Dormitory) -> None:
    """And not at the time of before."""
    now = dormitory.now()
    await dormitory.put_to_bed("one", now + 10 * SECOND)
    dormitory.duty.woke("one")
    dormitory.duty.slept("one", now + 20 * SECOND)
    await dormitory.clock.advance(15)
    assert dormitory.woken == []
    await dormitory.clock.advance(6)
    assert [workflow_id for workflow_id, _ in dormitory.woken] == ["one"]


async def test_who_waits_for_a_message_alone(dormitory: Dormitory) -> None:
    """No time wakes it, and no timer is set for it."""
    await dormitory.put_to_bed("one", NEVER)
    assert dormitory.clock.pending == 0
    await dormitory.clock.advance(1e9)
    assert dormitory.woken == []


@pytest.mark.invariant("I16")
async def test_who_sleeps_while_others_are_looked_up(
    dormitory: Dormitory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the store does not have it, and it is woken all the same."""
    now = dormitory.now()
    read = dormitory.store.sleepers
    await dormitory.put_to_bed("first", now + 2 * HOUR)

    async def sleepers(after: Place, before: int, *, limit: int = 10_000) -> tuple[Place, ...]:
        found = await read(after, before, limit=limit)
        if not dormitory.actors:
            dormitory.actors.add("somebody")
            await dormitory.put_to_bed("meanwhile", now + 2 * HOUR - SECOND)
        return found

    monkeypatch.setattr(dormitory.store, "sleepers", sleepers)
    await dormitory.clock.advance(2 * 3600 + 1)
    assert [workflow_id for workflow_id, _ in dormitory.woken] == ["meanwhile", "first"]


async def test_whoever_is_to_be_woken_at_once(dormitory: Dormitory) -> None:
    """Is woken when somebody asks for it, unless it is in memory."""
    dormitory.actors.add("there")
    dormitory.duty.wake("there")
    dormitory.duty.wake("away")
    await settle()
    assert [workflow_id for workflow_id, _ in dormitory.woken] == ["away"]
