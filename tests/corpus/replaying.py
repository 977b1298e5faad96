"""Replays the histories in a file and tells what the code asks for: ``-m tests.corpus.replaying FILE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from beamflow.model.codec import encode_event
from beamflow.model.events import Event, Recorded, WorkflowStarted
from tests.corpus.checks import transcript
from tests.corpus.everything import WORKFLOWS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamflow import Workflow

__all__ = ["read_histories", "replayed", "write_histories"]


class _Line(msgspec.Struct):
    stream: str
    times: list[int]
    events: list[Event]


def write_histories(file: Path, histories: Iterable[list[Recorded]]) -> None:
    """Write each history as a line."""
    with file.open("wb") as out:
        for history in histories:
            events = [msgspec.Raw(encode_event(one.event)) for one in history]
            times = [one.time for one in history]
            line = {"stream": history[0].stream, "times": times, "events": events}
            out.write(msgspec.json.encode(line) + b"\n")


def read_histories(file: Path) -> list[list[Recorded]]:
    """Read them back."""
    lines = [msgspec.json.decode(line, type=_Line) for line in file.read_bytes().splitlines()]
    return [
        [
            Recorded(stream=line.stream, seq=seq, time=time, epoch=1, event=event)
            for seq, (time, event) in enumerate(zip(line.times, line.events, strict=True), 1)
        ]
        for line in lines
    ]


def replayed(history: list[Recorded]) -> list[str]:
    """Return what the code of the corpus asks for when it meets this log."""
    started = history[0].event
    assert isinstance(started, WorkflowStarted)
    return transcript(_definition(started.workflow, started.version), history)


def _definition(name: str, version: int) -> Workflow[..., object]:
    return next(one for one in WORKFLOWS if (one.name, one.version) == (name, version))


if __name__ == "__main__":
    json.dump([replayed(history) for history in read_histories(Path(sys.argv[1]))], sys.stdout)
