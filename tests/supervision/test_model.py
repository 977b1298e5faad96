"""Models of OTP's supervisors, without asyncio, beside the real ones under random scripts.

Hypothesis writes the scripts: starts, crashes, several at once, normal ends, starts that fail or say ignore,
every management call, and time that passes. After each step both have started and stopped the same children in
the same order, and the same ones are left.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from supervision import (
    IGNORE,
    AlreadyPresentError,
    AlreadyStartedError,
    AutoShutdown,
    ChildError,
    ChildNotFoundError,
    ChildRunningError,
    ChildSpec,
    ChildStartError,
    DynamicSupervisor,
    MaxChildrenError,
    Restart,
    RestartLimitError,
    Stop,
    Strategy,
    Supervisor,
    run,
)
from supervision.testing import ManualClock, settle

if TYPE_CHECKING:
    from collections.abc import Coroutine

pytestmark = pytest.mark.timeout(1800)  # for ten thousand scripts

SCRIPTS = settings(
    max_examples=int(os.environ.get("SUPERVISION_MODEL_SCRIPTS", "120")),
    stateful_step_count=25,
    deadline=None,
)
IDS = st.sampled_from("abcd")
REASONS = st.sampled_from(["normal", "shutdown", "boom", "boom"])
RESTARTS = st.sampled_from(list(Restart))
MOODS = st.lists(st.sampled_from(["fail", "ignore"]), min_size=1, max_size=3)
WINDOW_S = 5.0


@dataclass(eq=False)
class Kid:
    """A child as OTP keeps it: `runs` is what its supervisor believes, `breathes` what is so."""

    id: object
    restart: Restart
    significant: bool = False
    runs: bool = False
    breathes: bool = False
    retrying: bool = False
    lives: int = 0


@dataclass
class Model:
    """What all supervisors do, one thing at a time."""

    limit: int
    moods: dict[object, deque[str]] = field(default_factory=dict)
    kids: list[Kid] = field(default_factory=list)
    journal: list[tuple[str, object]] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    now: float = 0.0
    alive: bool = True

    def begin(self, kid: Kid) -> str:
        moods = self.moods.get(kid.id)
        mood = moods.popleft() if moods else "start"
        self.journal.append((mood, kid.id))
        kid.runs = kid.breathes = mood == "start"
        kid.retrying = False
        kid.lives += 1
        return mood

    def halt(self, kid: Kid) -> None:
        if kid.breathes:
            self.journal.append(("stop", kid.id))
        kid.runs = kid.breathes = kid.retrying = False
        kid.lives += 1

    def crash(self, kids: list[Kid], reason: str) -> None:
        """Have children end by themselves, all before their supervisor hears of the first."""
        mailbox = deque(("exit", kid, kid.lives) for kid in kids)
        for kid in kids:
            self.journal.append(("stop", kid.id))
            kid.breathes = False
        while mailbox and self.alive:
            what, kid, life = mailbox.popleft()
            if kid not in self.kids or kid.lives != life:
                continue
            if (
                what == "retry"
                or kid.restart is Restart.PERMANENT
                or (kid.restart is Restart.TRANSIENT and reason == "boom")
            ):
                failed = self.restart(kid)
            else:
                kid.runs = False
                self.left_down(kid)
                continue
            if failed is not None:
                failed.retrying = True
                mailbox.append(("retry", failed, failed.lives))

    def restart(self, kid: Kid) -> Kid | None:
        kid.runs = False
        return self.attempt(kid) if self.permitted(kid) else None

    def permitted(self, kid: Kid) -> bool:
        self.restarts = [t for t in self.restarts if t >= self.now - WINDOW_S] + [self.now]
        if len(self.restarts) <= self.limit:
            return True
        self.kids.remove(kid)
        self.end()
        return False

    def attempt(self, kid: Kid) -> Kid | None:
        raise NotImplementedError

    def left_down(self, kid: Kid) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError


@dataclass
class Static(Model):
    """supervisor.erl with the three strategies of children in an order."""

    strategy: Strategy = Strategy.ONE_FOR_ONE
    auto: AutoShutdown = AutoShutdown.NEVER

    def find(self, kid_id: object) -> Kid | None:
        return next((kid for kid in self.kids if kid.id == kid_id), None)

    def stop(self, kid: Kid) -> None:
        self.halt(kid)
        if kid.restart is Restart.TEMPORARY:
            self.kids.remove(kid)

    def end(self) -> None:
        for kid in reversed(self.kids.copy()):
            self.stop(kid)
        self.alive = False

    def attempt(self, kid: Kid) -> Kid | None:
        group = [kid]
        if self.strategy is Strategy.ONE_FOR_ALL:
            group = self.kids.copy()
        elif self.strategy is Strategy.REST_FOR_ONE:
            group = self.kids[self.kids.index(kid) :]
        for other in reversed(group):
            if other is not kid:
                self.stop(other)
        return next((k for k in group if k in self.kids and self.begin(k) == "fail"), None)

    def left_down(self, kid: Kid) -> None:
        if kid.restart is Restart.TEMPORARY:
            self.kids.remove(kid)
        left = any(other.significant and (other.runs or other.retrying) for other in self.kids)
        if kid.significant and (self.auto is AutoShutdown.ANY_SIGNIFICANT or not left):
            self.end()

    def start_child(self, kid: Kid) -> type[Exception] | None:
        known = self.find(kid.id)
        if known is not None:
            return AlreadyStartedError if known.runs else AlreadyPresentError
        self.kids.append(kid)
        mood = self.begin(kid)
        if mood == "fail" or (mood == "ignore" and kid.restart is Restart.TEMPORARY):
            self.kids.remove(kid)
        return ChildStartError if mood == "fail" else None

    def terminate_child(self, kid_id: object) -> type[Exception] | None:
        kid = self.find(kid_id)
        if kid is None:
            return ChildNotFoundError
        self.stop(kid)
        return None

    def restart_child(self, kid_id: object) -> type[Exception] | None:
        kid = self.find(kid_id)
        if kid is None:
            return ChildNotFoundError
        if kid.runs:
            return ChildRunningError
        return ChildStartError if self.begin(kid) == "fail" else None

    def delete_child(self, kid_id: object) -> type[Exception] | None:
        kid = self.find(kid_id)
        if kid is None:
            return ChildNotFoundError
        if kid.runs:
            return ChildRunningError
        self.kids.remove(kid)
        return None


@dataclass
class Dynamic(Model):
    """DynamicSupervisor: independent children, named by their refs."""

    room: int | None = None

    def end(self) -> None:
        for kid in self.kids.copy():
            self.halt(kid)
        self.alive = False

    def attempt(self, kid: Kid) -> Kid | None:
        mood = self.begin(kid)
        if mood == "fail":
            return kid
        self.kids.remove(kid)
        if mood == "start":
            self.kids.append(kid)
        return None

    def left_down(self, kid: Kid) -> None:
        self.kids.remove(kid)

    def start_child(self, kid: Kid) -> type[Exception] | None:
        if self.room is not None and len(self.kids) >= self.room:
            return MaxChildrenError
        mood = self.begin(kid)
        if mood == "start":
            self.kids.append(kid)
        return ChildStartError if mood == "fail" else None

    def terminate_child(self, kid: Kid) -> type[Exception] | None:
        if kid not in self.kids:
            return ChildNotFoundError
        self.halt(kid)
        self.kids.remove(kid)
        return None


class Machine(RuleBasedStateMachine):
    """Plays a script with a model and the real thing."""

    model: Model

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.journal: list[tuple[str, object]] = []
        self.moods: dict[object, deque[str]] = {}
        self.ends: dict[object, asyncio.Future[str]] = {}

    def begin(self, model: Model, root: Supervisor | DynamicSupervisor) -> None:
        self.model = model
        self.system = run(root, clock=self.clock)
        self.do(self.system.start())

    def do(self, body: Coroutine[object, object, object]) -> type[Exception] | None:
        async def settled() -> type[Exception] | None:
            try:
                self.answer = await body
            except (ChildError, ChildStartError) as error:
                return type(error)
            finally:
                await settle()
            return None

        return self.runner.run(settled())

    def spec(self, kid: Kid) -> ChildSpec:
        start = partial(self.start, kid.id)
        return ChildSpec(kid.id, start, restart=kid.restart, significant=kid.significant)

    def start(self, kid_id: object) -> object:
        moods = self.moods.get(kid_id)
        mood = moods.popleft() if moods else "start"
        if mood != "start":
            self.journal.append((mood, kid_id))
        if mood == "fail":
            raise RuntimeError(kid_id)
        return IGNORE if mood == "ignore" else self.live(kid_id)

    async def live(self, kid_id: object) -> None:
        self.journal.append(("start", kid_id))
        self.ends[kid_id] = asyncio.get_running_loop().create_future()
        try:
            raise Stop(await self.ends[kid_id])
        finally:
            self.journal.append(("stop", kid_id))

    def crash(self, kids: list[Kid], reason: str) -> None:
        kids = [kid for kid in kids if kid.runs]
        for kid in kids:
            self.ends[kid.id].set_result(reason)
        self.model.crash(kids, reason)
        self.do(asyncio.sleep(0))

    def set_moods(self, kid_id: object, moods: list[str]) -> None:
        self.moods[kid_id] = deque(moods)
        self.model.moods[kid_id] = deque(moods)

    def agree(self) -> None:
        assert self.journal == self.model.journal
        assert self.system.ref.alive is self.model.alive
        if self.model.alive:
            self.do(self.system.ref.which_children())
            listed = [(info.id, info.ref is not None) for info in self.answer]
            assert listed[::-1] == [(kid.id, kid.runs) for kid in self.model.kids]

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.9, 5.1]))
    def pass_time(self, seconds: float) -> None:
        self.model.now += seconds
        self.do(self.clock.advance(seconds))

    def teardown(self) -> None:
        try:
            if hasattr(self, "system"):
                self.model.end()
                with suppress(RestartLimitError):
                    self.runner.run(self.system.stop())
                assert self.journal == self.model.journal
        finally:
            self.runner.close()


class StaticMachine(Machine):
    """A supervisor of each strategy, with up to four children."""

    model: Static

    @initialize(
        strategy=st.sampled_from(list(Strategy)),
        limit=st.integers(0, 4),
        auto=st.sampled_from(list(AutoShutdown)),
        kids=st.lists(st.tuples(IDS, RESTARTS), max_size=4),
    )
    def set_up(
        self, strategy: Strategy, limit: int, auto: AutoShutdown, kids: list[tuple[str, Restart]]
    ) -> None:
        root = Supervisor(
            strategy=strategy, max_restarts=limit, max_seconds=WINDOW_S, auto_shutdown=auto
        )
        self.begin(Static(limit, strategy=strategy, auto=auto), root)
        for kid_id, restart in kids:
            self.start_child(kid_id, restart, significant=False)

    @precondition(lambda self: self.model.alive)
    @rule(kid_id=IDS, restart=RESTARTS, significant=st.booleans())
    def start_child(self, kid_id: str, restart: Restart, *, significant: bool) -> None:
        significant &= restart is not Restart.PERMANENT
        significant &= self.model.auto is not AutoShutdown.NEVER
        kid = Kid(kid_id, restart, significant)
        assert self.do(self.system.ref.start_child(self.spec(kid))) is self.model.start_child(kid)
        self.agree()

    @precondition(lambda self: self.model.alive)
    @rule(verb=st.sampled_from(["terminate_child", "restart_child", "delete_child"]), kid_id=IDS)
    def manage(self, verb: str, kid_id: str) -> None:
        expected = getattr(self.model, verb)(kid_id)
        assert self.do(getattr(self.system.ref, verb)(kid_id)) is expected
        self.agree()

    @precondition(lambda self: self.model.alive)
    @rule(ids=st.lists(IDS, min_size=1, max_size=3, unique=True), reason=REASONS)
    def exit(self, ids: list[str], reason: str) -> None:
        self.crash([kid for i in ids for kid in self.model.kids if kid.id == i], reason)
        self.agree()

    @precondition(lambda self: self.model.alive)
    @rule(kid_id=IDS, moods=MOODS)
    def moody(self, kid_id: str, moods: list[str]) -> None:
        self.set_moods(kid_id, moods)


class DynamicMachine(Machine):
    """A dynamic supervisor with any number of children."""

    model: Dynamic

    @initialize(limit=st.integers(0, 4), room=st.none() | st.integers(0, 4))
    def set_up(self, limit: int, room: int | None) -> None:
        root = DynamicSupervisor(max_children=room, max_restarts=limit, max_seconds=WINDOW_S)
        self.begin(Dynamic(limit, room=room), root)
        self.known: list[Kid] = []
        self.refs: dict[Kid, object] = {}

    @precondition(lambda self: self.model.alive)
    @rule(restart=RESTARTS, moods=st.just([]) | MOODS)
    def start_child(self, restart: Restart, moods: list[str]) -> None:
        kid = Kid(len(self.known), restart)
        self.known.append(kid)
        self.set_moods(kid.id, moods)
        self.answer = None
        assert self.do(self.system.ref.start_child(self.spec(kid))) is self.model.start_child(kid)
        assert (self.answer is not None) == kid.runs
        self.refs[kid] = self.answer
        self.agree()

    @precondition(lambda self: self.model.alive and self.known)
    @rule(number=st.integers(0, 30))
    def terminate(self, number: int) -> None:
        kid = self.known[number % len(self.known)]
        ref = self.present().get(kid.id, self.refs[kid])
        if ref is not None:
            expected = self.model.terminate_child(kid)
            assert self.do(self.system.ref.terminate_child(ref)) is expected
            self.agree()

    @precondition(lambda self: self.model.alive and self.known)
    @rule(numbers=st.lists(st.integers(0, 30), min_size=1, max_size=3), reason=REASONS)
    def exit(self, numbers: list[int], reason: str) -> None:
        kids = {id(kid): kid for n in numbers for kid in [self.known[n % len(self.known)]]}
        self.crash([kid for kid in kids.values() if kid in self.model.kids], reason)
        self.agree()

    @precondition(lambda self: self.model.alive and self.known)
    @rule(number=st.integers(0, 30), moods=MOODS)
    def moody(self, number: int, moods: list[str]) -> None:
        self.set_moods(self.known[number % len(self.known)].id, moods)

    def present(self) -> dict[object, object]:
        self.do(self.system.ref.which_children())
        return {info.id: info.ref for info in self.answer}


TestStatic = StaticMachine.TestCase
TestStatic.settings = SCRIPTS
TestDynamic = DynamicMachine.TestCase
TestDynamic.settings = SCRIPTS
