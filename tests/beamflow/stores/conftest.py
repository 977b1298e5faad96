"""What tests of the SQLite store share: each says with `served` how its own is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from beamflow.stores.sqlite import SQLiteStore

if TYPE_CHECKING:
    from beamflow.stores.base import Lease
    from beamflow.testing.store_suite import ServedStore


@pytest.fixture
async def store(served: ServedStore) -> SQLiteStore:
    """The store itself."""
    assert isinstance(served.store, SQLiteStore)
    return served.store


@pytest.fixture
async def lease(store: SQLiteStore) -> Lease:
    """The right to write to it."""
    return await store.claim("the test", 30)
