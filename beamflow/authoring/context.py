"""What workflow code may ask for, beside plain asyncio: signals, time, chance and ids.

All of these give the same answers on every replay.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, overload

from beamflow.authoring.runtime import required_runtime
from beamflow.model import ids
from beamflow.model.codec import Payload

if TYPE_CHECKING:
    import random as random_module
    import uuid
    from collections.abc import Coroutine

__all__ = ["now", "random", "receive", "uuid4"]

T = TypeVar("T")


@overload
def receive(name: str) -> Coroutine[object, None, Any]: ...


@overload
def receive(name: str, type: type[T]) -> Coroutine[object, None, T]: ...


def receive(name: str, type: Any = Any) -> Coroutine[object, None, Any]:
    """Take the next signal called ``name``, waiting for one if need be.

    Signals of one name are taken in the order in which they were acknowledged, each by one
    receiver. Those that came before the workflow asked are kept. Bound the wait with
    ``asyncio.timeout``; a wait that is cancelled loses no signal.

    Args:
        name: what ``handle.signal`` is called with.
        type: what to convert the payload to; plain JSON data without it.

    Raises:
        PayloadError: the payload does not fit the type; the signal is consumed.
    """
    return required_runtime("receive").receive(name, _signal_payload(name, type))


def now() -> datetime:
    """Return the workflow's time, in UTC: when the event that it acts on was recorded."""
    return datetime.fromtimestamp(required_runtime("now").time(), UTC)


def random() -> random_module.Random:
    """Return the workflow's own random number generator, seeded by its id."""
    return required_runtime("random").random


def uuid4() -> uuid.UUID:
    """Return a random UUID, the same on every replay."""
    return ids.uuid4(required_runtime("uuid4").random.getrandbits(128))


@functools.lru_cache(maxsize=256)
def _signal_payload(name: str, type: Any) -> Payload[Any]:
    return Payload(type, f"signal {name!r}")
