"""The watchdog: what blocks the loop is named, with its stack; and it ends with the tree."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from supervision import (
    Actor,
    ChildSpec,
    DynamicSupervisor,
    LoopBlocked,
    SpecError,
    Supervisor,
    Watchdog,
    run,
)
from supervision.tree import cell_of_task


class Blocking(Actor):
    """Blocks the loop for as long as it is told, in one way or another."""

    async def handle_call(self, request):
        self.block(request)

    async def handle_cast(self, message):
        self.spawn(self.aside(message), name=message)

    async def aside(self, name):
        self.block(0.3)

    def block(self, seconds):
        time.sleep(seconds)


def watchers():
    return [t for t in threading.enumerate() if t.name == "supervision-watchdog"]


async def told(events: list[object]) -> LoopBlocked:
    async with asyncio.timeout(10):
        while not events:  # noqa: ASYNC110 - of another thread
            await asyncio.sleep(0.01)
    return events.pop()


async def test_a_blocked_loop_is_reported():
    """Who, for how long, where: at once to the hook, again as it lasts, and as an event afterwards."""
    reports: list[LoopBlocked] = []
    events: list[object] = []
    inner = ChildSpec("in", lambda: Supervisor([ChildSpec("b", Blocking)]), type="supervisor")
    async with run(
        Supervisor([inner]),
        observer=lambda event: isinstance(event, LoopBlocked) and events.append(event),
        watchdog=Watchdog(0.1, report=reports.append),
    ) as sup:
        inside = (await sup.which_child("in")).ref
        ref = (await inside.which_child("b")).ref
        await ref.call(0.8)
        event = await told(events)
        assert (event.path, event.incarnation) == ("/root/in/b", ref.incarnation)
        assert 0.6 < event.blocked_s < 1.5
        assert "block" in event.stack[-1]
        assert any("handle_call" in line for line in event.stack)
        assert not any("base_events" in line for line in event.stack)
        assert len(reports) >= 3
        assert reports[0].path == "/root/in/b"
        assert [r.blocked_s for r in reports] == sorted(r.blocked_s for r in reports)
        assert len(watchers()) == 1
    assert watchers() == []


async def test_what_is_no_child_is_reported_too():
    """A task that an actor spawned goes by its name, a callback of the loop by none."""
    events: list[object] = []
    async with run(
        Supervisor([ChildSpec("b", Blocking)]),
        observer=lambda event: isinstance(event, LoopBlocked) and events.append(event),
        watchdog=Watchdog(0.1),
    ) as sup:
        (await sup.which_child("b")).ref.cast("aside")
        event = await told(events)
        assert (event.path, event.incarnation) == ("aside", 0)
        asyncio.get_running_loop().call_soon(time.sleep, 0.3)
        assert (await told(events)).path == ""


async def test_a_busy_loop_is_not_a_blocked_one():
    """Nothing is reported of a loop that turns, and without a watchdog there is no thread."""
    events: list[object] = []
    async with run(
        Supervisor([ChildSpec("b", Blocking)]),
        observer=lambda event: isinstance(event, LoopBlocked) and events.append(event),
        watchdog=Watchdog(0.2),
    ) as sup:
        ref = (await sup.which_child("b")).ref
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            await ref.call(0.001)
        assert events == []
    async with run(Supervisor()):
        assert watchers() == []


async def test_it_ends_with_a_tree_that_does_not_come_up():
    """No thread outlives a tree, not even one whose start fails or gets stuck."""

    class Failing(Actor):
        async def init(self):
            time.sleep(0.3)  # noqa: ASYNC251 - that is the point
            raise LookupError

    reports: list[LoopBlocked] = []
    with pytest.raises(Exception, match="failed to start"):
        await run(
            Supervisor([ChildSpec(1, Failing)]), watchdog=Watchdog(0.1, reports.append)
        ).start()
    assert reports[0].path == "/root/1"
    assert watchers() == []


def test_a_threshold_is_a_time():
    """A watchdog that would always bark is refused."""
    with pytest.raises(SpecError, match="invalid_threshold"):
        Watchdog(0)


async def test_a_report_that_raises():
    """It goes to the loop's handler, and the watchdog watches on."""

    def report(_: LoopBlocked) -> None:
        raise LookupError("no log today")

    failed: list[object] = []
    events: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
    async with run(
        Supervisor([ChildSpec("b", Blocking)]),
        observer=lambda event: isinstance(event, LoopBlocked) and events.append(event),
        watchdog=Watchdog(0.05, report=report),
    ) as sup:
        ref = (await sup.which_child("b")).ref
        for _ in range(2):
            await ref.call(0.3)
            assert (await told(events)).path == "/root/b"
    assert failed
    assert {type(error) for error in failed} == {LookupError}


async def test_a_tree_that_changes_while_it_is_looked_at():
    """The watchdog's thread finds its way though the loop, blocked or not, starts and ends children."""
    looking, failed = threading.Event(), []

    def look(root):
        while looking.is_set():
            try:
                cell_of_task(root, nobody)
            except RuntimeError as error:
                failed.append(error)
                return

    nobody = asyncio.ensure_future(asyncio.sleep(0))
    async with run(DynamicSupervisor()) as sup:
        looking.set()
        thread = threading.Thread(target=look, args=(sup._cell,))
        thread.start()
        for _ in range(5):
            specs = [ChildSpec("b", Blocking, restart="temporary") for _ in range(400)]
            refs = [await sup.start_child(spec) for spec in specs]
            for ref in refs:
                ref.kill()
            await sup.count_children()
        looking.clear()
        await asyncio.to_thread(thread.join)
    assert failed == []
