"""Words for what must hold, and the clock that stands still."""

from __future__ import annotations

import asyncio

import pytest

from supervision import (
    Actor,
    ActorRef,
    Backoff,
    ChildSpec,
    Restart,
    Stop,
    Supervisor,
    SupervisorRef,
    run,
)
from supervision.clock import LOOK_S_MAX, WallTimer
from supervision.testing import Ledger, ManualClock, eventually, restarted, settle, survives

pytestmark = pytest.mark.virtual_time


class Fragile(Actor):
    """Ends as it is told."""

    async def handle_cast(self, message: object) -> None:
        raise message if isinstance(message, BaseException) else RuntimeError(message)


def supervisor(*specs: ChildSpec, **options: float) -> Supervisor:
    return Supervisor(specs or [ChildSpec("one", Fragile)], **options)


async def child(root: SupervisorRef, child_id: str = "one") -> ActorRef:
    [ref] = [info.ref for info in await root.which_children() if info.id == child_id]
    assert ref is not None
    return ref


class TestEventually:
    """Waiting for a check."""

    async def test_it_gives_what_the_check_gave(self) -> None:
        """As soon as that is true, and no later."""
        loop, given = asyncio.get_running_loop(), [0, "", None, "found"]
        before = loop.time()
        assert await eventually(lambda: given.pop(0), every=2.0) == "found"
        assert loop.time() == before + 6.0

    async def test_it_takes_an_async_check(self) -> None:
        """And an assertion in it means: not yet."""
        looks: list[None] = []

        async def check() -> bool:
            looks.append(None)
            assert len(looks) > 2
            return True

        assert await eventually(check) is True

    async def test_it_raises_the_last_assertion(self) -> None:
        """When time is up, with the words of the check itself."""

        def check() -> bool:
            raise AssertionError("three are missing")

        with pytest.raises(AssertionError, match="three are missing"):
            await eventually(check, within=1.0)

    async def test_it_tells_what_it_saw_last(self) -> None:
        """When there are no words of the check's own."""
        with pytest.raises(AssertionError, match=r"still 0 after 1\.0 s"):
            await eventually(lambda: 0, within=1.0)

    async def test_other_errors_go_through(self) -> None:
        """A check that is broken is not waited for."""
        with pytest.raises(ZeroDivisionError):
            await eventually(lambda: 1 / 0)


class TestSurvives:
    """Whether a tree is whole."""

    async def test_a_whole_tree(self) -> None:
        """Nobody waits for anything."""
        async with run(supervisor()) as root:
            before = asyncio.get_running_loop().time()
            await survives(root)
            assert asyncio.get_running_loop().time() == before

    async def test_it_waits_for_a_restart(self) -> None:
        """A child in its backoff is not there yet."""
        spec = ChildSpec("one", Fragile, backoff=Backoff(minimum=5.0, maximum=5.0))
        async with run(supervisor(spec, max_seconds=60.0)) as root:
            one = await child(root)
            one.cast("boom")
            await one.wait()
            await survives(root)
            assert (await child(root)).alive

    async def test_a_child_that_stays_down(self) -> None:
        """It is named, and the tree is shown."""
        async with run(supervisor()) as root:
            await root.terminate_child("one")
            with pytest.raises(AssertionError, match=r"/root/one is down\nroot Supervisor"):
                await survives(root, within=5.0)

    async def test_a_temporary_child_may_be_gone(self) -> None:
        """It was not meant to stay."""
        async with run(supervisor(ChildSpec("one", Fragile, restart=Restart.TRANSIENT))) as root:
            one = await child(root)
            one.cast(Stop())
            await one.wait()
            await survives(root, within=1.0)

    async def test_a_tree_that_has_ended(self) -> None:
        """Its end is told with its cause."""
        system = run(supervisor(max_restarts=0))
        root = await system.start()
        (await child(root)).cast("boom")
        await root.wait()
        with pytest.raises(AssertionError, match="the tree has ended"):
            await survives(system, within=1.0)


class TestRestarted:
    """Whether another life has followed."""

    async def test_the_next_life(self) -> None:
        """Its ref is another one at the same place."""
        async with run(supervisor()) as root:
            one = await child(root)
            one.cast("boom")
            again = await restarted(one)
            assert again.path == one.path
            assert again.incarnation > one.incarnation
            assert again.alive

    async def test_the_next_life_under_the_next_supervisor(self) -> None:
        """It is found although all above it was restarted as well."""
        async with run(supervisor(ChildSpec("sup", supervisor))) as root:
            sup = await child(root, "sup")
            assert isinstance(sup, SupervisorRef)
            one = await child(sup)
            sup.kill()
            assert (await restarted(one)).path == "/root/sup/one"

    async def test_no_next_life(self) -> None:
        """One that lives on was not restarted."""
        async with run(supervisor()) as root:
            with pytest.raises(AssertionError, match="no other life has followed"):
                await restarted(await child(root), within=1.0)


class TestLedger:
    """Effects outside."""

    async def test_each_call_is_an_effect(self, ledger: Ledger) -> None:
        """Without a key nothing can be told apart."""
        assert ledger.do("mail")
        assert ledger.do("mail")
        assert ledger.count("mail") == 2

    async def test_a_key_makes_it_one(self, ledger: Ledger) -> None:
        """It is asked for twice, and takes effect once."""
        assert ledger.do("mail", key="k")
        assert not ledger.do("mail", key="k")
        assert (ledger.count("mail"), ledger.asked("mail"), ledger.count("other")) == (1, 2, 0)
        assert [entry.repeated for entry in ledger.entries] == [False, True]


async def test_a_wall_timer_looks_at_the_clock_now_and_then() -> None:
    """A wall clock that was set is noticed within a minute, and a timer never comes early."""
    clock = ManualClock()
    fired: list[float] = []
    timer = WallTimer(clock, clock.now() + 3600.0, lambda: fired.append(clock.now()), ())
    clock._start -= 1800.0
    await clock.advance(3600.0)
    assert fired == []
    clock._start += 7200.0
    due = clock.now()
    await clock.advance(LOOK_S_MAX)
    assert fired == [pytest.approx(due, abs=LOOK_S_MAX)]
    timer.cancel()


async def test_a_manual_clock_calls_at_a_time() -> None:
    """When `advance` has brought it there, and not before."""
    clock = ManualClock()
    fired: list[None] = []
    clock.call_at(clock.now() + 10.0, lambda: fired.append(None))
    await clock.advance(9.9)
    assert fired == []
    await clock.advance(0.1)
    assert fired == [None]


async def test_settle_on_a_loop_of_another_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that does not show what is ready is refused: settle would return too early without a word."""
    monkeypatch.setattr(asyncio, "get_running_loop", object)
    with pytest.raises(RuntimeError, match="asyncio's own loop"):
        await settle()
