"""JSON in and out: events by their union, payloads by the user's annotations.

There is one encoder and one decoder per type, chosen by this code and never by what is stored; no
name found in a log is imported, nothing is pickled. Objects whose order is a matter of chance
(sets, dicts) are written in sorted order, so equal values give equal bytes in every process. JSON
has neither NaN nor infinity: they are written as null.
"""

from __future__ import annotations

from typing import Generic, TypeVar, cast
from zlib import crc32

import msgspec

from beamflow.errors import PayloadError
from beamflow.model.events import Event
from beamflow.model.upcast import upcast

__all__ = [
    "PAYLOAD_BYTES_MAX",
    "Payload",
    "checked_text",
    "checksum",
    "decode_event",
    "encode_event",
    "encode_json",
    "problem_of",
]

T = TypeVar("T")

_encode = msgspec.json.Encoder(order="deterministic").encode
_event_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_depth_gauge = msgspec.json.Decoder(msgspec.Raw)
_HEADROOM = 200

PAYLOAD_BYTES_MAX = 64 * 1024 * 1024
"""Most bytes of one payload as JSON: less than what any store takes in one event."""


def encode_event(event: Event) -> bytes:
    """Write an event as JSON with its tag in ``type``."""
    return _encode(event)


def decode_event(data: bytes | str) -> Event:
    """Read an event back, of whatever version; raises ``msgspec.MsgspecError`` when it is none."""
    try:
        return _event_decoder.decode(data)
    except msgspec.ValidationError:
        newest = upcast(data)
        if newest is None:
            raise
    return _event_decoder.decode(newest)


def encode_json(value: object, where: str) -> bytes:
    """Write any value as JSON; raises `PayloadError` that names it by ``where``.

    What is nested so deeply that a reader further down a stack might fail is refused as well, and
    so is what takes more than `PAYLOAD_BYTES_MAX`.
    """
    try:
        try:
            data = _encode(value)
        except TypeError:
            # keys that are no str (numbers, dates, UUIDs, enums) have to become one to be sorted
            data = _encode(msgspec.to_builtins(value, str_keys=True, order="deterministic"))
        if len(data) <= _HEADROOM:
            return data
        if data.count(b"[") + data.count(b"{") > _HEADROOM:
            _depth_gauge.decode(b"[" * _HEADROOM + data + b"]" * _HEADROOM)
    except Exception as error:  # whatever an object of the author's raises when it is read
        raise PayloadError(
            where,
            f"{problem_of(error)}. Pass plain data (str, int, float, bool, None, datetime, "
            f"Decimal, UUID, enum, list, dict, dataclass, msgspec.Struct), or an id that a step "
            f"looks up",
        ) from error
    if len(data) > PAYLOAD_BYTES_MAX:
        raise PayloadError(
            where,
            f"it takes {len(data):,} bytes as JSON, of {PAYLOAD_BYTES_MAX:,} at most. Keep it "
            f"elsewhere and pass an id that a step looks up",
        )
    return data


def checked_text(value: object, where: str) -> str:
    """Return text for people that a log can hold; raises `PayloadError` for anything else.

    Events are not looked at when they are written: what is no text there could never be read again.
    """
    encode_json(value, where)
    if isinstance(value, str):
        return value
    raise PayloadError(where, f"{value!r} is no str")


def problem_of(error: Exception) -> str:
    """Say what is wrong with a value, in the words of the encoder or decoder where they will do."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or contains itself"
    if isinstance(error, UnicodeEncodeError):
        return f"it holds a lone surrogate, {error.object[error.start]!r}, which no UTF-8 can write"
    problem = f"{error}" or type(error).__name__
    if "`float`, got `null`" in problem:
        return f"{problem} (JSON has neither NaN nor infinity: they become null)"
    return problem


def checksum(stream: str, seq: int, data: bytes) -> int:
    """CRC-32 over an event and its place, so that a flipped bit or a moved row is seen."""
    return crc32(data, crc32(f"{stream}\0{seq}".encode()))


class Payload(Generic[T]):
    """Values of one annotation, to and from JSON.

    Args:
        annotation: any type that msgspec can decode; ``typing.Any`` for plain JSON data.
        where: how error messages name the value.
    """

    __slots__ = ("_decoder", "where")

    def __init__(self, annotation: object, where: str) -> None:
        """Compile the decoder once; raises TypeError for an annotation msgspec cannot decode."""
        self.where = where
        self._decoder = cast("msgspec.json.Decoder[T]", msgspec.json.Decoder(annotation))

    def encode(self, value: object) -> bytes:
        """Write the value as JSON; raises `PayloadError`."""
        return encode_json(value, self.where)

    def decode(self, data: bytes | memoryview | msgspec.Raw) -> T:
        """Read a value by the annotation; raises `PayloadError` with the path to the field."""
        try:
            return self._decoder.decode(data)
        except Exception as error:  # __post_init__ and the like are the author's code
            raise PayloadError(self.where, problem_of(error)) from error
