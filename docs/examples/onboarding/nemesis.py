"""Runs the engine's process, kills it again and again, and starts it anew each time."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from services.ledger import now
from told import Told

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence
    from random import Random
    from typing import BinaryIO

    from display import Display
    from folder import Folder

__all__ = ["EngineDiedError", "Nemesis"]

LAST_KILL = 0.8
"""No kill waits for more than this part of the applications to end."""
AFTER_END_S, AFTER_START_S = (0.0, 0.02), (0.3, 0.8)


class EngineDiedError(Exception):
    """The engine's process has ended by itself, and not well."""


class Nemesis:
    """Kills with SIGKILL, at moments drawn from a seed.

    A moment is a number of ended applications, and a little later. Every third moment has the same
    number as the one before: it hits an engine that has just begun to recover.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], random: Random
    ) -> None:
        """Say what to run."""
        self._command = command
        self._environment = environment
        self._random = random
        self._ended: set[str] = set()

    async def run(self, folder: Folder, display: Display, *, applications: int, kills: int) -> None:
        """Return when the engine has come to its own end; raises `EngineDiedError`."""
        moments = sorted(
            self._random.randrange(round(applications * LAST_KILL) + 1) for _ in range(kills)
        )
        for index in range(2, kills, 3):
            moments[index] = moments[index - 1]
        with folder.told.open("wb") as told, folder.restarts.open("wb") as restarts:
            for moment in moments:
                if await self._live(moment, told, display):
                    display.killed()
                    restarts.write(b"%d\n" % now())
            await self._live(None, told, display)

    async def _live(self, moment: int | None, told: BinaryIO, display: Display) -> bool:
        """Run the engine once; tell whether it was killed."""
        engine = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the demo alone, which ends what it has started
        )
        try:
            await self._watch(engine, moment, told, display)
        except BaseException:
            kill(engine)
            await engine.wait()
            raise
        code = await engine.wait()
        if code not in {0, -signal.SIGKILL}:
            raise EngineDiedError(f"the engine's process has ended by itself, with code {code}")
        return code != 0

    async def _watch(
        self, engine: Process, moment: int | None, told: BinaryIO, display: Display
    ) -> None:
        """Hear what the engine tells, until it ends; see to it that it does at the moment."""
        end = self._fate(engine, AFTER_START_S) if self._is_reached(moment) else None
        assert engine.stdout is not None
        async for line in engine.stdout:
            if not line.endswith(b"\n"):
                break  # the kill fell into the middle of it
            told.write(line)
            news = msgspec.json.decode(line, type=Told)
            if news.ended:
                self._ended.add(news.application)
                display.ended(len(self._ended))
            if end is None and self._is_reached(moment):
                end = self._fate(engine, AFTER_END_S)
        if end is not None:
            end.cancel()

    def _is_reached(self, moment: int | None) -> bool:
        return moment is not None and len(self._ended) >= moment

    def _fate(self, engine: Process, within_s: tuple[float, float]) -> asyncio.TimerHandle:
        delay_s = self._random.uniform(*within_s)
        return asyncio.get_running_loop().call_later(delay_s, kill, engine)


def kill(engine: Process) -> None:
    """Kill, unless it has just ended by itself."""
    with suppress(ProcessLookupError):
        engine.kill()
