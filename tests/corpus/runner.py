"""Runs one workflow of the corpus in virtual time, with power cuts at appends, and looks what is left."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from beamflow.engine.execution import Execution
from beamflow.errors import WorkflowError
from beamflow.model.events import Recorded, StepCompleted, WorkflowContinued, WorkflowRetried
from beamflow.model.ids import DEAD_LETTERS, idempotency_key, shared_idempotency_key
from beamflow.model.status import WorkflowState
from beamflow.stores.url import open_store
from beamflow.testing import ChaosEngine, EngineFault
from supervision.chaos import Chaos
from supervision.faults import FaultPlan
from supervision.virtual import VirtualClock, VirtualLoop
from tests.corpus.case import End, end_of
from tests.corpus.everything import WORKFLOWS
from tests.corpus.outsiders import play
from tests.corpus.world import World, use

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from beamflow import Engine
    from beamflow.model.commands import Command
    from beamflow.model.events import Event
    from beamflow.stores.base import Store, Summary
    from tests.corpus.case import Case

__all__ = ["Cut", "Run", "run"]


class Cut(NamedTuple):
    """A power cut at the n-th append of a run, of whichever stream."""

    append: int
    durable: bool
    """Whether the append is in the store; nobody hears of it either way."""

    def __str__(self) -> str:
        return f"cut right {'after' if self.durable else 'before'} append {self.append} is durable"


class _Cuts(FaultPlan):
    """Cuts the power at chosen appends, and does nothing else."""

    def __init__(self, cuts: Sequence[Cut]) -> None:
        super().__init__(0, 0.0)
        self.appends = 0
        self._cuts = {cut.append: cut for cut in cuts}

    def draw(self, site: str, among: Sequence[str]) -> tuple[str, Random] | None:
        if EngineFault.LOST_COMMIT not in among:  # it is no append
            return None
        self.appends += 1
        cut = self._cuts.get(self.appends)
        return None if cut is None else (EngineFault.POWER_LOSS, _Sure(first=cut.durable))


class _Sure(Random):
    """Tosses a coin that always falls on the same side."""

    def __new__(cls, *, first: bool) -> _Sure:  # noqa: PYI034 - Random seeds itself by it
        return super().__new__(cls)

    def __init__(self, *, first: bool) -> None:
        super().__init__(0)
        self._toss = 0.0 if first else 1.0

    def random(self) -> float:
        return self._toss


class _Watched:
    """A store that notes, beside the effects of the steps, what has become durable, and says so."""

    def __init__(self, store: Store, run: Run) -> None:
        self._store = store
        self._run = run
        self._runs: dict[str, int] = {}
        self.grown = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def open(self) -> None:
        await self._store.open()
        self.grown.set()  # whoever asked the engine before has to ask this one

    async def append(
        self, stream: str, expected: int, events: Sequence[Event], **options: Any
    ) -> None:
        await self._store.append(stream, expected, events, **options)
        done = len(self._run.world.effects)
        for event in events:
            if isinstance(event, WorkflowContinued):
                self._runs[stream] = event.run
            elif isinstance(event, WorkflowRetried):
                self._run.completed = {
                    key: count
                    for key, count in self._run.completed.items()
                    if not key.startswith(f"{stream}/")
                }
            elif isinstance(event, StepCompleted):
                if event.key:
                    key = shared_idempotency_key(event.name, event.key)
                else:
                    key = idempotency_key(stream, event.op, self._runs.get(stream, 0))
                self._run.completed.setdefault(key, done)
        self.grown.set()


@dataclass
class Run:
    """What a run has left.

    Attributes:
        world: what the steps did.
        appends: how many appends there were.
        lives: how many engines there were.
        end: how the workflow ended.
        histories: the log of every workflow, by id.
        states: where the index says that each stands.
        letters: the dead letters' own log.
        issued: for each life of each workflow's code, what it has asked for.
        completed: how many effects there had been when a step's completion was durable, by key.
    """

    world: World = field(default_factory=World)
    appends: int = 0
    lives: int = 0
    end: End | None = None
    histories: dict[str, list[Recorded]] = field(default_factory=dict)
    states: dict[str, WorkflowState] = field(default_factory=dict)
    letters: list[Recorded] = field(default_factory=list)
    issued: list[tuple[Execution, list[Command]]] = field(default_factory=list)
    completed: dict[str, int] = field(default_factory=dict)


def run(case: Case, file: Path | None = None, cuts: Sequence[Cut] = (), **options: Any) -> Run:
    """Run a case to its end, the power being cut meanwhile.

    Args:
        case: what to run.
        file: where the store is; in memory without it.
        cuts: where the power is cut.
        **options: as for `Engine`.
    """
    done = Run()
    plan = _Cuts(cuts)
    chaos = Chaos(plan)
    use(done.world)
    with _listening(done), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_run(case, file, chaos, done, options))
    chaos.close()
    done.appends = plan.appends
    return done


async def _run(
    case: Case, file: Path | None, chaos: Chaos, done: Run, options: dict[str, Any]
) -> None:
    clock = VirtualClock()
    url = "memory://" if file is None else f"sqlite:///{file}?durability=relaxed"
    store = _Watched(open_store(url, clock=lambda: int(clock.now() * 1e6)), done)
    async with ChaosEngine(
        chaos, workflows=WORKFLOWS, store=store, clock=clock, **options
    ) as engine:
        await engine.ask(
            lambda real: real.start(case.workflow, *case.args, id=case.name, **case.options)
        )

        async def news() -> None:
            await store.grown.wait()
            store.grown.clear()

        await play(case.outsiders, case.name, done.world, engine.ask, news)
        done.end = await engine.ask(lambda real: _end(real, case.name))
        while [one for one in await engine.ask(_summaries) if _moves(one)]:
            await news()
        for summary in await engine.ask(_summaries):
            done.states[summary.id] = summary.state
            done.histories[summary.id] = await engine.ask(_log_of(summary.id))
        done.letters = await engine.ask(_log_of(DEAD_LETTERS))
        done.lives = engine.lives


async def _end(engine: Engine, workflow_id: str) -> End:
    try:
        return end_of(await engine.handle(workflow_id).result())
    except WorkflowError as error:
        return end_of(error)


async def _summaries(engine: Engine) -> list[Summary]:
    return [summary async for summary in engine.find()]


def _log_of(stream: str) -> Callable[[Engine], Awaitable[list[Recorded]]]:
    return lambda engine: engine._services.opened.read(stream)


def _moves(summary: Summary) -> bool:
    """Whether anything will still happen by itself."""
    return summary.state.is_open and summary.state is not WorkflowState.PARKED


@contextmanager
def _listening(done: Run) -> Iterator[None]:
    """Note what all code asks for while it runs."""
    take = Execution.take_commands
    lists: dict[int, list[Command]] = {}

    def listen(code: Execution) -> list[Command]:
        commands = take(code)
        if id(code) not in lists:
            lists[id(code)] = []
            done.issued.append((code, lists[id(code)]))  # kept, so that no other has its id
        lists[id(code)].extend(commands)
        return commands

    Execution.take_commands = listen  # type: ignore[method-assign]
    try:
        yield
    finally:
        Execution.take_commands = take  # type: ignore[method-assign]
