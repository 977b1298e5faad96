"""Worker processes: JSON goes over, what is cut off is killed, what dies is replaced, none is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DefinitionError,
    Engine,
    StepProcessError,
    StepTimeoutError,
    WorkflowFailedError,
    receive,
    step,
    workflow,
)
from beamflow.engine.process_worker import found
from beamflow.events import StepFailed, StepHeartbeat
from supervision.testing import eventually
from tests.beamflow.engine import process_steps as steps

if TYPE_CHECKING:
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock

pytestmark = [pytest.mark.serial, pytest.mark.timeout(60)]


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def read(mark: Path) -> str:
    return await eventually(lambda: mark.exists() and mark.read_text(), within=30)


async def run(definition: Any, *args: Any, store: Any = "memory://", **options: Any) -> Any:
    async with Engine(store, workflows=[definition], **options) as engine:
        return await (await engine.start(definition, *args, id="w")).result()


async def test_arguments_and_results_go_over_by_the_signature(memory: MemoryStore) -> None:
    @workflow
    async def try_it() -> steps.Order:
        order = await steps.double(steps.Order("tea", 5))
        assert isinstance(order, steps.Order)
        return order

    assert await run(try_it, store=memory) == steps.Order("teatea", 10)


async def test_processes_are_used_again_and_end_with_the_engine(memory: MemoryStore) -> None:
    """No more than there may be, each of them another process than ours."""

    @workflow
    async def many() -> list[tuple[int, str]]:
        return await asyncio.gather(*(steps.where() for _ in range(6)))

    async with Engine(memory, workflows=[many], processes=2) as engine:
        ran = await (await engine.start(many, id="w")).result()
        pids = {pid for pid, _ in ran}
        assert pids == set(engine._services.processes.pids)
        assert os.getpid() not in pids
        assert len(pids) <= 2
        assert [key for _, key in ran] == [f"w/{op}" for op in range(1, 7)]
    assert not any(alive(pid) for pid in pids)


async def test_code_that_computes_is_killed_by_its_timeout(
    memory: MemoryStore, clock: ManualClock, tmp_path: Path
) -> None:
    """And the room it took is free."""
    mark = tmp_path / "mark"

    @workflow
    async def patient() -> str:
        try:
            await steps.spins(str(mark))
        except StepTimeoutError:
            return (await steps.where())[1]
        return "in time"

    async with Engine(memory, workflows=[patient], clock=clock, processes=1) as engine:
        handle = await engine.start(patient, id="w")
        pid = int(await read(mark))
        await clock.advance(10)
        assert await handle.result() == "w/2"
        assert not alive(pid)


async def test_code_that_computes_is_killed_when_it_is_given_up(
    memory: MemoryStore, tmp_path: Path
) -> None:
    """By the workflow, or with the engine."""
    first, second = tmp_path / "first", tmp_path / "second"

    @workflow
    async def picky() -> None:
        task = asyncio.create_task(steps.spins_for_ever(str(first)))
        await receive("go")
        task.cancel()
        await steps.spins_for_ever(str(second))

    async with Engine(memory, workflows=[picky], processes=2) as engine:
        handle = await engine.start(picky)
        pid = int(await read(first))
        assert alive(pid)
        await handle.signal("go")
        await eventually(lambda: not alive(pid), within=30)
        pid = int(await read(second))
        assert alive(pid)
    assert not alive(pid)


@pytest.mark.parametrize(("how", "code"), [("exit", 7), ("kill", -9)])
async def test_a_process_that_dies_fails_the_attempt_and_is_replaced(
    memory: MemoryStore, how: str, code: int
) -> None:
    @workflow
    async def try_it() -> int:
        return await steps.dies_once(how)

    async with Engine(memory, workflows=[try_it], processes=1) as engine:
        handle = await engine.start(try_it)
        pid = await handle.result()
        assert engine._services.processes.pids == [pid]
        history = await handle.history()
    (failure,) = [one.event for one in history if isinstance(one.event, StepFailed)]
    assert failure.error.type == "beamflow.errors.StepProcessError"
    assert f"(exit code {code})" in failure.error.message


async def test_an_idle_process_that_has_died_costs_no_attempt(memory: MemoryStore) -> None:
    @step
    async def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG))

    @workflow
    async def twice() -> list[int]:
        first, _ = await steps.where()
        await kill(first)
        return [first, (await steps.where())[0]]

    first, second = await run(twice, store=memory, processes=1)
    assert first != second


async def test_errors_come_over_as_data(memory: MemoryStore, tmp_path: Path) -> None:
    """A declared one as itself, with its attributes; the policy sees its type where it was raised."""
    count = tmp_path / "count"

    @workflow
    async def try_it() -> list[Any]:
        try:
            await steps.refuse(str(count))
        except steps.RefusedError as error:
            return list(error.args)
        return []

    assert await run(try_it, store=memory) == ["no", 5]
    assert count.read_text() == "x"


async def test_an_error_is_retried_as_the_policy_says(memory: MemoryStore, tmp_path: Path) -> None:
    count = tmp_path / "count"

    @workflow
    async def try_it() -> int:
        return await steps.third_time(str(count))

    assert await run(try_it, store=memory) == 3
    assert count.read_text() == "xxx"


@pytest.mark.parametrize(
    ("one", "error"), [(steps.leaves, "SystemExit: 3"), (steps.unreadable, "PayloadError")]
)
async def test_whatever_a_body_comes_to_the_process_outlives_it(
    memory: MemoryStore, one: Any, error: str
) -> None:
    @workflow
    async def try_it() -> None:
        await one()

    with pytest.raises(WorkflowFailedError, match=error) as caught:
        await run(try_it, store=memory)
    assert "process_steps.py" in caught.value.traceback or error == "PayloadError"


async def test_heartbeats_come_over_and_silence_is_killed(
    memory: MemoryStore, clock: ManualClock, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"

    @workflow
    async def try_it() -> Any:
        return await steps.beats(str(mark))

    async with Engine(memory, workflows=[try_it], clock=clock) as engine:
        handle = await engine.start(try_it)
        await read(mark)
        async with asyncio.timeout(10):
            async for recorded in handle.events():
                if isinstance(recorded.event, StepHeartbeat):
                    break
        await clock.advance(11)
        assert await handle.result() == {"row": 5}


async def test_a_step_that_another_process_cannot_find_says_so(memory: MemoryStore) -> None:
    @workflow
    async def try_it() -> None:
        await steps.elsewhere()

    with pytest.raises(WorkflowFailedError, match="Decorate the function where it is defined"):
        await run(try_it, store=memory)
    assert found("os.path", "join") is os.path.join


async def test_a_process_dies_with_its_parent(tmp_path: Path) -> None:
    """Also in the middle of a computation, and though the parent was killed."""
    mark = tmp_path / "mark"
    script = (
        "import asyncio\n"
        "from beamflow import Engine, workflow\n"
        "from tests.beamflow.engine import process_steps as steps\n"
        "@workflow\n"
        "async def spin() -> None:\n"
        f"    await steps.spins_for_ever({str(mark)!r})\n"
        "async def main():\n"
        "    async with Engine('memory://', workflows=[spin]) as engine:\n"
        "        await (await engine.start(spin)).result()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stderr=subprocess.DEVNULL
    )
    try:
        pid = int(await read(mark))
        assert alive(pid)
    finally:
        parent.kill()
        await parent.wait()
    await eventually(lambda: not alive(pid) or _is_zombie(pid), within=30)


def _is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return False


def test_only_what_can_be_imported_runs_in_a_process() -> None:
    def local() -> None:
        pass

    async def on_loop() -> None:
        pass

    for function, options, problem in (
        (local, {"run_in": "process"}, "define it in a module"),
        (lambda: None, {"run_in": "process", "name": "x"}, "define it in a module"),
        (on_loop, {"run_in": "process"}, "is for a plain `def`"),
        (local, {"run_in": "nowhere"}, "must be 'thread' or 'process'"),
    ):
        with pytest.raises(DefinitionError, match=problem):
            step(**options)(function)


def test_the_error_can_be_told_apart() -> None:
    error = StepProcessError("spin", -9)
    assert (error.step, error.exit_code) == ("spin", -9)


@pytest.mark.parametrize("killed", ["before it hears the answer", "with the answer unread"])
def test_a_worker_ends_without_a_word_when_the_engine_is_killed(killed: str) -> None:
    """It used to show a traceback on the host's standard error, or to stay for ever."""
    program = """
import select, socket, sys, threading
from msgspec import Raw
from beamflow.authoring.running_step import StepInfo
from beamflow.engine.process_worker import Job, frame, main

engine, worker = socket.socketpair()
info = StepInfo(workflow_id="w", step="s", op=1, attempt=1, idempotency_key="w/1")
engine.sendall(frame(Job(module="nowhere", name="s", input=Raw(b"[]"), info=info)))

def be_killed():
    select.select([engine], [], [])
    engine.close()

if sys.argv[1] == "before it hears the answer":
    engine.shutdown(socket.SHUT_RD)
else:
    threading.Thread(target=be_killed).start()
main(worker)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, killed],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
