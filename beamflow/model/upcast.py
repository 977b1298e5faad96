"""Reading what older versions wrote: an event whose form has changed is brought to the new one. Pure.

An event's form is told by its tag, and a form that changes in a way that its struct cannot read
gets a new tag, with the number of the form: ``step_completed@2``. So what is current is decoded
without a look at any version, and a tag that no struct has any more leads here.

A form changes seldom: fields that are added with a default need none of this.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw

__all__ = ["Fields", "Upcaster", "upcast"]

Fields = dict[str, Raw]
"""An event as the log has it: the JSON of each field, by name; payloads stay as they are."""

Upcaster = Callable[[Fields], Fields]
"""Brings the fields of an event to the next form, its tag in ``type`` included."""

_UPCASTERS: dict[str, Upcaster] = {}
"""By the tag of the form that each takes. They stay for as long as there are logs: for ever."""

_fields = msgspec.json.Decoder(Fields)
_encoder = msgspec.json.Encoder()


def upcast(data: bytes | str) -> bytes | None:
    """Return the JSON of an event in its newest form; None if it is of no form that is older.

    Raises:
        msgspec.MsgspecError: the data is no JSON object.
    """
    fields = _fields.decode(data)
    is_older = False
    while (step := _UPCASTERS.get(_tag_of(fields))) is not None:
        fields, is_older = step(fields), True
    return _encoder.encode(fields) if is_older else None


def _tag_of(fields: Fields) -> str:
    tag = msgspec.json.decode(fields.get("type", Raw(b"null")))
    return tag if isinstance(tag, str) else ""
