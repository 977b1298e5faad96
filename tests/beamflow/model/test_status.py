"""Which states are final, and what may be done in which."""

from __future__ import annotations

import pytest

from beamflow import WorkflowState
from beamflow.model.status import Control, allows

FINAL = {WorkflowState.COMPLETED, WorkflowState.FAILED, WorkflowState.CANCELLED}


def test_three_states_are_final() -> None:
    """A parked workflow is open: it goes on once the cause is mended."""
    assert {state for state in WorkflowState if not state.is_open} == FINAL


@pytest.mark.parametrize("control", [one for one in Control if one is not Control.RETRY])
@pytest.mark.parametrize(
    "state", [WorkflowState.COMPLETED, WorkflowState.FAILED, WorkflowState.CANCELLED]
)
def test_nothing_moves_what_has_ended(state: WorkflowState, control: Control) -> None:
    """Only an explicit retry of a failed one does."""
    assert not allows(state, control)


def test_only_a_failed_workflow_can_be_sent_round_again() -> None:
    """What was completed or cancelled stays so."""
    assert {state for state in WorkflowState if allows(state, Control.RETRY)} == {
        WorkflowState.FAILED
    }


def test_only_a_paused_workflow_is_resumed() -> None:
    """And only one that is not paused, and could go on, is paused."""
    assert {state for state in WorkflowState if allows(state, Control.RESUME)} == {
        WorkflowState.PAUSED
    }
    assert not allows(WorkflowState.PAUSED, Control.PAUSE)
    assert not allows(WorkflowState.PARKED, Control.PAUSE)
