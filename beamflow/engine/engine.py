"""The engine: the tree under which workflows run, embedded in the host's own event loop."""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, TypeVarTuple, Unpack, cast

from msgspec import Raw

from beamflow import log
from beamflow.authoring.running_step import running_step
from beamflow.authoring.workflow import DURATION_S_MAX
from beamflow.engine.awake import AWAKE_MAX, IDLE_AFTER_S
from beamflow.engine.conversation import SignalTarget, signal_event
from beamflow.engine.dead_letters import DeadLetterQueue, DeadLetters
from beamflow.engine.definitions import Definitions
from beamflow.engine.handle import WorkflowHandle
from beamflow.engine.others import OtherWorkflows
from beamflow.engine.probation import Probation
from beamflow.engine.recovery import recover
from beamflow.engine.retention import Retention, retain
from beamflow.engine.search import find, query_of
from beamflow.engine.services import Services
from beamflow.engine.slots import STEPS_MAX
from beamflow.engine.store_keeper import StoreKeeper
from beamflow.engine.threads import THREADS
from beamflow.engine.workflows import Workflows
from beamflow.errors import (
    BeamflowError,
    DefinitionError,
    EngineStoppedError,
    StoreError,
    WorkflowStateError,
)
from beamflow.model.events import (
    CancelRequested,
    CompensationCompleted,
    CompensationStarted,
    WorkflowStarted,
)
from beamflow.model.ids import checked_workflow_id
from beamflow.model.labels import checked_attributes, checked_tags
from beamflow.model.status import WorkflowState
from beamflow.stores.url import open_store
from supervision import (
    ChildSpec,
    ChildStartError,
    ChildType,
    Restart,
    Strategy,
    Supervisor,
    System,
    SystemClock,
    Watchdog,
)

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Iterable,
        Iterator,
        Mapping,
    )
    from types import TracebackType

    from beamflow.authoring.workflow import Runs, Workflow
    from beamflow.engine.search import Filters
    from beamflow.model.events import Attribute, SignalReceived
    from beamflow.stores.base import DeadLetter, Page, Store, Summary
    from supervision import Clock, Event, LoopBlocked, SupervisorRef

