"""What a user gets from `pip install beamflow`."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import metadata, requires
from importlib.resources import files

import pytest

CORE = {"aiosqlite", "anyio", "msgspec", "structlog"}
HEAVY = [
    "aiosmtpd",
    "httpx",
    "hypothesis",
    "multiprocessing",
    "pytest",
    "rich",
    "starlette",
    "structlog.dev",
    "supervision.process",
    "unittest",
    "uvicorn",
    "xml",
]


@pytest.mark.parametrize("package", ["beamflow", "supervision"])
def test_type_checkers_see_the_annotations(package: str) -> None:
    """Both packages ship ``py.typed``."""
    assert files(package).joinpath("py.typed").is_file()


def test_metadata_says_what_is_needed() -> None:
    """Python 3.11 or newer, MIT, and no more dependencies than the core needs."""
    described = metadata("beamflow")
    assert described["Requires-Python"] == ">=3.11"
    assert described["License-Expression"] == "MIT"
    assert described["License-File"] == "LICENSE"
    needed = {
        name.group()
        for line in requires("beamflow") or []
        if "extra ==" not in line and (name := re.match(r"[\w.-]+", line))
    }
    assert needed == CORE


@pytest.mark.parametrize("package", ["beamflow", "supervision"])
def test_import_is_light(package: str) -> None:
    """Importing loads nothing that only some users, or only tests, need."""
    code = f"import sys, {package}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert run.stdout.split() == []


def test_supervision_stands_alone() -> None:
    """Importing supervision does not load beamflow, nor what only beamflow needs."""
    code = "import sys, supervision; print(*{'beamflow', 'aiosqlite', 'sqlite3'} & {*sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert run.stdout.split() == []
