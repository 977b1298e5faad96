"""What workflow code records and does not wait for. Nothing of it suspends.

A note is in the log together with what led to it, before anything that the code does next can act.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import Raw

from beamflow.authoring.runtime import required_runtime
from beamflow.errors import PayloadError
from beamflow.model.codec import checked_text, encode_json
from beamflow.model.events import (
    AttributesChanged,
    ProgressReported,
    SnapshotTaken,
    StatePublished,
)
from beamflow.model.ids import checked_name
from beamflow.model.labels import checked_attributes, checked_tags

if TYPE_CHECKING:
    from beamflow.model.events import Attribute

__all__ = ["add_tags", "progress", "publish", "remove_tags", "set_attributes", "snapshot"]


def publish(name: str, value: object) -> None:
    """Show a value to those outside: ``handle.published(name)``, ``handle.watch(name)``.

    The last one published under a name is the current one. Nobody sees it before it is durable.

    Raises:
        PayloadError: the value cannot be written as JSON.
        DefinitionError: the name is no printable text, or this is no workflow.
    """
    runtime = required_runtime("publish")
    checked_name(name, "published")
    value = Raw(encode_json(value, f"published {name!r}"))
    runtime.note(StatePublished(name=name, value=value))


def snapshot(name: str) -> None:
    """Name this place in the log, for a fork to begin from.

    Raises:
        DefinitionError: the name is no printable text, or this is no workflow.
    """
    runtime = required_runtime("snapshot")
    runtime.note(SnapshotTaken(name=checked_name(name, "snapshot")))


def progress(done: float, total: float | None = None, note: str = "") -> None:
    """Tell how far the workflow is: ``handle.status()`` and ``engine.find()`` show the last word.

    Args:
        done: how much is done, in a unit of your own.
        total: how much there is to do, if that is known.
        note: what is being done, for people.

    Raises:
        PayloadError: a number is not finite, or the note is no text.
        DefinitionError: this is no workflow.
    """
    runtime = required_runtime("progress")
    runtime.note(
        ProgressReported(
            done=_number("done", done),
            total=None if total is None else _number("total", total),
            note=checked_text(note, "note of progress"),
        )
    )


def set_attributes(**attributes: Attribute | None) -> None:
    """Change attributes that the workflow can be found by: ``engine.find(attributes=...)``.

    Args:
        **attributes: new values by name, str (at most 512 characters), int, float or bool; None
            takes the attribute away. Others stay as they are.

    Raises:
        PayloadError: a value cannot be indexed.
        DefinitionError: this is no workflow.
    """
    runtime = required_runtime("set_attributes")
    there = {name: value for name, value in attributes.items() if value is not None}
    checked_attributes(dict.fromkeys(attributes, ""))
    changed: dict[str, Attribute | None] = {**attributes, **checked_attributes(there)}
    if changed:
        runtime.note(AttributesChanged(attributes=changed))


def add_tags(*tags: str) -> None:
    """Add tags that the workflow can be found by: ``engine.find(tag=...)``.

    Raises:
        PayloadError: a tag is no str of 1 to 128 printable characters.
        DefinitionError: this is no workflow.
    """
    runtime = required_runtime("add_tags")
    if tags:
        runtime.note(AttributesChanged(add_tags=checked_tags(tags)))


def remove_tags(*tags: str) -> None:
    """Take tags away; those that are not there already are no matter. Raises as `add_tags` does."""
    runtime = required_runtime("remove_tags")
    if tags:
        runtime.note(AttributesChanged(remove_tags=checked_tags(tags)))


def _number(name: str, value: object) -> float:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise PayloadError("progress", f"{name}={value!r} is no finite number")
