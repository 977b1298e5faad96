"""A model of OTP's supervisor, without asyncio, beside the real one under random scripts."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from functools import partial

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervision import (
    AlreadyPresentError,
    AlreadyStartedError,
    AutoShutdown,
    ChildError,
    ChildNotFoundError,
    ChildRunningError,
    ChildSpec,
    ChildStartError,
    Restart,
    Stop,
    Strategy,
    Supervisor,
    run,
)
from supervision.testing import ManualClock, settle

IDS = ("a", "b", "c", "d")
REASONS = ("normal", "shutdown", "boom")


@dataclass
class Kid:
    """A child as OTP keeps it."""

    id: str
    restart: Restart
    significant: bool
    runs: bool = False


@dataclass
class Model:
    """What supervisor.erl does, one call at a time; time stands still."""

    strategy: Strategy
    limit: int
    auto: AutoShutdown
    fails: dict[str, int] = field(default_factory=dict)
    kids: list[Kid] = field(default_factory=list)
    journal: list[tuple[str, str]] = field(default_factory=list)
    used: int = 0
    alive: bool = True

    def find(self, kid_id: str) -> Kid | None:
        return next((kid for kid in self.kids if kid.id == kid_id), None)

    def begin(self, kid: Kid) -> bool:
        if self.fails.get(kid.id, 0):
            self.fails[kid.id] -= 1
            self.journal.append(("fail", kid.id))
        else:
            self.journal.append(("start", kid.id))
            kid.runs = True
        return kid.runs

    def stop(self, kid: Kid) -> None:
        if kid.runs:
            self.journal.append(("stop", kid.id))
            kid.runs = False
        if kid.restart is Restart.TEMPORARY:
            self.kids.remove(kid)

    def stop_all(self) -> None:
        for kid in reversed(self.kids.copy()):
            self.stop(kid)
        self.alive = False

    def start_child(self, kid: Kid) -> type[Exception] | None:
        known = self.find(kid.id)
        if known is not None:
            return AlreadyStartedError if known.runs else AlreadyPresentError
        self.kids.append(kid)
        if self.begin(kid):
            return None
        self.kids.remove(kid)
        return ChildStartError

    def terminate_child(self, kid_id: str) -> type[Exception] | None:
        kid = self.find(kid_id)
        if kid is None:
            return ChildNotFoundError
        self.stop(kid)
        return None

    def restart_child(self, kid_id: str) -> type[Exception] | None:
        kid = self.find(kid_id)
        if kid is None:
            return ChildNotFoundError
        if kid.runs:
            return ChildRunningError
        return None if self.begin(kid) else ChildStartError

    def delete_child(self, kid_id: str) -> type[Exception] | None:
        kid = self.find(kid_id)
        if kid is None:
            return ChildNotFoundError
        if kid.runs:
            return ChildRunningError
        self.kids.remove(kid)
        return None

    def exit(self, kid_id: str, reason: str) -> None:
        kid = self.find(kid_id)
        if kid is None or not kid.runs:
            return
        self.journal.append(("stop", kid.id))
        kid.runs = False
        if kid.restart is Restart.PERMANENT or (
            kid.restart is Restart.TRANSIENT and reason == "boom"
        ):
            self.restart(kid)
            return
        if kid.restart is Restart.TEMPORARY:
            self.kids.remove(kid)
        left = any(other.significant and other.runs for other in self.kids)
        if kid.significant and (self.auto is AutoShutdown.ANY_SIGNIFICANT or not left):
            self.stop_all()

    def restart(self, kid: Kid) -> None:
        failed: Kid | None = kid
        while failed is not None:
            self.used += 1
            if self.used > self.limit:
                self.kids.remove(failed)
                self.stop_all()
                return
            failed = self.attempt(failed)

    def attempt(self, kid: Kid) -> Kid | None:
        group = [kid]
        if self.strategy is Strategy.ONE_FOR_ALL:
            group = self.kids.copy()
        elif self.strategy is Strategy.REST_FOR_ONE:
            group = self.kids[self.kids.index(kid) :]
        for other in reversed(group):
            if other is not kid:
                self.stop(other)
        return next((k for k in group if k in self.kids and not self.begin(k)), None)


class Real:
    """The real supervisor, driven by the same script."""

    def __init__(self, strategy: Strategy, limit: int, auto: AutoShutdown) -> None:
        self.fails: dict[str, int] = {}
        self.journal: list[tuple[str, str]] = []
        options = {"strategy": strategy, "max_restarts": limit, "auto_shutdown": auto}
        self.system = run(Supervisor([], **options), clock=ManualClock())

    def spec(self, kid: Kid) -> ChildSpec:
        start = partial(self.body, kid.id)
        return ChildSpec(kid.id, start, restart=kid.restart, significant=kid.significant)

    def body(self, kid_id: str):
        if self.fails.get(kid_id, 0):
            self.fails[kid_id] -= 1
            self.journal.append(("fail", kid_id))
            raise RuntimeError(kid_id)
        return self.live(kid_id)

    async def live(self, kid_id: str) -> None:
        self.journal.append(("start", kid_id))
        self.end = getattr(self, "end", {})
        self.end[kid_id] = asyncio.get_running_loop().create_future()
        try:
            raise Stop(await self.end[kid_id])
        finally:
            self.journal.append(("stop", kid_id))

    async def do(self, verb: str, *arguments: object) -> type[Exception] | None:
        try:
            await getattr(self.system.ref, verb)(*arguments)
        except (ChildError, ChildStartError) as error:
            return type(error)
        return None

    async def exit(self, kid_id: str, reason: str) -> None:
        if self.system.ref.alive:
            kids = {info.id: info.ref for info in await self.system.ref.which_children()}
            if kids.get(kid_id) is not None:
                self.end[kid_id].set_result(reason)
        await settle()


def kids():
    return st.builds(
        lambda kid_id, restart, significant: Kid(
            kid_id, restart, significant and restart is not Restart.PERMANENT
        ),
        st.sampled_from(IDS),
        st.sampled_from(list(Restart)),
        st.booleans(),
    )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start_child"), kids()),
        st.tuples(st.just("exit"), st.sampled_from(IDS), st.sampled_from(REASONS)),
        st.tuples(st.just("fails"), st.sampled_from(IDS), st.integers(1, 3)),
        st.tuples(
            st.sampled_from(["terminate_child", "restart_child", "delete_child"]),
            st.sampled_from(IDS),
        ),
    ),
    max_size=20,
)


async def play(strategy: Strategy, limit: int, auto: AutoShutdown, steps: list[tuple]) -> None:
    model, real = Model(strategy, limit, auto), Real(strategy, limit, auto)
    await real.system.start()
    for verb, *arguments in steps:
        if not model.alive:
            break
        if verb == "fails":
            model.fails[arguments[0]] = real.fails[arguments[0]] = arguments[1]
        elif verb == "exit":
            model.exit(*arguments)
            await real.exit(*arguments)
        else:
            given = arguments[0]
            if isinstance(given, Kid):
                given.significant &= auto is not AutoShutdown.NEVER
                expected = model.start_child(Kid(given.id, given.restart, given.significant))
                assert await real.do(verb, real.spec(given)) is expected
            else:
                expected = getattr(model, verb)(given)
                assert await real.do(verb, given) is expected
        assert real.journal == model.journal
        assert real.system.ref.alive is model.alive
        if model.alive:
            listed = [
                (info.id, info.ref is not None) for info in await real.system.ref.which_children()
            ]
            assert listed[::-1] == [(kid.id, kid.runs) for kid in model.kids]
    if model.alive:
        model.stop_all()
        await real.system.stop()
    assert real.journal == model.journal


@settings(
    max_examples=int(os.environ.get("SUPERVISION_MODEL_SCRIPTS", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    st.sampled_from(list(Strategy)),
    st.integers(0, 4),
    st.sampled_from(list(AutoShutdown)),
    st.lists(kids(), max_size=4).flatmap(
        lambda first: STEPS.map(lambda steps: [("start_child", kid) for kid in first] + steps)
    ),
)
def test_model(strategy, limit, auto, steps):
    """Under any script the real supervisor starts and stops in the model's order, with its survivors."""
    asyncio.run(play(strategy, limit, auto, steps))
