"""The documentation names what there is, links to what exists, and its examples run."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import beamflow
import supervision
from beamflow import errors, testing
from beamflow.model import events
from beamflow.testing import store_suite

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
REFERENCE = "\n".join(page.read_text() for page in sorted((DOCS / "reference").glob("*.md")))

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s#]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
RUN = re.compile(
    r"^<!-- run -->\n+```python\n(?P<code>.*?)^```"
    r"(?:\n+<!-- prints -->\n+```text\n(?P<output>.*?)^```)?",
    re.DOTALL | re.MULTILINE,
)
PYTEST = re.compile(r"^<!-- pytest -->\n+```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)
FROM_AN_EXAMPLE = re.compile(r"^<!-- from \S+ -->$", re.MULTILINE)
HELD = re.compile(r"^<!-- held by (?P<test>tests/\S+) -->$", re.MULTILINE)


def _examples(kind: re.Pattern[str]) -> list[object]:
    return [
        pytest.param(match, id=f"{page.relative_to(ROOT)}:{number}")
        for page in PAGES
        for number, match in enumerate(kind.finditer(page.read_text()), start=1)
    ]


def relative(page: Path) -> str:
    """Name a page in a test id."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_resolve(page: Path) -> None:
    """Every relative link leads to a file of the repository."""
    targets = LINK.findall(FENCE.sub("", page.read_text()))
    gone = [
        target
        for target in targets
        if "://" not in target and not (page.parent / target).resolve().exists()
    ]
    assert gone == []


def test_every_page_is_in_the_navigation() -> None:
    """A page that nobody can find might as well not be there."""
    nav = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r"^ +- (\S+\.md)$", nav, re.MULTILINE)
    written = [str(page.relative_to(DOCS)) for page in PAGES if page.is_relative_to(DOCS)]
    assert sorted(listed) == sorted(written)


@pytest.mark.parametrize(
    "name",
    sorted(
        {
            *beamflow.__all__,
            *supervision.__all__,
            *errors.__all__,
            *testing.__all__,
            *store_suite.__all__,
        }
    ),
)
def test_public_names_are_in_the_reference(name: str) -> None:
    """Each stands there as code, by itself or with its parameters."""
    assert re.search(rf"`(?:await |async with |@)?{name}\b[^`]*`", REFERENCE)


def test_events_are_in_the_reference_with_their_tags() -> None:
    """Whoever reads a log finds each tag explained."""
    missing = [
        name
        for name in events.__all__
        if inspect.isclass(kind := getattr(events, name))
        and (
            f"`{name}`" not in REFERENCE
            or (
                issubclass(kind, msgspec.Struct)
                and (tag := kind.__struct_config__.tag) is not None
                and f"`{tag}`" not in REFERENCE
            )
        )
    ]
    assert missing == []


def test_log_lines_are_in_the_reference() -> None:
    """All of them, with their levels, and no other."""
    sources = "".join(path.read_text() for path in (ROOT / "beamflow").rglob("*.py"))
    written = re.findall(r'\blog\.(info|warning|error)\(\s*"(\w+)"', sources)
    shown = re.findall(
        r"^\| `(\w+)` \| (\w+) \|", (DOCS / "reference" / "log.md").read_text(), re.MULTILINE
    )
    assert {(name, level) for level, name in written} == set(shown)


def test_the_architecture_page_shows_the_tree_as_it_is() -> None:
    """Every module, in its room, and none that is not there."""
    page = (DOCS / "internals" / "architecture.md").read_text()
    shown: set[str] = set()
    room: list[str] = []
    for block in re.findall(
        r"^```text\n(?:supervision|beamflow)/.*?^```", page, re.DOTALL | re.MULTILINE
    ):
        for line in block.splitlines()[1:-1]:
            depth = (len(line) - len(line.lstrip())) // 2
            room = room[:depth]
            name = line.split()[0]
            if name.endswith("/"):
                room.append(name.rstrip("/"))
                shown.add("/".join(room))
            else:
                shown.add("/".join([*room, name]))
    there = {
        str(file.relative_to(ROOT).with_suffix("")).removesuffix("/__init__")
        for package in ("supervision", "beamflow")
        for file in (ROOT / package).rglob("*.py")
    }
    assert shown == there


@pytest.mark.parametrize(
    "page", sorted({*DOCS.glob("how-to/*.md")} - {DOCS / "how-to" / "index.md"}), ids=relative
)
def test_every_how_to_runs(page: Path) -> None:
    """What it shows is run here, comes from an example with tests of its own, or names its test."""
    text = page.read_text()
    assert any(kind.search(text) for kind in (RUN, PYTEST, FROM_AN_EXAMPLE, HELD))
    assert all((ROOT / held["test"]).exists() for held in HELD.finditer(text))


@pytest.mark.parametrize("example", _examples(RUN))
def test_examples_run(example: re.Match[str], tmp_path: Path) -> None:
    """An example marked as runnable runs by itself and prints what the page says."""
    (tmp_path / "example.py").write_text(example["code"])
    printed = _run(tmp_path)
    if example["output"] is not None:
        assert printed == example["output"]


def test_the_first_program_prints_the_same_again(tmp_path: Path) -> None:
    """Who tries the README's runs it twice, and the file is there by then."""
    example = RUN.search((ROOT / "README.md").read_text())
    assert example is not None
    (tmp_path / "example.py").write_text(example["code"])
    assert [_run(tmp_path), _run(tmp_path)] == [example["output"]] * 2


def _run(folder: Path) -> str:
    """Run ``example.py`` in a folder, and return what it prints."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.serial
def test_examples_please_a_strict_type_checker(tmp_path: Path) -> None:
    """Whoever copies one into a typed project gets no complaint that the page does not have."""
    pytest.importorskip("mypy")
    for page in PAGES:
        for number, kind in enumerate([RUN, PYTEST]):
            for match in kind.finditer(page.read_text()):
                name = f"{page.parent.name}_{page.stem}_{number}_{match.start()}"
                (tmp_path / f"{re.sub(r'[^a-zA-Z0-9]', '_', name)}.py").write_text(match["code"])
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=.cache", "."],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("example", _examples(PYTEST))
def test_shown_tests_pass(example: re.Match[str], tmp_path: Path) -> None:
    """A page's test passes under the pytest of whoever copies it."""
    (tmp_path / "test_example.py").write_text(example["code"])
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "test_example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout
