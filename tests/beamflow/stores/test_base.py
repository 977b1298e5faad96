"""What stores share of an append."""

from __future__ import annotations

import pytest
from msgspec import Raw

from beamflow.errors import PayloadError
from beamflow.model.events import StepCompleted
from beamflow.stores.base import encoded


def test_an_event_that_cannot_be_written_names_its_stream() -> None:
    """What is refused is told apart from what the store failed at."""
    event = StepCompleted(op=1, name="\ud800", digest="d", result=Raw(b"1"), started_at=1)
    with pytest.raises(PayloadError, match="event for 'one'"):
        encoded("one", 0, [event])
