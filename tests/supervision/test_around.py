"""What stands around every callback."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from supervision import Actor, ActorStoppedError, ChildSpec, Restart, Supervisor, run
from supervision.testing import settle

if TYPE_CHECKING:
    from supervision import ActorRef
    from supervision.runtime import Handle, Kind


class Echo(Actor):
    """Says what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    async def handle_call(self, request: object) -> object:
        return request

    async def handle_cast(self, message: object) -> None:
        self.heard.append(message)

    async def handle_info(self, message: object) -> None:
        self.heard.append(message)


class Diary:
    """Writes down what is handled, and lets it pass."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Kind, object]] = []

    async def __call__(self, ref: ActorRef, kind: Kind, message: object, handle: Handle) -> object:
        self.entries.append((ref.path, kind, message))
        return await handle()


async def test_it_stands_around_every_kind_of_callback() -> None:
    """Calls, casts, infos and child functions, in the order in which they are handled."""
    diary = Diary()
    done = asyncio.Event()

    async def body() -> None:
        done.set()

    specs = [ChildSpec("echo", Echo), ChildSpec("job", body, restart=Restart.TEMPORARY)]
    async with run(Supervisor(specs), around=diary) as root:
        await done.wait()
        [echo] = [info.ref for info in await root.which_children() if info.id == "echo"]
        assert echo is not None
        echo.cast("a cast")
        echo.send("an info")
        assert await echo.call("a call") == "a call"
        assert (await echo.get_state())["heard"] == ["a cast", "an info"]
    of_workers = [entry for entry in diary.entries if entry[0] != "/root"]
    assert of_workers == [
        ("/root/job", "body", None),
        ("/root/echo", "cast", "a cast"),
        ("/root/echo", "info", "an info"),
        ("/root/echo", "call", "a call"),
    ]


async def test_what_it_returns_is_the_answer() -> None:
    """The callback need not even run."""

    async def deaf(_ref: ActorRef, _kind: Kind, _message: object, _handle: Handle) -> object:
        return "nobody is in"

    async with run(Echo(), around=deaf) as echo:
        assert await echo.call("hello?") == "nobody is in"


async def test_what_it_raises_ends_the_actor() -> None:
    """As if the callback had raised it: the caller hears of it, and the reason is the error."""

    async def thrower(_ref: ActorRef, kind: Kind, _message: object, handle: Handle) -> object:
        await handle()
        if kind == "call":
            raise ValueError("thrown")
        return None

    with pytest.raises(ValueError, match="thrown"):
        async with run(Echo(), around=thrower) as echo:
            echo.cast("goes through")
            await settle()
            assert echo.alive
            with pytest.raises(ActorStoppedError):
                await echo.call("hello?")
