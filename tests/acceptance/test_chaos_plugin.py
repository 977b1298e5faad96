"""The plugin as users get it: from the wheel, in an environment of its own, on files outside of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = [pytest.mark.serial, pytest.mark.timeout(150)]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "box_office"
PAGE = ROOT / "docs" / "how-to" / "chaos.md"
EXCERPT = re.compile(
    r"^<!-- from box_office/(?P<file>\S+) -->\n+```python\n(?P<code>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
FROM_THE_WHEEL = """
import beamflow, supervision.plugin

def test_it_comes_from_the_wheel(pytestconfig):
    for module in (beamflow, supervision.plugin):
        assert "site-packages" in module.__file__ and {home!r} in module.__file__
    assert pytestconfig.pluginmanager.hasplugin("supervision")
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as somebody would who has never heard of this checkout."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel; only what that depends on is lent."""
    home = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    built = run(*pip, "wheel", "--no-deps", "--wheel-dir", home, ROOT, cwd=home)
    assert built.returncode == 0, built.stderr
    [wheel] = home.glob("*.whl")
    made = run(sys.executable, "-m", "venv", "--without-pip", home / "venv", cwd=home)
    assert made.returncode == 0, made.stderr
    python = home / "venv" / "bin" / "python"
    installed = run(*pip, "--python", python, "install", "--no-deps", wheel, cwd=home)
    assert installed.returncode == 0, installed.stderr
    [packages] = (home / "venv").glob("lib/*/site-packages")
    # a plain path: nothing of the checkout's own, which is found by way of a .pth file there
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture
def project(python: Path, tmp_path: Path) -> Path:
    """The example of the how-to, as a project of its own."""
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "project"))
    (folder / "test_wheel.py").write_text(FROM_THE_WHEEL.format(home=str(python.parents[1])))
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return folder


def test_a_tree_and_an_engine(python: Path, project: Path) -> None:
    """Both survive all their seeds, and the summary tells what they met."""
    finished = run(python, "-m", "pytest", "-p", "no:cacheprovider", cwd=project)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "3 passed" in finished.stdout
    assert re.search(r"::test_one_seat_paid_once: 100 seeds, moderate: .*crash", finished.stdout)
    assert re.search(r"::test_every_order_ends: 50 seeds, moderate: .*power_loss", finished.stdout)


@pytest.mark.parametrize(
    ("mistake", "test"),
    [
        (("box_office.py", "key=order)", "key=None)"), "test_one_seat_paid_once"),
        (
            (
                "test_orders.py",
                '("charge", customer), key=current_step().idempotency_key',
                '("charge", customer)',
            ),
            "test_every_order_ends",
        ),
    ],
    ids=["tree", "engine"],
)
def test_a_mistake_is_found_and_replayed(
    python: Path, project: Path, mistake: tuple[str, str, str], test: str
) -> None:
    """Without its idempotency key somebody pays twice; the seed leads the report and shows it again."""
    file, right, wrong = mistake
    source = project / file
    assert right in source.read_text()
    source.write_text(source.read_text().replace(right, wrong))
    pytest_ = (python, "-m", "pytest", "-p", "no:cacheprovider", "-k", test)
    finished = run(*pytest_, cwd=project)
    assert finished.returncode == 1, finished.stdout + finished.stderr
    found = re.search(
        r"^_+ test_\w+ _+\n(chaos: seed (\d+) fails.*)$", finished.stdout, re.MULTILINE
    )
    assert found is not None, finished.stdout
    assert found[1].endswith(f'::{test}" --chaos-seed {found[2]}')
    again = run(*pytest_, "--chaos-seed", found[2], cwd=project)
    assert again.returncode == 1
    assert faults(again.stdout) == faults(finished.stdout) != []


def test_the_page_shows_the_code_that_runs() -> None:
    """Each excerpt stands in the file that it names."""
    excerpts = [*EXCERPT.finditer(PAGE.read_text(encoding="utf-8"))]
    assert len(excerpts) == 3
    for excerpt in excerpts:
        assert excerpt["code"] in (EXAMPLE / excerpt["file"]).read_text(encoding="utf-8")


def faults(output: str) -> list[str]:
    """Give the log of what went wrong on purpose."""
    _, _, log = output.partition("what went wrong on purpose")
    return re.findall(r"^.* #\d+: \w+$", log, re.MULTILINE)
