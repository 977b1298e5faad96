"""Time that jumps, and power cuts."""

from __future__ import annotations

import asyncio
import gc
import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING

import aiosqlite
import anyio
import pytest

from supervision import Actor, Backoff, ChildSpec, Supervisor, run
from supervision.virtual import Island, StuckError, VirtualClock, VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

DAY_S = 86_400.0

pytestmark = pytest.mark.virtual_time


class Ticker(Actor):
    """Counts the hours, and falls ill once a day."""

    def __init__(self, hours: list[float]) -> None:
        self.hours = hours
        self.mine = 0

    async def init(self) -> None:
        self.idle_timeout = 3600.0

    async def handle_info(self, message: object) -> None:
        self.hours.append(asyncio.get_running_loop().time())
        self.mine += 1
        if self.mine == 24:
            raise RuntimeError("tired")


async def test_a_tree_of_thirty_days_takes_milliseconds() -> None:
    """Idle time-outs, crashes and restarts included, with no clock handed in."""
    began = monotonic()
    hours: list[float] = []
    spec = ChildSpec("ticker", lambda: Ticker(hours), backoff=Backoff(minimum=60.0, maximum=60.0))
    async with run(Supervisor([spec], max_restarts=40, max_seconds=31 * DAY_S)) as root:
        await asyncio.sleep(30 * DAY_S)
        assert root.alive
    assert len(hours) == 719  # 30 times a minute of backoff is not ticked
    assert monotonic() - began < 2.0


async def test_time_stands_still_while_something_is_ready() -> None:
    """However long the code runs, no time passes; and then exactly as much as is waited for."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert loop.time() == before
    await asyncio.sleep(0.25)
    assert loop.time() == before + 0.25


async def test_time_goes_on_after_centuries() -> None:
    """Though the number that tells it has no room any more for a billionth of a second."""
    loop = asyncio.get_running_loop()
    loop.stall(300 * 365 * DAY_S)  # type: ignore[attr-defined]
    for number in range(1, 200):
        before = loop.time()
        await asyncio.sleep(1 / number)
        assert loop.time() - before == pytest.approx(1 / number, abs=1e-5)


async def test_timers_fire_in_the_order_of_their_times() -> None:
    """Each at its own time, not before."""
    loop = asyncio.get_running_loop()
    fired: list[tuple[float, float]] = []
    for delay in (7.5, DAY_S, 0.1, 3.0):
        loop.call_later(delay, lambda due: fired.append((due, loop.time())), loop.time() + delay)
    await asyncio.sleep(2 * DAY_S)
    assert [when for when, _ in fired] == sorted(when for when, _ in fired)
    assert all(at == pytest.approx(due, abs=1e-6) for due, at in fired)


@pytest.mark.parametrize(
    "in_thread",
    [asyncio.to_thread, anyio.to_thread.run_sync],
    ids=["run_in_executor", "anyio.to_thread"],
)
async def test_time_waits_for_threads(in_thread: Callable[..., Awaitable[object]]) -> None:
    """A job in a thread takes no virtual time, so no time-out strikes while it runs."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with asyncio.timeout(0.001):
        await in_thread(sleep, 0.05)
        await in_thread(sleep, 0.01)
    assert loop.time() == before
    await asyncio.sleep(1)  # a pool with nothing to do holds nobody up


async def test_time_waits_for_a_database() -> None:
    """What a connection of aiosqlite does takes none either, from its opening to its close."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with asyncio.timeout(0.001):
        async with aiosqlite.connect(":memory:") as database:
            await database.create_function("sleep", 1, sleep)
            await database.execute_fetchall("SELECT sleep(0.05)")
    assert loop.time() == before
    await asyncio.sleep(1)  # one that is closed holds nobody up


async def test_time_is_held_for_work_nobody_can_see() -> None:
    """Inside `hold` the loop waits for whoever calls it from a thread of their own."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    done = asyncio.Event()

    def work() -> None:
        sleep(0.05)
        loop.call_soon_threadsafe(done.set)

    thread = threading.Thread(target=work)
    before = loop.time()
    with loop.hold():
        thread.start()
        async with asyncio.timeout(0.001):
            await done.wait()
    thread.join()
    assert loop.time() == before


async def test_the_wall_clock_goes_with_the_loop(virtual_clock: VirtualClock) -> None:
    """Its seconds are the loop's, from the start it was given."""
    before = virtual_clock.now()
    await virtual_clock.sleep(30 * DAY_S)
    assert virtual_clock.now() == before + 30 * DAY_S


@pytest.mark.parametrize(("jump", "waits"), [(1800.0, 1800.0), (-1800.0, 5400.0), (7200.0, 0.0)])
async def test_a_set_clock_is_noticed(
    virtual_clock: VirtualClock, jump: float, waits: float
) -> None:
    """What waits for a time of the wall clock comes when the wall clock says so, however it was set."""
    loop = asyncio.get_running_loop()
    fired: list[float] = []
    virtual_clock.call_at(virtual_clock.now() + 3600.0, lambda: fired.append(loop.time()))
    before = loop.time()
    virtual_clock.jump(jump)
    await asyncio.sleep(3 * 3600.0)
    assert fired == [pytest.approx(before + waits, abs=1e-3)]


async def test_a_wall_timer_is_cancelled_for_good(virtual_clock: VirtualClock) -> None:
    """Setting the clock does not bring it back."""
    fired: list[None] = []
    timer = virtual_clock.call_at(virtual_clock.now() + 10.0, lambda: fired.append(None))
    timer.cancel()
    virtual_clock.jump(3600.0)
    await asyncio.sleep(60.0)
    assert fired == []


