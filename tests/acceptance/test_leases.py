"""Processes that share a file: stopped, stalled or told to end, there is never more than one writer."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from beamflow.model.codec import decode_event
from beamflow.model.events import StepCompleted, WorkflowCompleted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.serial, pytest.mark.slow, pytest.mark.timeout(90)]

ENGINE = Path(__file__).with_name("lease_engine.py")
TICKS = 40
TTL_S = 1.0


class Process:
    """One engine's process, and what it tells."""

    def __init__(self, folder: Path, name: str, *, ttl_s: float, stall_s: float) -> None:
        self.name = name
        arguments = [folder / "app.db", folder / "ledger", name, ttl_s, stall_s]
        self._complaints = (folder / f"stderr-{name}").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, ENGINE, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
        )

    def say(self, words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()

    def until(self, words: str) -> str:
        """Read what it tells up to a line that begins so; return the line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(words):
                return line.strip()
        raise AssertionError(f"{self.name} ended before it told {words!r}")

    def ends(self) -> int:
        """Wait for its end; it has nothing to complain of."""
        self.process.communicate()
        self._complaints.seek(0)
        assert self._complaints.read() == b""
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._complaints.close()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a process; all are dead after the test."""
    processes: list[Process] = []

    def start(name: str, *, ttl_s: float = TTL_S, stall_s: float = 0) -> Process:
        processes.append(Process(tmp_path, name, ttl_s=ttl_s, stall_s=stall_s))
        return processes[-1]

    yield start
    for process in processes:
        process.close()


def marks(folder: Path) -> list[tuple[str, str]]:
    """Read which process began which step, in order."""
    rows = [line.split() for line in (folder / "ledger").read_text().splitlines()]
    return [(name, key) for name, key in rows]


def assert_one_writer(folder: Path, workflows: int) -> None:
    """See that no event was written under a lease that was lost, and each step was recorded once."""
    with closing(sqlite3.connect(folder / "app.db")) as connection:
        rows = connection.execute(
            "SELECT stream, seq, epoch, data FROM beamflow_events ORDER BY rowid"
        ).fetchall()
    epochs = [epoch for _, _, epoch, _ in rows]
    assert epochs == sorted(epochs)
    assert len({*epochs}) == 2
    counted: Counter[str] = Counter()
    for stream, seq, *_ in rows:
        counted[stream] += 1
        assert seq == counted[stream]
    events = [(stream, decode_event(data)) for stream, _, _, data in rows]
    done = Counter((stream, one.op) for stream, one in events if isinstance(one, StepCompleted))
    assert {*done.values()} == {1}
    assert len(done) == workflows * TICKS
    ends = [one for _, one in events if isinstance(one, WorkflowCompleted)]
    assert [msgspec.json.decode(one.result) for one in ends] == [sum(range(TICKS))] * workflows


def assert_taken_over(folder: Path, first: Process, second: Process, before: int) -> None:
    """See that the first has recorded nothing since it lost the lease, noticed, and stopped.

    Each workflow's next step may have been decided on before, and begins then.
    """
    first.until("stopped:")
    assert first.ends() == 0
    second.say("")
    assert second.ends() == 0
    rows = marks(folder)
    assert sum(name == "first" for name, _ in rows) <= before + 3
    assert_one_writer(folder, 3)
    again = Counter(key for _, key in rows)
    assert sum(count - 1 for count in again.values()) <= 3
    assert {*again.values()} <= {1, 2}


@pytest.mark.invariant("I7")
@pytest.mark.invariant("I38")
def test_an_owner_that_is_stopped_past_its_lease(
    tmp_path: Path, live: Callable[..., Process]
) -> None:
    """SIGSTOP, another takes over, SIGCONT: it writes nothing, notices, and stops."""
    first = live("first")
    first.until("ready")
    first.say("start 3")
    first.until("tick 20")
    first.process.send_signal(signal.SIGSTOP)
    before = sum(name == "first" for name, _ in marks(tmp_path))
    second = live("second")
    second.until("ready")
    second.until("tick 10")
    first.process.send_signal(signal.SIGCONT)
    first.say("finish")
    second.say("finish")
    second.until("finished")
    assert_taken_over(tmp_path, first, second, before)


@pytest.mark.invariant("I7")
@pytest.mark.invariant("I38")
def test_an_owner_whose_loop_is_blocked_past_its_lease(
    tmp_path: Path, live: Callable[..., Process]
) -> None:
    """It cannot renew; when it runs again it has lost the lease, and fences itself off."""
    first = live("first", stall_s=4 * TTL_S)
    first.until("ready")
    first.say("start 3\nfinish")
    first.until("tick 10")
    before = sum(name == "first" for name, _ in marks(tmp_path))
    second = live("second")
    second.until("ready")
    second.say("finish")
    second.until("finished")
    assert_taken_over(tmp_path, first, second, before)


@pytest.mark.invariant("I33")
def test_a_process_that_is_told_to_end_at_work(
    tmp_path: Path, live: Callable[..., Process]
) -> None:
    """SIGTERM ends it within moments, and the next one goes on at once, not after the lease."""
    first = live("first", ttl_s=600)
    first.until("ready")
    first.say("start 20")
    first.until("tick 200")
    told = time.monotonic()
    first.process.send_signal(signal.SIGTERM)
    assert first.ends() == 0
    assert time.monotonic() - told < 5
    second = live("second", ttl_s=600)
    second.until("ready")
    second.until("tick")
    assert time.monotonic() - told < 10
    second.say("finish")
    second.until("finished")
    second.say("")
    assert second.ends() == 0
    assert_one_writer(tmp_path, 20)
    assert {*Counter(key for _, key in marks(tmp_path)).values()} <= {1, 2}
