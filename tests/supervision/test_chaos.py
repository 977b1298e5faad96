"""Faults by seed, what they do to a tree, and who lets them loose."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from supervision import (
    Actor,
    ActorRef,
    ActorStoppedError,
    CallTimeoutError,
    ChildSpec,
    Event,
    Exited,
    MailboxFullError,
    Overflow,
    Restart,
    Supervisor,
    SupervisorRef,
    run,
)
from supervision.chaos import Chaos, ChaosMonkey, Injected
from supervision.faults import MESSAGE_FAULTS, ChaosError, Fault, FaultPlan, Profile
from supervision.messages import Call
from supervision.testing import eventually, restarted, settle, survives
from supervision.virtual import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

PLENTY = {"max_restarts": 10_000, "max_seconds": 1.0}


class Teller(Actor):
    """Counts what it has handled, in a book that outlives it."""

    def __init__(self, book: list[object]) -> None:
        self.book = book

    async def handle_call(self, request: object) -> object:
        self.book.append(request)
        await asyncio.sleep(0)
        return f"re: {request}"

    async def handle_cast(self, message: object) -> None:
        self.book.append(message)
        await asyncio.sleep(0)

    handle_info = handle_cast


async def child(root: SupervisorRef, child_id: str = "teller") -> ActorRef:
    [ref] = [info.ref for info in await root.which_children() if info.id == child_id]
    assert ref is not None
    return ref


class TestPlan:
    """Which faults happen where."""

    def test_the_same_seed_says_the_same(self) -> None:
        """At each site, whatever was asked elsewhere in between."""
        one, other = FaultPlan(7, 0.3), FaultPlan(7, 0.3)
        kinds = ["a", "b", "c"]
        first = [(drawn[0] if (drawn := one.draw("here", kinds)) else None) for _ in range(100)]
        second = []
        for turn in range(100):
            for _ in range(turn % 4):
                other.draw("there", kinds)
            drawn = other.draw("here", kinds)
            second.append(drawn[0] if drawn else None)
        assert first == second
        assert {None, "a", "b", "c"} == set(first)

    def test_another_seed_says_something_else(self) -> None:
        """And so does another site."""

        def faults(seed: int, site: str) -> list[int]:
            plan = FaultPlan(seed, 0.3)
            return [number for number in range(200) if plan.draw(site, ["a"])]

        assert len({tuple(faults(seed, site)) for seed in range(5) for site in "xyz"}) == 15

    @pytest.mark.parametrize(
        ("profile", "rate"), [("gentle", 0.05), ("moderate", 0.15), ("aggressive", 0.30)]
    )
    def test_a_profile_is_a_share_of_the_opportunities(self, profile: str, rate: float) -> None:
        """As often as it says, over many."""
        plan = FaultPlan(1, Profile(profile).rate)
        for _ in range(10_000):
            plan.draw("here", ["a", "b"])
        assert plan.reached.total() == pytest.approx(10_000 * rate, rel=0.1)
        assert plan.reached["a"] == pytest.approx(plan.reached["b"], rel=0.2)

    def test_only_the_faults_that_are_asked_for(self) -> None:
        """A place where none of them can happen is no opportunity."""
        plan = FaultPlan(1, 1.0, {"b", "z"})
        assert plan.draw("here", ["a", "b", "c"])
        assert plan.draw("here", ["a", "c"]) is None
        assert plan.reached == {"b": 1}

    def test_calm(self) -> None:
        """Nothing goes wrong any more, and nothing is counted."""
        plan = FaultPlan(1, 1.0)
        plan.calm = True
        assert plan.draw("here", ["a"]) is None
        plan.calm = False
        assert plan.draw("here", ["a"])
        assert [str(strike) for strike in plan.log] == ["here #1: a"]

    def test_a_plan_without_faults_is_refused(self) -> None:
        """So is a rate that is no share."""
        with pytest.raises(ValueError, match="nothing to go wrong"):
            FaultPlan(1, 0.1, ())
        with pytest.raises(ValueError, match="from 0 to 1"):
            FaultPlan(1, 15)


class Scene:
    """A supervisor below a supervisor, a teller, and one fault that always strikes."""

    def __init__(self, fault: Fault) -> None:
        self.book: list[object] = []
        self.events: list[Event] = []
        self.plan = FaultPlan(3, 1.0, {fault})

    async def play(self, act: Callable[[ActorRef], Coroutine[object, object, None]]) -> None:
        """Have one message sent under chaos; then calm down and see that the tree is whole."""
        teller = ChildSpec("teller", lambda: Teller(self.book))
        inner = ChildSpec("inner", lambda: Supervisor([teller], **PLENTY), type="supervisor")
        async with run(Supervisor([inner], **PLENTY), observer=self.events.append) as root:
            monkey = ChaosMonkey(root, plan=self.plan)
            monkey.start()
            ref = await child(await child(root, "inner"))  # type: ignore[arg-type]
            await act(ref)
            self.plan.calm = True
            await survives(root)

    @property
    def ends(self) -> Counter[str]:
        """How the actors ended before the tree was stopped, by path."""
        return Counter(
            event.path
            for event in self.events
            if isinstance(event, Exited) and event.reason != "shutdown"
        )


@pytest.mark.virtual_time
class TestFaults:
    """What each fault does; the tree is whole again afterwards."""

    async def test_crash_before(self) -> None:
        """The message is lost with the actor, and the caller hears of it."""
        scene = Scene(Fault.CRASH_BEFORE)

        async def act(teller: ActorRef) -> None:
            with pytest.raises(ActorStoppedError):
                await teller.call("one")
            await restarted(teller)

        await scene.play(act)
        assert scene.book == []

    @pytest.mark.parametrize("fault", [Fault.CRASH_DURING, Fault.CRASH_AFTER])
    async def test_crash_during_and_after(self, fault: Fault) -> None:
        """The effect is there, the answer is not."""
        scene = Scene(fault)

        async def act(teller: ActorRef) -> None:
            with pytest.raises(ActorStoppedError):
                await teller.call("one")
            await restarted(teller)

        await scene.play(act)
        assert scene.book == ["one"]

    async def test_error(self) -> None:
        """The actor ends with `ChaosError`, before or after the effect."""
        scene = Scene(Fault.ERROR)

        async def act(teller: ActorRef) -> None:
            for number in range(8):
                teller.cast(number)
                await teller.wait()
                teller = await restarted(teller)

        await scene.play(act)
        reasons = [event.reason for event in scene.events if isinstance(event, Exited)]
        assert sum(isinstance(reason, ChaosError) for reason in reasons) == 8
        assert 0 < len(scene.book) < 8

    @pytest.mark.parametrize(
        ("fault", "least", "most"), [(Fault.LATENCY, 0.05, 0.5), (Fault.HANG, 10.0, 60.0)]
    )
    async def test_latency_and_hang(self, fault: Fault, least: float, most: float) -> None:
        """The answer comes, and so much later."""
        scene = Scene(fault)
        loop = asyncio.get_running_loop()

        async def act(teller: ActorRef) -> None:
            before = loop.time()
            assert await teller.call("one", timeout=None) == "re: one"
            assert least <= loop.time() - before <= most

        await scene.play(act)
        assert scene.ends == {}

    async def test_hang_and_time_out(self) -> None:
        """Who waits with a time-out does not wait for ever."""
        scene = Scene(Fault.HANG)

        async def act(teller: ActorRef) -> None:
            with pytest.raises(CallTimeoutError):
                await teller.call("one")

        await scene.play(act)

    async def test_drop(self) -> None:
        """A cast is lost, a call with a time-out runs into it, one without is not dropped."""
        scene = Scene(Fault.DROP)

        async def act(teller: ActorRef) -> None:
            teller.cast("cast")
            teller.send("info")
            with pytest.raises(CallTimeoutError):
                await teller.call("one", timeout=1.0)
            assert await teller.call("two", timeout=None) == "re: two"

        await scene.play(act)
        assert scene.book == ["two"]
        assert scene.plan.reached == {Fault.DROP: 3}

    async def test_duplicate(self) -> None:
        """It is handled twice and answered once."""
        scene = Scene(Fault.DUPLICATE)

        async def act(teller: ActorRef) -> None:
            assert await teller.call("one") == "re: one"

        await scene.play(act)
        assert scene.book == ["one", "one"]

    async def test_delay(self) -> None:
        """Others overtake it; then it is handled, and a call is answered."""
        scene = Scene(Fault.DELAY)
        loop = asyncio.get_running_loop()

        async def act(teller: ActorRef) -> None:
            before = loop.time()
            teller.cast("late")
            await asyncio.sleep(0.001)
            scene.plan.calm = True
            teller.cast("early")
            await eventually(lambda: len(scene.book) == 2)
            assert 0.05 <= loop.time() - before <= 0.6
            scene.plan.calm = False
            asking = asyncio.ensure_future(teller.call("asked"))
            await asyncio.sleep(0.001)
            scene.plan.calm = True
            assert await asking == "re: asked"

        await scene.play(act)
        assert scene.book == ["early", "late", "asked"]

    async def test_delay_into_the_grave(self) -> None:
        """When the actor ends first, the caller of a delayed call hears of it."""
        scene = Scene(Fault.DELAY)

        async def act(teller: ActorRef) -> None:
            asking = asyncio.ensure_future(teller.call("asked", timeout=None))
            await asyncio.sleep(0.001)
            scene.plan.calm = True
            teller.kill()
            with pytest.raises(ActorStoppedError):
                await asking
            await asyncio.sleep(1.0)

        await scene.play(act)
        assert scene.book == []

    async def test_swallowed_cancel(self) -> None:
        """The callback runs to its end, and the actor is restarted nevertheless."""
        scene = Scene(Fault.SWALLOWED_CANCEL)

        async def act(teller: ActorRef) -> None:
            assert await teller.call("one") == "re: one"
            await restarted(teller)

        await scene.play(act)
        assert scene.book == ["one"]

    async def test_stall(self) -> None:
        """Nothing at all runs for a while, and time has passed after it."""
        scene = Scene(Fault.STALL)
        loop = asyncio.get_running_loop()

        async def act(teller: ActorRef) -> None:
            before = loop.time()
            assert await teller.call("one", timeout=None) == "re: one"
            assert 0.5 <= loop.time() - before <= 5.0

        await scene.play(act)
        assert scene.ends == {}

    async def test_supervisor_killed(self) -> None:
        """It goes down with its child, and both come again; the root is never struck."""
        scene = Scene(Fault.SUPERVISOR_KILLED)

        async def act(teller: ActorRef) -> None:
            teller.cast("one")
            await restarted(teller)

        await scene.play(act)
        assert scene.ends == {"/root/inner": 1, "/root/inner/teller": 1}

    async def test_a_child_of_the_root_keeps_its_supervisor(self) -> None:
        """Its supervisor is the root: not even asked for can it be struck."""
        book: list[object] = []
        async with run(Supervisor([ChildSpec("teller", lambda: Teller(book))])) as root:
            monkey = ChaosMonkey(root, plan=FaultPlan(1, 1.0, {Fault.SUPERVISOR_KILLED}))
            monkey.start()
            assert await (await child(root)).call("one") == "re: one"
            assert monkey.plan.log == []

    async def test_a_child_function_is_struck_as_a_whole(self) -> None:
        """Before it has begun, or while it runs."""
        begun: list[float] = []
        loop = asyncio.get_running_loop()

        async def body() -> None:
            begun.append(loop.time())
            await asyncio.sleep(3600.0)

        async with run(Supervisor([], **PLENTY)) as root:
            plan = FaultPlan(1, 1.0, {Fault.CRASH_BEFORE, Fault.CRASH_DURING})
            ChaosMonkey(root, plan=plan).start()
            spec = ChildSpec("job", body, restart=Restart.PERMANENT)
            await root.start_child(spec)
            await asyncio.sleep(0)
            await eventually(lambda: len(plan.log) >= 6)
            plan.calm = True
            await survives(root)
        assert 0 < len(begun) < 8
        assert set(plan.reached) == {Fault.CRASH_BEFORE, Fault.CRASH_DURING}


@pytest.mark.virtual_time
class TestMonkey:
    """Faults for a tree that runs."""

    async def test_it_does_nothing_before_it_is_started_and_after_it_is_stopped(self) -> None:
        """In between, what it did is in the event stream."""
        book: list[object] = []
        events: list[Event] = []
        spec = ChildSpec("teller", lambda: Teller(book))
        async with run(Supervisor([spec], **PLENTY), observer=events.append) as root:
            monkey = ChaosMonkey(root, plan=FaultPlan(1, 1.0, {Fault.LATENCY}))
            teller = await child(root)
            await teller.call("calm")
            monkey.start()
            monkey.start()
            await teller.call("struck")
            monkey.stop()
            await teller.call("calm again")
        struck = [event for event in events if isinstance(event, Injected)]
        assert struck == [Injected("/root/teller", teller.incarnation, "latency", "str")]

    async def test_targets_are_chosen_by_a_predicate(self) -> None:
        """Nobody else is struck."""
        specs = [ChildSpec(name, lambda: Teller([])) for name in ("ann", "bob")]
        async with run(Supervisor(specs, **PLENTY)) as root:
            monkey = ChaosMonkey(
                root,
                profile="aggressive",
                seed=5,
                faults={Fault.LATENCY},
                targets=lambda ref: ref.id == "bob",
            )
            monkey.start()
            for name in ("ann", "bob"):
                teller = await child(root, name)
                for number in range(50):
                    await teller.call(number)
            assert {strike.site for strike in monkey.plan.log} == {"/root/bob call int"}
            assert 5 < len(monkey.plan.log) < 25

    async def test_two_of_them_are_one_too_many(self) -> None:
        """A tree has one middleware."""
        async with run(Supervisor([])) as root:
            ChaosMonkey(root).start()
            with pytest.raises(RuntimeError, match="another chaos monkey"):
                ChaosMonkey(root).start()

    async def test_it_takes_a_seed_of_its_own(self) -> None:
        """And tells it, so that a night's run can be replayed."""
        async with run(Supervisor([])) as root:
            assert ChaosMonkey(root).plan.seed != ChaosMonkey(root).plan.seed
            assert ChaosMonkey(root, seed=5).plan.seed == 5


