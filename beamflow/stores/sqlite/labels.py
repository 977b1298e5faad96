"""Tags, attributes and parents as rows: what a workflow can be found by.

Names and values are kept as the JSON text that the encoder makes of them, so that nothing of what
people wrote is ever taken apart or put together again in SQL: it is compared, byte by byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from beamflow.model.events import Attribute
    from beamflow.stores.projection import LabelsChanged

__all__ = ["attribute_label", "labels_change", "parent_label", "tag_label"]

_TAG, _ATTRIBUTE, _PARENT = range(3)

Label = tuple[int, str, str]
"""kind, name, value"""


def tag_label(tag: str) -> Label:
    """Return the row of a tag."""
    return _TAG, _text(tag), ""


def attribute_label(name: str, value: Attribute) -> Label:
    """Return the row of an attribute."""
    return _ATTRIBUTE, _text(name), _text(value)


def parent_label(workflow_id: str) -> Label:
    """Return the row of a child, which the trigger that opens a workflow makes."""
    return _PARENT, workflow_id, ""


def labels_change(change: LabelsChanged) -> dict[str, list[Label] | list[tuple[int, str]]]:
    """Return the rows to put in, then those to take away."""
    there = {name: value for name, value in change.attributes.items() if value is not None}
    return {
        "put": [tag_label(tag) for tag in change.add_tags]
        + [attribute_label(name, value) for name, value in there.items()],
        "take": [tag_label(tag)[:2] for tag in change.remove_tags]
        + [(_ATTRIBUTE, _text(name)) for name in change.attributes if name not in there],
    }


def _text(value: Attribute) -> str:
    return msgspec.json.encode(value).decode()
