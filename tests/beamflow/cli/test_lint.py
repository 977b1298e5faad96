"""``beamflow lint``: files and directories in, one line for each finding out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from beamflow.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

BAD = "import time\nfrom beamflow import workflow\n@workflow\nasync def order():\n    time.time()\n"
GOOD = BAD.replace("time.time()", "pass")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with own files, others' files, and none of Python."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "app/bad.py": BAD,
        "app/deep/er/bad.py": BAD,
        "app/good.py": GOOD,
        "app/notes.txt": BAD,
        "app/.hidden/bad.py": BAD,
        "app/__pycache__/bad.py": BAD,
        "app/venv/pyvenv.cfg": "",
        "app/venv/lib/bad.py": BAD,
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_findings_have_their_place(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each; a file that is named twice is looked at once."""
    assert main(["lint", "app", "app/bad.py"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["app/bad.py:5:5", "wall-clock"],
        ["app/deep/er/bad.py:5:5", "wall-clock"],
    ]
    assert lines[0].endswith("(workflow 'order'). Use beamflow.now()")


def test_clean_code_says_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "app/good.py"]) == 0
    assert capsys.readouterr() == ("", "")


def test_findings_as_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--json", "app/bad.py"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["path"], finding["line"], finding["column"]) == ("app/bad.py", 5, 5)
    assert finding["code"] == "wall-clock"


def test_a_terminal_is_not_told_what_to_do(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither by the name of a file nor by what it holds."""
    bad = project / "\x1b[2J.py"
    bad.write_text(BAD.replace("time.time()", 'print({"\x1b]0;x\x07", *set("\x9b2J")})'))
    assert main(["lint", "."]) == 1
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b"} & set(out)
    assert "\\x1b[2J.py:5:" in out


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"# coding: no-such\n"])
def test_what_cannot_be_read_is_told(
    project: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2, which no finding has."""
    file = project / "odd.py"
    if content is not None:
        file.write_bytes(content)
    assert main(["lint", "odd.py"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "odd.py" in captured.err
