"""The duty that holds the store: opens it, owns its lease, serves its writes, closes it.

It fails when the store can be trusted no more. Everything else of the engine stands behind it under
``rest_for_one`` and is restarted with it: nothing in memory survives a write whose outcome is
unknown; all is read again from what is durable.
"""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from beamflow.engine.quarantine import Quarantine
from beamflow.errors import FencedError, StoreLockedError
from supervision import Actor

if TYPE_CHECKING:
    from beamflow.engine.services import Services

__all__ = ["StoreKeeper"]

LEASE_TTL_S = 15.0
UNSHARED_LEASE_TTL_S = 10 * 365 * 86_400.0
_LOOK_AGAIN_S = 0.2


class StoreKeeper(Actor):
    """Opens the store and owns its lease for as long as it lives.

    Args:
        services: what the engine's actors share; gets the lease.
        wait_s: how long to wait for another owner to leave.
    """

    def __init__(self, services: Services, wait_s: float) -> None:
        """Prepare; nothing happens before `init`."""
        self._services = services
        self._wait_s = wait_s

    async def init(self) -> None:
        """Open the store and claim the lease; raises `StoreError`."""
        store = self._services.store
        await store.open()
        try:
            await self._claim()
        except BaseException:
            await store.close()
            raise
        lease = self._services.lease
        assert lease is not None
        self._services.quarantine = Quarantine(lease.epoch) if lease.inherited else None
        self._services.store_keeper = self.ref
        _ = self.spawn(store.serve(), name="store")
        if store.shared:
            _ = self.spawn(self._renew(), name="lease")

    async def handle_cast(self, message: object) -> None:
        """Fail with the `FencedError` that a writer has met, if it is about the lease in hand."""
        assert isinstance(message, FencedError)
        if self._services.lease is not None and self._services.lease.epoch == message.epoch:
            raise message

    async def terminate(self, _reason: object) -> None:
        """Give the lease back and close the store."""
        services = self._services
        lease, services.lease = services.lease, None
        try:
            if lease is not None:
                await services.store.release(lease)
        finally:
            await services.store.close()

    async def _claim(self) -> None:
        services = self._services
        ttl_s = LEASE_TTL_S if services.store.shared else UNSHARED_LEASE_TTL_S
        owner = f"process {os.getpid()} on {platform.node()}"
        deadline = services.clock.monotonic() + self._wait_s
        while True:
            asked = services.clock.monotonic()
            try:
                services.holds(await services.store.claim(owner, ttl_s), asked + ttl_s)
            except StoreLockedError:
                if services.clock.monotonic() >= deadline:
                    raise
                await services.clock.sleep(_LOOK_AGAIN_S)
            else:
                return

    async def _renew(self) -> None:
        services = self._services
        while services.lease is not None:
            if (
                services.clock.monotonic() < services.lease_until
            ):  # else the renewal itself was late
                await services.clock.sleep(LEASE_TTL_S / 3)
            asked = services.clock.monotonic()
            lease = await services.store.renew(services.lease, LEASE_TTL_S)
            services.holds(lease, asked + LEASE_TTL_S)
