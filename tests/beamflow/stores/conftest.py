"""What tests of the SQLite store share: a file may say with `served` how its own is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from beamflow.stores.sqlite import SQLiteStore
from beamflow.testing.store_suite import ServedStore, StoreClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from beamflow.stores.base import Lease


@pytest.fixture
def clock() -> StoreClock:
    """The store's time."""
    return StoreClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "app.db"


@pytest.fixture
async def served(path: Path, clock: StoreClock) -> AsyncIterator[ServedStore]:
    """A store that waits for no lock for long."""
    served = ServedStore(SQLiteStore(path, clock=clock, busy_timeout_s=0.05))
    await served.start()
    yield served
    await served.stop()


@pytest.fixture
async def store(served: ServedStore) -> SQLiteStore:
    """The store itself."""
    assert isinstance(served.store, SQLiteStore)
    return served.store


@pytest.fixture
async def lease(store: SQLiteStore) -> Lease:
    """The right to write to it."""
    return await store.claim("the test", 30)
