"""Each workload measures what it says, with next to no load; no time is asserted."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import pytest

from benchmarks import probe, workloads
from benchmarks.cell import measured
from benchmarks.contenders import CONTENDERS, beamflow, floor
from benchmarks.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL = {"A": (6, 3), "alone": (4, 1), "B": (2, 2), "C": (4, 1), "D": (1, 1), "E": (1, 1)}
SMALL |= {"F": (3, 3), "recovery": (12, 1), "replay": (1, 1), "import": (1, 1), "crowds": (10, 1)}
OURS = ("beamflow", "memory", "floor", "tasks")
CASES = [
    (contender, workload)
    for contender, workload in product(OURS, SMALL)
    if workload in CONTENDERS[contender].loads
]


LONG = 60
"""Steps of a long workflow here."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (workloads, beamflow, floor):
        monkeypatch.setattr(module, "LONG", LONG)
    yield
    probe.listen(None)


@pytest.mark.parametrize(("contender", "workload"), CASES)
async def test_all_figures_are_there(
    contender: str, workload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each figure of its table, and each is a number."""
    monkeypatch.setenv("BENCH_CONTENDER", contender)
    found = await measured(contender, workload, tmp_path, *SMALL[workload])
    values = [found[figure.name] for figure in FIGURES[workload]]
    assert all(math.isfinite(value) for value in values)
    assert found["count"] == SMALL[workload][0]


async def test_every_step_of_a_long_workflow_is_seen(tmp_path: Path) -> None:
    """The curve of what a step costs goes to the last one."""
    found = await measured("tasks", "D", tmp_path, 2, 1)
    assert found["reached"] == LONG
    assert found["curves"]["long"][-1][0] > LONG * 0.8


async def test_crowds_grow_by_tens(tmp_path: Path) -> None:
    """Up to the count, and no further."""
    grown = await measured("tasks", "crowds", tmp_path, 150, 1)
    assert [window for window, _ in grown["curves"]["crowds"]] == [1, 10, 100]


async def test_recovery_counts_what_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was in flight at the kill; all that were open are back, and end."""
    monkeypatch.setenv("BENCH_CONTENDER", "beamflow")
    found = await measured("beamflow", "recovery", tmp_path, 8, 1)
    assert 0 < found["open"] <= 8
    assert found["twice"] <= found["open"]
    assert found["first_back_s"] <= found["back_s"] <= found["done_s"]


async def test_each_signal_is_measured(tmp_path: Path) -> None:
    found = await measured("memory", "C", tmp_path, 5, 1)
    assert found["signals"] == 5
    assert found["signal_p50_ms"] > 0