def test_a_stall_on_the_machines_time_is_real() -> None:
    """Where time is not virtual, the loop is blocked indeed."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with run(Supervisor([ChildSpec("teller", lambda: Teller([]))])) as root:
            ChaosMonkey(root, plan=FaultPlan(1, 1.0, {Fault.STALL})).start()
            before = loop.time()
            await (await child(root)).call("one")
            assert loop.time() - before >= 0.05

    asyncio.run(main())


async def shop(chaos: Chaos) -> list[object]:
    """Two tellers that talk to each other and to us, for a minute; gives what came of it."""
    told: list[object] = []
    book: list[object] = []

    class Talker(Teller):
        async def handle_cast(self, message: object) -> None:
            await super().handle_cast(message)
            if isinstance(message, int) and message % 3 == 0:
                (await child(root, "bob")).send(f"{message} from {self.ref.id}")

    specs = [
        ChildSpec("ann", lambda: Talker(book)),
        ChildSpec("bob", lambda: Teller(book)),
    ]
    inner = ChildSpec("inner", lambda: Supervisor(specs, **PLENTY), type="supervisor")
    async with run(Supervisor([inner], **PLENTY), observer=told.append) as outer:
        chaos.attach(outer)
        for number in range(60):
            root: SupervisorRef = await eventually(lambda: child(outer, "inner"))  # type: ignore[assignment]
            for name in ("ann", "bob"):
                try:
                    ref = await child(root, name)
                    ref.cast(number)
                    told.append(await ref.call(number, timeout=2.0))
                except (AssertionError, ValueError, ActorStoppedError, CallTimeoutError) as error:
                    told.append(type(error).__name__)
            await asyncio.sleep(1.0)
        chaos.calm()
        await survives(outer)
    return [*map(str, told), *book, *map(str, chaos.log)]


@pytest.mark.parametrize("seed", range(8))
def test_a_seed_gives_the_same_run_again(seed: int) -> None:
    """Every fault, every event of the tree, every answer, in the same order; another seed does not."""

    def play(seed: int) -> list[object]:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(shop(Chaos(FaultPlan(seed, 0.3))))

    once = play(seed)
    assert once == play(seed)
    assert once != play(seed + 1000)


@pytest.mark.chaos(profile="aggressive", seeds=40)
async def test_a_tree_survives(chaos: Chaos) -> None:
    """All faults at once, forty times."""
    await shop(chaos)


def test_message_faults_are_those_of_a_network() -> None:
    """They can be left out where messages cannot be lost."""
    assert {Fault.DROP, Fault.DUPLICATE, Fault.DELAY} == MESSAGE_FAULTS


@pytest.mark.parametrize(
    ("overflow", "left"), [(Overflow.DROP_OLDEST, ["late"]), (Overflow.DROP_NEWEST, ["early"])]
)
@pytest.mark.virtual_time
async def test_a_delayed_message_and_a_full_mailbox(overflow: Overflow, left: list[str]) -> None:
    """A message that comes late is treated as any other: the mailbox keeps its limit, and callers hear."""

    class Small(Actor):
        mailbox_limit = 1

        async def handle_call(self, request: object) -> object:
            return request

    Small.overflow = overflow
    async with run(Small()) as ref:
        monkey = ChaosMonkey(ref, plan=FaultPlan(0, 1.0, [Fault.DELAY]))
        monkey.start()
        late = asyncio.ensure_future(ref.call("late", timeout=None))
        await settle()
        monkey.stop()
        await ref.suspend()
        early = asyncio.ensure_future(ref.call("early", timeout=None))
        await asyncio.sleep(1)
        lane = ref._cell.mailbox.user
        assert lane is not None
        assert [item.request for item in lane if isinstance(item, Call)] == left
        await ref.resume()
        answers = await asyncio.gather(late, early, return_exceptions=True)
        assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [
            MailboxFullError
        ]
