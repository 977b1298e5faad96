"""Which compensations come next, by itself: the order in which a saga is undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beamflow import saga
from beamflow.engine import saga as saga_file
from beamflow.engine.saga import Unwinding
from beamflow.engine.step_call import StepCall
from beamflow.events import CompensationCompleted, CompensationFailed, Failure

if TYPE_CHECKING:
    import pytest

    from beamflow import Saga


def made(op: int, around: Saga | None = None) -> StepCall:
    call = StepCall.__new__(StepCall)
    call.op = op
    call.saga = around
    return call


def inside(around: Saga | None, *, parallel: bool) -> Saga:
    block = saga(parallel=parallel)
    block.parent = around
    return block


def unwinding(*ops: int) -> Unwinding:
    """Plan to undo steps of these numbers."""
    return Unwinding([made(op) for op in ops])


def ready(plan: Unwinding) -> list[int]:
    return [undo.call.op for undo in plan.ready()]


def test_a_plan_is_done_one_by_one() -> None:
    """In its order; it is done when nothing is left."""
    plan = unwinding(3, 1)
    assert ready(plan) == [3]
    plan.deliver(CompensationCompleted(op=3, name="undo", started_at=0))
    assert ready(plan) == [1]
    assert not plan.done
    plan.deliver(CompensationCompleted(op=1, name="undo", started_at=0))
    assert ready(plan) == []
    assert plan.done


def test_a_plan_sets_aside_what_failed_for_good() -> None:
    """And gives it new attempts when told to start over."""
    plan = unwinding(3, 1)
    failed = CompensationFailed(
        op=3, name="undo", error=Failure(type="E", message=""), started_at=0, attempt=2
    )
    plan.deliver(failed)
    assert ready(plan) == [1]
    plan.deliver(CompensationCompleted(op=1, name="undo", started_at=0))
    assert ready(plan) == []
    assert [undo.call.op for undo in plan.failed] == [3]
    assert not plan.done
    plan.start_over()
    (undo,) = plan.ready()
    assert (undo.call.op, undo.attempt, undo.retry_at) == (3, 1, 0)


def test_branches_of_a_parallel_block_keep_their_own_order() -> None:
    """Each branch in reverse, the two beside each other."""
    fan = inside(None, parallel=True)
    left, right = inside(fan, parallel=False), inside(fan, parallel=False)
    calls = [made(1, None), made(2, left), made(3, right), made(4, left), made(5, right)]
    plan = Unwinding(reversed(calls))
    seen: list[list[int]] = []
    for op in (5, 3, 4, 2, 1):
        seen.append([undo.call.op for undo in plan.ready()])
        assert plan.deliver(CompensationCompleted(op=op, name="un", started_at=0))
    assert seen == [[5, 4], [4, 3], [4], [2], [1]]
    assert plan.done


def test_what_came_between_keeps_its_place() -> None:
    """A step beside a parallel block parts those that completed before it from those after."""
    fan = inside(None, parallel=True)
    plan = Unwinding([made(3, fan), made(2, None), made(1, fan)])
    assert [undo.call.op for undo in plan.ready()] == [3]
    assert not plan.deliver(CompensationCompleted(op=1, name="un", started_at=0))


def test_what_comes_next_is_told_by_the_sagas_and_not_by_each_two_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There may be thousands in one parallel saga, and it is asked for after each of them."""
    looks: list[object] = []
    are_parallel = saga_file._are_parallel

    def counted(*sagas: Any) -> bool:
        looks.append(sagas)
        return are_parallel(*sagas)

    monkeypatch.setattr(saga_file, "_are_parallel", counted)
    around = inside(None, parallel=True)
    plan = Unwinding([made(op, around) for op in range(100)])
    assert ready(plan) == list(range(100))
    assert len(looks) < 100
