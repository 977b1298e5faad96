"""Children for a process of their own: in a module, because a process finds them by name."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

from supervision import IGNORE, Actor, Continue, Failure, Overflow, Shutdown, Stop


class Unpicklable(Exception):  # noqa: N818 - what it is
    """Cannot be sent."""

    def __init__(self) -> None:
        super().__init__(lambda: None)


class OneWay(Exception):  # noqa: N818 - what it is
    """Can be sent, and cannot be made again at the other end."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one}{two}")


class Guest(Actor):
    """Does as it is told."""

    mailbox_limit = 3
    overflow = Overflow.REJECT

    def __init__(self, note: str | None = None, *extra: object) -> None:
        self.note = note
        self.extra = extra
        self.seen: list[object] = []

    async def init(self) -> Continue:
        return Continue("begun")

    async def handle_continue(self, term: object) -> None:
        self.seen.append(term)

    async def handle_call(self, request: object) -> object:
        match request:
            case "pid":
                return os.getpid()
            case "fail":
                return Failure(LookupError("no such thing"))
            case "fail unpicklably":
                return Failure(Unpicklable())
            case "answer unpicklably":
                return lambda: None
            case "answer one way":
                return OneWay(1, 2)
            case "later":
                self.later = self.defer()
                return None
            case "never":
                self.defer()
                return None
            case "sleep":
                await asyncio.sleep(60)
            case "block":
                time.sleep(60)  # noqa: ASYNC251 - that is the point
            case "hold the interpreter":
                re.match(r"(a+)+$", "a" * 60 + "b")
            case BaseException():
                raise request
            case "crash unpicklably":
                raise Unpicklable
            case "die":
                os._exit(7)
        return request

    async def handle_cast(self, message: object) -> None:
        self.seen.append(message)
        if message == "now":
            self.later.reply("at last")
        if message == "beside":
            self.spawn(self.explode())

    async def explode(self) -> None:
        raise LookupError("beside")

    async def handle_info(self, message: object) -> None:
        if message == "unhandled":
            await super().handle_info(message)
        if message == "unhandled one way":
            await super().handle_info(OneWay(1, 2))
        self.seen.append(("info", message))

    async def terminate(self, reason: object) -> None:
        if self.note is not None:
            with Path(self.note).open("a") as file:  # noqa: ASYNC230 - short
                file.write(f"{reason!r}\n")
        if "slowly" in self.seen:
            await asyncio.sleep(60)

    def get_state(self) -> object:
        return list(self.seen)


class Numb(Actor):
    """Fails to come up."""

    def __init__(self, how: str) -> None:
        self.how = how

    async def init(self) -> object:
        if self.how == "ignore":
            return IGNORE
        if self.how == "block":
            time.sleep(60)  # noqa: ASYNC251 - that is the point
        if self.how == "exit":
            os._exit(3)
        raise LookupError("not today")


def constructor_fails() -> Actor:
    raise LookupError("no constructor")


def ignores() -> object:
    return IGNORE


def with_info_one_way() -> tuple[Actor, OneWay]:
    return Guest(), OneWay(1, 2)


def with_info() -> tuple[Actor, str]:
    return Guest(), "about it"


async def waits() -> None:
    await asyncio.Event().wait()


async def ends(reason: object = "boom") -> None:
    raise Stop(reason)


async def ends_unpicklably() -> None:
    raise Stop(Shutdown(lambda: None))
