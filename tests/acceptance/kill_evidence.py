"""What is left of an engine's process after a kill: its log, the ledger, and what it had told.

The log is read with nothing but SQLite, from a copy: the next life must recover what the kill has
left. `Witness` holds log and ledger against each other.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from beamflow.model.codec import checksum, decode_event
from beamflow.model.events import (
    CompensationCompleted,
    CompensationFailed,
    CompensationStarted,
    Event,
    Recorded,
    SignalReceived,
    StepCompleted,
    StepFailed,
    TimerCancelled,
    TimerFired,
    TimerStarted,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowStarted,
)
from beamflow.model.status import WorkflowState
from beamflow.stores.base import DeadLetterQuery, WorkflowQuery
from beamflow.stores.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import Iterable

ENGINE = Path(__file__).with_name("kill_engine.py")
WORDS = 3
MADE = "SELECT 1 FROM sqlite_master WHERE name = 'beamflow_events'"

Command = list[str | int]
Log = dict[str, list[Recorded]]


class Mark(msgspec.Struct, frozen=True):
    """A line of the ledger."""

    what: str
    run: str
    life: int
    key: str
    step: str
    attempt: int
    time: int
    because: str

    @property
    def workflow_id(self) -> str:
        """Whose step it was."""
        return self.key.partition("/")[0]

    @property
    def is_compensation(self) -> bool:
        """Whether it undoes something."""
        return self.key.endswith("/compensation")


_ORPHAN = re.compile(
    r"Traceback .*\n(?:  .*\n)*?.* in spawn_main\n(?:  .*\n)*EOFError: Ran out of input\n"
)
"""What Python says in a process for steps whose parent is killed while it is begun."""

_marks = msgspec.json.Decoder(Mark)


class Folder:
    """The files of one run: the database, the ledger, what each life has told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "app.db"
        self.ledger = path / "ledger"
        self.ledger.touch()
        self.lives = 0

    def live(self, *wrapper: str) -> subprocess.Popen[str]:
        """Start the engine's process once more."""
        self.lives += 1
        program = map(str, (sys.executable, ENGINE, self.database, self.ledger, self.lives))
        with self._complaints.open("wb") as complaints:
            return subprocess.Popen(
                [*wrapper, *program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )

    def end(self, process: subprocess.Popen[str], commands: Iterable[Command] = ()) -> list[str]:
        """Hand over the last commands and return what the life tells until it ends."""
        told, _ = process.communicate("".join(map(line, commands)))
        complaints = _ORPHAN.sub("", self._complaints.read_text())
        assert not complaints, complaints
        return told.splitlines()

    @property
    def _complaints(self) -> Path:
        return self.path / f"stderr-{self.lives}"

    def marks(self) -> list[Mark]:
        """Read the ledger; the last line may be cut off."""
        return [_marks.decode(row) for row in self.ledger.read_bytes().split(b"\n")[:-1]]

    def log(self) -> Log:
        """Read the log from a copy, in the order in which it was written, each event checked."""
        copy = self.path / "copy.db"
        for suffix in ("", "-wal", "-shm"):
            copy.with_name(f"copy.db{suffix}").unlink(missing_ok=True)
        for suffix in ("", "-wal"):
            original = self.database.with_name(f"app.db{suffix}")
            if original.exists():
                shutil.copy(original, copy.with_name(f"copy.db{suffix}"))
        log: Log = defaultdict(list)
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            if connection.execute(MADE).fetchone():
                rows = connection.execute(
                    "SELECT stream, seq, at, epoch, crc, data FROM beamflow_events "
                    "WHERE stream NOT LIKE '$recoveries/%' "
                    "ORDER BY position"
                )
                for stream, seq, at, epoch, crc, data in rows:
                    assert crc == checksum(stream, seq, data.encode())
                    event = decode_event(data)
                    recorded = Recorded(stream=stream, seq=seq, time=at, epoch=epoch, event=event)
                    log[stream].append(recorded)
        return log


def line(command: Command) -> str:
    return json.dumps(command) + "\n"


class Witness:
    """Holds the log against the ledger after each life, and both against what was seen before.

    Args:
        folder: the files.
        reopens: whether the engine may open its store again, for a life with several leases.
    """

    def __init__(self, folder: Folder, *, reopens: bool = False) -> None:
        self.folder = folder
        self.reopens = reopens
        self.log: Log = {}
        self.epoch = 0
        self.marks: list[Mark] = []
        self.marks_at_end: dict[str, int] = {}
        self.undone_by: dict[str, str] = {}
        self.run_twice = 0

    def look(self, told: list[str]) -> None:
        """Read both after a life has ended; raise AssertionError for all that must not be."""
        log, marks = self.folder.log(), self.folder.marks()
        assert marks[: len(self.marks)] == self.marks
        self._look_back(log)
        for word in told:
            self._is_recorded(word.split(), log)
        runs: defaultdict[str, list[Mark]] = defaultdict(list)
        for mark in marks:
            if mark.what == "began":
                runs[mark.key].append(mark)
        did = {mark.run for mark in marks if mark.what == "did"}
        self.run_twice = sum(
            looked_at(key, same, reopens=self.reopens) for key, same in runs.items()
        )
        for stream, history in log.items():
            _Stream(stream, history, runs, did).look()
        look_at_causes(log, runs)
        self._look_at_ends(log, marks)
        self._look_at_compensations(log, runs)
        self.log, self.marks = log, marks

    def _look_back(self, log: Log) -> None:
        """Nothing that was in the log has gone or changed; what is new has a new epoch."""
        epochs = []
        for stream, history in self.log.items():
            assert log[stream][: len(history)] == history, f"{stream} has another past"
        for stream, history in log.items():
            epochs += [recorded.epoch for recorded in history[len(self.log.get(stream, ())) :]]
        if epochs:
            one_lease = self.reopens or len({*epochs}) == 1
            assert one_lease, f"one life wrote under epochs {sorted({*epochs})}"
            assert min(epochs) > self.epoch, f"epoch {min(epochs)} after {self.epoch}"
            self.epoch = max(epochs)

    def _is_recorded(self, words: list[str], log: Log) -> None:
        match words:
            case ["started", workflow_id]:
                assert workflow_id in log, f"lost: {words}"
            case ["signalled", workflow_id, number]:
                assert int(number) in heard(log.get(workflow_id, [])), f"lost: {words}"
            case ["ready" | "finished"]:
                return
            case _:
                raise AssertionError(words)

    def _look_at_ends(self, log: Log, marks: list[Mark]) -> None:
        """A workflow that has ended in the log leaves no further mark."""
        count = Counter(mark.workflow_id for mark in marks)
        for stream, history in log.items():
            if isinstance(history[-1].event, WorkflowCompleted | WorkflowFailed):
                before = self.marks_at_end.setdefault(stream, count[stream])
                assert before == count[stream], f"{stream} ran after its end"

    def _look_at_compensations(self, log: Log, runs: dict[str, list[Mark]]) -> None:
        """A compensation that is in the log does not run again."""
        for stream, history in log.items():
            for recorded in history:
                if isinstance(recorded.event, CompensationCompleted):
                    last = runs[f"{stream}/{recorded.event.op}/compensation"][-1].run
                    before = self.undone_by.setdefault(f"{stream}/{recorded.event.op}", last)
                    assert before == last, f"{stream}: op {recorded.event.op} was undone again"


def look_at_causes(log: Log, runs: dict[str, list[Mark]]) -> None:
    """Nothing was done because of something that is not in the log."""
    recorded = {
        f"{stream}: {msgspec.json.decode(one.event.result)}"
        for stream, history in log.items()
        for one in history
        if isinstance(one.event, StepCompleted)
    }
    recorded |= {
        f"{stream}: word {word}" for stream, history in log.items() for word in heard(history)
    }
    for same in runs.values():
        for run in same:
            assert run.workflow_id in log, f"{run} belongs to nothing that was started"
            cause = f"{run.workflow_id}: {run.because}"
            assert not run.because or cause in recorded, f"its cause is not in the log: {run}"


def looked_at(key: str, runs: list[Mark], *, reopens: bool) -> int:
    """Check the order of a step's runs; return how many did again what a kill had cut off."""
    attempts = [(run.attempt, run.life) for run in runs]
    in_order = sorted(attempts) if reopens else sorted({*attempts})
    assert attempts == in_order, f"{key}: attempts {attempts}"
    return len(runs) - len({run.attempt for run in runs})


class _Stream:
    """One workflow's log beside what the ledger knows of it."""

    def __init__(
        self, stream: str, history: list[Recorded], runs: dict[str, list[Mark]], did: set[str]
    ) -> None:
        self.stream = stream
        self.history = history
        self.runs = runs
        self.did = did
        self.settled: set[str] = set()
        self.due: dict[int, int] = {}

    def look(self) -> None:
        """Go through the events in order."""
        for seq, recorded in enumerate(self.history, 1):
            assert recorded.seq == seq, f"{self.stream}: {recorded.seq} stands at {seq}"
            try:
                self._look_at(seq, recorded.time, recorded.event)
            except AssertionError as error:
                error.add_note(f"{self.stream}, event {seq}: {recorded}")
                raise
        words = heard(self.history)
        assert words == list(range(len(words))), f"{self.stream} heard {words}"

    def _look_at(self, seq: int, time_us: int, event: Event) -> None:
        match event:
            case WorkflowStarted():
                assert seq == 1
            case StepCompleted():
                run = msgspec.json.decode(event.result)
                last = self._settle(f"{self.stream}/{event.op}", event.name)[-1]
                assert run in self.did, f"run {run} is not in the ledger"
                assert (run, event.attempt) == (last.run, last.attempt), f"ran again: {last}"
            case StepFailed():
                key = f"{self.stream}/{event.op}"
                self._failed(key, event.name, event)
            case CompensationCompleted():
                last = self._settle(f"{self.stream}/{event.op}/compensation", event.name)[-1]
                assert last.run in self.did, f"run {last.run} is not in the ledger"
                assert last.attempt == event.attempt
            case CompensationFailed():
                self._failed(f"{self.stream}/{event.op}/compensation", event.name, event)
            case TimerStarted():
                self._once(f"start of timer {event.op}")
                self.due[event.op] = event.due
            case TimerFired():
                assert time_us >= self.due.pop(event.op), "too early, or never started"
            case TimerCancelled():
                del self.due[event.op]
            case WorkflowCompleted() | WorkflowFailed():
                assert seq == len(self.history), "something follows the end"
            case CompensationStarted():
                self._once("compensation")
            case SignalReceived():
                self._once(f"signal {event.id}")
            case _:
                raise AssertionError(event)

    def _once(self, what: str) -> None:
        assert what not in self.settled, f"a second {what}"
        self.settled.add(what)

    def _settle(self, key: str, name: str) -> list[Mark]:
        self._once(key)
        assert {run.step for run in self.runs[key]} == {name}, f"{key}: {self.runs[key]}"
        return self.runs[key]

    def _failed(self, key: str, name: str, event: StepFailed | CompensationFailed) -> None:
        """The attempt that failed is in the ledger, was the last of its number and not too early."""
        self._once(f"{key} attempt {event.attempt}")
        runs = self.runs[key] if event.retry_at is not None else self._settle(key, name)
        last = [run for run in runs if run.attempt == event.attempt][-1]
        if event.error.type != "beamflow.errors.StepTimeoutError":
            assert event.error.message == last.run, f"attempt ran again: {last}"
        for run in runs:
            if run.attempt > event.attempt:
                assert event.retry_at is not None, f"ran after it had failed for good: {run}"
                assert run.time >= event.retry_at, f"tried again too early: {run}"


def heard(history: list[Recorded]) -> list[int]:
    """Return the words that a conversation was sent, in order."""
    return [
        msgspec.json.decode(recorded.event.payload, type=int)
        for recorded in history
        if isinstance(recorded.event, SignalReceived)
    ]


def left_to_say(workflow_id: str, log: Log) -> list[Command]:
    """Return what has still to be said to a workflow: what was not acknowledged is looked up."""
    history = log.get(workflow_id, [])
    commands: list[Command] = [] if history else [["start", workflow_id]]
    if workflow_id.startswith("conversation"):
        commands += [["signal", workflow_id, word] for word in range(len(heard(history)), WORDS)]
    return commands


def ends_as_its_kind_says(workflow_id: str, history: list[Recorded], marks: list[Mark]) -> None:
    """Check one workflow that must have ended: its outcome, and its effects in the ledger."""
    end = history[-1].event
    kind, _, number = workflow_id.partition("-")
    completed = [
        recorded.event for recorded in history if isinstance(recorded.event, StepCompleted)
    ]
    results = {msgspec.json.decode(event.result) for event in completed}
    if kind == "saga" and int(number) % 3 > 0:
        assert isinstance(end, WorkflowFailed), end
        assert (end.step, end.attempts) == ("refuse", 2)
        is_undone(workflow_id, completed, marks)
        return
    assert isinstance(end, WorkflowCompleted), end
    assert not [mark for mark in marks if mark.is_compensation]
    outcome: list[Any] = msgspec.json.decode(end.result)
    match kind:
        case "conversation":
            assert outcome == [*range(WORDS), -1]
        case "branches":
            assert {*outcome} <= results
            assert len(outcome) == 6
        case "race":
            assert {*outcome} == results
            assert len(outcome) == 2
        case _:
            assert {*outcome} == results
            assert len(outcome) == 5


def is_undone(workflow_id: str, completed: list[StepCompleted], marks: list[Mark]) -> None:
    """All effects are undone in the reverse order of their completion, after all else."""
    plan = [
        f"{workflow_id}/{event.op}/compensation"
        for event in reversed(completed)
        if event.name in {"reserve", "charge"}
    ]
    way_back = [mark.is_compensation for mark in marks]
    assert way_back == sorted(way_back), "a step ran on the way back"
    order = [mark.key for mark in marks if mark.is_compensation]
    assert [*dict.fromkeys(order)] == plan
    assert order == sorted(order, key=plan.index), "two compensations at once"
    effects = {
        f"{mark.key}/compensation"
        for mark in marks
        if mark.what == "did" and mark.step in {"reserve", "charge"}
    }
    undone = {mark.key for mark in marks if mark.what == "did" and mark.is_compensation}
    assert effects == undone, "something that was done still stands"


async def indexes(database: Path) -> tuple[dict[str, WorkflowState], set[str]]:
    """Return what the store's own indexes say: the state of each workflow, the dead letters."""
    store = SQLiteStore(database, clock=lambda: time.time_ns() // 1000)
    await store.open()
    found = await store.find(WorkflowQuery(limit=10_000))
    letters = await store.dead_letters(DeadLetterQuery(limit=10_000))
    for summary in found.items:
        await store.read(summary.id)
    await store.close()
    return (
        {summary.id: summary.state for summary in found.items},
        {letter.workflow_id for letter in letters.items},
    )


def all_ended(witness: Witness, workflow_ids: list[str]) -> None:
    """Check that each workflow has ended as its kind says, and that the indexes know it."""
    assert {*witness.log} == {*workflow_ids}
    marks: defaultdict[str, list[Mark]] = defaultdict(list)
    for mark in witness.marks:
        marks[mark.workflow_id].append(mark)
    failed = set()
    for workflow_id, history in witness.log.items():
        ends_as_its_kind_says(workflow_id, history, marks[workflow_id])
        if isinstance(history[-1].event, WorkflowFailed):
            failed.add(workflow_id)
    states, letters = asyncio.run(indexes(witness.folder.database))
    assert letters == failed
    assert states == {
        workflow_id: WorkflowState.FAILED if workflow_id in failed else WorkflowState.COMPLETED
        for workflow_id in workflow_ids
    }
