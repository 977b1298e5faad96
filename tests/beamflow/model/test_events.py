"""The log's format: what was written once can be read for ever."""

from __future__ import annotations

import typing

import msgspec
import pytest
from msgspec import Raw

from beamflow.model import events
from beamflow.model.codec import decode_event, encode_event
from beamflow.model.events import DeadLetterReason, Event, Failure, WorkflowStarted

RAW = Raw(b'{"a":[1,2]}')
FAILURE = Failure(
    type="builtins.ValueError",
    message="no",
    args=Raw(b'["no"]'),
    state=Raw(b"{}"),
    traceback="Traceback",
    raised_as="builtins.ValueError",
)
VALUES: dict[str, typing.Any] = {
    "str": "text",
    "int": 7,
    "Raw": RAW,
    "Failure": FAILURE,
    "int | None": 8,
    "bool": True,
    "float": 0.5,
    "float | None": 1.5,
    "Failure | None": FAILURE,
    "tuple[str, ...]": ("a", "b"),
    "dict[str, tuple[int, int, int]]": {"one": (3, 1, 0)},
    "tuple[tuple[str, Raw], ...]": (("text", RAW),),
    "tuple[tuple[int, Raw], ...]": ((7, RAW),),
    "dict[str, Attribute]": {"city": "Bonn", "total": 1.5, "open": True},
    "dict[str, Attribute | None]": {"city": None, "count": 3},
    "str | None": "text",
    "tuple[int, ...]": (3, 1),
    "DeadLetterReason": DeadLetterReason.POISON,
    "WorkflowStarted | None": WorkflowStarted(workflow="text", version=7, input=RAW),
}
KINDS: tuple[type[msgspec.Struct], ...] = typing.get_args(Event)

GOLDEN = {
    "workflow_started": b'{"type":"workflow_started","workflow":"text","version":7,'
    b'"input":{"a":[1,2]},"retry_of":"text"}',
    "step_completed": b'{"type":"step_completed","op":7,"name":"text","digest":"text",'
    b'"result":{"a":[1,2]},"started_at":7,"attempt":7}',
    "timer_fired": b'{"type":"timer_fired","op":7}',
    "timer_started": b'{"type":"timer_started","op":7,"due":7}',
    "timer_cancelled": b'{"type":"timer_cancelled","op":7}',
    "signal_received": b'{"type":"signal_received","id":"text","name":"text",'
    b'"payload":{"a":[1,2]}}',
    "workflow_completed": b'{"type":"workflow_completed","result":{"a":[1,2]}}',
}


def full(kind: type[msgspec.Struct]) -> typing.Any:
    """Return an event with every field set."""
    return kind(**{name: VALUES[str(hint)] for name, hint in kind.__annotations__.items()})


def as_written(kind: type[msgspec.Struct], golden: bytes) -> typing.Any:
    """Return an event with those fields set that it had when it was written."""
    fields = msgspec.json.decode(golden).keys() - {"type"}
    return kind(**{name: VALUES[str(kind.__annotations__[name])] for name in fields})


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_comes_back_as_it_was(kind: type[msgspec.Struct]) -> None:
    """Each, with every field."""
    event = full(kind)
    assert encode_event(decode_event(encode_event(event))) == encode_event(event)
    assert type(decode_event(encode_event(event))) is kind


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_named_by_its_tag(kind: type[msgspec.Struct]) -> None:
    """The tag is the class's name, in words."""
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_")
    assert kind.__struct_config__.tag == words
    assert kind.__name__ in events.__all__


def test_the_format_stays_as_it_is() -> None:
    """Old logs are read by new code: this test changes never, it only grows."""
    for kind in KINDS:
        golden = GOLDEN.get(str(kind.__struct_config__.tag))
        if golden is not None:
            assert encode_event(as_written(kind, golden)) == golden
            assert encode_event(decode_event(golden)) == golden


def test_fields_of_later_versions_are_passed_over() -> None:
    """A log that a newer version has written can still be looked at."""
    event = decode_event(b'{"type":"timer_fired","op":7,"colour":"red"}')
    assert event == events.TimerFired(op=7)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"type":"nonsense"}', b'{"type":"timer_fired"}', b'{"type":"timer_f']
)
def test_what_is_no_event_is_refused(data: bytes) -> None:
    """Nothing else than msgspec's own error is raised."""
    with pytest.raises(msgspec.MsgspecError):
        decode_event(data)
