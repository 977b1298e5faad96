"""The right to write: claimed, renewed, released, lost."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from beamflow.errors import FencedError, StoreLockedError
from beamflow.stores.base import DeadLetterQuery, Store
from beamflow.testing.store_suite.samples import SECOND, START, failed, started, stepped
from beamflow.testing.store_suite.served import ServedStore, StoreClock, Suite

__all__ = ["LeaseSuite"]


class LeaseSuite(Suite):
    """One owner at a time."""

    async def test_a_lease_is_claimed_for_a_time(self, store: Store, clock: StoreClock) -> None:
        """The first claim gets the lease, with an epoch, until its time is over."""
        lease = await store.claim("first", 2.5)
        assert lease.owner == "first"
        assert lease.epoch >= 1
        assert lease.expires_at == clock.now + 2_500_000

    async def test_whether_the_owner_before_has_died(self, store: Store, clock: StoreClock) -> None:
        """A lease that was not given back is inherited, one that was is not; renewing changes nothing."""
        first = await store.claim("first", 10)
        assert not first.inherited
        clock.advance(10)
        second = await store.claim("second", 10)
        assert second.inherited
        assert (await store.renew(second, 10)).inherited is second.inherited
        await store.release(second)
        assert not (await store.claim("third", 10)).inherited

    async def test_a_second_owner_is_refused(self, store: Store, clock: StoreClock) -> None:
        """While the lease runs nobody else gets it, and whoever asks is told who has it."""
        await store.claim("first", 10)
        clock.advance(9.9)
        with pytest.raises(StoreLockedError, match="first") as caught:
            await store.claim("second", 10)
        assert caught.value.owner == "first"

    async def test_a_lease_runs_out(self, store: Store, clock: StoreClock) -> None:
        """An expired lease goes to who asks, and then the old epoch may neither write nor renew."""
        old = await store.claim("first", 10)
        await store.append("one", 0, [started()], time=START, epoch=old.epoch)
        clock.advance(10)
        new = await store.claim("second", 10)
        assert new.epoch == old.epoch + 1
        with pytest.raises(FencedError) as caught:
            await store.append("one", 1, [failed()], time=START, epoch=old.epoch)
        assert caught.value.epoch == old.epoch
        with pytest.raises(FencedError):
            await store.renew(old, 10)
        assert len(await store.read("one")) == 1
        assert (await store.dead_letters(DeadLetterQuery())).items == ()
        await store.append("one", 1, [stepped()], time=START, epoch=new.epoch)

    async def test_release_after_a_take_over(self, store: Store, clock: StoreClock) -> None:
        """The old owner's release does nothing to the new owner."""
        old = await store.claim("first", 10)
        clock.advance(10)
        new = await store.claim("second", 10)
        await store.release(old)
        await store.append("one", 0, [started()], time=START, epoch=new.epoch)
        with pytest.raises(StoreLockedError, match="second"):
            await store.claim("third", 10)

    async def test_renewing(self, store: Store, clock: StoreClock) -> None:
        """A renewed lease keeps its epoch and outlives the time it was claimed for."""
        lease = await store.claim("first", 10)
        clock.advance(6)
        renewed = await store.renew(lease, 10)
        assert renewed == replace(lease, expires_at=clock.now + 10 * SECOND)
        clock.advance(6)
        with pytest.raises(StoreLockedError):
            await store.claim("second", 10)
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)

    async def test_an_expired_lease_that_nobody_took(self, store: Store, clock: StoreClock) -> None:
        """Being late costs nothing as long as nobody has taken over."""
        lease = await store.claim("first", 10)
        clock.advance(60)
        await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        await store.renew(lease, 10)
        with pytest.raises(StoreLockedError):
            await store.claim("second", 10)

    async def test_releasing(self, store: Store) -> None:
        """A released lease is free at once, and what it wrote under writes no more."""
        lease = await store.claim("first", 10)
        await store.release(lease)
        with pytest.raises(FencedError):
            await store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        with pytest.raises(FencedError):
            await store.renew(lease, 10)
        assert (await store.claim("second", 10)).epoch == lease.epoch + 1

    async def test_nobody_writes_without_a_lease(self, store: Store) -> None:
        """Before the first claim no epoch may write."""
        for epoch in (0, 1, -1):
            with pytest.raises(FencedError):
                await store.append("one", 0, [started()], time=START, epoch=epoch)
        assert await store.read("one") == []

    async def test_epochs_grow_for_ever(self, served: ServedStore, clock: StoreClock) -> None:
        """No epoch is given twice: not after a release, an expiry, or a restart."""
        epochs = []
        for turn in range(9):
            lease = await served.store.claim(f"owner {turn}", 10)
            epochs.append(lease.epoch)
            if turn % 3 == 0:
                await served.store.release(lease)
            elif turn % 3 == 1:
                clock.advance(10)
            else:
                await served.restart()
        assert epochs == sorted(set(epochs))

    async def test_the_death_of_an_owner_is_known(self, served: ServedStore) -> None:
        """A closed store owns nothing: its lease is free, however long it would have run."""
        old = await served.store.claim("first", 3600)
        await served.restart()
        new = await served.store.claim("second", 3600)
        assert new.epoch == old.epoch + 1
        with pytest.raises(FencedError):
            await served.store.append("one", 0, [started()], time=START, epoch=old.epoch)

    async def test_an_owner_that_comes_back(self, served: ServedStore) -> None:
        """Who opens the store again before anybody else claims goes on under its old epoch."""
        lease = await served.store.claim("first", 3600)
        await served.restart()
        await served.store.append("one", 0, [started()], time=START, epoch=lease.epoch)
        await served.store.renew(lease, 3600)
        with pytest.raises(StoreLockedError, match="first"):
            await served.store.claim("second", 3600)
