"""Tags, attributes and parents as rows: what a workflow can be found by.

Names and values are kept as the JSON text that the encoder makes of them, so that nothing of what
people wrote is ever taken apart or put together again in SQL: it is compared, byte by byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamflow.stores.base import attribute_key

if TYPE_CHECKING:
    from beamflow.model.events import Attribute
    from beamflow.stores.base import WorkflowQuery
    from beamflow.stores.projection import LabelsChanged

__all__ = ["Label", "labels_change", "labels_of"]

_TAG, _ATTRIBUTE, _PARENT = range(3)

Label = tuple[int, str, str]
"""kind, name, value"""


def labels_of(query: WorkflowQuery) -> list[Label]:
    """Return the rows that all workflows have which a query asks for."""
    labels = [_tag(tag) for tag in query.tags]
    labels += [_attribute(name, value) for name, value in query.attributes.items()]
    if query.parent is not None:
        labels.append((_PARENT, query.parent, ""))
    return labels


def labels_change(change: LabelsChanged) -> dict[str, list[Label] | list[tuple[int, str]]]:
    """Return the rows to put in, then those to take away."""
    there = {name: value for name, value in change.attributes.items() if value is not None}
    return {
        "put": [_tag(tag) for tag in change.add_tags]
        + [_attribute(name, value) for name, value in there.items()],
        "take": [_tag(tag)[:2] for tag in change.remove_tags]
        + [(_ATTRIBUTE, attribute_key(name)) for name in change.attributes if name not in there],
    }


def _tag(tag: str) -> Label:
    return _TAG, attribute_key(tag), ""


def _attribute(name: str, value: Attribute) -> Label:
    return _ATTRIBUTE, attribute_key(name), attribute_key(value)
