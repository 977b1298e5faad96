"""The conformance suite of stores: every promise of the port has a test here.

A store author subclasses `StoreSuite` in a test module and says how to make a store::

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def make_store(self, tmp_path):
            return lambda clock: MyStore(tmp_path / "store", clock=clock)

The tests run under pytest with pytest-asyncio. Each of them gets an empty store, opened and
served, with a clock that only the test moves. What a store promises beyond the port (what it does
to a file, how it behaves when its disk fails) is for its own tests.
"""

from __future__ import annotations

from beamflow.testing.store_suite.finding import FindingSuite
from beamflow.testing.store_suite.index import IndexSuite
from beamflow.testing.store_suite.leases import LeaseSuite
from beamflow.testing.store_suite.lifecycle import LifecycleSuite
from beamflow.testing.store_suite.log import LogSuite
from beamflow.testing.store_suite.removal import RemovalSuite
from beamflow.testing.store_suite.served import ServedStore, StoreClock
from beamflow.testing.store_suite.wakeups import WakeupSuite

__all__ = ["ServedStore", "StoreClock", "StoreSuite"]


class StoreSuite(
    LogSuite, IndexSuite, FindingSuite, LeaseSuite, WakeupSuite, LifecycleSuite, RemovalSuite
):
    """All promises of the port. Subclass it and override the fixture ``make_store``."""
