"""A store under test: its clock, what serves it, and the fixtures that all parts share."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from beamflow.errors import StoreUnavailableError
from beamflow.testing.store_suite.samples import SECOND, START

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from beamflow.stores.base import Lease, Store

__all__ = ["ServedStore", "StoreClock", "Suite"]


class StoreClock:
    """A store's clock that stands still until it is told otherwise; microseconds."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        """Tell the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.now += round(seconds * SECOND)


class ServedStore:
    """A store with its `serve` running beside the test, to be restarted at will.

    Args:
        store: not open yet.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._server: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open and serve the store."""
        await self.store.open()
        self._server = asyncio.create_task(self.store.serve())  # noqa: TID251 - stop() ends it

    async def stop(self) -> None:
        """Stop serving and close the store; harmless when that is done."""
        server, self._server = self._server, None
        if server is not None:
            server.cancel()
            with suppress(asyncio.CancelledError, StoreUnavailableError):
                await server
        await self.store.close()

    async def restart(self) -> None:
        """Do what a restart of the engine does to a store."""
        await self.stop()
        await self.start()

    async def rebuild(self) -> None:
        """Have the indexes derived again."""
        await self.stop()
        await self.store.open()
        await self.store.rebuild()
        await self.store.close()
        await self.start()


class Suite:
    """Fixtures that all parts share."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def make_store(self) -> Callable[[Callable[[], int]], Store]:
        """Return what makes an empty store of a clock. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture make_store")

    @pytest.fixture
    def clock(self) -> StoreClock:
        """Give the store's clock."""
        return StoreClock()

    @pytest_asyncio.fixture
    async def served(
        self, make_store: Callable[[Callable[[], int]], Store], clock: StoreClock
    ) -> AsyncIterator[ServedStore]:
        """Give the store with what runs it."""
        served = ServedStore(make_store(clock))
        await served.start()
        yield served
        await served.stop()

    @pytest_asyncio.fixture
    async def store(self, served: ServedStore) -> Store:
        """Give the store, open and served."""
        return served.store

    @pytest_asyncio.fixture
    async def lease(self, store: Store) -> Lease:
        """Give the lease of the store."""
        return await store.claim("the test", 30.0)
