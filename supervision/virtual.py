"""Time that jumps: an event loop on which waiting takes no time, the clock for it, and power cuts."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import math
import selectors
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

from supervision.clock import SystemClock, WallTimer

if TYPE_CHECKING:
    from asyncio import Handle, Task, TimerHandle
    from collections.abc import Callable, Coroutine, Generator, Iterator
    from concurrent.futures import Executor
    from contextvars import Context

__all__ = ["Island", "StuckError", "VirtualClock", "VirtualLoop"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_RESOLUTION_S: Final = 1e-9
LOOK_S: Final = 0.05
"""Real seconds between two looks whether work outside is still under way."""
NEWS_S_MAX: Final = 1.0
"""Real seconds that a thread nobody knows of has to bring news, before a loop counts as stuck."""


class StuckError(RuntimeError):
    """Nothing can ever happen any more: every task waits, and no timer is set."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while anything can run, and then jumps to the next timer.

    Thirty days of sleeping take as long as the code between. All that waits by the loop is
    covered: `asyncio.sleep`, `asyncio.timeout`, `call_later`, and every `Clock` of this package.

    Work outside the loop takes real time, and time stands still until it is done: jobs of
    `run_in_executor` (so `asyncio.to_thread`), of anyio's ``to_thread`` and of aiosqlite. Whatever
    else is outside, such as another process or a thread of your own, belongs into a `hold`.

    Whoever runs the loop gets `StuckError`, with where each task stands, as soon as nothing can
    ever happen any more.
    """

    def __init__(self) -> None:
        """Begin at 0."""
        self._virtual_now = 0.0
        self._held = 0
        self._reports: dict[threading.Thread, Handle] = {}
        selector = _Selector()
        self._virtual_selector = selector
        super().__init__(selector)
        selector.idle = self._idle

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_now

    def stall(self, seconds: float) -> None:
        """Let time pass in which nothing runs, as if the caller had blocked the loop."""
        self._virtual_now += seconds
        # a loop runs what is due before now and this: too little to tell from now is never
        self._clock_resolution = max(_RESOLUTION_S, math.ulp(self._virtual_now))

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Let time stand still until the block is left, because something outside is awaited."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    # What is scheduled in an island runs only while the island is there

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> Handle:
        """Schedule as any loop does."""
        island = _island_of(context)
        if island is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(island.run, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> Handle:
        """Schedule as any loop does.

        What a worker thread of anyio's comes to waits until none of them works any more, so that
        many of them are heard in the same order each time.
        """
        thread = threading.current_thread()
        if getattr(callback, "__self__", None) is thread:
            handle = asyncio.Handle(callback, args, self, context)
            self._reports[thread] = handle
            self._write_to_self()  # type: ignore[attr-defined]
            return handle
        island = _island_of(context)
        if island is None:
            return super().call_soon_threadsafe(callback, *args, context=context)
        return super().call_soon_threadsafe(island.run, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle:
        """Schedule as any loop does."""
        island = _island_of(context)
        if island is None:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, island.run, callback, *args, context=context)

    def create_task(  # type: ignore[override] # typeshed takes any object for a coroutine
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> Task[_T]:
        """Make a task as any loop does."""
        task = super().create_task(coro, name=name, context=context)
        island = _island_of(context)
        if island is not None:
            island.tasks[task] = None
        return task

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Run a job in a thread, as any loop does; time stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._held += 1
        future.add_done_callback(self._released, context=contextvars.Context())
        return future

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future as any loop does; time stands still for one that a thread of aiosqlite has."""
        future = super().create_future()
        if sys._getframe(1).f_globals.get("__name__") == "aiosqlite.core":  # noqa: SLF001 - who asks
            self._held += 1
            future.add_done_callback(self._released, context=contextvars.Context())
        return future

    async def shutdown_default_executor(self, *args: Any, **options: Any) -> None:
        """Wait for the threads of `run_in_executor`; time stands still until they have ended."""
        with self.hold():  # from 3.12 on there is a time-out, which would be over at once
            await super().shutdown_default_executor(*args, **options)

    def _released(self, _: object) -> None:
        self._held -= 1

    def _idle(self, wait: Callable[[float | None], list[Any]], timeout: float | None) -> list[Any]:
        """Nothing is ready. Wait for the world outside, or jump."""
        if self._held or self._threads_busy():
            return wait(LOOK_S)
        if self._reports:
            for thread in [*threading.enumerate(), *self._reports]:  # in the order of their start
                handle = self._reports.pop(thread, None)
                if handle is not None:
                    super().call_soon(handle._run)  # noqa: SLF001 - as a loop does
            return []
        if timeout is not None:
            self.stall(timeout)
            return []
        if len(self._virtual_selector.get_map()) > 1:
            return wait(None)  # sockets: it is the world's turn
        news = wait(NEWS_S_MAX) if threading.active_count() > 1 else []
        if not news:
            raise StuckError(_stuck(self))
        return news

    def close(self) -> None:
        """Close the loop, and let go of threads that waited for what was cut off."""
        super().close()
        for thread in self._workers():
            thread.stop()

    def _threads_busy(self) -> bool:
        """Tell whether a thread of anyio's pool works for this loop."""
        return any(
            thread not in thread.idle_workers and thread not in self._reports
            for thread in self._workers()
        )

    def _workers(self) -> Iterator[Any]:
        """Give the threads of anyio's pool for this loop, which it does not list itself."""
        for thread in threading.enumerate():
            ours = getattr(thread, "loop", None) is self and hasattr(thread, "idle_workers")
            if ours and not getattr(thread, "stopping", False):
                yield thread


