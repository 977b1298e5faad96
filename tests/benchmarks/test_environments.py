"""Environments are made once; what cannot be made is said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import environments
from benchmarks.environments import NotHereError, environment, newest_python

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "CACHE", tmp_path / "cache")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Return the commands that would have been run."""
    commands: list[Sequence[str]] = []

    def note(_name: str, command: Sequence[str]) -> None:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)

    monkeypatch.setattr(environments, "_done", note)
    return commands


def test_ours_is_the_interpreter_that_runs() -> None:
    assert environment("this").python == Path(sys.executable)


def test_a_peer_is_installed_once(done: list[Sequence[str]]) -> None:
    """And again when what is wanted has changed."""
    python = environment("dbos").python
    assert [command[1:3] for command in done] == [["-m", "venv"], ["-m", "pip"]]
    assert any(wanted.startswith("dbos==") for wanted in done[-1])
    environment("dbos")
    assert len(done) == 2
    (python.parents[1] / "made-of").write_text("something else")
    environment("dbos")
    assert len(done) == 4


def test_what_cannot_be_installed_says_why() -> None:
    """The last line of whatever tried to."""
    with pytest.raises(NotHereError, match="dbos cannot be installed: no such thing"):
        environments._done("dbos", ["sh", "-c", "echo no such thing >&2; exit 1"])
    with pytest.raises(NotHereError, match="No such file"):
        environments._done("dbos", ["/nowhere/python"])


def test_without_npm_there_is_no_restate(
    done: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments.shutil, "which", lambda _name: None)
    with pytest.raises(NotHereError, match="npm"):
        environment("restate")
    assert done


def test_a_newer_python_is_newer() -> None:
    """Where there is one."""
    found = newest_python()
    if found is not None:
        minor = int(found.name.removeprefix("python3."))
        assert minor > sys.version_info.minor
