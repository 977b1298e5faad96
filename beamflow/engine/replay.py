"""Replay that can tell where it went wrong: which line of the author's code issued what.

Nothing is kept for that while code runs or is replayed. Only when a replay meets a difference it is
done once more, and then each command remembers its line: the same code comes to the same place.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamflow.engine import execution
from beamflow.engine.execution import Execution
from beamflow.engine.history import effective, origin_of_tasks
from beamflow.errors import BeamflowError, NondeterminismError
from beamflow.model.events import WorkflowContinued, WorkflowStarted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from types import FrameType, ModuleType

    from beamflow.authoring.workflow import Workflow
    from beamflow.engine.workflow_task import WorkflowTask
    from beamflow.model.events import Note, Recorded

__all__ = ["replay"]


def replay(
    workflow: Workflow[..., Any], workflow_id: str, history: Sequence[Recorded]
) -> Execution:
    """Run the code against its log, up to the last event; what is left open is in the result.

    Raises:
        NondeterminismError: the code does not do what the log says; with the line that does not.
        PayloadError: a recorded payload does not fit its annotation.
    """
    history = effective(history)
    try:
        return execution.replay(workflow, workflow_id, history)
    except NondeterminismError as error:
        raise _explained(error, workflow, workflow_id, history) from None


def _explained(
    error: NondeterminismError,
    workflow: Workflow[..., Any],
    workflow_id: str,
    history: Sequence[Recorded],
) -> NondeterminismError:
    """Return the error with the place of the difference, and whether the code has changed."""
    again = _again(workflow, workflow_id, history)
    if again is None or (again.seq, again.recorded) != (error.seq, error.recorded):
        return NondeterminismError(
            workflow_id,
            seq=error.seq,
            recorded=error.recorded,
            issued=error.issued,
            advice=(
                "A second replay came to something else, so the code does not repeat itself: find "
                "with `beamflow lint` what differs from run to run"
            ),
        )
    first = history[0].event
    started = first.start if isinstance(first, WorkflowContinued) else first
    then = started.fingerprint if isinstance(started, WorkflowStarted) else ""
    now = workflow.fingerprint
    return NondeterminismError(
        workflow_id,
        seq=again.seq,
        recorded=again.recorded,
        issued=again.issued,
        place=again.place,
        changed=then != now if then and now else None,
    )


def _again(
    workflow: Workflow[..., Any], workflow_id: str, history: Sequence[Recorded]
) -> NondeterminismError | None:
    origin = origin_of_tasks(history)
    traced = _Traced(workflow, workflow_id, origin)  # type: ignore[abstract] # as in new_execution
    traced.replayed = history
    try:
        for recorded in history:
            traced.deliver(recorded.seq, recorded.time, recorded.event)
    except NondeterminismError as error:
        error.place = error.place or traced.place_of_note()
        return error
    except BeamflowError:
        return None
    finally:
        traced.close()
    return None


class _Traced(Execution):
    """An execution that knows for each command which line of the author's code issued it."""

    __slots__ = ("_called_at", "_made_at", "_noted_at")

    def __init__(self, workflow: Workflow[..., Any], workflow_id: str, origin: str) -> None:
        super().__init__(workflow, workflow_id, origin)
        self.issued = _Issued(self)
        self._called_at = ""
        self._made_at: dict[WorkflowTask, str] = {}
        self._noted_at: list[tuple[Note, str]] = []

    def call_step(self, *args: Any) -> Coroutine[Any, Any, Any]:
        return self._called(_place(), super().call_step, *args)

    def call_child(self, *args: Any) -> Coroutine[Any, Any, Any]:
        return self._called(_place(), super().call_child, *args)

    def start_child(self, *args: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        return self._called(_place(), super().start_child, *args, **options)

    async def _called(
        self, place: str, call: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **options: Any
    ) -> Any:
        self._called_at = place
        try:
            return await call(*args, **options)
        except BaseException:
            self._called_at = ""
            raise

    def create_task(self, coro: Any, **options: Any) -> WorkflowTask:
        place = _place()
        task = super().create_task(coro, **options)
        self._made_at[task] = place
        return task

    def note(self, event: Note) -> None:
        self._noted_at.append((event, _place()))
        super().note(event)

    def place_of_note(self) -> str:
        """Return the line that took the oldest note which is not in the log, or where all waits."""
        left = [] if self.notes is None else self.notes.unrecorded[:1]
        for event, place in self._noted_at:
            if left and event is left[0]:
                return place
        return self._stands_at()

    def place_of_issue(self) -> str:
        """Return the line that issues a command now, or that made the task which does."""
        place, self._called_at = self._called_at, ""
        if place or (place := _place()):
            return place
        task: Any = asyncio.current_task(self)
        return self._made_at.get(task, "")

    def _diverged(self, seq: int, op: int, recorded: str) -> NondeterminismError:
        assert isinstance(self.issued, _Issued)
        issued, place = self._issued_as(op), ""
        for item, where in self.issued.places.values():
            if item.op == op:
                place = where
                if not any(op in open_ for open_ in (self.calls, self.timers, self.children)):
                    issued = f"{item}, which has its outcome already"
        return NondeterminismError(
            self.workflow_id,
            seq=seq,
            recorded=recorded,
            issued=issued,
            place=place or self._stands_at(),
        )

    def _stands_at(self) -> str:
        """Return the line at which the function waits, or at which it has ended."""
        main = self._main
        if main is None:
            return ""
        failure = self.failure
        if failure is not None:
            traceback, line = failure.__traceback__, ""
            while traceback is not None:
                line = _shown(traceback.tb_frame, traceback.tb_lineno) or line
                traceback = traceback.tb_next
            return line
        if main.done():
            code = self.workflow.function.__code__
            return f"{code.co_filename}:{code.co_firstlineno}, in {code.co_name}"
        return [line for frame in _frames(main.get_coro()) if (line := _shown(frame))][-1]


class _Issued(list[Any]):
    """What the code has asked for in one activation; the places are kept for good."""

    def __init__(self, code: _Traced) -> None:
        super().__init__()
        self._code = code
        self.places: dict[int, tuple[Any, str]] = {}

    def append(self, item: Any) -> None:
        self.places[id(item)] = (item, self._code.place_of_issue())
        super().append(item)


def _frames(coroutine: Any) -> Iterator[FrameType]:
    """Give the frames of a suspended coroutine, and of what it awaits, outermost first."""
    while coroutine is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                yield frame
                waits_for = "gi_yieldfrom" if kind == "gi" else f"{kind}_await"
                coroutine = getattr(coroutine, waits_for)
                break
        else:
            return


def _place() -> str:
    """Return the innermost line of the author's code that is running; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - to tell the author's line
    while frame is not None:
        if frame.f_code.co_name == "_run_ready":  # what is above called the workflow, not the code
            return ""
        place = _shown(frame)
        if place:
            return place
        frame = frame.f_back
    return ""


def _shown(frame: FrameType, line: int | None = None) -> str:
    code = frame.f_code
    if code.co_filename.startswith(_not_the_authors(sys.modules.get("anyio"))):
        return ""
    return f"{code.co_filename}:{line or frame.f_lineno}, in {code.co_name}"


@functools.cache
def _not_the_authors(anyio: ModuleType | None) -> tuple[str, ...]:
    """Return where the code stands between an author's line and the loop."""
    files = [str(Path(__file__).parent), str(asyncio.__file__)]
    if anyio is not None:
        files.append(str(anyio.__file__))
    homes = [Path(file).parent for file in files]
    return (*(f"{home}{os.sep}" for home in homes), str(contextlib.__file__), "<frozen ")
