"""What runs in a worker process: one step's body after the other, as JSON in and JSON out."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import struct
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, NoReturn

import msgspec
from msgspec import Raw

from beamflow.authoring.running_step import RunningStep, StepInfo, running_step
from beamflow.authoring.step import Step
from beamflow.engine.failure import describe
from beamflow.errors import DefinitionError
from beamflow.model.events import Failure

if TYPE_CHECKING:
    import socket

    from beamflow.authoring.running_step import Borrowed

__all__ = ["Answer", "Beaten", "Done", "Failed", "Job", "found", "frame", "main"]

HEADER = struct.Struct("!I")


class Job(msgspec.Struct, frozen=True, gc=False):
    """Make an attempt of a step: the one of that name in a module, with these arguments."""

    module: str
    name: str
    info: StepInfo
    input: Raw


class Beaten(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body has given a heartbeat."""

    details: Raw


class Done(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body has returned."""

    result: Raw


class Failed(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The body has raised."""

    failure: Failure
    is_worth_another: bool
    """Whether the step's policy retries such an error."""


Answer = Beaten | Done | Failed

_encoder = msgspec.json.Encoder()


def frame(message: Job | Answer) -> bytes:
    """Write a message, its length before it."""
    data = _encoder.encode(message)
    return HEADER.pack(len(data)) + data


def found(module: str, name: str) -> object:
    """Return what a module holds under a dotted name; raises what the import raises."""
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))


class _Worker(RunningStep):
    """The process, as the body that runs in it sees it."""

    __slots__ = ("_info", "_lock", "_socket")

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket
        self._lock = Lock()
        self._info: StepInfo | None = None

    @property
    def info(self) -> StepInfo:
        assert self._info is not None
        return self._info

    def beat(self, details: bytes) -> None:
        self._send(Beaten(Raw(details)))

    async def borrow(self, limit_s: float) -> Borrowed:
        raise DefinitionError(
            f"a step that runs in a process has no transaction (of {limit_s:g} s): make it an "
            f"`async def`"
        )

    def do(self, job: Job) -> None:
        """Make an attempt and send what it comes to."""
        self._info = job.info
        running_step.set(self)
        step: Step[..., object] | None = None
        answer: Answer
        try:
            there = found(job.module, job.name)
            if not isinstance(there, Step):
                raise DefinitionError(  # noqa: TRY301 - told like whatever an import raises
                    f"{job.module}.{job.name} is no step in the worker process. A step with "
                    f"run_in='process' must be there when its module is imported"
                )
            step = there
            args, kwargs = step.signature.arguments.decode(job.input)
            answer = Done(Raw(step.signature.result.encode(step.function(*args, **kwargs))))
        except BaseException as error:  # noqa: BLE001 - the process outlives whatever a body raises
            is_worth = step is not None and step.retry.allows(error)
            answer = Failed(describe(error, step), is_worth)
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        with self._lock:
            self._socket.sendall(frame(answer))


def main(ours: socket.socket) -> NoReturn:
    """Make attempts until the engine's process has closed its side, or is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the engine decides
    jobs: SimpleQueue[Job] = SimpleQueue()
    Thread(target=_listen, args=(ours, jobs), daemon=True).start()
    worker = _Worker(ours)
    while True:
        try:
            worker.do(jobs.get())
        except ConnectionError:  # the engine's process was killed while the body ran
            os._exit(0)


def _listen(ours: socket.socket, jobs: SimpleQueue[Job]) -> None:
    decoder = msgspec.json.Decoder(Job)
    try:
        with ours.makefile("rb") as stream:
            while header := stream.read(HEADER.size):
                jobs.put(decoder.decode(stream.read(*HEADER.unpack(header))))
    finally:  # a kill of the engine with an answer unread is a reset, in the middle of a job no JSON
        os._exit(0)  # also out of the middle of a body: nobody waits for it any more
