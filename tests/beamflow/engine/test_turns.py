"""Any program can be forked at any place, and sent round again from any step, and goes on the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from beamflow.engine.forking import fork_of
from beamflow.engine.history import effective
from beamflow.engine.replay import replay
from beamflow.engine.retrying import Retrial, retried
from beamflow.errors import WorkflowStateError
from beamflow.model.events import (
    Failure,
    Recorded,
    SignalReceived,
    StepCompleted,
    StepFailed,
    WorkflowContinued,
    WorkflowFailed,
)
from tests.beamflow.engine.driver import Driver
from tests.beamflow.engine.programs import Program, interpreted, programs
from tests.beamflow.engine.test_programs import World, closed, lived, many, tapes, view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow.model.events import Event

some = settings(many, max_examples=many.max_examples // 4)
pytestmark = pytest.mark.timeout(60 + many.max_examples)


def appended(log: Sequence[Recorded], *events: Event) -> list[Recorded]:
    """Return the log with more of it."""
    news = list(log)
    for each in events:
        last = news[-1]
        news.append(Recorded(stream="wf", seq=last.seq + 1, time=last.time, epoch=1, event=each))
    return news


@some
@given(programs, tapes, st.integers(0, 255))
def test_a_fork_sees_all_that_its_source_saw(program: Program, tape: list[int], cut: int) -> None:
    """Wherever it begins, and so does a fork of the fork: the same commands, and view of the world."""
    driver, _ = lived(program, tape)
    log = driver.log
    at = 1 + cut % len(log)
    source = replay(interpreted, "wf", log[:at])
    there = view(source, source.take_commands())._replace(to_compensate=[])
    history: Sequence[Recorded] = log
    for fork_id in ("copy", "copy of copy"):
        fork = fork_of(
            interpreted,
            history[0].stream,
            history,
            fork_id,
            at=at,
            arguments=None,
            results={},
        )
        own = [
            Recorded(stream=fork_id, seq=seq, time=log[-1].time, epoch=1, event=each)
            for seq, each in enumerate(fork, 1)
        ]
        code = replay(interpreted, fork_id, own)
        here = view(code, code.take_commands())
        anew = [(op, digest, 1) for op, digest, _ in there.calls]
        assert here._replace(calls=anew) == there._replace(calls=anew)
        assert all(number == 1 for *_, number in here.calls)
        history, at = own, 2
        there = here
        closed(code)
    closed(source, driver.execution)


@some
@example(["seq", [["on update", "tom", ["step", "ask", 1]], ["step", "ask", 2]]], [3], 0, [])
@given(programs, tapes, st.integers(0, 255), tapes)
def test_a_program_that_is_sent_round_again_fits_its_log(
    program: Program, tape: list[int], which: int, other: list[int]
) -> None:
    """From whatever step, whatever had come beside it; it goes on, and all that comes of it replays."""
    with_a_step, which_completes = ["seq", [["step", "ask", 900], program]], [0, 0, 3, 0]
    driver, _ = lived(with_a_step, [*which_completes, *tape])
    outcomes = [
        one.event
        for one in driver.log
        if isinstance(one.event, StepCompleted)
        or (isinstance(one.event, StepFailed) and one.event.retry_at is None)
    ]
    chosen = outcomes[which % len(outcomes)]
    failure = Failure(type="builtins.LookupError", message="on purpose")
    end = WorkflowFailed(workflow=interpreted.name, error=failure)
    log = appended(driver.log, end)
    try:
        again = retried(interpreted, "wf", log, Retrial(chosen.op, ""))
    except WorkflowStateError:
        event("refused")
        closed(driver.execution)
        return
    log = appended(log, again)
    there = effective(log)
    signals = [one for one in log if isinstance(one.event, SignalReceived)]
    assert [one for one in there if isinstance(one.event, SignalReceived)] == signals
    assert not any(
        one.event.op == chosen.op
        for one in there
        if isinstance(one.event, StepCompleted | StepFailed)
    )
    on = Driver.resume(interpreted, there)
    assert chosen.op in on.execution.calls
    assert on.execution.calls[chosen.op].attempt == 1
    World(on, other).run()
    whole = [*log, *on.log[len(there) :]]
    code = replay(interpreted, "wf", whole)
    event(f"ended: {code.ended}")
    assert view(code, [])._replace(commands=[]) == view(on.execution, [])._replace(commands=[])
    closed(code, on.execution, driver.execution)


@some
@given(programs, tapes, st.lists(st.sampled_from(["red", "blue"]), max_size=5))
def test_a_later_run_is_a_run(program: Program, tape: list[int], carried: list[str]) -> None:
    """Begun by the event that continued the workflow, cut and forked, it repeats like any other."""
    payload = interpreted.signature.arguments.encode((program,), {})
    begin = WorkflowContinued(
        run=2, input=Raw(payload), signals=tuple((name, Raw(b"7")) for name in carried)
    )
    first = Driver.start(interpreted, ["yield"])
    closed(first.execution)
    log = appended(first.log, begin)
    driver = Driver.resume(interpreted, effective(log))
    World(driver, tape).run()
    whole = [*log, *driver.log[1:]]
    code = replay(interpreted, "wf", whole)
    there = view(driver.execution, [])
    assert view(code, [])._replace(commands=[]) == there._replace(commands=[])
    fork = fork_of(interpreted, "wf", whole, "copy", at=None, arguments=None, results={})
    own = [
        Recorded(stream="copy", seq=seq, time=whole[-1].time, epoch=1, event=each)
        for seq, each in enumerate(fork, 1)
    ]
    copy = replay(interpreted, "copy", own)
    here: Any = view(copy, [])
    assert here.trace == there.trace
    assert here.signals == there.signals
    assert copy.run == code.run == 2
    closed(copy, code, driver.execution)
