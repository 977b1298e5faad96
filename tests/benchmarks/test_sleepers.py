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
    options = ["--count", "20", "--clients", "5", "--wake-s", "5", "--ahead-s", "1"]
    options += ["--json", str(file)]
    assert scale.main(["sleepers", *options]) == 0
    figures = json.loads(file.read_text())
    assert figures["count"] == 20
    assert min(figures.values()) >= 0
    told = capsys.readouterr().out
    assert "20 sleepers, started a second" in told
    assert told.count("20 of 1,000,000") == 3  # goals, which so few neither meet nor miss
