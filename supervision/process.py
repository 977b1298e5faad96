"""A child in a process of its own, as its supervisor sees it: an actor that hands everything on."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal, cast

from supervision.actor import Actor, ReplyTo
from supervision.errors import NotPicklableError, ProcessDiedError
from supervision.events import DeadLetter, Event, Zombie
from supervision.messages import IGNORE, Failure, Ignore, TaskCrashed
from supervision.process_main import Order, main
from supervision.reasons import ExitReason, Stop
from supervision.wire import (
    Answer,
    Carried,
    End,
    Handle,
    Handled,
    Look,
    Over,
    Parcel,
    Told,
    Up,
    Wire,
    parcel,
    portable,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import SpawnProcess


__all__ = ["ProcessActor"]

EXIT_GRACE_S: Final = 1.0
"""How long a process may take to exit after its life is over, before it is killed."""
REAP_S: Final = 5.0


class ProcessActor(Actor):
    """Stands for a child whose code runs in another process.

    The mailbox is on this side: one message at a time goes over, the next when that is dealt with. So limits,
    dead letters, order, and what is lost in a crash, are those of any actor.
    """

    orderly: ClassVar[bool] = True

    def __init__(self, start: Callable[..., object], arguments: tuple[object, ...]) -> None:
        """Prepare; no process runs yet.

        Args:
            start: The start function of the child's spec; called in the process.
            arguments: What to call it with.
        """
        self._start = start
        self._arguments = arguments
        self.claim = getattr(start, "claim", None)
        self.kind = ""
        self.pid: int | None = None
        self._process: SpawnProcess | None = None
        self._wire = Wire(self._take, self._lost)
        self._news: asyncio.Future[object] | None = None
        self._up: Up | None = None
        self._verdict: tuple[ExitReason, BaseException | None] | None = None
        self._gone = False
        self._numbers = 0
        self._handling: int | None = None
        self._owed: dict[int, ReplyTo] = {}
        self._looks: dict[int, asyncio.Future[object]] = {}

    # Callbacks

    async def init(self) -> Ignore | None:
        """Start the process and wait until the child has come up in it."""
        try:
            await self._open()
            while self._up is None:
                self._check()
                await self._hear()
            up = self._up
            info = None if up.info is None else up.info.open()
        except BaseException:
            self._destroy()
            raise
        if not up.kind:
            self._destroy()
            return IGNORE
        cell = self._cell
        cell.info = info
        self.kind = up.kind
        if up.function:
            cell.mailbox.close()
        elif up.overflow is not None:
            cell.mailbox.bound(up.limit, up.overflow)
        return None

    async def handle_call(self, request: object) -> object:
        """Hand a call on; its answer comes when it comes."""
        number = self._number()
        try:
            packed = parcel(request)
        except Exception as error:  # noqa: BLE001 - pickling runs the author's code
            refused = NotPicklableError(self._cell.path, "a request to", type(request).__name__)
            refused.__cause__ = error
            return Failure(refused)
        self._wire.send(Handle(number, "call", packed))
        self._owed[number] = self.defer()
        await self._handled(number)
        return None

    async def handle_cast(self, message: object) -> None:
        """Hand a cast on."""
        await self._hand_on("cast", message)

    async def handle_info(self, message: object) -> None:
        """Hand an info on."""
        await self._hand_on("info", message)

    async def get_state(self) -> object:
        """Show the state of the actor in the process."""
        number = self._number()
        self._wire.send(Look(number))
        self._looks[number] = look = self._cell.runtime.loop.create_future()
        while not look.done():
            self._check()
            await self._hear()
        return look.result()

    async def terminate(self, reason: ExitReason) -> None:
        """Have the child end in its process, and the process with it; kill it when that takes too long."""
        try:
            if self._verdict is None and not self._cell.killed:
                self._wire.send(End(portable(reason)))
            while self._verdict is None and not self._cell.killed:
                await self._hear()
            if not self._cell.killed:
                await self._exited()
        except asyncio.CancelledError:
            if not self._cell.killed:
                raise
        finally:
            self._destroy()
        self._check()

    # The other side

    async def _open(self) -> None:
        import multiprocessing  # noqa: PLC0415 - only who isolates children pays for it

        cell = self._cell
        order = Order(self._start, self._arguments, cell.path, cell.runtime.observer is not None)
        ours, theirs = socket.socketpair()
        try:
            process = multiprocessing.get_context("spawn").Process(
                target=main, args=(theirs, order), name=cell.path, daemon=True
            )
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process = process
        self.pid = process.pid
        await cell.runtime.loop.create_connection(lambda: self._wire, sock=ours)

    async def _hand_on(self, kind: Literal["cast", "info"], message: object) -> None:
        number = self._number()
        try:
            packed = parcel(message)
        except Exception:  # noqa: BLE001 - pickling runs the author's code
            self._cell.dead_letter(message, "unpicklable")
            return
        self._wire.send(Handle(number, kind, packed))
        await self._handled(number)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    async def _handled(self, number: int) -> None:
        self._handling = number
        while self._handling is not None:
            self._check()
            await self._hear()

    async def _hear(self) -> None:
        self._news = self._cell.runtime.loop.create_future()
        await self._news

    def _take(self, frame: object) -> None:
        match frame:
            case Up():
                self._up = frame
            case Handled(number):
                if self._handling == number:
                    self._handling = None
            case Answer(number, value, error):
                self._answer(number, value, error)
            case Told(event):
                self._tell(event)
                return
            case Over(reason, cause):
                self._end(reason, cause)
            case _:
                raise TypeError(f"a process sent {frame!r}")
        self._wake()

    def _lost(self) -> None:
        self._gone = True
        if self._verdict is None:
            process = self._process
            if process is not None:
                process.join(EXIT_GRACE_S)
            code = None if process is None else process.exitcode
            self._end(ProcessDiedError(self._cell.path, code), None)
        self._wake()

    def _answer(self, number: int, packed: Parcel | None, error: Carried | None) -> None:
        look = self._looks.pop(number, None)
        owed = self._owed.pop(number, None)
        failure = None if error is None else cast("Exception", error.unpack())
        value: object = None
        if packed is not None:
            try:
                value = packed.open()
            except Exception as spoilt:  # noqa: BLE001 - unpickling runs the author's code
                failure = NotPicklableError(self._cell.path, "an answer of", packed.kind)
                failure.__cause__ = spoilt
        if owed is not None:
            owed.reply(value if failure is None else Failure(failure))
        elif look is not None and failure is None:
            look.set_result(value)
        elif look is not None and failure is not None:
            look.set_exception(failure)

    def _tell(self, packed: Parcel) -> None:
        cell = self._cell
        try:
            event = cast("Event", packed.open())
        except Exception:  # noqa: BLE001 - unpickling runs the author's code
            event = DeadLetter(cell.path, 0, packed.kind, "unpicklable")
        cell.runtime.tell(replace(event, incarnation=cell.incarnation))

    # The end

    def _end(self, reason: ExitReason, cause: Carried | BaseException | None) -> None:
        error = cause.unpack() if isinstance(cause, Carried) else cause
        self._verdict = (reason.unpack() if isinstance(reason, Carried) else reason, error)
        self._cell.mailbox.put_system(TaskCrashed(self._stop(self._verdict)))

    def _check(self) -> None:
        if self._verdict is not None:
            raise self._stop(self._verdict)

    @staticmethod
    def _stop(verdict: tuple[ExitReason, BaseException | None]) -> Stop:
        reason, cause = verdict
        return Stop(reason, cause=cause)

    async def _exited(self) -> None:
        clock = self._cell.runtime.clock
        timer = clock.call_later(EXIT_GRACE_S, self._destroy)
        try:
            while not self._gone:
                await self._hear()
        finally:
            timer.cancel()

    def _destroy(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.join(REAP_S)
        self._wire.close()
        if process.exitcode is not None:
            process.close()
            return
        runtime = self._cell.runtime
        runtime.zombies.add(process)  # stuck in the kernel: nothing more can be done
        runtime.tell(Zombie(self._cell.path, self._cell.incarnation, len(runtime.zombies)))

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)
