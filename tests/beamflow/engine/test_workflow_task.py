"""Tasks of a workflow: one order in all processes, and an end at any place."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from beamflow import receive, step
from beamflow.engine import workflow_task
from beamflow.engine.execution import Execution
from beamflow.engine.workflow_loop import WorkflowLoop
from tests.beamflow.engine.driver import Driver, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


@step
async def fetch(key: str) -> Any:
    return key


@step
async def other(key: str) -> Any:
    return key


async def keys() -> AsyncIterator[str]:
    """Yields what steps return; has something to do at its end."""
    try:
        for key in "abc":
            yield await fetch(key)
    finally:
        await other("last")


# Order


def test_sets_of_tasks_have_one_order_in_all_processes() -> None:
    """What depends on the order of a set is the same under every hash seed and address."""
    code = textwrap.dedent("""
        import asyncio, random
        from beamflow import workflow
        from tests.beamflow.engine.driver import Driver
        ballast = []

        def task(number: int) -> asyncio.Task[None]:
            for size in range(0, 480, 8):  # of each kind of block that small objects come from
                ballast.extend(bytes(size) for _ in range(random.randrange(4)))
            return asyncio.create_task(asyncio.sleep(1 + number % 3))

        async def code() -> list[int]:
            tasks = [task(number) for number in range(40)]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            order = [tasks.index(each) for each in (*done, *pending)]
            for each in asyncio.as_completed(tasks):
                await each
            return order

        driver = Driver.start(workflow(code))
        while driver.timers:
            driver.fire()
        print(driver.result)
    """)
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "2", "random")
    }
    assert len(outputs) == 1
    assert next(iter(outputs)).count(",") == 39


def test_anyio_cancels_siblings_in_the_order_of_their_creation() -> None:
    """It goes through a set of scopes, in the order of their addresses."""

    async def code() -> list[int]:
        order: list[int] = []

        async def wait(number: int) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                order.append(number)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(wait, number)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        return order

    for _ in range(10):
        assert running(code).result == list(range(20))


def test_a_task_shows_the_authors_code() -> None:
    """Its name counts the tasks of the workflow; what it shows is not our guard."""

    async def branch() -> str:
        task = asyncio.current_task()
        assert task is not None
        return repr(task)

    async def code() -> Any:
        task = asyncio.create_task(branch())
        coro = task.get_coro()
        shown = await task
        named = asyncio.create_task(branch(), name="ann")
        return getattr(coro, "__name__", ""), shown, await named

    name, shown, named = running(code).result
    assert name == "branch"
    assert "'task-2'" in shown
    assert "branch() running at" in shown
    assert "'ann'" in named


# Taken out of memory


@pytest.fixture(autouse=True)
def _no_warning_when_collected() -> Iterator[None]:
    """Whatever a test leaves to the garbage collector is left quietly."""
    yield
    gc.collect()


def evicted(code: Callable[[], Any], *, steps: int = 1) -> Driver:
    """Start a workflow, see that it waits for its step, and take it out of memory."""
    driver = running(code)
    assert len(driver.calls) == steps
    driver.execution.close()
    assert driver.execution.tasks == ()
    assert driver.execution.issued == []
    assert driver.execution.take_commands() == []
    return driver


seen: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


async def _sleeper() -> None:
    seen.append("ran")


async def _except_exception() -> None:
    try:
        await fetch("a")
    except Exception:  # noqa: BLE001 - that is what is tested
        seen.append("eaten")


async def _except_base_exception() -> None:
    try:
        await fetch("a")
    except BaseException:  # noqa: BLE001 - that is what is tested
        await other("b")
        seen.append("went on")


async def _except_for_ever() -> None:
    while True:
        try:
            await fetch("a")
        except BaseException:  # noqa: BLE001 - that is what is tested
            await asyncio.sleep(1)
            seen.append("went on")


async def _catches_each_end() -> None:
    while True:
        with contextlib.suppress(BaseException):
            await fetch("a")
            seen.append("went on")


async def _starts_tasks_for_ever() -> None:
    while True:
        with contextlib.suppress(BaseException):
            async with asyncio.TaskGroup() as group:
                group.create_task(fetch("a"))
            seen.append("went on")


async def _finally_awaits() -> None:
    try:
        await fetch("a")
    finally:
        seen.append("finally")
        await other("b")
        seen.append("went on")


async def _finally_retries() -> None:
    try:
        await fetch("a")
    finally:
        while True:
            try:
                await other("b")
                break
            except Exception:  # noqa: BLE001 - that is what is tested
                await asyncio.sleep(1)


async def _finally_starts_tasks() -> None:
    try:
        await fetch("a")
    finally:
        async with asyncio.TaskGroup() as group:
            group.create_task(_sleeper())
            group.create_task(other("b"))
        seen.append("went on")


async def _finally_receives() -> None:
    try:
        await fetch("a")
    finally:
        await receive("kept")
        seen.append("went on")


async def _outer_catches() -> None:
    try:
        await _except_base_exception()
    except Exception:  # noqa: BLE001 - that is what is tested
        seen.append("eaten")
        await asyncio.shield(other("c"))


async def _in_timeouts() -> None:
    try:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(asyncio.wait_for(fetch("a"), 3))
    except Exception:  # noqa: BLE001 - that is what is tested
        seen.append("eaten")


async def _in_anyio() -> None:
    try:
        with anyio.move_on_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(fetch, "a")
    except Exception:  # noqa: BLE001 - that is what is tested
        seen.append("eaten")


async def _with_unawaited() -> None:
    coroutines = [fetch("a"), other("b")]
    for each in coroutines:
        await each


async def _in_generator() -> None:
    async with contextlib.aclosing(keys()) as generator:
        await anext(generator)
        seen.append("went on")


@pytest.mark.parametrize(
    "code",
    [
        _except_exception,
        _except_base_exception,
        _except_for_ever,
        _catches_each_end,
        _starts_tasks_for_ever,
        _finally_awaits,
        _finally_retries,
        _finally_starts_tasks,
        _finally_receives,
        _outer_catches,
        _in_timeouts,
        _in_anyio,
        _with_unawaited,
        _in_generator,
    ],
)
def test_nothing_runs_on_when_a_workflow_leaves_memory(code: Callable[[], Any]) -> None:
    """No code goes past its next await, nothing is caught as an error, nothing is complained of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evicted(code)
        gc.collect()
    assert [each for each in seen if each != "finally"] == []


