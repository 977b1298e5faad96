"""What must hold of every run of the corpus, wherever the power was cut."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from beamflow.engine.execution import new_execution
from beamflow.engine.history import effective, origin_of_tasks
from beamflow.errors import BeamflowError
from beamflow.model.codec import encode_json
from beamflow.model.commands import TakeNote
from beamflow.model.events import (
    CompensationCompleted,
    Ended,
    PatchMarked,
    StepCompleted,
    WorkflowContinued,
    WorkflowRetried,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from beamflow import Workflow
    from beamflow.model.commands import Command
    from beamflow.model.events import Recorded
    from tests.corpus.case import Case
    from tests.corpus.runner import Run
    from tests.corpus.world import Effect

__all__ = ["check", "check_effects", "check_log", "commands_of", "shown", "transcript"]


def check(case: Case, run: Run) -> None:
    """Raise AssertionError for all that must not be."""
    assert run.end == case.ends
    check_effects(case, run.world.effects)
    for workflow_id, history in run.histories.items():
        check_log(workflow_id, history)
    check_log("the dead letters", run.letters)
    _check_nothing_ran_again(run)
    _check_replay(run)


def check_effects(case: Case, effects: Sequence[Effect]) -> None:
    """The steps did what they should have, each once by its key; so did the compensations."""
    first: dict[str, Effect] = {}
    for one in effects:
        assert first.setdefault(one.key, one).name == one.name or not one.key
    done = Counter(one.name for one in first.values() if one.key and not one.is_undo)
    for name in case.may:
        done.pop(name, None)
    assert done == Counter(case.effects)
    assert tuple(one.name for one in first.values() if one.is_undo) == case.undone


def check_log(workflow_id: str, history: Sequence[Recorded]) -> None:
    """It is gapless, its time never goes back, it ends once, nothing was done for good twice."""
    assert [one.seq for one in history] == list(range(1, len(history) + 1)), workflow_id
    assert all(one.time <= two.time for one, two in pairwise(history))
    ends = [isinstance(one.event, Ended) for one in history]
    again = sum(isinstance(one.event, WorkflowRetried) for one in history)
    assert sum(ends[:-1]) == again, f"{workflow_id} goes on after its end"
    settled: Counter[tuple[int, type, int]] = Counter()
    run = 0
    for one in history:
        if isinstance(one.event, WorkflowContinued):
            run = one.event.run
        elif isinstance(one.event, StepCompleted | CompensationCompleted):
            settled[run, type(one.event), one.event.op] += 1
    assert again or max(settled.values(), default=1) == 1, f"{workflow_id}: {settled}"


def _check_nothing_ran_again(run: Run) -> None:
    """No body ran once the completion of its step was durable."""
    for number, one in enumerate(run.world.effects):
        durable = run.completed.get(one.key)
        assert durable is None or number < durable, f"{one} came after its step had completed"


def _check_replay(run: Run) -> None:
    """Replayed, each log has its code ask for the same again."""
    last = {code.workflow_id: (code.workflow, issued) for code, issued in run.issued}
    for workflow_id, history in run.histories.items():
        workflow, issued = last[workflow_id]
        live = shown(issued)
        replayed = transcript(workflow, history)
        assert live == replayed[: len(live)], f"{workflow_id} is replayed otherwise"


def transcript(workflow: Workflow[..., object], history: Sequence[Recorded]) -> list[str]:
    """Return what the code asks for when it meets this log."""
    return shown(commands_of(workflow, history))


def commands_of(workflow: Workflow[..., object], history: Sequence[Recorded]) -> list[Command]:
    """Replay a log in a fresh execution."""
    history = effective(history)
    code = new_execution(workflow, history[0].stream, origin_of_tasks(history))
    code.replayed = history
    commands: list[Command] = []
    try:
        for one in history:
            code.deliver(one.seq, one.time, one.event)
            commands += code.take_commands()
    except BeamflowError:  # it was parked for that
        pass
    finally:
        code.close()
    return commands


def shown(commands: Iterable[Command]) -> list[str]:
    """Write commands so that they can be compared, in other processes too.

    The mark of a patch is left out: only code that runs live makes one.
    """
    return [
        f"{type(one).__name__} {encode_json(one, 'command').decode()}"
        for one in commands
        if not (isinstance(one, TakeNote) and isinstance(one.event, PatchMarked))
    ]
