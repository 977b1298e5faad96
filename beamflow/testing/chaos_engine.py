"""An engine under chaos: faults strike it, it is started again whenever it has ended, and you ask on."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, TypeVarTuple, overload

import anyio.to_thread

from beamflow.authoring.workflow import definition_of
from beamflow.engine.conversation import signal_payload
from beamflow.engine.engine import Engine
from beamflow.engine.handle import WorkflowHandle
from beamflow.engine.workflow_actor import WorkflowActor
from beamflow.errors import EngineStoppedError, StoreError
from beamflow.model.events import (
    CompensationCompleted,
    CompensationStarted,
    SignalReceived,
    WorkflowCancelled,
)
from beamflow.model.status import WorkflowState
from beamflow.stores.base import DeadLetterState
from beamflow.stores.url import open_store
from beamflow.testing.faulty_store import FaultyStore
from supervision.chaos import ChaosMonkey
from supervision.faults import MESSAGE_FAULTS, Fault
from supervision.testing import eventually
from supervision.virtual import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from types import TracebackType

    from beamflow.authoring.methods import Sent
    from beamflow.authoring.workflow import Runs, Workflow
    from beamflow.engine.handle import WorkflowStatus
    from beamflow.model.events import Recorded
    from beamflow.stores.base import Store, Summary
    from supervision.chaos import Chaos

__all__ = ["ChaosEngine", "ChaosHandle", "Ending"]

R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DOWN_S: Final = (0.1, 2.0)
AGAIN_S: Final = 0.05
LOOK_S: Final = 30.0


class Ending(StrEnum):
    """How a workflow may end, whatever happens to it."""

    COMPLETED = "completed"
    COMPENSATED = "compensated"
    """It failed, and all that was to be undone is."""
    CANCELLED = "cancelled"
    """It ended because it was told to; all that was to be undone is, unless it was terminated."""
    DEAD_LETTERED = "dead-lettered"
    """It failed with nothing to undo, or stands still; somebody finds it in the dead-letter queue."""


class ChaosEngine:
    """Runs an engine on a store that outlives it, with faults, for a test in virtual time.

    ::

        @pytest.mark.chaos(profile="moderate", seeds=200)
        async def test_orders(chaos):
            async with ChaosEngine(chaos, workflows=[order]) as engine:
                handle = await engine.start(order, "o-1", id="o-1")
                chaos.calm()
                assert await engine.endings() == {"o-1": Ending.COMPLETED}

    Faults strike the store, the steps and every actor of the engine. After a power loss, or when
    it has given up, another engine is started on the same store, as whoever runs the process would.
    What is asked here is asked again of the next engine, so all of it must be harmless to ask twice.

    Messages between the actors of an engine are not lost, doubled or reordered: inside one process
    nothing does that to them but the end of an actor.

    Args:
        chaos: the fixture.
        workflows: as for `Engine`.
        store: ``"memory://"``, another URL, or a store that is not open.
        clock: the clock of the test, when that needs it too.
        options: as for `Engine`.

    Attributes:
        clock: the engine's clock; faults set it.
        lives: how many engines there have been.
    """

    def __init__(
        self,
        chaos: Chaos,
        *,
        workflows: Iterable[Workflow[..., Any] | type],
        store: Store | str = "memory://",
        clock: VirtualClock | None = None,
        **options: Any,
    ) -> None:
        """Prepare; nothing runs before it is entered."""
        self.clock = VirtualClock() if clock is None else clock
        self.lives = 0
        self._chaos = chaos
        self._store = (
            open_store(store, clock=lambda: int(self.clock.now() * 1e6))
            if isinstance(store, str)
            else store
        )
        self._options = {**options, "workflows": tuple(workflows)}
        self._dice = Random(f"{chaos.seed}/engine")  # noqa: S311 - repeatable on purpose
        self._life: _Life | None = None
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._minted = 0

    async def __aenter__(self) -> Self:
        """Start the first engine."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        await self._living()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the last engine in order, in peace."""
        self._chaos.calm()
        assert self._keeper is not None
        self._keeper.cancel()
        await asyncio.wait({self._keeper})
        life, self._life = self._life, None
        if life is not None:
            await life.leave()

    # Use

    async def start(
        self,
        workflow: Callable[[*Ts], Coroutine[Any, Any, R]]
        | type[Runs[Callable[[*Ts], Coroutine[Any, Any, R]]]],
        /,
        *args: *Ts,
        id: str | None = None,
    ) -> ChaosHandle[R]:
        """Start a workflow; returns once its start is in the log. See `Engine.start`."""
        if id is None:
            self._minted += 1
            id = f"workflow-{self._minted}"
        workflow_id = id

        async def start(engine: Engine) -> None:
            await engine.start(workflow, *args, id=workflow_id)

        await self.ask(start)
        return ChaosHandle(self, workflow_id, definition_of(workflow))

    def handle(self, id: str) -> ChaosHandle[Any]:
        """Return a handle of any workflow of the store."""
        return ChaosHandle(self, id, None)

    async def ask(self, question: Callable[[Engine], Awaitable[T]]) -> T:
        """Ask the engine that is there, and the next one if that ends before it has answered.

        Args:
            question: anything that may be asked twice: ``lambda engine: engine.dead_letters.list()``.
        """
        while True:
            life = await self._living()
            limit = asyncio.timeout(None)
            try:
                async with limit:
                    life.callers[limit] = None
                    try:
                        return await question(life.engine)
                    finally:
                        del life.callers[limit]
            except (EngineStoppedError, StoreError):
                await self.clock.sleep(AGAIN_S)
            except TimeoutError:
                if not limit.expired():
                    raise

    async def endings(self, *, within: float = 86_400.0) -> dict[str, Ending]:
        """Wait until every workflow of the store has ended, completed, compensated or dead-lettered.

        Args:
            within: virtual seconds to wait.

        Raises:
            AssertionError: one has not ended, has left something undone, or lies in no queue.
        """
        found: dict[str, Ending] = {}

        async def look() -> bool:
            summaries = await self.ask(_summaries)
            found.update({summary.id: await self._ending(summary) for summary in summaries})
            return True

        assert await eventually(look, within=within, every=LOOK_S)
        return found

    def cut(self) -> None:
        """Cut the power now; another engine is started in a moment."""
        if self._life is not None:
            self._life.cut()

    # Behind it

    async def _ending(self, summary: Summary) -> Ending:
        if summary.state is WorkflowState.COMPLETED:
            return Ending.COMPLETED
        assert not summary.state.is_open or summary.state is WorkflowState.PARKED, (
            f"{summary.id!r} is {summary.state.value}"
        )
        if summary.state is WorkflowState.CANCELLED:
            last = (await self.handle(summary.id).history())[-1].event
            if not (isinstance(last, WorkflowCancelled) and last.terminated):
                await self._undone(summary.id)
            return Ending.CANCELLED
        letter = await self.ask(lambda engine: engine.dead_letters.show(summary.id))
        assert letter.state is not DeadLetterState.RETRIED or letter.retried_as != summary.id
        if summary.state is WorkflowState.PARKED:
            return Ending.DEAD_LETTERED
        wanted = await self._undone(summary.id)
        return Ending.COMPENSATED if wanted else Ending.DEAD_LETTERED

    async def _undone(self, workflow_id: str) -> set[int]:
        """Return the steps that were to be undone; see that they are."""
        history = await self.handle(workflow_id).history()
        wanted = {op for step in _of(history, CompensationStarted) for op in step.steps}
        undone = {step.op for step in _of(history, CompensationCompleted)}
        assert wanted == undone, f"{workflow_id!r} has ended with {wanted - undone} not undone"
        return wanted

    async def _living(self) -> _Life:
        while (life := self._life) is None or life.over:
            assert self._keeper is not None, "use it inside `async with`"
            if self._keeper.done():
                await self._keeper
                raise EngineStoppedError("the chaos engine was left")
            self._changed.clear()
            await self._changed.wait()
        return life

    async def _keep(self) -> None:
        """Start an engine; when it has ended, start another."""
        try:
            while True:
                self.lives += 1
                life = _Life(self._chaos, self._store, self.clock, self._options, self.lives)
                if await life.begin():
                    self._life = life
                    self._changed.set()
                    await life.ended.wait()
                self._life = None
                await life.leave()
                await self.clock.sleep(self._dice.uniform(*DOWN_S))
        finally:
            self._changed.set()