__all__ = ["Engine"]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Engine:
    """Runs workflows in the host's event loop, from a store that survives the process.

    ::

        async with Engine("sqlite:///app.db", workflows=[onboard]) as engine:
            handle = await engine.start(onboard, application, id="customer-42")
            policy = await handle.result()

    Entering opens the store, claims its lease and wakes every unfinished workflow; leaving stops
    everything in order, and what is unfinished goes on at the next start. The loop, its executor,
    signal handlers and logging of the host are left alone.

    ::

        Engine (rest_for_one)
        ├── store           the writer, the lease
        ├── dead_letters    the queue's own stream
        ├── workflows       DynamicSupervisor → one actor per workflow in memory (transient)
        ├── sleepers        wakes whom time wakes
        ├── probation       after a death: lets those go on who were at work (transient)
        ├── recovery        wakes what is unfinished (transient)
        └── retention       removes what has ended long ago, if it is told to

    Args:
        store: a URL (``"sqlite:///app.db"``, ``"memory://"``), or any `Store`.
        workflows: all workflows that are started here or may be found unfinished in the store, of
            each name as many versions as are needed.
        lease_wait: seconds to wait for another engine to leave the store; 0 refuses at once.
        clock: where time comes from; the machine's clock by default.
        random: where chance comes from (jitter of retries, minted ids).
        steps_max: how many steps may run at the same time, of all workflows; the others wait in the
            order in which they were asked for. A step that waits for steps of other workflows must
            find room for them.
        threads: how many plain ``def`` steps run at the same time, each in a thread.
        processes: how many ``@step(run_in="process")`` run at the same time, each in a process; as many
            as the machine has processors by default. They are started when first needed.
        awake_max: how many workflows may be in memory. Those that wait for nothing but time, messages
            and children leave it when others need the place, and come back when something happens.
        idle_after: seconds after which one leaves that waits for nothing else, though there is room;
            None for never.
        watchdog: seconds that one step, or one workflow's code, may block the event loop without a
            warning in the log that names it and the line; None for no watchdog, which costs nothing.
        retention: how long workflows stay in the store after they have ended; for ever by default.

    Attributes:
        dead_letters: what failed for good: list, show, retry, retry_all, resolve.

    Raises:
        DuplicateWorkflowError: two workflows have one name and version.
        DefinitionError: the URL, a workflow or its annotations cannot be used.
    """

    def __init__(
        self,
        store: str | Store,
        *,
        workflows: Iterable[Workflow[..., Any] | type],
        lease_wait: float = 0.0,
        clock: Clock | None = None,
        random: Random | None = None,
        steps_max: int = STEPS_MAX,
        threads: int = THREADS,
        processes: int | None = None,
        awake_max: int = AWAKE_MAX,
        idle_after: float | None = IDLE_AFTER_S,
        watchdog: float | None = None,
        retention: Retention | None = None,
    ) -> None:
        """Check the definitions; nothing is opened before the engine is entered."""
        self._retention = _checked_retention(retention)
        self._watchdog = None if watchdog is None else _watchdog(watchdog)
        self._clock = SystemClock() if clock is None else clock
        self._services = Services(
            _store(store, self._now_us),
            Definitions(workflows),
            self._clock,
            Random() if random is None else random,  # noqa: S311 - jitter and ids, no secrets
            steps_max=_checked_count("steps_max", steps_max),
            threads=_checked_count("threads", threads),
            processes=None if processes is None else _checked_count("processes", processes),
            awake_max=_checked_count("awake_max", awake_max),
            idle_after_s=_checked_rest(idle_after),
        )
        self._services.watched = watchdog is not None
        self._workflows = Workflows(self._services)
        self._services.others = OtherWorkflows(self._services, self._workflows)
        self._lease_wait = lease_wait
        self._system: System[SupervisorRef] | None = None
        self.dead_letters = DeadLetters(self._services, self._again)

    # Life

    async def __aenter__(self) -> Self:
        """Start the engine.

        Raises:
            StoreLockedError: another engine owns the store.
            StoreError: the store cannot be used.
            EngineStoppedError: it is running already.
            DefinitionError: the loop's time is virtual, and the engine's is not.
        """
        if self._system is not None:
            message = "this engine is running already; make another one for another store"
            raise EngineStoppedError(message)
        _check_time(self._clock)
        services, wake = self._services, self._workflows.wake_sleeper
        services.begin()
        root = Supervisor(
            [
                ChildSpec("store", lambda: StoreKeeper(services, self._lease_wait)),
                ChildSpec("dead_letters", lambda: DeadLetterQueue(services)),
                ChildSpec("workflows", self._workflows.supervisor, type=ChildType.SUPERVISOR),
                ChildSpec(
                    "sleepers", partial(self._while_open, partial(services.sleepers.run, wake))
                ),
                ChildSpec("probation", lambda: Probation(services), restart=Restart.TRANSIENT),
                ChildSpec(
                    "recovery",
                    partial(self._while_open, partial(recover, services, self._workflows)),
                    restart=Restart.TRANSIENT,
                ),
                *self._retaining(),
            ],
            strategy=Strategy.REST_FOR_ONE,
            name="engine",
        )
        system = System(root, clock=self._clock, observer=self._observe, watchdog=self._watchdog)
        try:
            await system.start()
        except BaseException as error:
            services.stopped = True
            if isinstance(error, ChildStartError):
                raise _cause(error) or error from error
            raise
        self._system = system
        system.ref.monitor(self._gave_up)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the engine in order.

        Raises:
            EngineStoppedError: it had given up by itself; not raised over an error of the block.
        """
        system, self._system = self._system, None
        if system is None:
            return
        try:
            await system.stop()
        except Exception as problem:
            if error is None:
                message = f"the engine had given up: {_cause(problem)}"
                raise EngineStoppedError(message) from problem
        finally:
            self._workflows.queries.close()
            self._services.timers.close()
            self._services.processes.close()
            self._services.all_ended(EngineStoppedError("the engine was left"))

    # Use

    @property
    def workflows(self) -> tuple[Workflow[..., Any], ...]:
        """The workflows that it was given."""
        return self._services.definitions.workflows

    async def start(
        self,
        workflow: Callable[[*Ts], Coroutine[Any, Any, R]]
        | type[Runs[Callable[[*Ts], Coroutine[Any, Any, R]]]],
        /,
        *args: *Ts,
        id: str | None = None,
        delay: float | None = None,
        deadline: float | datetime | None = None,
        signal: tuple[SignalTarget, Any] | tuple[SignalTarget, Any, str] | None = None,
        tags: Iterable[str] = (),
        attributes: Mapping[str, Attribute] | None = None,
        on_full: Literal["wait", "raise"] = "wait",
    ) -> WorkflowHandle[R]:
        """Start a workflow; returns once its start is in the log.

        The same id again, with the same workflow and arguments, gives a handle of the same
        workflow, whatever has become of it: starting is idempotent.

        Args:
            workflow: one of those that the engine was given.
            *args: its arguments, by position.
            id: its id in the log; a new UUID by default.
            delay: seconds until its code begins; it is pending until then. Signals are kept.
            deadline: when it must have ended, in seconds from now or as a moment; the workflow's
                own by default. One that has not ended then is told to end as by ``cancel``, and
                fails with `WorkflowTimeoutError`. It goes on over restarts.
            signal: what it is sent to, its payload, and a key if it has one, as for
                ``handle.signal``: recorded together with the start, before anything else. Where
                there is such a workflow already, it is sent to that one.
            tags: what it can be found by from its first moment on: at most 100, of at most 128
                printable characters.
            attributes: likewise, names with values: str (at most 512 characters), int, float, bool.
            on_full: whether to wait for a place, or to raise, where as many workflows are at work as
                the engine's ``awake_max`` allows. In a step there is always a place.

        Raises:
            EngineFullError: there is none, and ``on_full`` is ``"raise"``; nothing was started.
            UnknownWorkflowError: the engine was not given this workflow, or another version of it.
            ValueError: the delay or the deadline makes no sense.
            PayloadError: the arguments do not fit the annotations, or JSON; a tag or attribute
                cannot be indexed.
            WorkflowExistsError: the id is taken by another workflow or other arguments.
            WorkflowClosedError: there is such a workflow, and it has ended and takes no signal.
            StoreError: the start may not be in the log; the same call again settles it.
            EngineStoppedError: the engine is not running.
        """
        if on_full not in {"wait", "raise"}:
            raise ValueError(f"on_full={on_full!r} is refused: it must be 'wait' or 'raise'")
        definition = self._services.definitions.given(workflow)
        arguments = definition.signature.arguments
        payload = arguments.encode(args, {})
        arguments.decode(payload)
        workflow_id = self._services.mint_id() if id is None else checked_workflow_id(id)
        message = None if signal is None else signal_event(self._services.mint_id(), signal)
        await self._begin(
            workflow_id,
            definition,
            payload,
            signal=message,
            begin_at=self._moment(delay, "delay"),
            deadline=self._moment(
                definition.deadline if deadline is None else deadline, "deadline"
            ),
            tags=checked_tags(tags),
            attributes=checked_attributes(attributes or {}),
            wait=on_full == "wait",
        )
        handle: WorkflowHandle[R] = WorkflowHandle(
            self._services, self._workflows, workflow_id, definition
        )
        if message is not None:
            await handle.send_again(message)
        return handle

    def handle(self, id: str) -> WorkflowHandle[Any]:
        """Return a handle of any workflow of the store; whether there is one shows at its use."""
        return WorkflowHandle(self._services, self._workflows, checked_workflow_id(id), None)

    def find(self, **filters: Unpack[Filters]) -> AsyncIterator[Summary]:
        """Iterate over the workflows of the store that fit all filters, in order of start.

        A workflow that is there and fits all the time is seen exactly once.

        Args:
            **filters: ``state``, ``workflow``, ``version``, ``started_after``, ``started_before``,
                ``tag``, ``attributes``, ``parent``, ``id_prefix``, ``newest_first``; see `Filters`.

        Raises:
            ValueError: a moment has no time zone, a version no workflow, or there is no such state.
            DefinitionError: ``workflow`` is none.
            PayloadError: there can be no such tag or attribute.
            EngineStoppedError: the engine is not running.
        """
        return find(self._services, query_of(**filters))

    async def page(
        self, *, limit: int = 100, after: str | None = None, **filters: Unpack[Filters]
    ) -> Page:
        """Return one page of what `find` iterates over, as of one moment.

        It may hold fewer than ``limit``, even none, and not be the last one: what is looked at for
        one page has a bound too. Only a ``cursor`` of None says that nothing comes behind it.

        Args:
            limit: how many at most, 1 to 10,000.
            after: the ``cursor`` of the page before, with the same filters; None for the first.
            **filters: as for `find`.

        Raises:
            ValueError: the limit or the cursor makes no sense, or as for `find`.
            PayloadError: as for `find`.
            EngineStoppedError: the engine is not running.
        """
        return await self._services.opened.find(query_of(limit=limit, after=after, **filters))

    async def count(self, **filters: Unpack[Filters]) -> int:
        """Return how many workflows `find` would find now; raises as `find` does."""
        return sum((await self.counts(**filters)).values())

    async def counts(self, **filters: Unpack[Filters]) -> dict[WorkflowState, int]:
        """Return how many workflows `find` would find now in each state, all of one moment."""
        found = await self._services.opened.count(query_of(**filters))
        return {state: found.get(state, 0) for state in WorkflowState}

    # Behind it

    def _now_us(self) -> int:
        return int(self._clock.now() * 1_000_000)

    def _moment(self, when: float | datetime | None, name: str) -> int | None:
        """Return a time in microseconds since the epoch, of seconds from now or of a moment."""
        if when is None:
            return None
        if isinstance(when, datetime):
            if when.tzinfo is None:
                raise ValueError(f"{name}={when!r} names no moment: give it a time zone")
            return max(0, round(when.timestamp() * 1e6))
        if not 0 <= when <= DURATION_S_MAX:
            raise ValueError(f"{name}={when!r} must be seconds, 0 to {DURATION_S_MAX:,}")
        return self._services.now() + round(when * 1e6)

    async def _begin(
        self,
        workflow_id: str,
        definition: Workflow[..., Any],
        payload: bytes,
        retry_of: str = "",
        *,
        signal: SignalReceived | None = None,
        begin_at: int | None = None,
        deadline: int | None = None,
        tags: tuple[str, ...] = (),
        attributes: dict[str, Attribute] | None = None,
        wait: bool = True,
    ) -> None:
        _ = self._services.opened
        started = WorkflowStarted(
            workflow=definition.name,
            version=definition.version,
            input=Raw(payload),
            retry_of=retry_of,
            fingerprint=definition.fingerprint,
            begin_at=begin_at,
            deadline=deadline,
            tags=tags,
            attributes=attributes or {},
        )
        if workflow_id in self._services.actors or running_step.get(None) is not None:
            await self._workflows.begin(workflow_id, started, signal)
            return
        awake = self._services.awake
        await awake.enter(wait=wait)
        try:
            await self._workflows.begin(workflow_id, started, signal)
        finally:
            awake.entered()

    async def _again(self, letter: DeadLetter) -> str:
        """Send a dead letter round again; see `DeadLetters.retry`."""
        services = self._services
        summary = await services.opened.summary(letter.workflow_id)
        if summary is not None and summary.state.is_open:
            services.crashes.pop(letter.workflow_id, None)
            await self._workflows.unpark(letter.workflow_id)
            await self._workflows.gone_on(letter.workflow_id)
            return letter.workflow_id
        history = await services.store.read(letter.workflow_id)
        begins = 0 if summary is None else summary.run_seq - 1
        if not any(isinstance(one.event, _WAY_BACK) for one in history[begins:]):
            return await self._in_place(letter.workflow_id)
        first = history[0].event
        assert isinstance(first, WorkflowStarted)
        definition = services.definitions.get(first.workflow, first.version)
        workflow_id = _next_id(letter.workflow_id)
        await self._begin(workflow_id, definition, bytes(first.input), letter.workflow_id)
        await self.dead_letters.retried(letter, workflow_id)
        return workflow_id

    async def _in_place(self, workflow_id: str) -> str:
        """Send a failed workflow round again from where it failed."""
        handle = self.handle(workflow_id)
        try:
            await handle.retry_from(note="its dead letter was retried")
        except WorkflowStateError:
            if not (await handle.status()).state.is_open:
                raise
        return workflow_id

    def _retaining(self) -> Iterator[ChildSpec]:
        retention = self._retention
        if retention is not None:
            yield ChildSpec(
                "retention",
                partial(self._while_open, partial(retain, self._services, retention)),
            )

    async def _while_open(self, duty: Callable[[], Awaitable[None]]) -> None:
        """Do a duty; where its store is being closed, wait to be stopped and started with that.

        A duty that fails again and again meanwhile would use up the restarts that the store needs.
        """
        try:
            await duty()
        except StoreError:
            if self._services.lease is not None:
                raise
            await asyncio.get_running_loop().create_future()

    def _observe(self, event: Event) -> None:
        log.debug(type(event).__name__, path=getattr(event, "path", ""))

    def _gave_up(self, _down: object) -> None:
        system = self._system
        if system is None:
            return
        problem = system.ref.cause
        error = EngineStoppedError(f"the engine has given up: {_cause(problem)}")
        error.__cause__ = problem
        self._services.given_up = error
        self._services.all_ended(error)


_WAY_BACK = (CompensationStarted, CompensationCompleted, CancelRequested)


def _checked_count(option: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    message = f"Engine({option}={value!r}) is refused: it must be an int, at least 1"
    raise DefinitionError(message)


def _checked_rest(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    message = f"Engine(idle_after={value!r}) is refused: it must be seconds, 0 or more, or None"
    raise DefinitionError(message)


def _checked_retention(value: object) -> Retention | None:
    if value is None or isinstance(value, Retention):
        return value
    message = f"Engine(retention={value!r}) is refused: it must be a Retention, or None"
    raise DefinitionError(message)


def _watchdog(threshold_s: object) -> Watchdog:
    if isinstance(threshold_s, int | float) and threshold_s > 0:
        return Watchdog(threshold_s, _report_blocked)
    message = f"Engine(watchdog={threshold_s!r}) is refused: it must be seconds above 0, or None"
    raise DefinitionError(message)


def _report_blocked(found: LoopBlocked) -> None:
    """Warn of what blocks the loop; called in the watchdog's thread."""
    log.warning(
        "loop_blocked",
        by=found.path,
        blocked_s=round(found.blocked_s, 3),
        at=found.stack[-1] if found.stack else "",
    )


def _store(given: str | Store, clock: Callable[[], int]) -> Store:
    """Return the store that was given or named; what is neither is refused like a wrong URL."""
    is_one = not isinstance(given, str) and hasattr(given, "claim")
    return cast("Store", given) if is_one else open_store(cast("str", given), clock=clock)


def _check_time(clock: Clock) -> None:
    """Raise `DefinitionError` where the machine's clock is to go with a loop that makes time up."""
    if type(clock) is SystemClock and hasattr(asyncio.get_running_loop(), "hold"):
        message = (
            "time is virtual on this loop and the engine has the machine's clock, so its timers would "
            "never fire: give it the test's, Engine(..., clock=virtual_clock)"
        )
        raise DefinitionError(message)


def _cause(error: BaseException | None) -> BaseException | None:
    """Return what of beamflow lies behind an error of the tree, which says what helps; else the error."""
    cause = error
    while cause is not None:
        if isinstance(cause, BeamflowError):
            return cause
        cause = cause.__cause__
    return error


def _next_id(workflow_id: str) -> str:
    base, mark, number = workflow_id.rpartition("~")
    if mark and number.isdecimal():
        return f"{base}~{int(number) + 1}"
    return f"{workflow_id}~1"