def test_a_virtual_clock_needs_a_virtual_loop() -> None:
    """On another loop it refuses, and says what to do."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="virtual_time"):
            VirtualClock().now()

    asyncio.run(main())


def on_a_loop_of_its_own(main: Coroutine[object, object, object]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


def test_a_lost_wake_up_is_a_diagnosis() -> None:
    """When nothing can ever happen, the loop says who waits where, and does not wait with them."""

    async def forgotten() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError, match=r"every task waits.*\n.*forgotten|Event\.wait"):
        on_a_loop_of_its_own(forgotten())


def test_a_wait_for_an_unknown_thread_is_no_lost_wake_up() -> None:
    """News that come within a second of real time are waited for even without `hold`."""

    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        thread = threading.Thread(target=lambda: (sleep(0.05), loop.call_soon_threadsafe(done.set)))
        thread.start()
        await done.wait()
        thread.join()

    on_a_loop_of_its_own(main())


async def test_a_stall_passes_time_in_which_nothing_runs() -> None:
    """What was due meanwhile comes late, as after a blocking call."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    late: list[float] = []
    loop.call_later(1.0, lambda: late.append(loop.time()))
    before = loop.time()
    loop.stall(5.0)
    await asyncio.sleep(0)
    assert late == []
    await asyncio.sleep(0.0001)
    assert late == [before + 5.0]


class TestIsland:
    """A part of the program that can be cut off."""

    async def test_nothing_runs_after_the_cut(self) -> None:
        """No except, no finally, no callback, no child task; the rest goes on."""
        log: list[str] = []

        async def child() -> None:
            while True:
                log.append("child")
                await asyncio.sleep(1.0)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(10.0, log.append, "timer")
            task = loop.create_task(child())
            task.add_done_callback(lambda _: log.append("done"))
            try:
                await task
            except BaseException:
                log.append("except")
                raise
            finally:
                log.append("finally")

        island = Island()
        island.start(main())
        await asyncio.sleep(2.5)
        island.cut()
        await asyncio.sleep(60.0)
        gc.collect()
        assert log == ["child", "child", "child"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_it_can_cut_itself_off(self) -> None:
        """Whoever cuts from inside does not come back from the next await."""
        log: list[str] = []
        island = Island()

        async def main() -> None:
            island.cut()
            log.append("cut")
            await asyncio.sleep(0)
            log.append("lives")

        island.start(main())
        await asyncio.sleep(1.0)
        assert log == ["cut"]

    async def test_threads_cannot_bring_it_back(self) -> None:
        """What a thread answers after the cut reaches nobody."""
        log: list[object] = []
        island, ready = Island(), threading.Event()

        async def main() -> None:
            log.append(await asyncio.to_thread(ready.wait))

        island.start(main())
        await asyncio.sleep(0)
        island.cut()
        ready.set()
        await asyncio.to_thread(sleep, 0.01)
        await asyncio.sleep(1.0)
        assert log == []

    def test_nobody_complains_of_an_error_that_nobody_was_left_to_hear(self) -> None:
        """A task that failed as the cut came, before its callback had run."""
        complaints: list[object] = []
        island = Island()

        async def fails() -> None:
            island.cut()
            raise ValueError

        async def main() -> None:
            asyncio.create_task(fails()).add_done_callback(asyncio.Task.exception)
            await asyncio.sleep(1.0)

        async def test() -> None:
            asyncio.get_running_loop().set_exception_handler(
                lambda _, told: complaints.append(told)
            )
            island.start(main())
            await asyncio.sleep(5.0)
            assert island.bury()
            gc.collect()

        on_a_loop_of_its_own(test())
        assert complaints == []

    def test_the_buried_are_closed_in_silence(self) -> None:
        """After the loop is gone their coroutines are closed, and whatever they say is not heard."""
        log: list[str] = []
        island = Island()

        async def main() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                log.append("closed")
                await asyncio.sleep(1.0)

        async def test() -> None:
            island.start(main())
            await asyncio.sleep(1.0)
            island.cut()

        on_a_loop_of_its_own(test())
        assert log == []
        assert not island.bury()
        assert log == ["closed"]
        gc.collect()


def test_threads_of_the_pool_end_with_the_loop() -> None:
    """Also those whose job was started on an island that was cut off."""
    before = set(threading.enumerate())

    async def main() -> None:
        island = Island()
        started = threading.Event()
        island.start(anyio.to_thread.run_sync(started.wait))
        await asyncio.sleep(0)
        island.cut()
        started.set()
        await asyncio.sleep(1.0)

    on_a_loop_of_its_own(main())
    for thread in set(threading.enumerate()) - before:
        thread.join(5.0)
        assert not thread.is_alive()


async def test_threads_are_heard_in_order() -> None:
    """Whichever is done first: jobs that run at once are heard in the order of their threads."""
    heard: list[int] = []
    gates = [threading.Event() for _ in range(5)]

    async def job(number: int) -> None:
        def work() -> None:
            gates[number].wait()
            if number:
                gates[number - 1].set()

        await anyio.to_thread.run_sync(work)
        heard.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(job(number))
        await asyncio.sleep(0)
        gates[4].set()
    assert heard == [0, 1, 2, 3, 4]


async def test_a_thread_may_call_back_while_it_works() -> None:
    """What it asks of the loop meanwhile is answered at once."""

    async def answer() -> str:
        await asyncio.sleep(0)
        return "yes"

    assert await anyio.to_thread.run_sync(anyio.from_thread.run, answer) == "yes"
