"""Take one mechanism of supervision out at a time: each time a test must fail.

``python tests/supervision/test_ablation.py`` prints the table of the documentation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "internals" / "supervision.md"
FAILED = re.compile(r"^FAILED \S+?::(\w+(?:\[[^\]]*\])?)", re.MULTILINE)


@dataclass(frozen=True)
class Ablation:
    """A mechanism, where it stands, what stands there without it, and which tests are asked."""

    name: str
    file: str
    old: str
    new: str
    tests: str


ABLATIONS = [
    Ablation(
        "the incarnation check",
        "supervisor.py",
        "return child if child.cell.incarnation == event.incarnation else None",
        "return child",
        "test_conformance_asyncio.py",
    ),
    Ablation(
        "the intensity window",
        "restarts.py",
        "        self._forget(now)\n        self._times.append(now)",
        "        self._times.append(now)",
        "test_conformance_strategies.py",
    ),
    Ablation(
        "the restart intensity",
        "restarts.py",
        "return len(self._times) <= self.max_restarts",
        "return True",
        "test_system.py",
    ),
    Ablation(
        "the reverse order of stops",
        "supervisor.py",
        "for child in reversed(list(children)):",
        "for child in list(children):",
        "test_conformance_strategies.py",
    ),
    Ablation(
        "the retry through the mailbox",
        "parent.py",
        "            mailbox.admit(retry)\n            return",
        "            mailbox.put_system(retry.message)\n            return",
        "test_conformance_restarting.py",
    ),
    Ablation(
        "the turn between two attempts",
        "parent.py",
        "        await pass_turn()\n        if not message.counted:",
        "        if not message.counted:",
        "test_conformance_asyncio.py",
    ),
    Ablation(
        "the second cancel, and those after it",
        "spawned.py",
        "RECANCELS_MAX: Final = 8",
        "RECANCELS_MAX: Final = 0",
        "test_conformance_asyncio.py",
    ),
    Ablation(
        "the grace for budgets that ran out while the loop was blocked",
        "ladder.py",
        "if late > RECANCEL_GAP_S:",
        "if late > 1e9:",
        "test_conformance_asyncio.py",
    ),
    Ablation(
        "the release of names before anybody hears of the end",
        "cell.py",
        "            try:\n                release()\n",
        "            try:\n                self.runtime.loop.call_soon(release)\n",
        "test_registry.py",
    ),
    Ablation(
        "the base context of every life",
        "parent.py",
        "context=(self._context if child.context is None else child.context).copy(),",
        "context=contextvars.copy_context(),",
        "test_conformance_asyncio.py",
    ),
    Ablation(
        "the orderly end of a supervisor that is killed",
        "parent.py",
        "    orderly: ClassVar[bool] = True",
        "    orderly: ClassVar[bool] = False",
        "test_registry.py test_supervisor.py",
    ),
]


def failures(folder: Path, ablation: Ablation | None) -> list[str]:
    """Run the tests in a copy of the packages without a mechanism; give the names of those that fail."""
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for name in ("supervision", "tests/supervision"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    tests = "test_conformance_asyncio.py test_registry.py"
    if ablation is not None:
        tests = ablation.tests
        file = folder / "supervision" / ablation.file
        source = file.read_text()
        assert source.count(ablation.old) == 1, f"{ablation.file} has changed: {ablation.old}"
        file.write_text(source.replace(ablation.old, ablation.new))
    run = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-n",
                "0",
                "-p",
                "no:cacheprovider",
                "--tb",
                "native",
            ),
            *("--timeout", "5", "--maxfail", "3"),
            *(f"tests/supervision/{test}" for test in tests.split()),
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert run.returncode in {0, 1}, run.stdout + run.stderr
    return FAILED.findall(run.stdout)


@pytest.mark.slow
def test_nothing_fails_with_everything_in_place(tmp_path: Path) -> None:
    """The copy as it is passes, so that what fails below fails for what was taken out."""
    assert failures(tmp_path, None) == []


@pytest.mark.slow
@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
def test_a_test_fails_without(tmp_path: Path, ablation: Ablation) -> None:
    """Each mechanism is held by a test, which the documentation names."""
    found = failures(tmp_path, ablation)
    assert found
    line = next((line for line in PAGE.read_text().splitlines() if ablation.name in line), "")
    assert any(name.partition("[")[0] in line for name in found), f"{line}\n{found}"


def main() -> None:
    """Print the table."""
    sys.stdout.write("| Taken out | Tests that fail |\n|---|---|\n")
    for ablation in ABLATIONS:
        with tempfile.TemporaryDirectory() as folder:
            names = dict.fromkeys(n.partition("[")[0] for n in failures(Path(folder), ablation))
        sys.stdout.write(f"| {ablation.name} | {', '.join(f'`{name}`' for name in names)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
