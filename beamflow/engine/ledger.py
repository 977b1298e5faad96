"""The ledger of a workflow: what its log has acknowledged, over all its runs, to be known again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow.engine.history import expanded
from beamflow.errors import UpdateExistsError
from beamflow.model.events import (
    SignalReceived,
    UpdateAccepted,
    UpdateCompleted,
    WorkflowRetried,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow.model.events import Event, Recorded

__all__ = ["Ledger"]


class Ledger:
    """Knows the signals and the updates that the log has.

    It is made of the whole stream when somebody asks for the first time; most workflows never have
    one. Keys of signals are told apart by the name of their signal.

    Args:
        history: the whole stream; what a fork has taken over counts as its own.

    Attributes:
        replies: to updates, by the id of the request.
    """

    __slots__ = ("_ids", "_keys", "_requests", "replies")

    def __init__(self, history: Sequence[Recorded]) -> None:
        """Read the stream."""
        self._ids: set[str] = set()
        self._keys: set[tuple[str, str]] = set()
        self._requests: dict[str, UpdateAccepted] = {}
        self.replies: dict[str, UpdateCompleted] = {}
        replied_at: dict[str, int] = {}
        for recorded in expanded(history):
            event = recorded.event
            self.add(event)
            if isinstance(event, UpdateCompleted):
                replied_at[event.id] = recorded.seq
            elif isinstance(event, WorkflowRetried):
                self._take_back({id for id, seq in replied_at.items() if seq >= event.at})

    def add(self, event: Event) -> None:
        """Take an event that is in the log, or will be before anybody is told of it."""
        match event:
            case SignalReceived():
                self._ids.add(event.id)
                if event.key:
                    self._keys.add((event.name, event.key))
            case UpdateAccepted():
                self._requests[event.id] = event
            case UpdateCompleted():
                self.replies[event.id] = event
            case _:
                return

    def _take_back(self, requests: set[str]) -> None:
        """Forget replies that were given by a try which was not the last; their handlers go on."""
        for request in requests:
            self.replies.pop(request, None)

    def has(self, signal_id: str, name: str, key: str) -> bool:
        """Tell whether the signal, or an earlier one with its key, is there already."""
        return signal_id in self._ids or (name, key) in self._keys

    def accepted(self, workflow_id: str, request: str, name: str, data: bytes) -> bool:
        """Tell whether the request was accepted already.

        Raises:
            UpdateExistsError: its id was that of another one.
        """
        known = self._requests.get(request)
        if known is None:
            return False
        if known.name == name and bytes(known.input) == data:
            return True
        what = "other arguments" if known.name == name else f"update {known.name!r}"
        message = (
            f"request {request!r} of workflow {workflow_id!r} is taken by {what}; give each request "
            f"an id of its own"
        )
        raise UpdateExistsError(workflow_id, message)
