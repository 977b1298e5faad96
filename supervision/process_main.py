"""What runs in the process of an isolated child: one actor or function, told what to do over a socket."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import sys
import threading
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from supervision.actor import Actor
from supervision.child import body_and_info
from supervision.clock import SystemClock
from supervision.errors import NotPicklableError
from supervision.events import DeadLetter, Event, Exited, Started
from supervision.life import launch
from supervision.mailbox import Mailbox
from supervision.messages import IGNORE, Call, GetState, Info
from supervision.runtime import Runtime
from supervision.wire import (
    Answer,
    End,
    Handle,
    Handled,
    Look,
    Over,
    Told,
    Up,
    Wire,
    carry,
    parcel,
    portable,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from supervision.cell import Cell

__all__ = ["Order", "main"]

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Order:
    """What to run.

    Attributes:
        start: The start function of the child's spec.
        arguments: What to call it with.
        path: The child's place in the tree.
        observed: Whether anybody hears of events.
    """

    start: Callable[..., object]
    arguments: tuple[object, ...]
    path: str
    observed: bool


class Door(Mailbox):
    """A mailbox that notices when all that came in has been dealt with."""

    __slots__ = ("_idle",)

    def __init__(self, idle: Callable[[], object]) -> None:
        """Be empty."""
        super().__init__()
        self._idle = idle

    def waiting(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Give the future that is done at the next message."""
        self._idle()
        return super().waiting(loop)


class Session:
    """The life in this process, and its way to the supervisor."""

    def __init__(self, order: Order) -> None:
        """Prepare; nothing runs yet."""
        self._order = order
        self._wire = Wire(self._take, self._lost)
        self._cell: Cell | None = None
        self._handling: int | None = None
        self._left: asyncio.Future[None] | None = None

    async def run(self, link: socket.socket) -> None:
        """Live until the end, and report it; returns once the report is out."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._wire, sock=link)
        try:
            await self._live(loop)
        finally:
            self._left = loop.create_future()
            self._wire.close()
            await self._left

    async def _live(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            made = self._order.start(*self._order.arguments)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the supervisor hears of it
            self._send(Over(carry(error)))
            return
        body, info = body_and_info(made)
        if body is IGNORE:
            self._send(Up(""))
            return
        observer = self._tell if self._order.observed else None
        runtime = Runtime(loop, SystemClock(), observer, Random().random)  # noqa: S311 - jitter is no secret
        try:
            cell, ready = launch(
                body,
                runtime,
                parent=None,
                child_id=self._order.path.removeprefix("/"),
                context=contextvars.copy_context(),
                mailbox=Door(self._idle),
            )
        except TypeError as error:
            self._send(Over(carry(error)))
            return
        self._cell = cell
        outcome = await ready
        if outcome is IGNORE:
            self._send(Up(""))
            return
        if outcome is None:
            try:
                self._wire.send(_up(body, info))
            except Exception as unpicklable:  # noqa: BLE001 - pickling runs the author's code
                self._send(Over(carry(unpicklable)))
                return
        if not cell.over:
            ended: asyncio.Future[None] = loop.create_future()
            cell.watch(self, lambda _: ended.set_result(None))
            await ended
        cause = None if cell.cause is None else carry(cell.cause)
        self._send(Over(portable(cell.reason), cause))

    def _take(self, frame: object) -> None:
        cell = self._cell
        if cell is None or cell.over:
            return
        match frame:
            case Handle():
                self._handle(cell, frame)
            case Look(number):
                cell.mailbox.put_system(self._asked(number, GetState()))
            case End(reason):
                cell.request_stop(reason)
            case _:
                raise TypeError(f"the supervisor sent {frame!r}")

    def _handle(self, cell: Cell, frame: Handle) -> None:
        number, path = frame.number, self._order.path
        try:
            message = frame.message.open()
        except Exception as spoilt:  # noqa: BLE001 - unpickling runs the author's code
            if frame.kind == "call":
                error = NotPicklableError(path, "a request to", frame.message.kind)
                error.__cause__ = spoilt
                self._send(Answer(number, None, carry(error)))
            elif self._order.observed:
                self._tell(DeadLetter(path, 0, frame.message.kind, "unpicklable"))
            self._send(Handled(number))
            return
        self._handling = number
        item = Info(message) if frame.kind == "info" else message
        cell.mailbox.put(self._asked(number, message) if frame.kind == "call" else item)

    def _asked(self, number: int, request: object) -> Call:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: self._answer(number, done))
        return Call(request, future)

    def _answer(self, number: int, future: asyncio.Future[object]) -> None:
        error = future.exception()
        if error is None:
            try:
                self._send(Answer(number, parcel(future.result())))
            except Exception:  # noqa: BLE001 - pickling runs the author's code
                kind = type(future.result()).__name__
                error = NotPicklableError(self._order.path, "an answer of", kind)
        if error is not None and (self._cell is None or not self._cell.over):
            self._send(Answer(number, None, carry(error)))

    def _idle(self) -> None:
        number, self._handling = self._handling, None
        if number is not None:
            self._send(Handled(number))

    def _tell(self, event: Event) -> None:
        if type(event) in {Started, Exited} and event.path == self._order.path:
            return  # the supervisor tells that itself
        try:
            packed = parcel(event)
        except Exception:  # noqa: BLE001 - pickling runs the author's code
            packed = parcel(DeadLetter(event.path, 0, repr(event), "unpicklable"))
        self._send(Told(packed))

    def _send(self, frame: object) -> None:
        self._wire.send(frame)

    def _lost(self) -> None:
        if self._left is None:
            os._exit(1)  # nobody is left to whom anything matters
        self._left.set_result(None)


def main(link: socket.socket, order: Order) -> None:
    """Run a child in this process, until its end or that of the parent process.

    Args:
        link: Leads to the supervisor.
        order: What to run.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the parent to say who stops
    _die_with_parent()
    asyncio.run(Session(order).run(link))


def _die_with_parent() -> None:
    """Have this process die with its parent, also while code that never yields holds it."""
    import multiprocessing  # noqa: PLC0415 - needed in the process only

    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - needed in the process only

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="supervision-parent", daemon=True).start()


def _up(body: object, info: object) -> Up:
    packed = None if info is None else parcel(info)
    if isinstance(body, Actor):
        return Up(type(body).__name__, False, body.mailbox_limit, body.overflow, packed)  # noqa: FBT003 - a record
    return Up("function", function=True, info=packed)
