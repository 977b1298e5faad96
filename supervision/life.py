"""Lives: how a child is launched, and the one loop that calls an actor's callbacks."""

from __future__ import annotations

from asyncio import CancelledError, iscoroutine
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from supervision.actor import Actor
from supervision.cell import Cell
from supervision.clock import pass_turn
from supervision.mailbox import Mailbox
from supervision.messages import (
    IDLE,
    IGNORE,
    Call,
    Continue,
    ExitSignal,
    GetState,
    Info,
    StopRequest,
    Suspend,
    TaskCrashed,
)
from supervision.reasons import KILLED, NOPROC, NORMAL, ExitReason, Stop
from supervision.ref import ActorRef, Down, Exit, ref_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Hashable
    from contextvars import Context

    from supervision.runtime import Around, Runtime

__all__ = ["launch"]

MESSAGES_PER_TURN_MAX: Final = 64
MESSAGES_PER_LOOK: Final = 4
TURN_S_MAX: Final = 0.005


def launch(
    body: object,
    runtime: Runtime,
    *,
    parent: Cell | None,
    child_id: Hashable,
    context: Context,
    mailbox: Mailbox | None = None,
) -> tuple[Cell, asyncio.Future[object]]:
    """Give an actor, or the coroutine of a function child, a life and a task.

    Args:
        body: The `Actor` or the coroutine.
        runtime: What the tree shares.
        parent: The supervisor's cell; None for a root.
        child_id: The id in the child's spec.
        context: What the task runs in.
        mailbox: The actor's mailbox; by default one as the actor wishes.

    Returns:
        Its cell, and a future: None once it has started, `IGNORE`, or the cell if it ended before.
    """
    if isinstance(body, Actor):
        before = getattr(body, "_cell", None)
        if before is not None and not before.over:
            raise TypeError(
                f"{body!r} lives already, at {before.path}. A start function makes a new Actor for each life."
            )
        if mailbox is None:
            mailbox = Mailbox(body.mailbox_limit, body.overflow)
        cell = Cell(runtime, parent, child_id, body, mailbox, body.ref_type)
        cell.trap_exit = body.trap_exit
        cell.orderly = body.orderly
        body._cell = cell
        if body.claim is not None:
            try:
                body.claim(ref_of(cell))
            except BaseException:
                cell.conclude(NOPROC, None)  # it gives back what it got before it was refused
                raise
        return cell, cell.launch(_live(body, cell), context)
    if not iscoroutine(body):
        raise TypeError(f"a start function must give an Actor or a coroutine, not {body!r}")
    cell = Cell(runtime, parent, child_id, body, Mailbox(), ActorRef)
    cell.is_function = True
    cell.mailbox.close()
    return cell, cell.launch(_run(body, cell), context)


async def _run(body: Coroutine[object, object, object], cell: Cell) -> ExitReason:
    """Live as a function child; gives the exit reason and raises nothing."""
    cell.report_started(None)
    try:
        around = cell.runtime.around
        if around is None:
            await body
        else:
            await around(ref_of(cell), "body", None, lambda: body)
    except GeneratorExit:
        raise
    except BaseException as error:
        reason, cell.cause = cell.explain(error)
        return reason
    finally:
        body.close()  # what stands around it may never have awaited it
    return cell.explain(None)[0]


async def _live(actor: Actor, cell: Cell) -> ExitReason:
    """Live as an actor.

    Init, then one message after the other, system lane first, until something raises.

    Gives the exit reason and raises nothing. The loop stands here and not in a coroutine of its
    own, because every idle actor would hold that one too.
    """
    reason: ExitReason = NORMAL
    mailbox = cell.mailbox
    handled = 0
    started = 0.0
    try:
        first = await actor.init()
        if cell.killed:
            raise CancelledError  # noqa: TRY301 - init swallowed that its time is over
        if first is IGNORE:
            await cell.end_tasks()
            cell.report_started(IGNORE)
            return NORMAL
        cell.report_started(None)
        while first is not None:
            first = await actor.handle_continue(_term(first))
        while True:
            if cell.requested or cell.killed:
                raise CancelledError  # noqa: TRY301 - as if a callback had not swallowed it
            if mailbox.system:
                await _handle_system(actor, cell, mailbox.system.popleft())
                continue
            user = mailbox.user
            if not user or mailbox.paused:
                handled = 0
                user = None  # the mailbox lets go of an empty lane, and so must this frame
                if actor.idle_timeout is None:
                    await mailbox.waiting(cell.runtime.loop)
                else:
                    await _wait_idle(actor, cell, actor.idle_timeout)
                continue
            item = user.popleft()
            if mailbox.limit is not None:
                mailbox.freed()
            cell.current = item
            if cell.runtime.around is not None:
                await _handle_around(actor, cell, item, cell.runtime.around)
            elif type(item) is Call:
                reply = await actor.handle_call(item.request)
                if not item.deferred:
                    item.answer(reply)
            elif type(item) is Info:
                await actor.handle_info(item.message)
            else:
                await actor.handle_cast(item)
            cell.current = item = reply = None  # an idle actor holds on to nothing
            handled += 1
            if handled == 1 and user:  # a turn of one message needs no clock
                started = cell.runtime.clock.monotonic()
            elif not handled % MESSAGES_PER_LOOK and _turn_is_over(cell, handled, started):
                handled = 0
                await pass_turn()
    except GeneratorExit:
        raise
    except BaseException as error:
        reason, cell.cause = cell.explain(error)
        if type(cell.current) is Call:
            cell.owe(cell.current)  # the end of the actor answers it
    return await _farewell(actor, cell, reason)


