"""Events of older forms are brought to the newest one; what is current is never looked at twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from beamflow.model import codec, upcast
from beamflow.model.codec import decode_event, encode_event
from beamflow.model.events import StepCompleted, TimerStarted
from beamflow.stores.memory import MemoryStore

if TYPE_CHECKING:
    from beamflow.model.upcast import Fields

FIRST = b'{"type":"timer_started@0","op":7,"seconds":3}'
OLDEST = b'{"type":"alarm_set","number":7,"seconds":3}'
NEWEST = TimerStarted(op=7, due=3_000_000)


def alarm_to_first(fields: Fields) -> Fields:
    """The oldest form had another name and another word for ops."""
    number = fields.pop("number")
    return {**fields, "type": Raw(b'"timer_started@0"'), "op": number}


def first_to_newest(fields: Fields) -> Fields:
    """The first form counted in seconds."""
    seconds = msgspec.json.decode(fields.pop("seconds"), type=int)
    due = msgspec.json.encode(seconds * 1_000_000)
    return {**fields, "type": Raw(b'"timer_started"'), "due": Raw(due)}


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two forms of timers from before this version."""
    monkeypatch.setitem(upcast._UPCASTERS, "alarm_set", alarm_to_first)
    monkeypatch.setitem(upcast._UPCASTERS, "timer_started@0", first_to_newest)


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize("data", [FIRST, OLDEST, OLDEST.decode()], ids=range(3))
def test_an_older_form_is_read_as_the_newest(data: bytes | str) -> None:
    """Over as many forms as there were in between."""
    assert decode_event(data) == NEWEST


@pytest.mark.usefixtures("older")
@pytest.mark.parametrize(
    "data", [b"[]", b"{}", b'{"type":7}', b'{"type":"nonsense"}', b'"alarm_set"']
)
def test_what_is_no_event_of_any_form_is_refused(data: bytes) -> None:
    """By msgspec's own error, as it is without any older form."""
    with pytest.raises(msgspec.MsgspecError):
        decode_event(data)


@pytest.mark.usefixtures("older")
def test_a_damaged_event_of_an_older_form_is_refused() -> None:
    """The newest form says what is wrong with it."""
    with pytest.raises(msgspec.MsgspecError):
        decode_event(b'{"type":"timer_started@0","op":"x","seconds":3}')


def test_what_is_current_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No version is looked at, so nothing is paid for."""

    def never(_data: object) -> None:
        raise AssertionError

    monkeypatch.setattr(codec, "upcast", never)
    assert decode_event(encode_event(NEWEST)) == NEWEST


@given(st.binary(max_size=40).map(lambda text: b'"%s"' % text.hex().encode()))
def test_payloads_stay_byte_for_byte(payload: bytes) -> None:
    """Whatever is not the upcaster's business: numbers keep their digits, objects their order."""
    odd = b'{"b":1.50,"a":[1e2,' + payload + b"]}"
    upcast._UPCASTERS["step_done"] = lambda fields: {**fields, "type": Raw(b'"step_completed"')}
    try:
        event = decode_event(
            b'{"type":"step_done","op":1,"name":"x","digest":"y","started_at":1,"result":%s}' % odd
        )
    finally:
        del upcast._UPCASTERS["step_done"]
    assert isinstance(event, StepCompleted)
    assert bytes(event.result) == odd


@pytest.mark.usefixtures("older")
async def test_a_store_hands_out_the_newest_form() -> None:
    """What is stored stays as it was written."""
    store = MemoryStore(clock=lambda: 0)
    await store.open()
    lease = await store.claim("me", 1)
    await store.append("one", 0, [NEWEST], time=1, epoch=lease.epoch)
    entry = store._streams["one"][0]
    store._streams["one"][0] = msgspec.structs.replace(entry, data=OLDEST)
    assert [each.event for each in await store.read("one")] == [NEWEST]
    assert store._streams["one"][0].data == OLDEST
    await store.close()


def test_no_form_is_read_by_two() -> None:
    """A tag is either current or older; an upcaster leads to another tag."""
    current = {kind.__struct_config__.tag for kind in codec.Event.__args__}
    assert not current & set(upcast._UPCASTERS)
