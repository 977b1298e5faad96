"""What a workflow may be found by: tags and attributes that an index can hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from beamflow.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sized

    from beamflow.model.events import Attribute

__all__ = ["checked_attribute", "checked_attributes", "checked_tags"]

S = TypeVar("S", bound="Sized")

_NAME_CHARACTERS_MAX = 128
_TEXT_CHARACTERS_MAX = 512
_AT_ONCE_MAX = 100
_INT_MAX = 2**63


def checked_tags(tags: Iterable[str], where: str = "tags") -> tuple[str, ...]:
    """Return the tags, each once; raises `PayloadError` for what is none, and for more than 100."""
    if isinstance(tags, str):
        raise PayloadError(where, f"{tags!r} is one str; pass a list of them: [{tags!r}]")
    checked = tuple(dict.fromkeys(_name(tag, "tag") for tag in tags))
    return _few(checked, where)


def checked_attributes(
    attributes: Mapping[str, Attribute], where: str = "attributes"
) -> dict[str, Attribute]:
    """Return the attributes; raises `PayloadError` for what cannot be indexed."""
    return {
        _name(name, "attribute"): checked_attribute(name, value)
        for name, value in _few(attributes, where).items()
    }


def checked_attribute(name: str, value: Attribute) -> Attribute:
    """Return the value of an attribute; raises `PayloadError` for what cannot be indexed."""
    where = f"attribute {name!r}"
    match value:
        case bool():
            return value
        case int() if -_INT_MAX <= value < _INT_MAX:
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case str() if len(value) <= _TEXT_CHARACTERS_MAX and _is_text(value):
            return str(value)
        case str():
            problem = f"it is no text of at most {_TEXT_CHARACTERS_MAX} characters"
        case _:
            problem = (
                f"{value!r} is no str, bool, finite float or 64-bit int. Write a date as "
                f".isoformat(), an id or an enum as its str"
            )
    raise PayloadError(where, problem)


def _name(name: object, what: str) -> str:
    if isinstance(name, str) and 0 < len(name) <= _NAME_CHARACTERS_MAX and name.isprintable():
        return str(name)
    raise PayloadError(
        f"{what} {name!r}"[:200],
        f"it must be a str of 1 to {_NAME_CHARACTERS_MAX} printable characters",
    )


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _few(items: S, where: str) -> S:
    if len(items) > _AT_ONCE_MAX:
        raise PayloadError(where, f"{len(items)} at once are more than {_AT_ONCE_MAX}")
    return items
