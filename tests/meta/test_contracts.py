"""The layers of both packages hold, and the contracts would notice if they did not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PLANTED = [
    pytest.param("supervision/errors.py", "import beamflow.errors", id="supervision-sees-beamflow"),
    pytest.param("beamflow/model/events.py", "import time", id="model-reads-the-clock"),
    pytest.param("beamflow/errors.py", "import beamflow.model.ids", id="upward"),
    pytest.param(
        "beamflow/engine/planted.py", "import beamflow.stores.memory", id="concrete-store"
    ),
    pytest.param("beamflow/utils.py", "", id="room-without-a-layer"),
    pytest.param(
        "beamflow/errors.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import beamflow.model.ids",
        id="upward-for-types-only",
    ),
]


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages below ``root``."""
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); "
        "from importlinter.cli import lint_imports_command; "
        "lint_imports_command(['--no-cache', '--no-logo'])"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of both packages and the contracts, to plant faults in."""
    for package in ("beamflow", "supervision"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_contracts_hold() -> None:
    """Every import points down, type-only imports counted."""
    run = lint_imports(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(("path", "line"), PLANTED)
def test_a_planted_fault_is_noticed(copy: Path, path: str, line: str) -> None:
    """One wrong import breaks a contract."""
    file = copy / path
    file.write_text((file.read_text() if file.exists() else "") + f"\n{line}\n")
    run = lint_imports(copy)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "BROKEN" in run.stdout
