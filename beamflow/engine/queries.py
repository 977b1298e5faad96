"""Queries: answered by a replay that no actor knows of, whatever the workflow's state.

The log alone says what a workflow's code has come to, so whoever asks gets a run of his own: made
from the log at the first question, brought up to date before each further one. What a handler does
to it can harm nobody. A few are kept, the ones asked last.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from msgspec import Raw

from beamflow.authoring.step import exception_name
from beamflow.engine.replay import replay
from beamflow.engine.waiting import waited_for
from beamflow.errors import (
    CorruptLogError,
    QueryFailedError,
    ReadOnlyError,
    WorkflowNotFoundError,
)
from beamflow.model.events import (
    PatchMarked,
    WorkflowContinued,
    WorkflowForked,
    WorkflowRetried,
    WorkflowStarted,
)

if TYPE_CHECKING:
    from beamflow.engine.execution import Execution
    from beamflow.engine.services import Services
    from beamflow.model.events import Recorded

__all__ = ["Queries"]

_KEPT_MAX = 64


class Queries:
    """Asks workflows, awake, asleep, parked or ended.

    Args:
        services: what the engine's actors share.
    """

    def __init__(self, services: Services) -> None:
        """Begin without a replay."""
        self._services = services
        self._replays: OrderedDict[str, _Replay] = OrderedDict()

    async def ask(self, workflow_id: str, name: str, data: bytes) -> bytes:
        """Return the answer, as JSON; suspends while the log is read.

        Raises:
            UnknownHandlerError: the code has no such query.
            QueryFailedError: its handler raised.
            ReadOnlyError: its handler has done more than look.
            PayloadError: the arguments, or the answer, do not fit their annotations.
            NondeterminismError: the code no longer does what its log says.
            UnknownWorkflowError: the engine was not given its code.
            WorkflowNotFoundError: there is no such workflow.
            StoreError: its log cannot be read.
        """
        code = await self._brought_up(workflow_id)
        handler = code.handler("query", name)
        args, kwargs = handler.arguments(Raw(data))
        try:
            answer = code.aside(handler.call, args, **kwargs)
        except ReadOnlyError:
            self._forget(workflow_id)
            raise
        except Exception as error:
            raise QueryFailedError(
                workflow_id,
                "query",
                name=name,
                error_type=exception_name(type(error)),
                error_message=str(error),
            ) from error
        return handler.signature.result.encode(answer)

    async def waiting_for(self, workflow_id: str) -> tuple[str, ...]:
        """Name what a workflow waits for that is not in memory; raises as `ask` does."""
        code = await self._brought_up(workflow_id)
        now = self._services.now()
        return waited_for(code, {op for op, call in code.calls.items() if call.retry_at > now})

    def close(self) -> None:
        """Take all replays out of memory."""
        for workflow_id in tuple(self._replays):
            self._forget(workflow_id)

    async def _brought_up(self, workflow_id: str) -> Execution:
        while True:
            there = self._replays.get(workflow_id)
            last = None if there is None else there.last
            after = await self._run_begins(workflow_id) if last is None else last.seq - 1
            news = await self._services.opened.read(workflow_id, after)
            if self._replays.get(workflow_id) is not there:
                continue  # somebody else has asked meanwhile
            if there is None:
                return self._begun(workflow_id, news)
            if not news or news[0] != last:  # it was removed, and another one may have its id
                self._forget(workflow_id)
                continue
            del news[0]
            if any(isinstance(recorded.event, _ANEW) for recorded in news):
                self._forget(workflow_id)
                continue
            self._replays.move_to_end(workflow_id)
            try:
                there.deliver(news)
            except BaseException:
                self._forget(workflow_id)
                raise
            return there.code

    async def _run_begins(self, workflow_id: str) -> int:
        """Return after which event the current run begins."""
        summary = await self._services.opened.summary(workflow_id)
        if summary is None:
            raise _not_found(workflow_id)
        return summary.run_seq - 1

    def _begun(self, workflow_id: str, history: list[Recorded]) -> Execution:
        if not history:  # it was removed in this moment
            raise _not_found(workflow_id)
        started = history[0].event
        if isinstance(started, WorkflowContinued) and started.start is not None:
            started = started.start
        if not isinstance(started, WorkflowStarted):
            raise CorruptLogError(workflow_id, 1, "it is not the start of a workflow")
        definition = self._services.definitions.get(started.workflow, started.version)
        code = replay(definition, workflow_id, history)
        self._replays[workflow_id] = _Replay(code, history[-1])
        if len(self._replays) > _KEPT_MAX:
            self._forget(next(iter(self._replays)))
        return code

    def _forget(self, workflow_id: str) -> None:
        self._replays.pop(workflow_id).code.close()


class _Replay:
    """A run of a workflow's code, up to the last event that was read."""

    __slots__ = ("code", "last")

    def __init__(self, code: Execution, last: Recorded) -> None:
        self.code = code
        self.last = last

    def deliver(self, news: list[Recorded]) -> None:
        """Bring the code up to date; what another reader has delivered already is left out."""
        self.code.replayed = news
        for recorded in news:
            if recorded.seq > self.last.seq:
                self.code.deliver(recorded.seq, recorded.time, recorded.event)
                self.last = recorded
        self.code.replayed = None
        self.code.take_commands()


def _not_found(workflow_id: str) -> WorkflowNotFoundError:
    return WorkflowNotFoundError(workflow_id, f"no workflow has the id {workflow_id!r}")


_ANEW = (WorkflowContinued, WorkflowForked, WorkflowRetried, PatchMarked)
"""After these the run is another one; or what was asked before the marker was there is answered anew."""
