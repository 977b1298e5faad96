"""Golden histories as files: one line for each event, and what a replay of them must come to."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from beamflow.engine.replay import replay
from beamflow.model.codec import decode_event, encode_event
from beamflow.model.events import Recorded, WorkflowStarted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamflow.engine.definitions import Definitions
    from beamflow.engine.execution import Execution

_HOMES = (
    (f"{Path(__file__).parents[2]}/", b""),
    (sys.prefix, b"python"),
    (sys.base_prefix, b"python"),
)

__all__ = ["read_history", "view_of", "write_history"]


class Line(msgspec.Struct, omit_defaults=True):
    """A line of a file."""

    seq: int
    time: int
    epoch: int
    event: msgspec.Raw


def write_history(path: Path, history: Sequence[Recorded]) -> None:
    """Write a stream as it stands in a store."""
    lines = [
        msgspec.json.encode(
            Line(one.seq, one.time, one.epoch, msgspec.Raw(encode_event(one.event)))
        )
        for one in history
    ]
    text = b"\n".join(lines) + b"\n"
    for home, name in _HOMES:  # tracebacks say where the code stood
        text = text.replace(home.encode(), name)
    path.write_bytes(text)


def read_history(path: Path) -> list[Recorded]:
    """Read a stream back, by the way that stores take."""
    lines = [msgspec.json.decode(line, type=Line) for line in path.read_bytes().splitlines()]
    return [
        Recorded(
            stream=path.stem.replace("+", "/"),
            seq=line.seq,
            time=line.time,
            epoch=line.epoch,
            event=decode_event(bytes(line.event)),
        )
        for line in lines
    ]


def view_of(definitions: Definitions, history: Sequence[Recorded]) -> dict[str, Any]:
    """Replay a stream, and return all that can be seen of it, as plain JSON data."""
    started = history[0].event
    assert isinstance(started, WorkflowStarted)
    workflow = definitions.get(started.workflow, started.version)
    execution = replay(workflow, history[0].stream, history)
    commands = [
        {"command": type(each).__name__, **json.loads(msgspec.json.encode(each))}
        for each in execution.take_commands()
    ]
    view = {
        "commands": commands,
        "steps": sorted(execution.calls),
        "timers": sorted(execution.timers),
        "signals": sorted(execution.awaited_signals),
        "outcome": _outcome(execution),
    }
    execution.close()
    plain: dict[str, Any] = json.loads(json.dumps(view, default=_plain), object_hook=_anywhere)
    return plain


def _anywhere(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out what says where the code stands."""
    return {key: value for key, value in data.items() if key != "traceback"}


def _outcome(execution: Execution) -> Any:
    if not execution.ended:
        return "open"
    error = execution.failure
    if error is None:
        return {"returned": json.loads(msgspec.json.encode(execution.outcome()))}
    if isinstance(error, asyncio.CancelledError):
        return {"raised": "CancelledError"}
    return {"raised": f"{type(error).__name__}: {error}"}


def _plain(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))
