"""A cell that hangs or fails costs a line in the table, never the run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from benchmarks.contenders import Load
from benchmarks.environments import Environment
from benchmarks.runs import ran

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


def run(tmp_path: Path, script: str, *, limit_s: float = 30.0) -> dict[str, Any]:
    """Run a shell script in the place of an interpreter."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o700)
    environment = Environment(python, {"GREETING": "hello"}, loop="uvloop")
    return ran(environment, "beamflow", "A", Load(7, 3), limit_s=limit_s, directory=tmp_path)


def test_the_last_json_is_taken(tmp_path: Path) -> None:
    """Whatever the engine prints before and after it."""
    result = run(tmp_path, """echo '{"a": 1}'; echo noise; echo '{"a": 2}'; echo 3; echo bye""")
    assert result.pop("seconds") >= 0
    assert result == {"a": 2}


def test_it_is_told_what_to_do(tmp_path: Path) -> None:
    """In its environment, with its load and its loop."""
    result = run(tmp_path, r"""printf '{"args": "%s", "said": "%s"}\n' "$*" "$GREETING" """)
    assert "-m benchmarks.cell beamflow A --count=7 --open=3 --loop=uvloop" in result["args"]
    assert result["said"] == "hello"


def test_a_failure_says_its_last_line(tmp_path: Path) -> None:
    result = run(tmp_path, "echo first >&2; echo 'ValueError: no' >&2; exit 1")
    assert result["why"] == "failed: ValueError: no"


def test_a_failure_in_a_group_is_found(tmp_path: Path) -> None:
    """The last line of a group is its frame."""
    result = run(tmp_path, "echo '  | x.LockedError: locked' >&2; echo '  +------' >&2; exit 1")
    assert result["why"] == "failed: x.LockedError: locked"


def test_a_failure_without_a_word_is_one(tmp_path: Path) -> None:
    assert run(tmp_path, "exit 0")["why"] == "failed without a word"


def test_an_interpreter_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "nowhere")
    result = ran(environment, "beamflow", "A", Load(7, 3), limit_s=1, directory=tmp_path)
    assert "No such file" in result["why"]


def test_what_hangs_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    """A server that an engine has started does not outlive its cell."""
    server = tmp_path / "server"
    result = run(
        tmp_path, f"sleep 600 & echo $! > {server}.new; mv {server}.new {server}; wait", limit_s=1
    )
    assert result == {"why": "did not end within 1 s"}
    with pytest.raises(ProcessLookupError):
        _wait_for_the_end_of(int(server.read_text()))


def test_what_an_engine_leaves_running_is_ended(tmp_path: Path) -> None:
    server = tmp_path / "server"
    result = run(tmp_path, f"sleep 600 & echo $! > {server}; echo '{{}}'")
    assert "why" not in result
    with pytest.raises(ProcessLookupError):
        _wait_for_the_end_of(int(server.read_text()))


def _wait_for_the_end_of(pid: int) -> None:
    """Raise as soon as a killed process is gone, or is nothing but its entry."""
    while True:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - gone any moment
            if stat.read().rpartition(")")[2].split()[0] == "Z":
                raise ProcessLookupError
