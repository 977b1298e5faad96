"""Replay repeats any program: the same commands, the same result, the same view of the world.

A tape of numbers decides what happens next to a program; so both can be made smaller until only
what matters for a failure is left. ``BEAMFLOW_PROGRAMS=20000`` tries more of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from beamflow.engine.execution import replay
from beamflow.engine.saga import Undo
from beamflow.errors import NondeterminismError
from beamflow.model.commands import RunStep, StartTimer
from beamflow.model.events import (
    CompensationCompleted,
    CompensationFailed,
    Event,
    Failure,
    Recorded,
    SignalReceived,
    StepCompleted,
    StepFailed,
    TimerCancelled,
    TimerFired,
    TimerStarted,
    UpdateAccepted,
    WorkflowStarted,
)
from beamflow.model.ids import digest
from tests.beamflow.engine.driver import SECOND, Driver
from tests.beamflow.engine.programs import (
    STEPS,
    DeclinedError,
    Program,
    interpreted,
    programs,
    shown,
    trace_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from beamflow.engine.execution import Execution, StepCall

_EVENTS_MAX = 40
_EXAMPLES = int(os.environ.get("BEAMFLOW_PROGRAMS", "400"))

many = settings(
    max_examples=_EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
pytestmark = pytest.mark.timeout(60 + _EXAMPLES)
tapes = st.lists(st.integers(0, 255), max_size=120)


class View(NamedTuple):
    """What can be seen of a run at one moment."""

    commands: list[Any]
    trace: list[Any]
    calls: list[tuple[int, str, int]]
    timers: list[int]
    signals: tuple[str, ...]
    to_compensate: list[tuple[int, bytes]]
    undoing: list[tuple[int, int]]
    outcome: object


def view(execution: Execution, commands: Sequence[Any]) -> View:
    outcome: object = "open"
    if execution.ended:
        try:
            outcome = execution.outcome()
        except BaseException as error:  # noqa: BLE001 - whatever a program ends with
            outcome = shown(error)
    return View(
        commands=list(commands),
        trace=list(trace_of(execution)),
        calls=[(call.op, call.digest, call.attempt) for call in execution.calls.values()],
        timers=[op for op, timer in execution.timers.items() if not timer.cancelled()],
        signals=execution.awaited_signals,
        to_compensate=[(call.op, bytes(call.result or b"")) for call in execution.to_compensate],
        undoing=[(undo.call.op, undo.attempt) for undo in undoings(execution)],
        outcome=outcome,
    )


def undoings(execution: Execution) -> list[Undo]:
    return [undo for unwinding in execution.unwindings for undo in unwinding.ready()]


class World:
    """Lets happen what the tape says: steps end in any order, well or badly; timers, signals."""

    def __init__(self, driver: Driver, tape: Sequence[int], *, queried: bool = False) -> None:
        self.driver = driver
        self._queried = queried
        self._tape: Iterator[int] = iter(tape)

    def run(self) -> dict[int, View]:
        """Go on until the program or the tape ends; return the view at each length of the log."""
        driver = self.driver
        views = {len(driver.log): view(driver.execution, driver.commands)}
        while len(driver.log) < _EVENTS_MAX and not driver.execution.ended:
            batch = self._batch()
            if batch is None:
                break
            driver.take(*batch, after=self._draw(3) * SECOND // 2)
            if self._queried:
                ask(driver.execution)
            views[len(driver.log)] = view(driver.execution, driver.commands)
        return views

    def _draw(self, below: int) -> int:
        return next(self._tape, 0) % below

    def _batch(self) -> list[Event] | None:
        """Draw what happens before the next append: each against the state before all of it."""
        code = self.driver.execution
        there: list[Any] = [*self.driver.calls, *self.driver.timers, "red", "blue"]
        there[:0] = undoings(code)
        there += [] if code.ending else self._updates()
        first = next(self._tape, None)
        if first is None:
            return None
        chosen = [there.pop(first % len(there))]
        while there and self._draw(4) == 3:
            chosen.append(there.pop(self._draw(len(there))))
        return [self._event(each) for each in chosen if each is not None]

    def _updates(self) -> list[UpdateAccepted]:
        code, number = self.driver.execution, len(self.driver.log)
        return [
            UpdateAccepted(id=f"{number} {name}", name=name, input=Raw(b"[]"))
            for kind, name in code.inbox.handlers
            if kind == "update"
        ]

    def _event(self, what: StepCall | Undo | UpdateAccepted | int | str) -> Event:
        driver = self.driver
        match what:
            case UpdateAccepted():
                return what
            case int():
                driver.time = max(driver.time, driver.execution.timers[what].due)
                return TimerFired(op=what)
            case str():
                return SignalReceived(id=f"{len(driver.log)}", name=what, payload=Raw(b"7"))
            case Undo():
                return self._undone(what)
            case _:
                return self._outcome(what)

    def _undone(self, undo: Undo) -> CompensationCompleted | CompensationFailed:
        now, op, attempt = self.driver.time, undo.call.op, undo.attempt
        draw = self._draw(8)
        if draw > 1 or (draw == 1 and attempt == 3):
            return CompensationCompleted(op=op, name="refund", started_at=now, attempt=attempt)
        return CompensationFailed(
            op=op,
            name="refund",
            error=Failure(type="builtins.OSError", message="no"),
            started_at=now,
            attempt=attempt,
            retry_at=now + SECOND if draw else None,
            workflow=undo.workflow,
            step=undo.call.step.name,
        )

    def _outcome(self, call: StepCall) -> StepCompleted | StepFailed:
        driver = self.driver
        driver.time = max(driver.time, call.retry_at)
        match self._draw(8):
            case 0:
                return driver.failed(call, ValueError("no good"))
            case 1:
                return driver.failed(call, DeclinedError("not you"))
            case 2 if call.attempt < 3:
                return driver.failed(call, OSError("again"), retry_at=driver.time + SECOND)
            case _:
                return driver.completed(call, call.op * 10)


def ask(execution: Execution) -> Any:
    return execution.aside(execution.handler("query", "seen").call, ())


def lived(
    program: Program, tape: Sequence[int], *, queried: bool = False
) -> tuple[Driver, dict[int, View]]:
    driver = Driver.start(interpreted, program)
    views = World(driver, tape, queried=queried).run()
    event(f"ended: {driver.execution.ended}")
    return driver, views


def replayed(log: Sequence[Recorded]) -> tuple[Execution, View]:
    execution = replay(interpreted, "wf", log)
    return execution, view(execution, execution.take_commands())


def assert_same(there: View, here: View) -> None:
    for field, one, other in zip(View._fields, there, here, strict=True):
        assert one == other, field


def closed(*executions: Execution) -> None:
    """Take them out of memory; nothing of their code may ask for anything after that."""
    for execution in executions:
        seen = execution.take_commands()
        execution.close()
        assert (execution.tasks, execution.issued) == ((), [])
        assert execution.take_commands() == [], seen


@pytest.mark.invariant("I5")
@many
@given(programs, tapes)
def test_a_cut_at_any_event_repeats_and_goes_on_the_same(program: Program, tape: list[int]) -> None:
    """Replay any prefix, then deliver the rest: the run cannot be told from the uncut one."""
    driver, views = lived(program, tape)
    log = driver.log
    for cut in range(1, len(log) + 1):
        execution, here = replayed(log[:cut])
        if cut in views:
            assert_same(views[cut], here)
        for recorded in log[cut:]:
            execution.deliver(recorded.seq, recorded.time, recorded.event)
        there = view(execution, [*here.commands, *execution.take_commands()])
        assert_same(views[len(log)], there)
        closed(execution)
    closed(driver.execution)


@pytest.mark.invariant("I36")
@many
@given(programs, tapes)
def test_queries_change_nothing(program: Program, tape: list[int]) -> None:
    """A run that is asked after every event cannot be told from one that never is; and answers it."""
    silent, views = lived(program, tape)
    asked, there = lived(program, tape, queried=True)
    assert silent.log == asked.log
    for length, view_then in views.items():
        assert_same(view_then, there[length])
    again, _ = replayed(asked.log)
    assert ask(again) == ask(asked.execution)
    closed(silent.execution, asked.execution, again)


@pytest.mark.invariant("I5")
@many
@given(programs, tapes, tapes, st.integers(0, 255))
def test_a_cut_run_may_go_another_way(
    program: Program, tape: list[int], other: list[int], cut: int
) -> None:
    """Whatever happens after a restart, in whatever order: the log that comes of it replays."""
    first, _ = lived(program, tape)
    driver = Driver.resume(interpreted, first.log[: 1 + cut % len(first.log)])
    views = World(driver, other).run()
    for length, there in views.items():
        execution, here = replayed(driver.log[:length])
        assert_same(there, here)
        closed(execution)
    closed(first.execution, driver.execution)


@pytest.mark.invariant("I29")
@many
@given(programs, tapes, st.integers(0, 255), st.sampled_from(["rename", "argue", "insert"]))
def test_changed_code_is_noticed(program: Program, tape: list[int], which: int, how: str) -> None:
    """Code whose step has another name, argument or place contradicts each log that has it."""
    steps = list(steps_of(program))
    assume(steps)
    driver, _ = lived(program, tape)
    changed = steps[which % len(steps)]
    recorded = [
        each.event.digest
        for each in driver.log
        if isinstance(each.event, StepCompleted | StepFailed)
    ]
    must_fail = digest_of(changed) in recorded
    event(f"{how}, recorded: {must_fail}")
    old = driver.log[0].event
    assert isinstance(old, WorkflowStarted)
    payload = interpreted.signature.arguments.encode((mutated(program, changed, how),), {})
    started = WorkflowStarted(workflow=old.workflow, version=old.version, input=Raw(payload))
    first = driver.log[0]
    history = [
        Recorded(stream="wf", seq=1, time=first.time, epoch=1, event=started),
        *driver.log[1:],
    ]
    try:
        execution = replay(interpreted, "wf", history)
    except NondeterminismError:
        pass
    else:
        assert not must_fail
        assert_fits(driver.log, execution)
        closed(execution)
    closed(driver.execution)


def assert_fits(log: Sequence[Recorded], execution: Execution) -> None:
    """What the log says of an operation is what the code has asked for under its number."""
    issued = {
        command.op: command
        for command in execution.take_commands()
        if isinstance(command, RunStep | StartTimer)
    }
    for recorded in log:
        match recorded.event:
            case StepCompleted() | StepFailed() as outcome:
                command = issued[outcome.op]
                assert isinstance(command, RunStep)
                assert (command.name, command.digest) == (outcome.name, outcome.digest)
            case TimerStarted() | TimerFired() | TimerCancelled() as timer:
                assert isinstance(issued[timer.op], StartTimer)
            case _:
                pass


def steps_of(node: Any) -> Iterator[Program]:
    if isinstance(node, list):
        if node[:1] == ["step"]:
            yield node
        for each in node:
            yield from steps_of(each)


def digest_of(node: Program) -> str:
    _, name, number = node
    return digest(name, STEPS[name].signature.arguments.encode((number,), {}))


def mutated(node: Any, changed: Program, how: str) -> Any:
    if node == changed:
        _, name, number = changed
        match how:
            case "rename":
                return ["step", "ask" if name == "pay" else "pay", number]
            case "argue":
                return ["step", name, -number]
            case _:
                return ["seq", [["step", name, -number], changed]]
    return [mutated(each, changed, how) for each in node] if isinstance(node, list) else node