async def _wait_idle(actor: Actor, cell: Cell, seconds: float) -> None:
    mailbox = cell.mailbox
    idle = False

    def time_is_up() -> None:
        nonlocal idle
        idle = not (mailbox.user or mailbox.system)
        mailbox.wake()

    timer = cell.runtime.clock.call_later(seconds, time_is_up)
    try:
        await mailbox.waiting(cell.runtime.loop)
    finally:
        timer.cancel()
    if idle and not (mailbox.user or mailbox.system or mailbox.paused):
        await actor.handle_info(IDLE)


def _turn_is_over(cell: Cell, handled: int, started: float) -> bool:
    return (
        handled >= MESSAGES_PER_TURN_MAX or cell.runtime.clock.monotonic() - started >= TURN_S_MAX
    )


def _term(first: object) -> object:
    if isinstance(first, Continue):
        return first.term
    raise TypeError(
        f"bad_return: init and handle_continue give None, Continue or IGNORE, not {first!r}"
    )


async def _farewell(actor: Actor, cell: Cell, reason: ExitReason) -> ExitReason:
    if cell.task is not None and cell.task.cancelling():
        await _forget_cancels(cell.task)
    await cell.end_tasks()
    if not cell.started:
        return reason
    if cell.killed and not cell.orderly:
        return KILLED
    try:
        await actor.terminate(reason)
    except GeneratorExit:
        raise
    except BaseException as error:
        later, cause = cell.explain(error)
        if not (isinstance(error, CancelledError) and later is not KILLED):
            cell.cause = cause
            return later
    return _unless_killed(cell, reason)


def _unless_killed(cell: Cell, reason: ExitReason) -> ExitReason:
    return KILLED if cell.killed else reason


async def _forget_cancels(task: asyncio.Task[ExitReason]) -> None:
    """Balance the cancel that ended the loop, so that timeouts and task groups work in `terminate`."""
    if getattr(task, "_must_cancel", False):  # it has cancelled itself, and has yet to be told
        with suppress(CancelledError):
            await pass_turn()
    while task.cancelling():
        task.uncancel()


async def _handle_around(actor: Actor, cell: Cell, item: object, around: Around) -> None:
    if type(item) is Call:
        handle = partial(actor.handle_call, item.request)
        reply = await around(ref_of(cell), "call", item.request, handle)
        if not item.deferred:
            item.answer(reply)
    elif type(item) is Info:
        message = item.message
        await around(ref_of(cell), "info", message, partial(actor.handle_info, message))
    else:
        await around(ref_of(cell), "cast", item, partial(actor.handle_cast, item))


async def _handle_system(actor: Actor, cell: Cell, message: object) -> None:
    if type(message) is StopRequest:
        raise Stop(message.reason)
    if type(message) is TaskCrashed:
        raise message.error
    if type(message) is Call:
        await _answer_system(actor, cell, message)
        return
    if type(message) is Down and not message.monitor.settle():
        return
    if type(message) is ExitSignal and isinstance(message.sender, Cell):
        message = Exit(ref_of(message.sender), message.reason)
    await actor.handle_info(message)


async def _answer_system(actor: Actor, cell: Cell, call: Call) -> None:
    if type(call.request) is GetState:
        try:
            state = actor.get_state()
            call.answer(await state if isinstance(state, Awaitable) else state)
        except Exception as error:
            call.fail(error)
        except BaseException:
            cell.owe(call)  # the end of the actor answers it
            raise
        return
    cell.mailbox.paused = type(call.request) is Suspend
    call.answer(None)
