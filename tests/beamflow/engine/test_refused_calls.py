"""What no replay could repeat is refused at the place of its use."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import signal
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from beamflow.errors import HostLoopError
from tests.beamflow.engine.driver import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """What a test leaves behind is its own, and no warning of the next one."""
    yield
    gc.collect()


# Refused


async def _open_socket() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


async def _serve() -> None:
    await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)


async def _resolve() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def _in_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def _to_thread() -> None:
    await asyncio.to_thread(print)


async def _anyio_thread() -> None:
    await anyio.to_thread.run_sync(print)


async def _anyio_file() -> None:
    await anyio.open_file("x")


async def _anyio_socket() -> None:
    await anyio.connect_tcp("127.0.0.1", 1)


async def _run_program() -> None:
    await asyncio.create_subprocess_exec("true")


async def _run_shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def _handle_signal() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)


async def _watch_file() -> None:
    asyncio.get_running_loop().add_reader(0, print)


async def _call_from_thread() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


async def _stop() -> None:
    asyncio.get_running_loop().stop()


@pytest.mark.parametrize(
    "use",
    [
        _open_socket,
        _serve,
        _resolve,
        _in_executor,
        _to_thread,
        _anyio_thread,
        _anyio_file,
        _anyio_socket,
        _run_program,
        _run_shell,
        _handle_signal,
        _watch_file,
        _call_from_thread,
        _stop,
    ],
)
def test_what_no_replay_could_repeat_is_refused(use: Callable[[], Any]) -> None:
    """The error is raised where the code is, is typed, and says what to do."""
    driver = running(use)
    try:
        _ = driver.result
    except* HostLoopError as refused:  # anyio wraps
        errors = refused.exceptions
    assert "@step" in str(errors[0])


async def test_a_future_of_the_host_is_refused() -> None:
    """Awaited directly or in a task, caught or not: the code is told, and may go on."""
    future = asyncio.get_running_loop().create_future()

    async def code() -> Any:
        told: list[str] = []
        for _ in range(3):
            try:
                await future
            except HostLoopError as error:
                told.append(str(error))
        with pytest.raises(HostLoopError):
            await asyncio.create_task(_awaiting(future))
        return told

    driver = running(code)
    assert len(driver.result) == 3
    assert "@step" in driver.result[0]
    assert not future._asyncio_future_blocking
    future.cancel()


async def _awaiting(awaitable: Any) -> Any:
    return await awaitable


@pytest.mark.usefixtures("_hasty")
async def test_a_future_of_the_host_cannot_keep_the_loop_busy() -> None:
    """Code that catches the refusal and tries again for ever is broken off."""
    future = asyncio.get_running_loop().create_future()

    async def code() -> Any:
        while True:
            with contextlib.suppress(Exception):
                await future

    with pytest.raises(HostLoopError, match="callbacks in one activation"):
        running(code)


def test_what_is_no_future_at_all_is_refused() -> None:
    """Awaitables of other frameworks yield anything."""

    class Odd:
        def __await__(self) -> Any:
            yield "trap"

    async def code() -> Any:
        await Odd()

    with pytest.raises(HostLoopError, match="trap"):
        _ = running(code).result


def test_a_thread_cannot_complete_a_future_of_the_loop() -> None:
    """What a thread pool returns is not in the log: it is told so, in its thread."""
    told: list[BaseException] = []

    async def code() -> Any:
        loop = asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            told.append(pool.submit(loop.call_soon_threadsafe, print).exception())  # type: ignore[arg-type]

    assert running(code).execution.ended
    assert isinstance(told[0], HostLoopError)
