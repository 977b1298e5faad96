"""What a release has written, every later one replays: to the same results, by the same commands."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import msgspec
import pytest

from beamflow.engine.definitions import Definitions
from beamflow.engine.replay import replay
from beamflow.errors import NondeterminismError
from beamflow.model.codec import decode_event, encode_event
from beamflow.model.events import Event, WorkflowStarted
from tests.golden.history import read_history, view_of

HERE = Path(__file__).parent
RELEASES = sorted(each.name for each in HERE.glob("release_*"))
FILES = [
    pytest.param(file, id=f"{file.parts[-3]}/{file.stem}")
    for release in RELEASES
    for file in sorted((HERE / release / "histories").glob("*.jsonl"))
]
KINDS: tuple[type[msgspec.Struct], ...] = typing.get_args(Event)


def definitions_of(file: Path) -> Definitions:
    release = file.parent.parent.name
    return Definitions(importlib.import_module(f"tests.golden.{release}.workflows").WORKFLOWS)


@pytest.mark.invariant("I30")
@pytest.mark.parametrize("file", FILES)
def test_a_history_is_replayed_as_it_was(file: Path) -> None:
    """The same commands, the same outcome, and the same that is left open."""
    history = read_history(file)
    if not isinstance(history[0].event, WorkflowStarted):
        return
    views = json.loads((file.parent.parent / "views.json").read_text(encoding="utf-8"))
    assert view_of(definitions_of(file), history) == views[history[0].stream]


@pytest.mark.parametrize("file", FILES)
def test_any_beginning_of_a_history_is_replayed(file: Path) -> None:
    """As a crash would have left it."""
    history = read_history(file)
    started = history[0].event
    if not isinstance(started, WorkflowStarted):
        return
    workflow = definitions_of(file).get(started.workflow, started.version)
    for cut in range(1, len(history)):
        try:
            replay(workflow, history[0].stream, history[:cut]).close()
        except NondeterminismError:
            # a cut behind an event and before the marker of its append, which no crash leaves
            assert "patch_marked" in file.read_text().splitlines()[cut]


@pytest.mark.invariant("I5")
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    "elsewhere",
    [
        {"PYTHONHASHSEED": "0"},
        {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu"},
        {"PYTHONHASHSEED": "77", "LC_ALL": "C", "LANG": "tr_TR.UTF-8"},
        {"PYTHONHASHSEED": "4294967295", "TZ": "America/St_Johns", "PYTHONUTF8": "1"},
        {"PYTHONHASHSEED": "random", "PYTHONOPTIMIZE": "2"},
    ],
    ids=range(5),
)
def test_a_replay_is_the_same_in_every_process(
    release: str, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    """Whatever the seed of its hashes, its time zone, its language and its directory."""
    code = (
        "import importlib, json, sys, pathlib\n"
        "from beamflow.engine.definitions import Definitions\n"
        "from tests.golden.history import read_history, view_of\n"
        f"code = importlib.import_module('tests.golden.{release}.workflows')\n"
        "there, views = Definitions(code.WORKFLOWS), {}\n"
        "for file in sorted(pathlib.Path(sys.argv[1]).glob('[!$]*.jsonl')):\n"
        "    history = read_history(file)\n"
        "    views[history[0].stream] = view_of(there, history)\n"
        "print(json.dumps(views))\n"
    )
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", code, HERE / release / "histories"],
        env=os.environ | elsewhere | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    views = (HERE / release / "views.json").read_text(encoding="utf-8")
    assert json.loads(run.stdout) == json.loads(views)


@pytest.mark.parametrize("file", FILES)
def test_an_event_is_written_as_it_was(file: Path) -> None:
    """Byte for byte, so what a newer version writes an older one of the same schema reads."""
    for line in file.read_bytes().splitlines():
        data = msgspec.json.decode(line, type=dict[str, msgspec.Raw])["event"]
        assert encode_event(decode_event(bytes(data))) == bytes(data)


@pytest.mark.parametrize("release", RELEASES)
def test_no_history_says_where_it_was_made(release: str) -> None:
    """Tracebacks name files of the project, not of a machine."""
    for file in [*(HERE / release / "histories").iterdir(), HERE / release / "views.json"]:
        assert not re.search(r'File \\"/', file.read_text()), file.name


@pytest.mark.parametrize("release", RELEASES)
def test_views_and_files_belong_together(release: str) -> None:
    """Nothing is expected that is not there, and nothing is there that is not looked at."""
    views = json.loads((HERE / release / "views.json").read_text(encoding="utf-8"))
    files = {file.stem.replace("+", "/") for file in (HERE / release / "histories").iterdir()}
    assert files - set(views) == {"$dead-letters", "$recoveries"}
    assert len(views) > 15


def test_the_newest_release_has_every_event() -> None:
    """Whoever adds an event adds a scene that writes it."""
    newest = HERE / RELEASES[-1] / "histories"
    found = {type(one.event) for file in newest.glob("*.jsonl") for one in read_history(file)}
    assert found == set(KINDS)
