"""What a workflow waits for, in the words of its status."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from beamflow.engine.execution import Execution

__all__ = ["waited_for"]


def waited_for(code: Execution, between: Container[int]) -> tuple[str, ...]:
    """Name everything that has no outcome yet: compensations, steps, children, timers, signals.

    Args:
        code: the workflow's.
        between: ops of the steps that wait for their next attempt.
    """
    undoing = [undo for unwinding in code.unwindings for undo in unwinding.ready()]
    compensations = [f"compensation of step {undo.call.step.name}" for undo in undoing]
    steps = [
        f"{'retry of ' if op in between else ''}step {call.step.name}"
        for op, call in code.calls.items()
        if not call.cancelled
    ]
    children = [f"child {call.id}" for call in code.children.values()]
    timers = ["timer"] * sum(not timer.cancelled() for timer in code.timers.values())
    signals = [f"signal {name}" for name in code.awaited_signals]
    if code.conditions:
        signals.append("condition")
    return (*compensations, *steps, *children, *timers, *signals)
