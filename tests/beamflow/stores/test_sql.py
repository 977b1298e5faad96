"""The statements of the SQL stores, as files."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

SQL = Path(str(files("beamflow.stores.sql")))
FILES = sorted(SQL.rglob("*.sql"))


def test_there_are_statements() -> None:
    """What the next test looks through is not nothing."""
    assert SQL / "sqlite" / "commit.sql" in FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SQL)))
def test_parameters_have_names(file: Path) -> None:
    """Numbered ones need a sequence, for which Python deprecates every placeholder with a name."""
    text = re.sub(r"--.*|'[^']*'", "", file.read_text(encoding="utf-8"))
    assert re.findall(r"\?\d*", text) == []
