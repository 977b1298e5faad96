"""What takes long is run a part at a time, judged, and kept for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import goals, page, scale
from benchmarks.results import Results

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where parts are kept; the whole load is 300 workflows."""
    for module in (goals, scale):
        monkeypatch.setattr(module, "MILLION", 300)
    monkeypatch.setattr(scale, "KEPT", tmp_path / "new" / "scale.json")
    return scale.KEPT


def test_the_whole_load_is_judged_and_kept(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The goal is told with the figure; the part is found in the goals of the page."""
    assert scale.kept() == {}
    assert scale.main(["finding", "--count", "300", "--rounds", "1"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert "a page of any query" in told
    assert told.endswith(("yes", "**no**"))
    part = scale.kept()["finding"]
    assert part.count == 300
    results = Results(when=part.when, machine="another machine", long=scale.kept())
    assert f"finding on {part.when}, {part.machine}." in page.rendered(results)


@pytest.mark.usefixtures("kept")
def test_less_is_neither_judged_nor_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is a part of the queries."""
    assert scale.main(["finding", "--count", "100", "--rounds", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("100 of 300")
    assert scale.main(["finding", "--count", "300", "--rounds", "1", "--only", "parent"]) == 0
    assert "goal" not in capsys.readouterr().out
    assert scale.kept() == {}


def test_a_part_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """It says what there is."""
    assert scale.main(["what"]) == 2
    assert "sleepers" in capsys.readouterr().err
