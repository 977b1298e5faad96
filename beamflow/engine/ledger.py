"""The ledger of a workflow: what its log has acknowledged, over all its runs, to be known again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow.model.events import SignalReceived

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamflow.model.events import Event

__all__ = ["Ledger"]


class Ledger:
    """Knows the signals that the log has, by id and by key.

    It is made of the whole stream when somebody asks for the first time; most workflows never have
    one. Keys are told apart by the name of their signal.

    Args:
        events: all events of the stream.
    """

    __slots__ = ("_ids", "_keys")

    def __init__(self, events: Iterable[Event]) -> None:
        """Read the stream."""
        self._ids: set[str] = set()
        self._keys: set[tuple[str, str]] = set()
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take an event that is in the log, or will be before anybody is told of it."""
        if isinstance(event, SignalReceived):
            self._ids.add(event.id)
            if event.key:
                self._keys.add((event.name, event.key))

    def has(self, signal_id: str, name: str, key: str) -> bool:
        """Tell whether the signal, or an earlier one with its key, is there already."""
        return signal_id in self._ids or (name, key) in self._keys
