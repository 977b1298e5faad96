"""What workflow code may ask for, beside plain asyncio: signals, conditions, time, chance and ids.

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
    from collections.abc import Callable, Coroutine

__all__ = ["now", "random", "receive", "signal_name", "until", "uuid4"]

T = TypeVar("T")


@overload
def receive(name: str) -> Coroutine[object, None, Any]: ...


@overload
def receive(name: str, type: type[T]) -> Coroutine[object, None, T]: ...


@overload
def receive(name: type[T]) -> Coroutine[object, None, T]: ...


def receive(name: str | type[Any], type: Any = Any) -> Coroutine[object, None, Any]:
    """Take the next signal called ``name``, waiting for one if need be.

    ``receive("approval", Approval)``, or ``receive(Approval)`` for signals called like the type:
    ``Approval``, or what its attribute ``__signal_name__`` says.

    Signals of one name are taken in the order in which they were acknowledged, each by one
    receiver. Those that came before the workflow asked are kept. Bound the wait with
    ``asyncio.timeout``; a wait that is cancelled loses no signal.

    Args:
        name: what ``handle.signal`` is called with, a name or a type.
        type: what to convert the payload to; plain JSON data without it.

    Raises:
        PayloadError: the payload does not fit the type; the signal is consumed.
        DefinitionError: a handler takes the signals of that name, or this is no workflow.
    """
    if not isinstance(name, str):
        name, type = signal_name(name), name
    return required_runtime("receive").receive(name, _signal_payload(name, type))


def signal_name(kind: type[Any]) -> str:
    """Return the name of the signals that carry a type, unless they are given another one."""
    name = getattr(kind, "__signal_name__", None) or getattr(kind, "__name__", None)
    return ids.checked_name(name, "signal")


def until(condition: Callable[[], object]) -> Coroutine[object, None, None]:
    """Wait for a condition.

    ``await until(lambda: self.paid)``. It is looked at at once, and then whenever the workflow's code
    has come to rest, so it may speak of what the code itself keeps: attributes, local variables,
    ``now()``. It is no timer: nothing looks at it while nothing happens. Of several that wait, the
    first one whose condition holds runs on before the next is looked at. Bound the wait with
    ``asyncio.timeout``.

    Raises:
        DefinitionError: this is no workflow.
    """
    return required_runtime("until").until(condition)


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
