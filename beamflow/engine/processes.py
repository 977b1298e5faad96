"""Worker processes: where steps run that compute for long, and can be killed in the middle."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from msgspec import Raw

from beamflow.engine.failure import DescribedError
from beamflow.engine.process_worker import HEADER, Answer, Beaten, Done, Failed, Job, frame, main
from beamflow.errors import DefinitionError, StepProcessError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import SpawnProcess

    from beamflow.authoring.running_step import StepInfo
    from beamflow.authoring.step import Step

__all__ = ["Processes"]

EXIT_S: Final = 0.5
"""How long a process that has closed its side may take to be gone, before it is killed."""
REAP_S: Final = 5.0
_CHUNK: Final = 1 << 16

_decoder: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class Processes:
    """Runs steps in processes of their own, at most so many at once, started when first needed.

    Enter `room` first. A process that is idle is used again; one whose step is cut off is killed.
    What goes over is JSON, by the signature of the step, and the place of its definition.

    Args:
        count: how many may run at once; None for as many as the machine has processors.

    Attributes:
        room: to be held while a step runs.
    """

    def __init__(self, count: int | None) -> None:
        """Begin without a process."""
        self.room = anyio.CapacityLimiter(count or os.cpu_count() or 1)
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()

    async def run(
        self, step: Step[..., Any], info: StepInfo, arguments: bytes, beat: Callable[[bytes], None]
    ) -> bytes:
        """Return the step's result as JSON.

        Args:
            step: whose function to run.
            info: what the body can know of itself.
            arguments: the arguments as JSON.
            beat: called with the details of each heartbeat.

        Raises:
            DescribedError: the body has raised, or the step is not found in the process.
            StepProcessError: the process has died.
            DefinitionError: the step cannot be found by its name.
        """
        place = _place(step)
        process = self._take()
        self._busy.add(process)
        try:
            await process.send(Job(*place, info, Raw(arguments)))
            while isinstance(answer := await process.receive(), Beaten):
                beat(bytes(answer.details))
        except (EOFError, OSError) as error:
            raise StepProcessError(step.name, process.end(EXIT_S)) from error
        except BaseException:
            process.end()
            raise
        finally:
            self._busy.discard(process)
        self._idle.append(process)
        match answer:
            case Done(result=result):
                return bytes(result)
            case Failed(failure=failure, is_worth_another=is_worth_another):
                raise DescribedError(failure, is_worth_another=is_worth_another)

    def close(self) -> None:
        """End all processes."""
        for process in (*self._idle, *self._busy):
            process.end()
        self._idle.clear()
        self._busy.clear()

    @property
    def pids(self) -> list[int]:
        """The processes there are."""
        return [process.pid for process in (*self._idle, *self._busy)]

    def _take(self) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if process.is_alive:
                return process
            process.end()
        return _Process()


class _Process:
    """One process, and the socket to it."""

    def __init__(self) -> None:
        import multiprocessing  # noqa: PLC0415 - only who has such steps pays for it

        self._socket, theirs = socket.socketpair()
        try:
            self._socket.setblocking(False)  # noqa: FBT003 - the only way to say it
            self._process: SpawnProcess | None = multiprocessing.get_context("spawn").Process(
                target=main, args=(theirs,), name="beamflow-step", daemon=True
            )
            self._process.start()
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid or 0

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    async def send(self, job: Job) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, frame(job))

    async def receive(self) -> Answer:
        """Return the next answer; raises EOFError or OSError when the process is gone."""
        (size,) = HEADER.unpack(await self._read(HEADER.size))
        return _decoder.decode(await self._read(size))

    async def _read(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < size:
            more = await loop.sock_recv(self._socket, min(size - len(data), _CHUNK))
            if not more:
                raise EOFError
            data += more
        return bytes(data)

    def end(self, patience_s: float = 0.0) -> int | None:
        """Kill it, wherever it is, and wait for its end; return its exit code, where it has one.

        Args:
            patience_s: how long to wait for it to end by itself first.
        """
        self._socket.close()
        process, self._process = self._process, None
        if process is None:
            return None
        process.join(patience_s)
        process.kill()
        process.join(REAP_S)
        code = process.exitcode
        if code is not None:
            process.close()
        return code


def _place(step: Step[..., Any]) -> tuple[str, str]:
    """Return where a step is found in another process; raises `DefinitionError`."""
    module, name = step.function.__module__, step.function.__qualname__
    there: object = sys.modules.get(module)
    for part in name.split("."):
        there = getattr(there, part, None)
    if there is not step:
        raise DefinitionError(
            f"step {step.name!r} runs in a process and must be found there: {module}.{name} is not "
            f"this step. Decorate the function where it is defined"
        )
    return module, name
