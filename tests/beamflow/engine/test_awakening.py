"""Why a workflow comes into memory, and what those are told who wait for that."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, cast

from beamflow import StoreUnavailableError
from beamflow.engine.awakening import Awakening

if TYPE_CHECKING:
    import pytest


async def test_nobody_has_to_ask_why_a_start_failed(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever started it may have been cancelled: the collector does not complain of that."""
    accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    nothing = cast("Any", None)
    awakening = Awakening(nothing, nothing, "one", accepted=accepted)
    awakening.settle(StoreUnavailableError("app.db", "it is full", "Make room"))
    del accepted
    gc.collect()
    assert caplog.records == []
