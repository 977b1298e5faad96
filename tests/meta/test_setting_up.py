"""Setting up: the environment that the Makefile makes, whatever was there before, and what an extra brings."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VENV = """\
#!/bin/sh
echo "$*" >> calls
[ "$1 $2" = "-m venv" ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python && exit {code}
[ "$1 $2" = "-m ensurepip" ] && touch pip && exit 0
[ "$1 $2" = "-m pip" ] && {{ test -e pip; exit; }}
exit 0
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with the Makefile alone; uv is not found from there."""
    (tmp_path / "bin").mkdir()
    for name in ("make", "sh", "mkdir", "cp", "touch", "rm", "test"):
        program = shutil.which(name)
        assert program is not None
        (tmp_path / "bin" / name).symlink_to(program)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    return tmp_path


def make(tree: Path, *, code: int) -> subprocess.CompletedProcess[str]:
    """Set up for the demo with a Python that logs what it is told, and whose venv ends with a code."""
    python = tree / "python"
    python.write_text(VENV.format(code=code), encoding="utf-8")
    python.chmod(0o755)
    return subprocess.run(
        [shutil.which("make") or "make", ".venv/.demo", f"PYTHON={python}"],
        cwd=tree,
        env={"PATH": str(tree / "bin")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_an_environment_that_could_not_be_made_is_no_environment(tree: Path) -> None:
    """Debian's Python without python3-venv leaves half of one, and says what to install each time."""
    for _ in range(2):
        assert make(tree, code=1).returncode != 0
        assert not (tree / ".venv").exists()
    assert make(tree, code=0).returncode == 0


def test_an_environment_without_pip_gets_one(tree: Path) -> None:
    """Whoever was interrupted, or has let uv make it, types the same command again."""
    assert make(tree, code=0).returncode == 0
    calls = (tree / "calls").read_text(encoding="utf-8").splitlines()
    assert [call.split()[1] for call in calls] == ["venv", "pip", "ensurepip", "pip", "pip"]


def test_what_the_test_kit_imports_is_an_extra() -> None:
    """The plugin, the store suite and chaos: nothing else of what they import is left to chance."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = {
        re.split(r"[^\w-]", each)[0].replace("-", "_")
        for each in (*project["dependencies"], *project["optional-dependencies"]["testing"])
    }
    files = [*(ROOT / "beamflow" / "testing").rglob("*.py"), ROOT / "supervision" / "plugin.py"]
    imported = {
        name.split(".")[0]
        for file in files
        for name in re.findall(
            r"^(?:import|from) ([\w.]+)", file.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    own = {"beamflow", "supervision", "_pytest"}
    assert imported - own - sys.stdlib_module_names <= brought
    assert {"pytest", "pytest_asyncio"} <= imported


def test_the_wheel_test_finds_the_pip_that_it_needs() -> None:
    """Whoever sets up the environment: uv leaves the pip of Python 3.11 as it is, which is too old."""
    assert "--group" in (ROOT / ".ci" / "wheel-test").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert any(
        isinstance(each, str) and re.fullmatch(r"pip>=2[5-9]\.\d", each)
        for each in project["dependency-groups"]["dev"]
    )
