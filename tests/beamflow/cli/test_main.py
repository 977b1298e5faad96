"""The command line's entrance."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from beamflow.cli.main import main


@pytest.mark.parametrize(
    "arguments", [[], ["shout"], ["check"], ["check", "app"], ["lint"], ["check", "--store", "x"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["lint", "--help"]])
def test_help_is_there(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert "usage: beamflow" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == version("beamflow")


def test_it_runs_as_a_module_and_into_a_closed_pipe() -> None:
    """Without a traceback when nobody reads on."""
    command = [sys.executable, "-m", "beamflow", "lint", "docs", "beamflow"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    code = (
        "import os, sys; read, write = os.pipe(); os.close(read); os.dup2(write, 1);"
        "from beamflow.cli.main import main; from beamflow.cli import lint, main as m;"
        "m.lint_command = lambda *_, **__: (sys.stdout.write('x' * 100_000), 0)[1];"
        "sys.exit(main(['lint', 'x']))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stderr == ""
