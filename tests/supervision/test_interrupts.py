"""Signals: one stop in order, short budgets at the second, the end of the process at the third."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time

import pytest

from supervision import ActorStoppedError, ChildSpec, Supervisor, run
from supervision.testing import settle

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def signalled(world, *specs, **options):
    return run(Supervisor(specs, **options), clock=world.clock, signals=True)


@BOTH
async def test_the_first_signal_is_one_stop_in_order(world, number):
    """The block ends as by a cancel, then the tree in reverse order; code after the block goes on."""
    before = signal.getsignal(number)
    system = signalled(world, *world.specs(1, 2))
    async with system:
        signal.raise_signal(number)
        try:
            await asyncio.Event().wait()
        finally:
            world.journal.append("block")
    assert world.journal == [("start", 1), ("start", 2), "block", ("stop", 2), ("stop", 1)]
    assert system.signal == number
    assert asyncio.current_task().cancelling() == 0
    assert signal.getsignal(number) == before


async def test_a_block_that_ends_at_that_moment(world):
    """A signal that comes as the block ends by itself is no cancel of what follows."""
    async with signalled(world, world.spec(1)):
        signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0
    assert world.journal == [("start", 1), ("stop", 1)]


async def test_the_cancel_of_others_goes_on(world):
    """A host that is cancelled by somebody else as well stays cancelled."""

    async def host():
        async with signalled(world, world.spec(1)):
            signal.raise_signal(signal.SIGTERM)
            asyncio.current_task().cancel()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(host())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.journal == [("start", 1), ("stop", 1)]


async def test_without_a_block_the_root_stops(world):
    """A system that was started by hand is stopped by the signal, and wait() tells."""
    system = signalled(world, *world.specs(1, 2))
    await system.start()
    signal.raise_signal(signal.SIGTERM)
    assert await system.wait() == "shutdown"
    await system.stop()


async def test_a_signal_during_the_start(world):
    """While the tree starts the signal ends the start; those that were up are stopped."""
    world.slow_starts[2] = 10.0
    starting = asyncio.ensure_future(signalled(world, *world.specs(1, 2)).start())
    await world.clock.advance(1)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(ActorStoppedError):
        await starting
    assert world.journal == [("start", 1), ("stop", 1)]


@pytest.mark.parametrize("shutdown", [60.0, float("inf")])
async def test_the_second_signal_shortens_the_budgets(world, shutdown):
    """Stops that are under way and those to come get half a second; nested supervisors take their time."""
    for name in (1, 2, 3):
        world.slow_stops[name] = 1000.0
    inner = ChildSpec(
        "in", lambda: Supervisor(world.specs(1, 2, shutdown=shutdown)), type="supervisor"
    )
    system = signalled(world, inner, world.spec(3, shutdown=shutdown))
    sup = await system.start()
    inner = (await world.kids(sup))["in"]
    signal.raise_signal(signal.SIGTERM)
    await world.clock.advance(10)
    alive = [sup.alive]
    signal.raise_signal(signal.SIGTERM)
    for _ in range(3):
        alive.append(sup.alive)
        await world.clock.advance(0.55)
        await settle()
    alive.append(sup.alive)
    await world.clock.advance(5000)  # or else a failure would never end
    assert alive == [True, True, True, True, False]
    assert (sup.reason, inner.reason) == ("shutdown", "shutdown")


async def test_only_where_asked_for(world):
    """A tree that was not told to leaves the signals alone, and no thread but the main one may take them."""
    before = signal.getsignal(signal.SIGTERM)
    async with world.supervisor(world.spec(1)):
        assert signal.getsignal(signal.SIGTERM) == before
    failures: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(run(Supervisor(), signals=True).start())
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "main thread" in str(failures[0])


async def test_a_handler_of_somebody_else_stays(world):
    """Whoever took a signal while the tree ran keeps it."""
    before = signal.getsignal(signal.SIGTERM)
    mine = lambda *_: None  # noqa: E731 - a handler
    try:
        async with signalled(world):
            signal.signal(signal.SIGTERM, mine)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


HOST = """
import asyncio
from supervision import ChildSpec, Supervisor, run

async def stuck():
    print("up", flush=True)
    while True:
        pass

async def main():
    async with run(Supervisor([ChildSpec("stuck", stuck)]), signals=True):
        await asyncio.Event().wait()

asyncio.run(main())
"""


@BOTH
def test_the_third_signal_ends_the_process(number):
    """Also when a child blocks the loop, so that nothing else can."""
    with subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "up\n"
        for _ in range(3):
            assert host.poll() is None
            host.send_signal(number)
            time.sleep(0.1)  # signals of one kind that come together are one
        assert host.wait(timeout=10) == 128 + number


@pytest.mark.parametrize("error", [None, LookupError("in the block")])
async def test_a_block_that_takes_the_cancel_of_a_signal(world, error):
    """One that swallows it, or fails over it, leaves the task as if nobody had cancelled it."""

    async def block():
        async with signalled(world, world.spec(1)):
            signal.raise_signal(signal.SIGTERM)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if error is not None:
                    raise error from None

    if error is None:
        await block()
    else:
        with pytest.raises(LookupError, match="in the block"):
            await block()
    assert asyncio.current_task().cancelling() == 0
    assert world.journal == [("start", 1), ("stop", 1)]
