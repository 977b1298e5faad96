"""The ledger: what is in a log already, by id and by key."""

from __future__ import annotations

from msgspec import Raw

from beamflow.engine.ledger import Ledger
from beamflow.events import SignalReceived, WorkflowBegan


def test_signals_are_known_by_id_and_by_name_and_key() -> None:
    """One without a key only by its id."""
    ledger = Ledger(
        [
            WorkflowBegan(),
            SignalReceived(id="1", name="word", payload=Raw(b"1")),
            SignalReceived(id="2", name="word", payload=Raw(b"1"), key="k"),
        ]
    )
    assert ledger.has("1", "other", "")
    assert ledger.has("9", "word", "k")
    assert not ledger.has("9", "word", "")
    assert not ledger.has("9", "other", "k")
    ledger.add(SignalReceived(id="9", name="other", payload=Raw(b"1"), key="k"))
    assert ledger.has("10", "other", "k")