@pytest.mark.parametrize("code", [_except_exception, _finally_starts_tasks, _in_anyio])
def test_a_workflow_that_leaves_memory_leaves_it(code: Callable[[], Any]) -> None:
    """Nothing of it stays behind, in anyio's tables either."""
    there = weakref.ref(evicted(code).execution)
    gc.collect()
    assert there() is None


def test_a_generator_left_alone_does_not_wake_when_collected() -> None:
    """Its `finally` is for the end of the workflow, and this is not its end."""

    async def code() -> None:
        async for _ in keys():
            break
        await other("b")

    driver = running(code)
    driver.complete("fetch", "A")
    driver.execution.close()
    del driver
    gc.collect()


def test_a_kept_signal_is_not_taken_by_a_workflow_that_leaves() -> None:
    """What waits in memory waits in the log as well, for the next run."""
    driver = running(_finally_receives)
    driver.signal("kept")
    driver.execution.close()
    assert seen == []


def test_closing_twice_is_closing_once() -> None:
    """Nor does it matter whether the workflow has ended."""
    driver = evicted(_except_exception)
    driver.execution.close()
    ended = running(_sleeper)
    ended.execution.close()
    assert seen == ["ran"]


def test_a_task_that_was_not_made_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of making one: the workflow can leave memory, and Python lives."""

    def interrupt(_loop: WorkflowLoop) -> bool:
        monkeypatch.undo()
        raise KeyboardInterrupt

    async def code() -> None:
        async def more() -> None: ...

        late = more()
        monkeypatch.setattr(WorkflowLoop, "get_debug", interrupt)
        try:
            await asyncio.create_task(late)
        finally:
            late.close()

    made: list[Execution] = []
    init = Execution.__init__

    def remember(execution: Execution, *arguments: Any) -> None:
        init(execution, *arguments)
        made.append(execution)

    monkeypatch.setattr(Execution, "__init__", remember)
    with pytest.raises(KeyboardInterrupt):
        running(code)
    assert not made[0].tasks
    made[0].close()


def test_what_cannot_be_ended_is_kept_asleep() -> None:
    """The garbage collector would wake it again; so it is not let go."""
    before = len(workflow_task._undying)
    evicted(_catches_each_end)
    assert len(workflow_task._undying) == before + 1
