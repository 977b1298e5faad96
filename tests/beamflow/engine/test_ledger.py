"""The ledger: what is in a log already, by id and by key."""

from __future__ import annotations

import pytest
from msgspec import Raw

from beamflow.engine.ledger import Ledger
from beamflow.errors import UpdateExistsError
from beamflow.events import (
    Event,
    Recorded,
    SignalReceived,
    UpdateAccepted,
    UpdateCompleted,
    WorkflowBegan,
    WorkflowForked,
)
from beamflow.model.codec import encode_event


def of(*events: Event) -> Ledger:
    return Ledger(
        [
            Recorded(stream="wf", seq=seq, time=seq, epoch=1, event=event)
            for seq, event in enumerate(events, start=1)
        ]
    )


def test_signals_are_known_by_id_and_by_name_and_key() -> None:
    """One without a key only by its id."""
    ledger = of(
        WorkflowBegan(),
        SignalReceived(id="1", name="word", payload=Raw(b"1")),
        SignalReceived(id="2", name="word", payload=Raw(b"1"), key="k"),
    )
    assert ledger.has("1", "other", "")
    assert ledger.has("9", "word", "k")
    assert not ledger.has("9", "word", "")
    assert not ledger.has("9", "other", "k")
    ledger.add(SignalReceived(id="9", name="other", payload=Raw(b"1"), key="k"))
    assert ledger.has("10", "other", "k")


def test_requests_are_known_by_id() -> None:
    """With what they asked for, and their reply once there is one."""
    reply = UpdateCompleted(id="r", result=Raw(b"3"))
    ledger = of(UpdateAccepted(id="r", name="add", input=Raw(b"[1]")), reply)
    assert ledger.accepted("wf", "r", "add", b"[1]")
    assert not ledger.accepted("wf", "s", "add", b"[1]")
    assert ledger.replies == {"r": reply}
    for name, data in (("add", b"[2]"), ("sub", b"[1]")):
        with pytest.raises(UpdateExistsError, match="give each request an id of its own"):
            ledger.accepted("wf", "r", name, data)


def test_what_a_fork_has_taken_over_is_known() -> None:
    """It was received in its own past."""
    taken = SignalReceived(id="1", name="word", payload=Raw(b"1"), key="k")
    forked = WorkflowForked(id="fork", source="wf", at=2, events=((1, Raw(encode_event(taken))),))
    assert of(WorkflowBegan(), forked).has("9", "word", "k")
