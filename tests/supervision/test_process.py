"""Children in processes of their own: all that holds for a child holds, and they can be killed."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervision import (
    BRUTAL_KILL,
    ActorRef,
    ActorStoppedError,
    CallTimeoutError,
    ChildSpec,
    ChildStartError,
    DeadLetter,
    DynamicSupervisor,
    Event,
    Exited,
    MailboxFullError,
    NotPicklableError,
    ProcessDiedError,
    Registry,
    RemoteError,
    Shutdown,
    SpecError,
    Started,
    Stop,
    Supervisor,
    run,
)
from supervision.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("isolated", HERE / "isolated.py")
assert _spec is not None
assert _spec.loader is not None
isolated = importlib.util.module_from_spec(_spec)
sys.modules["isolated"] = isolated
_spec.loader.exec_module(isolated)

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture(autouse=True)
def findable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find the module of their children on the path of this one."""
    monkeypatch.syspath_prepend(HERE)


def spec(start: Callable[..., object], **options: object) -> ChildSpec:
    return ChildSpec("guest", start, isolation="process", **options)


@pytest.fixture
async def events() -> list[Event]:
    return []


@pytest.fixture
async def sup(events: list[Event]) -> AsyncIterator[object]:
    async with run(DynamicSupervisor(max_restarts=10), observer=events.append) as ref:
        yield ref


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped has, too."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in {"Z", "X"}


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)


async def next_life(sup, before: ActorRef) -> ActorRef:
    async with asyncio.timeout(20):
        while True:
            refs = [info.ref for info in await sup.which_children()]
            if refs and refs[0] is not None and refs[0] != before:
                return refs[0]


async def test_a_ref_works_as_any_other(sup, events, tmp_path):
    """Calls, casts, infos, deferred replies, state, monitors and stop, in order, over the pipe."""
    note = tmp_path / "note"
    ref = await sup.start_child(spec(partial(isolated.Guest, str(note))))
    downs = []
    ref.monitor(downs.append)
    pid = await ref.call("pid")
    assert pid != os.getpid()
    ref.cast(1)
    ref.send(2)
    later = asyncio.ensure_future(ref.call("later"))
    assert await ref.call({"three": 3}) == {"three": 3}
    ref.cast("now")
    assert await later == "at last"
    assert await ref.call("handled by now")
    assert await ref.get_state() == ["begun", 1, ("info", 2), "now"]
    with pytest.raises(LookupError, match="no such thing"):
        await ref.call("fail")
    assert ref.alive
    await ref.stop(Shutdown("enough"))
    assert note.read_text() == "Shutdown('enough')\n"
    assert ref.reason == Shutdown("enough")
    await asyncio.sleep(0)
    assert [(down.ref, down.reason) for down in downs] == [(ref, Shutdown("enough"))]
    assert gone(pid)
    mine = [event for event in events if event.incarnation == ref.incarnation]
    assert mine[0] == Started("/root/guest", ref.incarnation)
    assert mine[1] == Exited("/root/guest", ref.incarnation, Shutdown("enough"), requested=False)


async def test_function_children(sup):
    """A coroutine function runs in a process as well; it has no mailbox and ends at once when asked to."""
    waiting = await sup.start_child(spec(isolated.waits))
    with pytest.raises(ActorStoppedError):
        await waiting.call("anything")
    await sup.terminate_child(waiting)
    assert waiting.reason == "shutdown"
    ended = await sup.start_child(spec(isolated.ends, restart="temporary"))
    assert await ended.wait() == "boom"
    odd = await sup.start_child(spec(isolated.ends_unpicklably, restart="temporary"))
    reason = await odd.wait()
    assert isinstance(reason, Shutdown)
    assert "lambda" in reason.term


async def test_info_and_extra_arguments():
    """The info of a start function and a supervisor's extra arguments cross over."""
    async with run(DynamicSupervisor(extra_arguments=("note", 2))) as sup:
        ref = await sup.start_child(spec(isolated.Guest, shutdown=BRUTAL_KILL))
        assert await ref.call("x") == "x"
    async with run(DynamicSupervisor()) as sup:
        ref = await sup.start_child(spec(isolated.with_info))
        assert ref.info == "about it"


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (partial(isolated.Numb, "raise"), LookupError),
        (isolated.constructor_fails, LookupError),
        (partial(isolated.Numb, "exit"), ProcessDiedError),
    ],
)
async def test_failed_starts(sup, start, reason):
    """A child that does not come up in its process is a start failure with the child's own error."""
    with pytest.raises(ChildStartError) as failure:
        await sup.start_child(spec(start))
    assert isinstance(failure.value.reason, reason)
    assert await sup.which_children() == []


async def test_ignore_and_start_timeout(sup):
    """A child may say IGNORE from there; one that blocks its process in its init is killed in time."""
    assert await sup.start_child(spec(isolated.ignores)) is None
    assert await sup.start_child(spec(partial(isolated.Numb, "ignore"))) is None
    began = time.monotonic()
    with pytest.raises(ChildStartError, match="timeout"):
        await sup.start_child(spec(partial(isolated.Numb, "block"), start_timeout=1.0))
    assert time.monotonic() - began < 10


