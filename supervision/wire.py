"""What goes between a supervisor and a child in a process of its own: frames over a socket."""

from __future__ import annotations

import asyncio
import pickle
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from supervision.errors import RemoteError
from supervision.reasons import ExitReason, Shutdown

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervision.mailbox import Overflow

__all__ = [
    "Answer",
    "Carried",
    "End",
    "Handle",
    "Handled",
    "Look",
    "Over",
    "Parcel",
    "Told",
    "Up",
    "Wire",
    "carry",
    "parcel",
    "portable",
]

SIZE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Parcel:
    """Something of the author's on its way, so that it spoils nothing else when it cannot be made again."""

    kind: str
    pickled: bytes

    def open(self) -> object:
        """Make it again.

        Raises:
            Exception: What the author's code raises; or the code is not to be found.
        """
        return pickle.loads(self.pickled)  # noqa: S301 - the other end is this program's own process


def parcel(thing: object) -> Parcel:
    """Make a parcel of something.

    Raises:
        Exception: It cannot be pickled.
    """
    return Parcel(type(thing).__name__, pickle.dumps(thing))


@dataclass(frozen=True, slots=True)
class Handle:
    """To the process: handle one message, and tell when that is done."""

    number: int
    kind: Literal["call", "cast", "info"]
    message: Parcel


@dataclass(frozen=True, slots=True)
class Look:
    """To the process: show the state."""

    number: int


@dataclass(frozen=True, slots=True)
class End:
    """To the process: end with this reason."""

    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Up:
    """From the process: what has come up; nothing when it said IGNORE."""

    kind: str
    function: bool = False
    limit: int | None = None
    overflow: Overflow | None = None
    info: Parcel | None = None


@dataclass(frozen=True, slots=True)
class Handled:
    """From the process: the message is dealt with, but a call may be answered later."""

    number: int


@dataclass(frozen=True, slots=True)
class Answer:
    """From the process: the answer to a call or a look."""

    number: int
    value: Parcel | None
    error: Carried | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """From the process: an event for the observer."""

    event: Parcel


@dataclass(frozen=True, slots=True)
class Over:
    """From the process: the life is over."""

    reason: object
    cause: Carried | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """An exception as data, so that one which cannot be pickled arrives as well."""

    pickled: bytes | None
    kind: str
    text: str
    trace: str

    def unpack(self) -> BaseException:
        """Give the exception itself where that can be had, with what is left of its traceback as the cause."""
        remote = RemoteError(self.kind, self.text, self.trace)
        error = None if self.pickled is None else _unpickled(self.pickled)
        if not isinstance(error, BaseException):
            return remote
        error.__cause__ = remote
        return error


def carry(error: BaseException) -> Carried:
    """Make data of an exception."""
    pickled = _pickled(error)
    if pickled is not None and type(_unpickled(pickled)) is not type(error):
        pickled = None
    kind = type(error)
    trace = "".join(traceback.format_exception(error))
    return Carried(pickled, f"{kind.__module__}.{kind.__qualname__}", str(error), trace)


def portable(reason: ExitReason) -> object:
    """Give an exit reason as something that can be sent."""
    if isinstance(reason, BaseException):
        return carry(reason)
    pickled = _pickled(reason)
    if pickled is not None and type(_unpickled(pickled)) is type(reason):
        return reason
    return Shutdown(repr(reason.term)) if isinstance(reason, Shutdown) else repr(reason)


class Wire(asyncio.Protocol):
    """One end of the connection."""

    def __init__(self, take: Callable[[object], object], lost: Callable[[], object]) -> None:
        """Connect nothing yet.

        Args:
            take: Called with each frame that arrives.
            lost: Called once the other end is gone.
        """
        self._take = take
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be connected."""
        self._transport = cast(
            "asyncio.WriteTransport", transport
        )  # as a class it is none of uvloop's

    def data_received(self, data: bytes) -> None:
        """Take what has arrived, as far as it is whole."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= SIZE_BYTES:
            end = SIZE_BYTES + int.from_bytes(buffer[:SIZE_BYTES])
            if len(buffer) < end:
                return
            frame = bytes(buffer[SIZE_BYTES:end])
            del buffer[:end]
            self._take(pickle.loads(frame))  # noqa: S301 - the other end is this program's own process

    def connection_lost(self, _: Exception | None) -> None:
        """Be disconnected."""
        self._transport = None
        self._lost()

    def send(self, frame: object) -> None:
        """Send a frame; nothing happens when the other end is gone.

        Raises:
            Exception: The frame cannot be pickled; nothing is sent.
        """
        data = pickle.dumps(frame)
        if self._transport is not None:
            self._transport.write(len(data).to_bytes(SIZE_BYTES) + data)

    def close(self) -> None:
        """Disconnect."""
        if self._transport is not None:
            self._transport.close()


def _pickled(thing: object) -> bytes | None:
    try:
        return pickle.dumps(thing)
    except Exception:  # noqa: BLE001 - pickling runs the author's code, which raises what it likes
        return None


def _unpickled(data: bytes) -> object:
    try:
        return pickle.loads(data)  # noqa: S301 - the other end is this program's own process
    except Exception:  # noqa: BLE001 - unpickling runs the author's code, which raises what it likes
        return None
