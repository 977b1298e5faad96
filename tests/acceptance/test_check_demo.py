"""A demo whose engine was killed in the middle: a change is refused at its line, its patch passes."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = [pytest.mark.serial, pytest.mark.timeout(200)]

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "docs" / "examples" / "onboarding"
STOPPED = Path(__file__).with_name("demo_stopped.py")
APPLICATIONS = "170"  # more than are open at once: some begin with the new code

FIRST = "    identity, credit = await asyncio.gather("
SCREEN = '''
@step
async def screen(application: Application) -> None:
    """A step more, in front of all others."""


@workflow
async def onboard('''


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of a run that was killed when some had ended and others had not."""
    folder = tmp_path_factory.mktemp("onboarding")
    stopped = run(STOPPED, folder, DEMO, APPLICATIONS, "8")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    return folder


def changed(folder: Path, line: str, *, imports: str = "") -> Path:
    """Return a copy of the demo with a line before the first one of its workflow."""
    code = folder / "code"
    shutil.copytree(DEMO, code, ignore=shutil.ignore_patterns("__pycache__"))
    file = code / "workflow.py"
    text = file.read_text()
    assert text.count(FIRST) == text.count("@workflow\nasync def onboard(") == 1
    text = text.replace("\n@workflow\nasync def onboard(", SCREEN).replace(
        FIRST, f"{line}\n{FIRST}"
    )
    file.write_text(text.replace("from beamflow import ", f"from beamflow import {imports}", 1))
    return code


def check(code: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    store = f"sqlite:///{folder / 'onboarding.db'}"
    return run("-m", "beamflow", "check", "workflow:onboard", "--store", store, *more, cwd=code)


def open_with_a_step(folder: Path) -> set[str]:
    """Return the ids of those that are open and have a step's outcome in their log."""
    with closing(sqlite3.connect(f"file:{folder / 'onboarding.db'}?mode=ro", uri=True)) as store:
        return {
            name
            for (name,) in store.execute(
                "SELECT DISTINCT stream FROM beamflow_events JOIN beamflow_workflows ON id = stream "
                "WHERE state IN ('running', 'compensating') "
                "AND data ->> 'type' IN ('step_completed', 'step_failed')"
            )
        }


def test_the_code_as_it_was_passes(folder: Path) -> None:
    """A kill leaves nothing that the same code could not go on with."""
    checked = check(DEMO, folder)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith(" open workflows would go on\n")


def test_a_changed_workflow_is_refused_with_the_line(folder: Path, tmp_path: Path) -> None:
    """The one that was put in, and both commands; each that has come that far is named."""
    hit = open_with_a_step(folder)
    assert len(hit) >= 5
    line = "    await screen(application)"
    code = changed(tmp_path, line)
    number = (code / "workflow.py").read_text().splitlines().index(line) + 1
    checked = check(code, folder)
    assert (checked.returncode, checked.stderr) == (1, "")
    assert "onboard (version 1): would diverge: " in checked.stdout
    assert f"            at {code / 'workflow.py'}:{number}, in onboard\n" in checked.stdout
    report = json.loads(check(code, folder, "--json").stdout)
    # Which of the two that run side by side came first differs from one workflow to the other.
    for problem in report["problems"]:
        assert "step 'screen' with " in problem["issued"]
        assert problem["place"] == f"{code / 'workflow.py'}:{number}, in onboard"
    assert f"  issued:   {report['problems'][0]['issued']}\n" in checked.stdout
    assert {problem["id"] for problem in report["problems"]} == hit
    assert {problem["problem"] for problem in report["problems"]} == {"nondeterminism"}


def test_the_patched_workflow_passes_and_comes_to_its_end(folder: Path, tmp_path: Path) -> None:
    """Who had been there is named as lacking the patch; then the new code takes all to the end."""
    line = '    if patched("screen"):\n        await screen(application)'
    code = changed(tmp_path, line, imports="patched, ")
    checked = check(code, folder)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "open on the old branch of patch 'screen': " in checked.stdout
    there = Path(shutil.copytree(folder, tmp_path / "records"))
    finished = run(STOPPED, there, code, APPLICATIONS)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert open_with_a_step(there) == set()
    with closing(sqlite3.connect(there / "onboarding.db")) as store:
        rows = store.execute("SELECT state, count(*) FROM beamflow_workflows GROUP BY state")
        ended = dict(rows.fetchall())
        rows = store.execute(
            "SELECT count(*) FROM beamflow_events WHERE data ->> 'type' = 'patch_marked'"
        )
        ((marked,),) = rows.fetchall()
    assert set(ended) <= {"completed", "failed"}
    assert 0 < marked < sum(ended.values())