class ChaosHandle(Generic[R]):
    """A workflow of a `ChaosEngine`, addressed by its id; asks whichever engine there is.

    Attributes:
        id: the workflow's id.
    """

    def __init__(
        self,
        engine: ChaosEngine,
        workflow_id: str,
        workflow: Workflow[..., R] | None,
    ) -> None:
        """Made by the engine."""
        self.id = workflow_id
        self._engine = engine
        self._workflow = workflow

    async def result(self) -> R:
        """Wait for the end; see `WorkflowHandle.result`."""
        return await self._engine.ask(lambda engine: self._of(engine).result())

    async def status(self) -> WorkflowStatus:
        """Return where the workflow stands; see `WorkflowHandle.status`."""
        return await self._engine.ask(lambda engine: self._of(engine).status())

    async def history(self) -> list[Recorded]:
        """Return the workflow's events so far; see `WorkflowHandle.history`."""
        return await self._engine.ask(lambda engine: self._of(engine).history())

    @overload
    async def signal(self, to: str, /, payload: Any = ..., *, key: str = ...) -> None: ...
    @overload
    async def signal(self, to: Callable[[], Sent], /, *, key: str = ...) -> None: ...
    @overload
    async def signal(self, to: Callable[[T], Sent], /, payload: T, *, key: str = ...) -> None: ...
    @overload
    async def signal(self, to: type[T], /, payload: T, *, key: str = ...) -> None: ...
    async def signal(self, to: Any, /, payload: Any = None, *, key: str = "") -> None:
        """Send a signal, and look into the log before it is sent again: it arrives once.

        Do not send the same name and payload from two tasks at once. See `WorkflowHandle.signal`.
        """
        name, data = signal_payload(to, payload)
        before = _count(await self.history(), name, data)

        async def send(engine: Engine) -> None:
            handle = self._of(engine)
            if _count(await handle.history(), name, data) == before:
                await handle.signal(to, payload, key=key)

        await self._engine.ask(send)

    def _of(self, engine: Engine) -> WorkflowHandle[R]:
        return WorkflowHandle(engine._services, engine._workflows, self.id, self._workflow)


