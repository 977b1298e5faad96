"""Which states are final."""

from __future__ import annotations

from beamflow import WorkflowState


def test_only_two_states_are_final() -> None:
    """A parked workflow is open: it goes on once the cause is mended."""
    closed = {state for state in WorkflowState if not state.is_open}
    assert closed == {WorkflowState.COMPLETED, WorkflowState.FAILED}
