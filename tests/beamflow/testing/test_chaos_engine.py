"""Engines under chaos: whatever strikes, each workflow ends, and what was recorded stays."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from beamflow import (
    Engine,
    Retry,
    WorkflowFailedError,
    WorkflowParkedError,
    current_step,
    receive,
    signal,
    step,
    until,
    workflow,
)
from beamflow.model.events import SignalReceived, StepCompleted
from beamflow.testing.chaos_engine import ChaosEngine, Ending
from beamflow.testing.faulty_store import EngineFault
from supervision.chaos import Chaos
from supervision.faults import MESSAGE_FAULTS, Fault, FaultPlan
from supervision.testing import Ledger, eventually, restarted
from supervision.virtual import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from random import Random

    from supervision.virtual import VirtualClock

PATIENT = Retry(max_attempts=20, initial=0.1, max=1.0)
outside: list[Ledger] = []


def effect(*name: str) -> None:
    outside[-1].do(name, key=current_step().idempotency_key)


@step(retry=PATIENT)
async def check(order: str, which: int) -> bool:
    effect("check", order, str(which))
    await asyncio.sleep(0.2)
    return True


@step(retry=PATIENT, timeout=5.0)
async def reserve(order: str) -> str:
    effect("reserve", order)
    await asyncio.sleep(1.0)
    return f"reservation of {order}"


@reserve.compensation(retry=PATIENT)
async def release(reservation: str, order: str) -> None:
    assert reservation == f"reservation of {order}"
    effect("release", order)


@step(retry=PATIENT)
def charge(order: str) -> None:
    effect("charge", order)


@charge.compensation(retry=PATIENT)
def refund(charged: None, order: str) -> None:
    effect("refund", order)


@step
async def ship(order: str) -> str:
    effect("ship", order)
    if order.startswith("lost"):
        raise LookupError(order)
    return f"{order} shipped"


@workflow
async def sell(order: str) -> str:
    await asyncio.gather(*(check(order, which) for which in range(3)))
    await reserve(order)
    try:
        async with asyncio.timeout(24 * 3600.0):
            approved = await receive("approval", bool)
    except TimeoutError:
        approved = order != "late"
    if not approved:
        raise PermissionError(order)
    await charge(order)
    await asyncio.sleep(3600.0)
    return await ship(order)


async def a_day_at_the_shop(chaos: Chaos, ledger: Ledger) -> dict[str, Ending]:
    """Sell a few things under chaos; hold all that must hold."""
    outside.append(ledger)
    async with ChaosEngine(chaos, workflows=[sell]) as engine:
        handles = {
            order: await engine.start(sell, order, id=order)
            for order in ("good", "lost", "late", "refused")
        }
        await handles["good"].signal("approval", payload=True)
        await handles["lost"].signal("approval", payload=True)
        await handles["refused"].signal("approval", payload=False)
        await asyncio.sleep(12 * 3600.0)
        chaos.calm()
        endings = await engine.endings(within=5 * 86_400.0)
        if endings["good"] is Ending.COMPLETED:
            assert await handles["good"].result() == "good shipped"
        for order, handle in handles.items():
            if endings[order] is Ending.COMPENSATED:
                with pytest.raises(WorkflowFailedError):
                    await handle.result()
    return endings


@pytest.mark.chaos(profile="moderate", seeds=40)
async def test_every_workflow_ends(chaos: Chaos, ledger: Ledger) -> None:
    """And each effect took place once, or was undone once."""
    endings = await a_day_at_the_shop(chaos, ledger)
    for order, ending in endings.items():
        if ending is Ending.DEAD_LETTERED:
            continue
        assert ending is (Ending.COMPLETED if order == "good" else Ending.COMPENSATED)
        assert ledger.count(("reserve", order)) == 1
        assert ledger.count(("charge", order)) == (order in {"good", "lost"})
        assert ledger.count(("ship", order)) == (order in {"good", "lost"})
        assert ledger.count(("release", order)) == (order != "good")
        assert ledger.count(("refund", order)) == (order == "lost")


def play(seed: int, rate: float = 0.3) -> tuple[list[str], dict[str, Ending], float, Chaos]:
    """Run the day once, on a loop of its own."""
    chaos = Chaos(FaultPlan(seed, rate))

    async def main() -> tuple[dict[str, Ending], float]:
        endings = await a_day_at_the_shop(chaos, Ledger())
        return endings, asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        endings, time = runner.run(main())
    chaos.close()
    return [*map(str, chaos.log)], endings, time, chaos


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_gives_the_same_day_again(seed: int) -> None:
    """The same faults at the same places, the same endings at the same time; threads included."""
    log, endings, time, _ = play(seed)
    assert (log, endings, time) == play(seed)[:3]
    assert log != play(seed + 1000)[0]


def test_every_fault_is_reached() -> None:
    """In twenty days each fault that an engine can meet has struck."""
    reached: Counter[str] = Counter()
    for seed in range(20):
        reached += play(seed)[3].reached
    assert set(reached) == {*EngineFault, *Fault} - MESSAGE_FAULTS


class Once(FaultPlan):
    """One fault strikes once, at the first opportunity after a few."""

    def __init__(self, fault: str, after: int = 3) -> None:
        super().__init__(1, 1.0, {fault})
        self.after = after

    def draw(self, site: str, among: Sequence[str]) -> tuple[str, Random] | None:
        if not set(among) & {*self._faults}:
            return None
        self.after -= 1
        return super().draw(site, among) if self.after == 0 else None


@pytest.mark.virtual_time
@pytest.mark.parametrize("after", range(1, 12))
@pytest.mark.parametrize("fault", EngineFault)
async def test_each_fault_alone(fault: EngineFault, after: int, ledger: Ledger) -> None:
    """Wherever it strikes, the order is sold, each effect once, each event once."""
    outside.append(ledger)
    chaos = Chaos(Once(fault, after))
    async with ChaosEngine(chaos, workflows=[sell]) as engine:
        handle = await engine.start(sell, "good", id="good")
        await handle.signal("approval", payload=True)
        assert await handle.result() == "good shipped"
        history = await handle.history()
        struck = len(chaos.log)
        if struck and fault is EngineFault.POWER_LOSS:
            assert engine.lives == 2
        else:
            assert engine.lives == 1 + (fault is EngineFault.STORE_ERROR and after == 1)
    assert struck <= 1
    assert [recorded.seq for recorded in history] == [*range(1, len(history) + 1)]
    signals = [r for r in history if isinstance(r.event, SignalReceived)]
    assert len(signals) == 1
    completed = Counter(r.event.op for r in history if isinstance(r.event, StepCompleted))
    assert completed == dict.fromkeys(completed, 1)
    assert all(ledger.count(name) == 1 for name in {entry.name for entry in ledger.entries})
    chaos.close()


@pytest.mark.virtual_time
async def test_a_power_loss_by_hand(ledger: Ledger) -> None:
    """What was acknowledged is there in the next life; the step that was cut off runs again."""
    outside.append(ledger)
    chaos = Chaos(FaultPlan(1, 0.0))
    async with ChaosEngine(chaos, workflows=[sell]) as engine:
        handle = await engine.start(sell, "good", id="good")
        await asyncio.sleep(0.5)
        assert ledger.asked(("reserve", "good")) == 1
        engine.cut()
        await handle.signal("approval", payload=True)
        assert await handle.result() == "good shipped"
        assert engine.lives == 2
    assert ledger.asked(("reserve", "good")) == 2
    assert ledger.count(("reserve", "good")) == 1
    chaos.close()


@dataclass
class Approval:
    by: str


@workflow
class Sale:
    approval: Approval | None = None

    async def run(self, order: str) -> Approval | None:
        await reserve(order)
        await until(lambda: self.approval is not None)
        return self.approval

    @signal
    def approve(self, approval: Approval) -> None:
        assert self.approval is None, "it came twice"
        self.approval = approval


@pytest.mark.chaos(profile="moderate", seeds=10)
async def test_a_workflow_written_as_a_class(chaos: Chaos, ledger: Ledger) -> None:
    """It is started, told things and asked as on an engine without chaos, by names with types."""
    outside.append(ledger)
    async with ChaosEngine(chaos, workflows=[Sale]) as engine:
        sale = await engine.start(Sale, "tea", id="one")
        with contextlib.suppress(WorkflowParkedError):  # it may be struck three times in a row
            for _ in range(2):
                await sale.signal(Sale.approve, Approval("maria"), key="click")
        chaos.calm()
        if await engine.endings() == {"one": Ending.COMPLETED}:
            assert await sale.result() == Approval("maria")


@pytest.mark.virtual_time
async def test_a_file_is_closed_in_no_time(ledger: Ledger, tmp_path: Path) -> None:
    """After a power loss the day that a workflow waits for does not go by at once.

    Virtual time used to run on while SQLite's thread closed the file, so that time-outs were over.
    """
    outside.append(ledger)
    chaos = Chaos(FaultPlan(1, 0.0))
    async with ChaosEngine(chaos, workflows=[sell], store=f"sqlite:///{tmp_path}/app.db") as engine:
        handle = await engine.start(sell, "good", id="good")
        await asyncio.sleep(10)
        engine.cut()
        await handle.signal("approval", payload=True)
        assert asyncio.get_running_loop().time() < 60
        assert await handle.result() == "good shipped"
    chaos.close()


@pytest.mark.virtual_time
async def test_an_engine_that_gives_up_is_started_again(ledger: Ledger) -> None:
    """Four failing stores within seconds are too many for one life."""
    outside.append(ledger)
    chaos = Chaos(FaultPlan(1, 1.0, {EngineFault.STORE_FAILED}))
    async with ChaosEngine(chaos, workflows=[sell]) as engine:
        selling = asyncio.ensure_future(engine.start(sell, "good", id="good"))
        await eventually(lambda: engine.lives == 2)
        chaos.calm()
        handle = await selling
        await handle.signal("approval", payload=True)
        assert await handle.result() == "good shipped"


@pytest.mark.virtual_time
async def test_endings_tell_who_has_not_ended(ledger: Ledger) -> None:
    """A workflow that waits for a signal is named, when time is up."""
    outside.append(ledger)
    async with ChaosEngine(Chaos(FaultPlan(1, 0.0)), workflows=[sell]) as engine:
        await engine.start(sell, "good", id="good")
        with pytest.raises(AssertionError, match="'good' is running"):
            await engine.endings(within=3600.0)


@pytest.mark.virtual_time
async def test_endings(ledger: Ledger) -> None:
    """Completed, compensated, or failed with nothing to undo."""
    outside.append(ledger)

    async with ChaosEngine(Chaos(FaultPlan(1, 0.0)), workflows=[sell, fall]) as engine:
        for order, approval in {"good": True, "refused": False}.items():
            handle = await engine.start(sell, order, id=order)
            await handle.signal("approval", payload=approval)
        await engine.start(fall, id="fallen")
        assert await engine.endings() == {
            "good": Ending.COMPLETED,
            "refused": Ending.COMPENSATED,
            "fallen": Ending.DEAD_LETTERED,
        }


@workflow
async def fall() -> None:
    raise LookupError


@pytest.mark.chaos(profile="moderate", seeds=4)
async def test_on_a_file(chaos: Chaos, ledger: Ledger, tmp_path: Path) -> None:
    """The SQLite store under the same chaos: its threads are waited for, its files cut off."""
    outside.append(ledger)
    url = f"sqlite:///{tmp_path}/{chaos.seed}.db"
    async with ChaosEngine(chaos, workflows=[sell], store=url) as engine:
        handle = await engine.start(sell, "good", id="good")
        await handle.signal("approval", payload=True)
        chaos.calm()
        assert set((await engine.endings()).values()) <= {Ending.COMPLETED, Ending.DEAD_LETTERED}


@pytest.mark.virtual_time
async def test_a_killed_workflow_leaves_no_code_behind(
    virtual_clock: VirtualClock, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed without ceremony, its coroutines are closed all the same, and never by the collector."""
    outside.append(ledger)
    async with Engine("memory://", workflows=[sell], clock=virtual_clock) as engine:
        await engine.start(sell, "good", id="good")
        await asyncio.sleep(0.01)
        ref = engine._services.actors["good"]
        ref.kill()
        await restarted(ref)
        gc.collect()
    assert "Task was destroyed" not in caplog.text