class VirtualClock(SystemClock):
    """The `Clock` of a `VirtualLoop`: its wall clock goes with the loop, and can be set."""

    __slots__ = ("_start", "_timers")

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        """Tell the time at which the loop began.

        Args:
            start: The wall clock time then, in seconds since 1970.
        """
        self._start = start
        self._timers: WeakKeyDictionary[_VirtualTimer, None] = WeakKeyDictionary()

    def now(self) -> float:
        """Wall clock time in seconds since 1970, UTC.

        Raises:
            RuntimeError: The running loop is no `VirtualLoop`.
        """
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise RuntimeError(  # noqa: TRY004 - no argument is wrong, the place is
                "a VirtualClock goes with a VirtualLoop. Mark the test with @pytest.mark.virtual_time."
            )
        return self._start + loop.time()

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back with a negative number; what waits for it notices."""
        self._start += seconds
        for timer in list(self._timers):
            timer.clock_was_set()

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> WallTimer:
        """Run ``callback(*args)`` in the event loop once `now` has reached ``when``."""
        timer = _VirtualTimer(self, when, callback, args)
        self._timers[timer] = None
        return timer


class _VirtualTimer(WallTimer):
    """Needs no looks: it is told when the wall clock is set."""

    __slots__ = ("__weakref__", "_over")

    def __init__(
        self,
        clock: VirtualClock,
        when: float,
        callback: Callable[..., object],
        args: tuple[object, ...],
    ) -> None:
        self._over = False
        super().__init__(clock, when, callback, args, look_s=math.inf)

    def clock_was_set(self) -> None:
        if not self._over:
            self._timer.cancel()
            self.arm()

    def look(self) -> None:
        self._over = self._clock.now() >= self._when
        super().look()

    def cancel(self) -> None:
        self._over = True
        super().cancel()


_ISLAND: contextvars.ContextVar[Island | None] = contextvars.ContextVar("island", default=None)


def _island_of(context: Context | None) -> Island | None:
    return _ISLAND.get() if context is None else context.get(_ISLAND)


class Island:
    """A part of a program on a `VirtualLoop` that can be cut off in an instant, as by a power loss.

    What was started on it, and what that has started, belongs to it. After `cut` none of it runs
    again: no ``except``, no ``finally``, no callback. Who waits for it from outside waits for ever.
    """

    def __init__(self) -> None:
        """Stand there, with nothing on it."""
        self.tasks: WeakKeyDictionary[Task[Any], None] = WeakKeyDictionary()
        self.is_cut = False
        self._left: list[Task[Any]] = []
        self._last: list[Callable[[], object]] = []
        self._dropped: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def start(self, coroutine: Coroutine[Any, Any, _T]) -> Task[_T]:
        """Run a coroutine on it, in a task of its own. Call it from outside."""
        context = contextvars.copy_context()
        context.run(_ISLAND.set, self)
        return asyncio.get_running_loop().create_task(coroutine, context=context)

    def run(self, callback: Callable[..., object], *args: object) -> None:
        """Call back, unless it is cut off; for the loop."""
        if self.is_cut:
            self._dropped.append((callback, args))
        else:
            callback(*args)

    def cut(self) -> None:
        """Cut it off.

        Harmless when it is. May be called from inside; the caller must then suspend at once.
        """
        if self.is_cut:
            return
        self.is_cut = True
        # kept, so that no collector runs their finally blocks; hidden, so that nobody waits for them
        self._left = [task for task in self.tasks if not task.done()]
        for task in self._left:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - as gather does
            asyncio._unregister_task(task)  # noqa: SLF001 - "Extending asyncio" documents it

    def at_burial(self, close: Callable[[], object]) -> None:
        """Have something else closed, before all tasks are."""
        self._last.append(close)

    def bury(self) -> bool:
        """Close what was cut off, once the loop is closed and nothing can come of it.

        Returns:
            Whether a task had ended of which nobody has heard: whoever should have might have had to
            close a coroutine that never began, and the collector will complain of that.
        """
        closing, self._last = self._last, []
        for task in self._left:
            closing.extend(coroutine.close for coroutine in _coroutines(task))
        ended = [one for _, args in self._dropped for one in args if isinstance(one, asyncio.Task)]
        for task in ended:
            if task.done() and not task.cancelled():
                _ = task.exception()  # nobody else is left to ask for it
        self._left.clear()
        self._dropped.clear()
        while closing:
            with contextlib.suppress(BaseException):  # whatever the dead say
                closing.pop(0)()
        return bool(ended)


def _coroutines(task: Task[Any]) -> Iterator[Coroutine[Any, Any, Any]]:
    """Give a task's coroutine, and those that this was handed and has not begun to run."""
    coroutine: Any = task.get_coro()
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        yield from filter(inspect.iscoroutine, coroutine.cr_frame.f_locals.values())
    yield coroutine


class _Selector(selectors.DefaultSelector):
    """Asks its loop what to do when nothing is ready."""

    idle: Callable[[Callable[[float | None], list[Any]], float | None], list[Any]]

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        return self.idle(super().select, timeout)


def _stuck(loop: VirtualLoop) -> str:
    waiting = sorted(
        f"  {task.get_name()} waits {_where(task)}" for task in asyncio.all_tasks(loop)
    )
    return "\n".join(
        [
            "nothing can ever happen any more: no timer is set, and every task waits.",
            *waiting,
            "Somebody was forgotten to be woken, or waits for a thread outside of `hold`.",
        ]
    )


def _where(task: Task[Any]) -> str:
    """Tell where a task stands, in the innermost of its coroutines that was written here."""
    waits: object = task.get_coro()
    place = "nowhere"
    while (frame := getattr(waits, "cr_frame", None)) is not None:
        place = f"in {frame.f_code.co_qualname}, {frame.f_code.co_filename}:{frame.f_lineno}"
        waits = getattr(waits, "cr_await", None)
    return place
