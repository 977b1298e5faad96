"""What workflow code records and does not wait for. Nothing of it suspends.

A note is in the log together with what led to it, before anything that the code does next can act.
"""

from __future__ import annotations

from msgspec import Raw

from beamflow.authoring.runtime import required_runtime
from beamflow.model.codec import encode_json
from beamflow.model.events import SnapshotTaken, StatePublished
from beamflow.model.ids import checked_name

__all__ = ["publish", "snapshot"]


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
