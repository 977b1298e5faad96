"""The demo, which is also the tutorial's code: it succeeds, and its proof can fail."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.serial, pytest.mark.timeout(150)]

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "docs" / "examples" / "onboarding"
TUTORIAL = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
EXCERPT = re.compile(
    r"^<!-- from (?P<file>\S+) -->\n+```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE
)

Line = dict[str, Any]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of the demo's programs to its end."""
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that went well, with somebody undone."""
    folder = tmp_path_factory.mktemp("onboarding")
    size = ["--applications", "120", "--kills", "3", "--seed", "7"]
    finished = run(DEMO, *size, "--folder", folder)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    (folder / "output.txt").write_text(finished.stdout, encoding="utf-8")
    return folder


@pytest.fixture
def copy(records: Path, tmp_path: Path) -> Path:
    """A copy of the records, to be falsified."""
    return Path(shutil.copytree(records, tmp_path / "records"))


def test_the_demo_succeeds_in_plain_lines(records: Path) -> None:
    """Without a terminal it prints what was refused, each kill, one timeline and the proof."""
    output = (records / "output.txt").read_text(encoding="utf-8")
    assert "\x1b" not in output
    assert "refused row 9: " in output
    assert output.count("kill -9 (") == 3
    assert " ◀" in output
    assert output.count(" ok  ") == 7
    assert "FAIL  " not in output


def test_an_honest_record_is_believed(copy: Path) -> None:
    """The proof needs nothing but the folder."""
    finished = run(DEMO / "proof.py", copy)
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--applications", "0"], "--applications is 0, not between 1 and 1,000"),
        (["--applications", "1001"], "--applications is 1001, not between"),
        (["--kills", "-1"], "--kills is -1, which is below 0"),
        (["--folder", str(DEMO)], "is not empty"),
    ],
    ids=["none", "more than there are", "fewer than no kills", "a folder in use"],
)
def test_what_cannot_be_run_is_refused_at_once(options: list[str], problem: str) -> None:
    finished = run(DEMO, *options)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert problem in finished.stderr


def test_ctrl_c_ends_it_in_a_line(tmp_path: Path) -> None:
    """All that the demo has started ends with it, and nobody leaves a traceback."""
    demo = subprocess.Popen(
        [sys.executable, DEMO, "--applications", "100", "--folder", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    while "kill -9 (1 " not in demo.stdout.readline():
        pass
    os.killpg(demo.pid, signal.SIGINT)
    said, complaints = demo.communicate(timeout=60)  # all who have the other ends have ended
    assert demo.returncode == 130
    assert "Traceback" not in complaints, complaints
    assert said.splitlines()[-1].startswith("The run was broken off by hand.")


def bill_twice(folder: Path) -> None:
    """Let an invoice be written a second time, under another key."""
    change(folder / "billing.jsonl", lambda lines: [*lines, first_done(lines) | {"key": "other"}])


def forget_to_cancel(folder: Path) -> None:
    """Let a cancelled reservation stand."""
    with closing(sqlite3.connect(folder / "policies.db")) as book:
        book.execute("DELETE FROM requests WHERE action = 'cancel_policy'")
        book.execute("UPDATE policies SET cancelled = 0")
        book.commit()


def lose_a_confirmation(folder: Path) -> None:
    """Let a customer have a policy and no e-mail."""
    change(folder / "mail.jsonl", lambda lines: [x for x in lines if x is not first_done(lines)])


def run_a_recorded_step_again(folder: Path) -> None:
    """Let a service be asked once more, with the right key, after the log had the answer."""

    def again(lines: list[Line]) -> list[Line]:
        late = {"outcome": "duplicate", "time": lines[-1]["time"] + 3_600_000_000}
        return [*lines, first_done(lines) | late]

    change(folder / "credit.jsonl", again)


def change_a_key(folder: Path) -> None:
    """Let a step come with another key, while it was not recorded yet."""

    def early(lines: list[Line]) -> list[Line]:
        return [first_done(lines) | {"outcome": "failed", "key": "other"}, *lines]

    change(folder / "identity.jsonl", early)


def lose_a_dead_letter(folder: Path) -> None:
    """Let a failure go unseen."""
    change(folder / "dead_letters.jsonl", lambda lines: lines[1:])


def go_back_on_a_word(folder: Path) -> None:
    """Let an application that was told to be declined have a policy."""

    def other(lines: list[Line]) -> list[Line]:
        issued = next(line for line in lines if line.get("ended", "").startswith("policy"))
        return [issued | {"ended": "declined"}, *lines]

    change(folder / "told.jsonl", other)


def lose_an_end(folder: Path) -> None:
    """Let a workflow vanish from the log before its end."""

    def cut(lines: list[Line]) -> list[Line]:
        end = next(line for line in lines if line["event"]["type"] == "workflow_completed")
        return [line for line in lines if line is not end]

    change(folder / "history.jsonl", cut)


def serve_a_stranger(folder: Path) -> None:
    """Let a service be asked about somebody whose row was refused."""

    def stranger(lines: list[Line]) -> list[Line]:
        return [*lines, first_done(lines) | {"application": "APP-00008", "key": "APP-00008/1"}]

    change(folder / "identity.jsonl", stranger)


@pytest.mark.parametrize(
    ("falsify", "claim"),
    [
        (bill_twice, "no effect took place twice"),
        (bill_twice, "one confirmed, billed policy, or nothing at all"),
        (forget_to_cancel, "one confirmed, billed policy, or nothing at all"),
        (lose_a_confirmation, "one confirmed, billed policy, or nothing at all"),
        (lose_an_end, "one confirmed, billed policy, or nothing at all"),
        (run_a_recorded_step_again, "no step ran again once its completion was recorded"),
        (change_a_key, "each step kept one idempotency key"),
        (lose_a_dead_letter, "the dead-letter queue holds those that failed for good"),
        (go_back_on_a_word, "what the engine had told before it was killed still holds"),
        (serve_a_stranger, "no refused row left a trace"),
    ],
)
def test_a_falsified_record_is_found_out(
    copy: Path, falsify: Callable[[Path], None], claim: str
) -> None:
    """The proof says which claim is broken, and exits with 1."""
    falsify(copy)
    finished = run(DEMO / "proof.py", copy)
    assert finished.returncode == 1
    failed = [line for line in finished.stdout.splitlines() if line.startswith("FAIL")]
    assert any(claim in line for line in failed), finished.stdout


def test_the_file_of_applications_can_be_made_again(tmp_path: Path) -> None:
    """What is committed is what the generator writes, byte for byte."""
    shutil.copy(DEMO / "generate.py", tmp_path)
    assert run(tmp_path / "generate.py").returncode == 0
    written = (tmp_path / "applications.csv").read_bytes()
    assert written == (DEMO / "applications.csv").read_bytes()


@pytest.mark.parametrize("chapter", TUTORIAL, ids=lambda chapter: chapter.name)
def test_the_tutorial_shows_the_code_that_runs(chapter: Path) -> None:
    """Each excerpt stands in the file that it names."""
    for excerpt in EXCERPT.finditer(chapter.read_text(encoding="utf-8")):
        assert excerpt["code"] in (DEMO / excerpt["file"]).read_text(encoding="utf-8")


def change(path: Path, falsify: Callable[[list[Line]], list[Line]]) -> None:
    """Rewrite a file of JSON lines."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    changed = "".join(json.dumps(line) + "\n" for line in falsify(lines))
    path.write_text(changed, encoding="utf-8")


def first_done(lines: list[Line]) -> Line:
    """Return the first request that took effect."""
    return next(line for line in lines if line["outcome"] == "done")