class _Life:
    """One engine, from its start to its end, on an island of its own."""

    def __init__(
        self,
        chaos: Chaos,
        store: Store,
        clock: VirtualClock,
        options: dict[str, Any],
        number: int,
    ) -> None:
        self.ended = asyncio.Event()
        self.callers: dict[asyncio.Timeout, None] = {}  # in order, for they are woken in it
        self._chaos = chaos
        self._up: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._outside = contextvars.copy_context()
        self._island = chaos.island()
        self._store = FaultyStore(store, chaos.plan, clock, self.cut)
        chance = Random(f"{chaos.seed}/{number}")  # noqa: S311 - repeatable on purpose
        self.engine = Engine(self._store, clock=clock, random=chance, **options)
        self.engine._services.around_step = self._store.around_step

    @property
    def over(self) -> bool:
        return self.ended.is_set()

    async def begin(self) -> bool:
        """Enter the engine; tell whether it came up."""

        async def enter() -> None:
            try:
                await self.engine.__aenter__()
            except (EngineStoppedError, StoreError):
                self._end()
            else:
                self._watch()
                self._up.set_result(True)

        _ = self._island.start(enter())
        return await self._up

    def _watch(self) -> None:
        system = self.engine._system
        assert system is not None
        monkey = ChaosMonkey(
            system.ref, plan=self._chaos.plan, faults=frozenset(Fault) - MESSAGE_FAULTS
        )
        monkey.start()
        system.ref.monitor(lambda _: self._end())

    def cut(self) -> None:
        """Cut the power."""
        if not self.over:
            self._island.cut()
            self._island.at_burial(self._close_code)
            self._store.die()
            self._end()

    def _close_code(self) -> None:
        """Close the workflows' own loops, which no task of the island runs."""
        supervisor = self.engine._workflows._supervisor
        for child in () if supervisor is None else supervisor.children():
            actor = None if child.cell is None else child.cell.actor
            if isinstance(actor, WorkflowActor) and actor._execution is not None:
                with contextlib.suppress(Exception):
                    actor._execution.close()

    async def leave(self) -> None:
        """Stop what still runs; a store that was cut off is closed, as by the system."""
        if self._island.is_cut:
            self._free_threads()
            await self._store.bury()
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def leave() -> None:
            try:
                await self.engine.__aexit__(None, None, None)
            except EngineStoppedError:
                pass  # it had given up, and that is how it ends
            finally:
                if not done.done():
                    done.set_result(None)

        _ = self._island.start(leave())
        await done
        self._end()

    def _free_threads(self) -> None:
        """Give back the dead's share of the thread pool, which is the loop's and not the engine's."""
        limiter = anyio.to_thread.current_default_thread_limiter()
        for borrower in limiter.statistics().borrowers:
            if borrower in self._island.tasks:
                limiter.release_on_behalf_of(borrower)
        waiting = limiter.statistics().tasks_waiting
        limiter.total_tokens += waiting  # wakes all who wait, dead or alive
        limiter.total_tokens -= waiting

    def _end(self) -> None:
        self.ended.set()
        if not self._up.done():
            self._up.set_result(False)
        now = asyncio.get_running_loop().time()
        for caller in tuple(self.callers):
            # not from the island, where nothing may run any more
            self._outside.run(caller.reschedule, now)


async def _summaries(engine: Engine) -> list[Summary]:
    return [summary async for summary in engine.find()]


def _of(history: list[Recorded], kind: type[T]) -> list[T]:
    return [recorded.event for recorded in history if isinstance(recorded.event, kind)]


def _count(history: list[Recorded], name: str, data: bytes) -> int:
    return sum(
        signal.name == name and bytes(signal.payload) == data
        for signal in _of(history, SignalReceived)
    )