async def test_crash_and_restart(sup):
    """What is raised there is the exit reason here, with its traceback; the next life has a new process."""
    ref = await sup.start_child(spec(isolated.Guest))
    pid = await ref.call("pid")
    with pytest.raises(ActorStoppedError, match="broken"):
        await ref.call(ValueError("broken"))
    assert isinstance(ref.reason, ValueError)
    assert "handle_call" in ref.reason.__cause__.trace
    second = await next_life(sup, ref)
    assert await second.call("pid") != pid
    with pytest.raises(ActorStoppedError):
        await second.call("crash unpicklably")
    assert isinstance(second.reason, RemoteError)
    assert second.reason.kind == "isolated.Unpicklable"
    third = await next_life(sup, second)
    third.cast("beside")
    assert isinstance(await third.wait(), LookupError)


async def test_a_process_that_dies(sup):
    """A process that ends without a word is an abnormal exit; whoever waits for an answer hears of it."""
    ref = await sup.start_child(spec(isolated.Guest))
    owed = asyncio.ensure_future(ref.call("never"))
    with pytest.raises(ActorStoppedError):
        await ref.call("die")
    with pytest.raises(ActorStoppedError):
        await owed
    assert ref.reason.exit_code == 7
    second = await next_life(sup, ref)
    os.kill(await second.call("pid"), signal.SIGKILL)
    reason = await second.wait()
    assert reason.exit_code == -signal.SIGKILL
    await next_life(sup, second)


@pytest.mark.parametrize("deed", ["sleep", "block", "hold the interpreter"])
@pytest.mark.parametrize("shutdown", [0.1, BRUTAL_KILL])
async def test_the_ladder_ends_in_sigkill(events, deed, shutdown):
    """Whatever its code does, a child that does not end within its budget is killed for good."""
    async with run(DynamicSupervisor(), observer=events.append) as sup:
        ref = await sup.start_child(spec(isolated.Guest, shutdown=shutdown))
        pid = await ref.call("pid")
        asked = asyncio.ensure_future(ref.call(deed, timeout=None))
        await asyncio.sleep(0.05)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert gone(pid)
    with pytest.raises(ActorStoppedError):
        await asked
    # asleep it sees the request to stop in time, unless nobody asks it
    polite = deed == "sleep" and shutdown is not BRUTAL_KILL
    assert ref.reason == ("shutdown" if polite else "killed")


async def test_terminate_has_its_budget_and_no_more(tmp_path):
    """terminate runs in the process; a budget that is over cuts it off."""
    note = tmp_path / "note"
    async with run(DynamicSupervisor()) as sup:
        ref = await sup.start_child(spec(partial(isolated.Guest, str(note)), shutdown=0.5))
        pid = await ref.call("pid")
        ref.cast("slowly")
        assert await ref.call("handled by now")
    assert note.read_text() == "'shutdown'\n"
    assert ref.reason == "killed"
    assert gone(pid)


async def test_kill_and_exit(sup):
    """A ref's kill and exit work from outside, while the child is busy."""
    ref = await sup.start_child(spec(isolated.Guest, restart="temporary"))
    busy = asyncio.ensure_future(ref.call("block", timeout=None))
    await asyncio.sleep(0.05)
    ref.kill()
    assert await ref.wait(timeout=5) == "killed"
    ref = await sup.start_child(spec(isolated.Guest, restart="temporary"))
    ref.exit("leave")
    assert await ref.wait(timeout=5) == "leave"
    with suppress(ActorStoppedError):
        await busy


async def test_the_mailbox_is_on_this_side(sup, events):
    """Limits, time-outs and dead letters are those of any actor; one message at a time goes over."""
    ref = await sup.start_child(spec(isolated.Guest, restart="temporary"))
    with pytest.raises(CallTimeoutError):
        await ref.call("sleep", timeout=0.1)
    for number in range(3):
        ref.cast(number)
    with pytest.raises(MailboxFullError):
        ref.cast(3)
    ref.kill()
    await ref.wait()
    ref.cast("late")
    letters = [(e.message, e.why) for e in events if isinstance(e, DeadLetter)]
    assert letters == [(0, "stopped"), (1, "stopped"), (2, "stopped"), ("late", "noproc")]


async def test_what_cannot_be_sent(sup, events):
    """A call with an unpicklable request or answer fails, a cast is a dead letter; the child lives on."""
    ref = await sup.start_child(spec(isolated.Guest))
    with pytest.raises(NotPicklableError, match="a request to /root/guest, of type function"):
        await ref.call(lambda: None)
    with pytest.raises(NotPicklableError, match="an answer of /root/guest, of type function"):
        await ref.call("answer unpicklably")
    with pytest.raises(RemoteError, match="Unpicklable"):
        await ref.call("fail unpicklably")
    ref.cast(print_nothing := lambda: None)
    ref.send("unhandled")
    assert await ref.call("handled by now")
    assert await ref.get_state() == ["begun", ("info", "unhandled")]
    letters = {e.why: e.message for e in events if isinstance(e, DeadLetter)}
    assert letters == {"unpicklable": print_nothing, "unhandled": "unhandled"}
    assert {e.incarnation for e in events if isinstance(e, DeadLetter)} == {ref.incarnation}


