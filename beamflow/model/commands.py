"""What workflow code asks for: the commands that an activation leaves behind, in the imperative.

A command's ``op`` is its number in the order of issue; replay compares it with the log.
"""

from __future__ import annotations

from msgspec import Struct

from beamflow.model.events import Note

__all__ = [
    "CancelChild",
    "CancelStep",
    "CancelTimer",
    "Command",
    "RunStep",
    "StartChild",
    "StartTimer",
    "TakeNote",
]


class RunStep(Struct, frozen=True, kw_only=True, gc=False):
    """Run the step called ``name`` with these arguments."""

    op: int
    name: str
    digest: str


class StartTimer(Struct, frozen=True, kw_only=True, gc=False):
    """Fire timer ``op`` at ``due``, microseconds since the Unix epoch."""

    op: int
    due: int


class CancelTimer(Struct, frozen=True, kw_only=True, gc=False):
    """Forget timer ``op``."""

    op: int


class CancelStep(Struct, frozen=True, kw_only=True, gc=False):
    """The code waits no longer for step ``op``."""

    op: int


class TakeNote(Struct, frozen=True, kw_only=True, gc=False):
    """Record an event that the code does not wait for. Notes have no ops: they are taken in order."""

    event: Note


class StartChild(Struct, frozen=True, kw_only=True, gc=False):
    """Start the workflow called ``name`` with these arguments, as a child."""

    op: int
    name: str
    version: int
    digest: str
    id: str


class CancelChild(Struct, frozen=True, kw_only=True, gc=False):
    """The code waits no longer for child ``op``, which is to end."""

    op: int


Command = RunStep | StartTimer | CancelTimer | CancelStep | TakeNote | StartChild | CancelChild
