"""The benchmark of sleepers measures what it says, with a few of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks import scale

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_few_sleepers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All are started, sleep, and wake in another process; each figure is printed and written."""
    file = tmp_path / "figures.json"
    options = ["--count", "20", "--clients", "5", "--wake-s", "5", "--json", str(file)]
    assert scale.main(["sleepers", *options]) == 0
    figures = json.loads(file.read_text())
    assert figures["count"] == 20
    assert min(figures.values()) >= 0
    assert "started a second" in capsys.readouterr().out


def test_a_part_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """It says what there is."""
    assert scale.main(["what"]) == 2
    assert "sleepers" in capsys.readouterr().err