async def test_what_cannot_be_made_again(sup, events):
    """What arrives and cannot be unpickled is refused like what cannot be sent; the child lives on."""
    ref = await sup.start_child(spec(isolated.Guest))
    with pytest.raises(NotPicklableError, match="a request to /root/guest, of type OneWay"):
        await ref.call(isolated.OneWay(1, 2))
    with pytest.raises(NotPicklableError, match="an answer of /root/guest, of type OneWay"):
        await ref.call("answer one way")
    ref.cast(isolated.OneWay(1, 2))
    ref.send("unhandled one way")
    assert await ref.call("handled by now")
    assert await ref.get_state() == ["begun", ("info", "unhandled one way")]
    letters = [(e.why, e.message) for e in events if isinstance(e, DeadLetter)]
    assert letters[0] == ("unpicklable", "OneWay")
    assert letters[1][0] == "unpicklable"
    with pytest.raises(ChildStartError, match="OneWay"):
        await sup.start_child(spec(isolated.with_info_one_way))


async def test_names_of_isolated_children(sup):
    """A name belongs to the child, whichever process it is in."""
    registry = Registry()
    await sup.start_child(spec(registry.via("guest", isolated.Guest)))
    assert await registry.name("guest").call("hello") == "hello"


def test_a_spec_that_cannot_cross_is_refused_at_once():
    """At declaration, with a typed error, and not when the child is started some day."""
    for start in (lambda: isolated.Guest("x"), partial(isolated.Guest, lambda: None)):
        with pytest.raises(SpecError) as refused:
            spec(start)
        assert refused.value.atom == "not_picklable"
    with pytest.raises(SpecError, match="bad_combination"):
        spec(isolated.Guest, type="supervisor")
    with pytest.raises(SpecError, match="invalid_isolation"):
        ChildSpec("guest", isolated.Guest, isolation="thread")


async def test_the_tree_shows_the_process():
    """A snapshot tells what runs in the process, and its pid."""
    system = run(Supervisor([spec(isolated.Guest)]))
    async with system as sup:
        ref = (await sup.which_child("guest")).ref
        node = system.tree().children[0]
        assert (node.kind, node.pid) == ("Guest", await ref.call("pid"))


HOST = """
import asyncio, sys
from functools import partial
sys.path.insert(0, sys.argv[1])
import isolated
from supervision import ChildSpec, Supervisor, run

async def main():
    async with run(Supervisor([ChildSpec("guest", isolated.Guest, isolation="process")])) as sup:
        guest = (await sup.which_child("guest")).ref
        print(await guest.call("pid"), flush=True)
        await guest.call(sys.argv[2], timeout=None)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("deed", ["sleep", "block", "hold the interpreter"])
async def test_it_dies_with_its_parent_process(tmp_path, deed):
    """A parent that is killed leaves nobody behind, not even code that never lets go."""
    host = tmp_path / "host.py"
    host.write_text(HOST)
    parent = subprocess.Popen(  # noqa: ASYNC220 - it is killed, not waited for
        [sys.executable, host, HERE, deed], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        await asyncio.sleep(0.2)
        parent.kill()
        parent.wait()
    await until(lambda: gone(pid))


async def test_stop_raised_there(sup):
    """Stop in a process ends the life with the reason that it chose."""
    ref = await sup.start_child(spec(isolated.Guest, restart="transient"))
    with pytest.raises(ActorStoppedError):
        await ref.call(Stop("normal"))
    assert ref.reason == "normal"
    assert await sup.which_children() == []


async def test_a_process_leaves_nothing_unclosed(tmp_path):
    """No warning of it reaches the terminal, whether its child is stopped or crashes."""
    host = tmp_path / "host.py"
    host.write_text(STRICT)
    ran = subprocess.run(  # noqa: ASYNC221 - there is nothing else to do
        [sys.executable, "-X", "dev", "-W", "error", host, HERE],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


STRICT = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import isolated
from supervision import ActorStoppedError, ChildSpec, Supervisor, run

async def main():
    async with run(Supervisor([ChildSpec("guest", isolated.Guest, isolation="process")])) as root:
        guest = (await root.which_child("guest")).ref
        try:
            await guest.call(ValueError("on purpose"))
        except ActorStoppedError:
            pass

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_transport_need_not_be_one_of_asyncio_by_class():
    """Those of uvloop are not: a wire writes to whatever the loop has connected it to."""
    written: list[bytes] = []

    class Transport:
        write = staticmethod(written.append)

    wire = Wire(lambda _: None, lambda: None)
    wire.connection_made(Transport())
    wire.send("frame")
    assert written
