"""The folder of one run: where each party keeps its records, and how they are read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

import msgspec

from services.ledger import Entry, read_ledger
from services.policies import read_book
from told import Told

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SERVICES", "DeadLetter", "Fact", "Folder", "PolicyRow"]

T = TypeVar("T")

SERVICES = ("identity", "credit", "policies", "mail", "billing")


class Fact(msgspec.Struct, frozen=True):
    """An event of beamflow's log, as far as the proof looks at it."""

    type: str
    op: int = 0
    name: str = ""
    retry_at: int | None = None


class Recorded(msgspec.Struct, frozen=True):
    """An event in its place in the log."""

    stream: str
    seq: int
    time: int
    event: Fact


class DeadLetter(msgspec.Struct, frozen=True):
    """An application that somebody has to look at."""

    workflow_id: str
    reason: str


class PolicyRow(msgspec.Struct, frozen=True):
    """A line of the policy book."""

    number: str
    application: str
    cancelled: bool


class Folder:
    """The files of one run. Nothing in here asks beamflow: the proof must not."""

    def __init__(self, path: Path) -> None:
        """Name the files."""
        self.path = path
        self.applications = path / "applications.csv"
        self.policies = path / "policies.db"
        self.log = path / "onboarding.db"
        self.told = path / "told.jsonl"
        self.restarts = path / "restarts.jsonl"
        self.history = path / "history.jsonl"
        self.dead_letters = path / "dead_letters.jsonl"

    @property
    def store(self) -> str:
        """The address of beamflow's log."""
        return f"sqlite:///{self.log}"

    def ledger(self, service: str) -> Path:
        """Return where a service keeps its ledger."""
        return self.path / f"{service}.jsonl"

    def read_requests(self, service: str) -> list[Entry]:
        """Return the requests that a service has recorded, in order."""
        if service == "policies":
            return read_book(self.policies)
        with self.ledger(service).open("rb") as lines:
            return read_ledger(lines)

    def read_policies(self) -> list[PolicyRow]:
        """Return the policy book, line by line."""
        with closing(sqlite3.connect(self.policies)) as book:
            rows = book.execute("SELECT number, application, cancelled FROM policies").fetchall()
        return [PolicyRow(f"POL-{number:05}", who, bool(gone)) for number, who, gone in rows]

    def read_told(self) -> list[Told]:
        """Return what the engine's processes have told, in order."""
        return _lines(self.told, Told)

    def read_restarts(self) -> list[int]:
        """Return when the engine was started again after a kill."""
        return _lines(self.restarts, int)

    def read_history(self) -> list[Recorded]:
        """Return beamflow's log, as it was exported at the end."""
        return _lines(self.history, Recorded)

    def read_dead_letters(self) -> list[DeadLetter]:
        """Return the dead-letter queue, as it was exported at the end."""
        return _lines(self.dead_letters, DeadLetter)


def _lines(path: Path, kind: type[T]) -> list[T]:
    with path.open("rb") as lines:
        return [msgspec.json.decode(line, type=kind) for line in lines if line.endswith(b"\n")]
