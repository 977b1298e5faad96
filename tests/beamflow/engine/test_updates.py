"""Updates: validated, one effect and one reply for each request, whatever crashes when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from beamflow import (
    DefinitionError,
    Engine,
    PayloadError,
    ReadOnlyError,
    UnknownHandlerError,
    UpdateExistsError,
    UpdateFailedError,
    UpdateRejectedError,
    WorkflowCancelledError,
    WorkflowClosedError,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowParkedError,
    WorkflowState,
    on_signal,
    on_update,
    publish,
    query,
    receive,
    signal,
    step,
    until,
    update,
    workflow,
)
from beamflow.engine import workflow_loop
from beamflow.events import (
    SignalReceived,
    StepCompleted,
    UpdateAccepted,
    UpdateCompleted,
    WorkflowCompleted,
)
from supervision.testing import settle
from tests.beamflow.engine.cuts import cut_store
from tests.beamflow.engine.test_workflow_actor import GatedStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from beamflow import WorkflowHandle
    from beamflow.stores.base import Store
    from beamflow.stores.memory import MemoryStore
    from supervision.testing import ManualClock


class SoldOutError(Exception):
    """An error that an update declares."""


class OtherError(Exception):
    """One that none declares."""


@step
async def reserve(item: str) -> str:
    return f"reserved {item}"


class Shut:
    """A door that steps wait at."""

    door: asyncio.Event
    mended = False


@step
async def wait_at_the_door(item: str) -> str:
    await Shut.door.wait()
    return item


@step
async def fails_at_first() -> None:
    if not Shut.mended:
        raise LookupError


@pytest.fixture(autouse=True)
async def _door() -> None:
    Shut.door = asyncio.Event()


@workflow
class Cart:
    def __init__(self) -> None:
        self.items: list[str] = []
        self.closed = False

    async def run(self) -> list[str]:
        await until(lambda: self.closed)
        return self.items

    @update
    async def add(self, item: str, count: int = 1) -> int:
        for _ in range(count):
            self.items.append(await reserve(item))
        return len(self.items)

    @add.validator
    def check(self, item: str, count: int = 1) -> None:
        if not item or count > 3:
            raise ValueError(f"no {count} of {item!r}")

    @update
    def count(self) -> int:
        return len(self.items)

    @update(raises=[SoldOutError])
    async def fail(self, how: str) -> None:
        if how == "step":
            await refuse(how)
        errors = {"declared": SoldOutError, "builtin": LookupError, "other": OtherError}
        raise errors[how](how)

    @update
    async def slow(self, item: str) -> str:
        return await wait_at_the_door(item)

    @signal
    def close(self) -> None:
        self.closed = True

    @query
    def size(self) -> int:
        return len(self.items)


@step(raises=[SoldOutError])
async def refuse(how: str) -> None:
    raise SoldOutError(how)


async def kinds(handle: WorkflowHandle[Any], *some: type) -> int:
    return sum(isinstance(each.event, some) for each in await handle.history())


async def test_an_update_has_its_reply(place: str | Store) -> None:
    """By its type or as plain data, with and without steps; it is in the log."""
    async with Engine(place, workflows=[Cart]) as engine:
        handle = await engine.start(Cart)
        assert await handle.update(Cart.count) == 0
        assert await handle.update(Cart.add, "tea", 2) == 2
        assert await handle.update("add", "jam", type=int) == 3
        assert await handle.update("count") == 3
        await handle.signal(Cart.close)
        assert await handle.result() == ["reserved tea", "reserved tea", "reserved jam"]
        assert await kinds(handle, UpdateAccepted) == await kinds(handle, UpdateCompleted) == 4


async def test_a_handler_without_steps_is_one_append(memory: MemoryStore) -> None:
    """Request and reply, behind each other."""
    async with Engine(memory, workflows=[Cart]) as engine:
        handle = await engine.start(Cart)
        await handle.update(Cart.count, id="r")
        _, accepted, replied = await handle.history()
        assert (accepted.event.id, replied.event.id) == ("r", "r")  # type: ignore[union-attr]
        assert accepted.time == replied.time


# Requests


async def test_the_same_request_has_one_effect_and_one_reply(place: str | Store) -> None:
    """At once, later, after a restart, after the end; another one with its id is refused."""
    async with Engine(place, workflows=[Cart]) as engine:
        handle = await engine.start(Cart, id="one")
        replies = await asyncio.gather(*(handle.update(Cart.add, "tea", id="r") for _ in range(5)))
        assert replies == [1] * 5
        assert await handle.update(Cart.add, "tea", id="r") == 1
        assert await handle.update(Cart.add, "tea", id="other") == 2
    for closed in (False, True):
        async with Engine(place, workflows=[Cart]) as engine:
            handle = engine.handle("one")
            assert await handle.update(Cart.add, "tea", id="r") == 1
            with pytest.raises(UpdateExistsError, match="other arguments"):
                await handle.update(Cart.add, "jam", id="r")
            with pytest.raises(UpdateExistsError, match="update 'add'"):
                await handle.update(Cart.count, id="r")
            if not closed:
                await handle.signal(Cart.close)
                assert len(await handle.result()) == 2
            assert await kinds(handle, UpdateAccepted) == 2


async def test_whoever_asks_again_waits_for_the_same_reply(memory: MemoryStore) -> None:
    """And whoever gives up waiting leaves the others, and the handler, alone."""
    async with Engine(memory, workflows=[Cart]) as engine:
        handle = await engine.start(Cart)
        asking = [asyncio.create_task(handle.update(Cart.slow, "x", id="r")) for _ in range(3)]
        await settle()
        asking[0].cancel()
        await settle()
        Shut.door.set()
        replies = await asyncio.gather(*asking, return_exceptions=True)
        assert replies[1:] == ["x", "x"]
        assert await kinds(handle, StepCompleted) == 1


async def test_a_rejected_request_leaves_no_trace(memory: MemoryStore) -> None:
    """Nothing is recorded; its id is free; the exception is the cause."""
    async with Engine(memory, workflows=[Cart]) as engine:
        handle = await engine.start(Cart)
        with pytest.raises(UpdateRejectedError, match="no 9 of 'tea'") as caught:
            await handle.update(Cart.add, "tea", 9, id="r")
        assert caught.value.error_type == "builtins.ValueError"
        assert isinstance(caught.value.__cause__, ValueError)
        assert len(await handle.history()) == 1
        assert await handle.update(Cart.add, "tea", 3, id="r") == 3


async def test_a_validator_sees_what_the_requests_before_it_did(memory: MemoryStore) -> None:
    """Also where they come in one turn: the last place is given away once."""

    @workflow
    async def places(count: int) -> list[str]:
        taken: list[str] = []

        def check(who: str) -> None:
            if len(taken) == count:
                raise SoldOutError(who)

        on_update("take", taken.append, validator=check)
        await receive("close")
        return taken

    async with Engine(memory, workflows=[places]) as engine:
        handle = await engine.start(places, 2)
        replies = await asyncio.gather(
            *(handle.update("take", who) for who in "abcd"), return_exceptions=True
        )
        assert sum(isinstance(reply, UpdateRejectedError) for reply in replies) == 2
        await handle.signal("close")
        assert len(await handle.result()) == 2


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("declared", SoldOutError),
        ("step", SoldOutError),
        ("builtin", LookupError),
        ("other", UpdateFailedError),
    ],
)
async def test_the_error_of_a_handler_is_its_reply(
    place: str | Store, how: str, kind: type[Exception]
) -> None:
    """As itself where that is builtin or declared; the workflow goes on."""
    async with Engine(place, workflows=[Cart]) as engine:
        handle = await engine.start(Cart, id="one")
        with pytest.raises(kind, match=how):
            await handle.update(Cart.fail, how, id="r")
        assert await handle.update(Cart.count) == 0
    async with Engine(place, workflows=[Cart]) as engine:
        with pytest.raises(kind, match=how) as caught:
            await engine.handle("one").update(Cart.fail, how, id="r")
        if isinstance(caught.value, UpdateFailedError):
            assert caught.value.error_type.endswith("OtherError")
            assert "raise errors[how](how)" in caught.value.traceback


async def test_by_name_declared_errors_arrive_as_data(memory: MemoryStore) -> None:
    """The caller has not said what they are."""
    async with Engine(memory, workflows=[Cart]) as engine:
        handle = await engine.start(Cart)
        with pytest.raises(UpdateFailedError, match="SoldOutError: declared"):
            await handle.update("fail", "declared")


async def test_what_cannot_be_asked_for_is_refused(memory: MemoryStore) -> None:
    """Nothing of it is recorded."""
    async with Engine(memory, workflows=[Cart]) as engine:
        handle = await engine.start(Cart)
        with pytest.raises(PayloadError, match="arguments of update 'add'"):
            await handle.update(Cart.add, 3)  # type: ignore[arg-type]
        with pytest.raises(PayloadError, match="arguments of update 'add'"):
            await handle.update("add", 3)
        with pytest.raises(UnknownHandlerError, match="it has: add, count, fail, slow"):
            await handle.update("nothing")
        with pytest.raises(DefinitionError, match="is no update"):
            await handle.update(Cart.size)  # type: ignore[arg-type]
        with pytest.raises(DefinitionError, match="is refused"):
            await handle.update(Cart.count, id="\n")
        with pytest.raises(WorkflowNotFoundError):
            await engine.handle("nobody").update("add", "x")
        assert len(await handle.history()) == 1


async def test_a_validator_that_acts_is_refused_and_does_nothing(memory: MemoryStore) -> None:
    """Its workflow is brought back from its log, and no worse for it."""

    @workflow
    async def code() -> str:
        on_update("act", lambda: None, validator=lambda: publish("x", 1))
        on_update("look", lambda: "seen")
        return str(await receive("go"))

    async with Engine(memory, workflows=[code]) as engine:
        handle = await engine.start(code)
        for _ in range(6):
            with pytest.raises(ReadOnlyError):
                await handle.update("act")
        assert await handle.update("look") == "seen"
        await handle.signal("go", "on")
        assert await handle.result() == "on"
        assert await kinds(handle, UpdateAccepted) == 1
        assert len(await handle.history()) == 5


# The state of the workflow


async def test_a_paused_workflow_takes_requests(memory: MemoryStore) -> None:
    """The handler runs as far as it can without a step; the reply comes when it is resumed."""
    async with Engine(memory, workflows=[Cart]) as engine:
        handle = await engine.start(Cart)
        await handle.pause()
        assert await handle.update(Cart.count) == 0
        asking = asyncio.create_task(handle.update(Cart.add, "tea"))
        await settle()
        assert not asking.done()
        assert await kinds(handle, UpdateAccepted) == 2
        await handle.resume()
        assert await asking == 1


async def test_the_end_of_the_workflow_cuts_handlers_off(place: str | Store) -> None:
    """The reply says so, at once and to whoever asks again."""
    async with Engine(place, workflows=[Cart]) as engine:
        handle = await engine.start(Cart, id="one")
        asking = asyncio.create_task(handle.update(Cart.slow, "x", id="r"))
        async for recorded in handle.events():
            if isinstance(recorded.event, UpdateAccepted):
                break
        await handle.signal(Cart.close)
        assert await handle.result() == []
        for wait in (asking, handle.update(Cart.slow, "x", id="r")):
            with pytest.raises(UpdateFailedError, match="workflow ended before"):
                await wait
        with pytest.raises(WorkflowClosedError, match="takes no update 'slow'"):
            await handle.update(Cart.slow, "x", id="other")


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_a_cancelled_workflow_replies_too(memory: MemoryStore, how: str) -> None:
    """Also one that was ended where it stood, which records no reply."""
    async with Engine(memory, workflows=[Cart]) as engine:
        handle = await engine.start(Cart)
        asking = asyncio.create_task(handle.update(Cart.slow, "x", id="r"))
        await settle()
        await getattr(handle, how)()
        with pytest.raises(WorkflowCancelledError):
            await handle.result()
        for wait in (asking, handle.update(Cart.slow, "x", id="r")):
            with pytest.raises(UpdateFailedError, match="workflow ended before"):
                await wait


async def test_a_workflow_that_is_ending_takes_no_request(memory: MemoryStore) -> None:
    """Its function has ended; what it left behind still runs."""

    @workflow
    async def lingering() -> None:
        async def behind() -> None:
            try:
                await receive("never")
            finally:
                await receive("last")

        on_update("x", lambda: 1)
        task = asyncio.create_task(behind())
        await receive("go")
        assert not task.done()

    async with Engine(memory, workflows=[lingering]) as engine:
        handle = await engine.start(lingering)
        await handle.signal("go")
        with pytest.raises(WorkflowClosedError, match="is ending"):
            await handle.update("x")
        await handle.signal("last")
        await handle.result()


async def test_a_parked_workflow_keeps_the_request_without_a_reply(memory: MemoryStore) -> None:
    """Whoever asks is told, and has the reply after the fix, by the same request."""
    bad = True

    @workflow
    async def parks() -> None:
        async def act() -> str:
            item = await reserve("x")
            if bad:
                await asyncio.to_thread(print)
            return item

        on_update("act", act)
        await receive("end")

    async with Engine(memory, workflows=[parks]) as engine:
        handle = await engine.start(parks, id="one")
        for said in ("no reply yet", "no reply yet"):
            with pytest.raises(WorkflowParkedError, match=said):
                await handle.update("act", id="r")
        with pytest.raises(WorkflowParkedError, match="was not taken"):
            await handle.update("act", id="new")
        bad = False
        await engine.dead_letters.retry("one")
        assert await handle.update("act", id="r") == "reserved x"
        assert (await handle.status()).state is WorkflowState.RUNNING


# Crashes


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("kind", [UpdateAccepted, StepCompleted, UpdateCompleted])
async def test_a_request_survives_the_death_of_the_actor(
    clock: ManualClock, kind: type, moment: str
) -> None:
    """Before or after any of its commits: one effect, one reply, and the caller need not know."""
    store = GatedStore(clock)
    async with Engine(store, workflows=[Cart], clock=clock) as engine:
        handle = await engine.start(Cart, id="one")
        setattr(store, moment, kind)
        asking = asyncio.create_task(handle.update(Cart.add, "tea"))
        await store.held.wait()
        store.before = store.after = None
        engine._services.actors["one"].kill()
        assert await asking == 1
        await handle.signal(Cart.close)
        assert await handle.result() == ["reserved tea"]
        assert await kinds(handle, UpdateAccepted) == await kinds(handle, UpdateCompleted) == 1


@workflow
class Busy:
    """Requests of both forms, with notes and steps between them."""

    def __init__(self) -> None:
        self.total = 0

    async def run(self) -> int:
        publish("began", 1)
        await until(lambda: self.total >= 30)
        publish("ended", self.total)
        return self.total

    @update
    async def add(self, number: int) -> int:
        await reserve(f"{number}")
        self.total += number
        publish("total", self.total)
        return self.total

    @update
    def double(self) -> int:
        self.total *= 2
        return self.total


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_kill_at_any_event_leaves_one_effect_and_one_reply(
    tmp_path: Path, kind: str
) -> None:
    """Whoever asks again with the same ids finishes the same run."""

    async def ask(handle: WorkflowHandle[Any]) -> list[int]:
        return [
            await handle.update(Busy.add, 5, id="a"),
            await handle.update(Busy.double, id="b"),
            await handle.update(Busy.add, 10, id="c"),
            await handle.update(Busy.add, 10, id="d"),
        ]

    async with Engine("memory://", workflows=[Busy]) as engine:
        handle = await engine.start(Busy, id="wf")
        assert await ask(handle) == [5, 10, 20, 30]
        assert await handle.result() == 30
        history = await handle.history()
    wanted = [type(each.event).__name__ for each in history]
    for cut in range(1, len(history) + 1):
        file = None if kind == "memory" else tmp_path / f"{cut}.db"
        async with Engine(await cut_store(history, cut, file), workflows=[Busy]) as engine:
            handle = engine.handle("wf")
            assert await ask(handle) == [5, 10, 20, 30]
            assert await handle.result() == 30
            now = [type(each.event).__name__ for each in await handle.history()]
            assert now == wanted, cut


async def test_an_unread_reply_of_changed_code_is_noticed(memory: MemoryStore) -> None:
    """Replies are compared on replay, but for the text of their errors."""

    def replying(reply: Callable[[], Any]) -> Any:
        @workflow(name="replies")
        async def replies() -> None:
            on_update("ask", reply)
            await receive("end")

        return replies

    def raises(text: str) -> Callable[[], Any]:
        def reply() -> None:
            raise LookupError(text)

        return reply

    one, other = replying(lambda: 1), replying(lambda: 2)
    async with Engine(memory, workflows=[one]) as engine:
        await (await engine.start(one, id="one")).update("ask")
    async with Engine(memory, workflows=[other]) as engine:
        with pytest.raises(WorkflowParkedError, match="reply to update"):
            await engine.handle("one").result()
    one, other = replying(raises("at 0x1")), replying(raises("at 0x2"))
    async with Engine(memory, workflows=[one]) as engine:
        handle = await engine.start(one, id="two")
        with pytest.raises(LookupError):
            await handle.update("ask", id="r")
    async with Engine(memory, workflows=[other]) as engine:
        handle = engine.handle("two")
        with pytest.raises(LookupError, match="0x1"):
            await handle.update("ask", id="r")
        await handle.signal("end")
        await handle.result()


async def test_a_request_that_the_code_has_no_handler_for_on_replay_parks(
    memory: MemoryStore,
) -> None:
    """Its log says that there was one."""

    @workflow(name="w")
    async def old() -> None:
        on_update("ask", lambda: 1)
        await receive("end")

    @workflow(name="w")
    async def new() -> None:
        await receive("end")

    async with Engine(memory, workflows=[old]) as engine:
        await (await engine.start(old, id="one")).update("ask")
    async with Engine(memory, workflows=[new]) as engine:
        with pytest.raises(WorkflowParkedError, match="no handler of that name"):
            await engine.handle("one").result()


async def test_signals_and_requests_of_one_sender_keep_their_order(memory: MemoryStore) -> None:
    """What was acknowledged first is seen first."""
    seen: list[str] = []

    @workflow
    async def code() -> list[str]:
        on_signal("s", lambda: seen.append("s"))
        on_update("u", lambda: seen.append("u"))
        await receive("end")
        return seen

    async with Engine(memory, workflows=[code]) as engine:
        handle = await engine.start(code)
        for _ in range(3):
            await handle.signal("s")
            await handle.update("u")
        await handle.signal("end")
        assert await handle.result() == ["s", "u"] * 3
        assert await kinds(handle, SignalReceived, WorkflowCompleted) == 5


async def test_a_request_behind_what_spoils_the_code_is_not_taken(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can look at it then: it is not in the log, and its sender hears that."""
    monkeypatch.setattr(workflow_loop, "_CALLBACKS_MAX", 1_000)

    @workflow
    async def spins() -> None:
        async def spin() -> None:
            while True:  # noqa: ASYNC110 - it is what must not be
                await asyncio.sleep(0)

        on_signal("spin", spin)
        on_update("x", lambda: 1)
        await receive("never")

    async with Engine(memory, workflows=[spins]) as engine:
        handle = await engine.start(spins)
        sending, asking = await asyncio.gather(
            handle.signal("spin"), handle.update("x"), return_exceptions=True
        )
        assert sending is None
        assert isinstance(asking, WorkflowParkedError)
        assert await kinds(handle, SignalReceived) == 1
        assert await kinds(handle, UpdateAccepted) == 0


async def test_a_handler_goes_on_in_the_next_try(
    place: str | Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cut it off was taken back, and so was the reply that said so."""
    monkeypatch.setattr(Shut, "mended", False)

    async def slowly(item: str) -> str:
        return await wait_at_the_door(item)

    @workflow
    async def flaky() -> None:
        on_update("slow", slowly)
        await receive("go")
        await fails_at_first()
        await receive("end")

    async with Engine(place, workflows=[flaky]) as engine:
        handle = await engine.start(flaky)
        asking = asyncio.create_task(handle.update("slow", "x", id="r"))
        async for recorded in handle.events():
            if isinstance(recorded.event, UpdateAccepted):
                break
        await handle.signal("go")
        with pytest.raises(UpdateFailedError, match="workflow ended before"):
            await asking
        with pytest.raises(WorkflowFailedError):
            await handle.result()
        Shut.mended = True
        await handle.retry_from()
        asking = asyncio.create_task(handle.update("slow", "x", id="r"))
        async for recorded in handle.events():
            if isinstance(recorded.event, StepCompleted):
                break
        Shut.door.set()
        assert await asking == "x"
        await handle.signal("end")
        await handle.result()
        assert await handle.update("slow", "x", id="r") == "x"
