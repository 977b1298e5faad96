"""Both stores keep every promise of the port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from beamflow.stores.memory import MemoryStore
from beamflow.stores.sqlite import SQLiteStore
from beamflow.testing.store_suite import StoreSuite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from beamflow.stores.base import Store


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def make_store(self) -> Callable[[Callable[[], int]], Store]:
        return lambda clock: MemoryStore(clock=clock)


class TestSQLiteStore(StoreSuite):
    @pytest.fixture(params=["full", "relaxed"])
    def make_store(
        self, tmp_path: Path, request: pytest.FixtureRequest
    ) -> Callable[[Callable[[], int]], Store]:
        return lambda clock: SQLiteStore(
            tmp_path / "store.db", clock=clock, durability=request.param
        )
