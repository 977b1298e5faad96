"""The store that the benchmark of finding fills, and that each of its queries can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow.stores.base import WorkflowQuery
from beamflow.stores.sqlite import SQLiteStore
from benchmarks import _finding

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

COUNT = 2_000


async def test_the_store_is_what_the_queries_are_about(tmp_path: Path) -> None:
    """Each query finds something among so few, but for one, and those that are to find nothing."""
    path = tmp_path / "app.db"
    await _finding.fill(path, COUNT)
    store = SQLiteStore(path, clock=lambda: 0)
    await store.open()
    assert sum((await store.count(WorkflowQuery())).values()) == COUNT
    empty = []
    for name, query in _finding._queries(COUNT).items():
        if not (await store.find(query)).items:
            empty.append(name)
    await store.close()
    assert [name for name in empty if "never meet" not in name] == ["three labels, few in common"]


def test_it_prints_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    """With the place where the page was worst."""
    _finding.main(["--count", "300", "--rounds", "1", "--only", "name"])
    told = capsys.readouterr().out
    assert "name and tag that never meet" in told
    assert "first, 96%" in told or "first, 50%" in told or "first, 0%" in told
