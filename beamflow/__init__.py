"""Durable workflows for asyncio: plain async code as supervised actors, with no server."""

from __future__ import annotations

from beamflow.authoring.child import ChildHandle, start_child
from beamflow.authoring.context import now, random, receive, until, uuid4
from beamflow.authoring.handlers import on_query, on_signal, on_update, query, signal, update
from beamflow.authoring.notes import (
    add_tags,
    progress,
    publish,
    remove_tags,
    set_attributes,
    snapshot,
)
from beamflow.authoring.patch import patched
from beamflow.authoring.renewal import continue_as_new
from beamflow.authoring.running_step import StepInfo, current_step, heartbeat
from beamflow.authoring.saga import Saga, saga
from beamflow.authoring.step import Step, step
from beamflow.authoring.transaction import Transaction, transaction
from beamflow.authoring.workflow import Workflow, workflow
from beamflow.engine.engine import Engine
from beamflow.engine.forking import Snapshot
from beamflow.engine.handle import WorkflowHandle, WorkflowStatus
from beamflow.errors import (
    BeamflowError,
    ChildWorkflowError,
    ConflictError,
    CorruptLogError,
    DeadLetterError,
    DefinitionError,
    DuplicateWorkflowError,
    EngineStoppedError,
    FencedError,
    HostLoopError,
    NondeterminismError,
    PayloadError,
    StepError,
    StepFailedError,
    StepProcessError,
    StepTimeoutError,
    StoreError,
    StoreFormatError,
    StoreLockedError,
    StoreUnavailableError,
    TransactionError,
    UnknownWorkflowError,
    WorkflowCancelledError,
    WorkflowClosedError,
    WorkflowError,
    WorkflowExistsError,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowParkedError,
    WorkflowStateError,
    WorkflowTimeoutError,
)
from beamflow.model.events import DeadLetterReason, Recorded
from beamflow.model.status import WorkflowState
from beamflow.policies.retry import Retry
from beamflow.stores.base import DeadLetter, DeadLetterState, Page, Progress, Summary

__all__ = [
    "BeamflowError",
    "ChildHandle",
    "ChildWorkflowError",
    "ConflictError",
    "CorruptLogError",
    "DeadLetter",
    "DeadLetterError",
    "DeadLetterReason",
    "DeadLetterState",
    "DefinitionError",
    "DuplicateWorkflowError",
    "Engine",
    "EngineStoppedError",
    "FencedError",
    "HostLoopError",
    "NondeterminismError",
    "Page",
    "PayloadError",
    "Progress",
    "Recorded",
    "Retry",
    "Saga",
    "Snapshot",
    "Step",
    "StepError",
    "StepFailedError",
    "StepInfo",
    "StepProcessError",
    "StepTimeoutError",
    "StoreError",
    "StoreFormatError",
    "StoreLockedError",
    "StoreUnavailableError",
    "Summary",
    "Transaction",
    "TransactionError",
    "UnknownWorkflowError",
    "Workflow",
    "WorkflowCancelledError",
    "WorkflowClosedError",
    "WorkflowError",
    "WorkflowExistsError",
    "WorkflowFailedError",
    "WorkflowHandle",
    "WorkflowNotFoundError",
    "WorkflowParkedError",
    "WorkflowState",
    "WorkflowStateError",
    "WorkflowStatus",
    "WorkflowTimeoutError",
    "add_tags",
    "continue_as_new",
    "current_step",
    "heartbeat",
    "now",
    "on_query",
    "on_signal",
    "on_update",
    "patched",
    "progress",
    "publish",
    "query",
    "random",
    "receive",
    "remove_tags",
    "saga",
    "set_attributes",
    "signal",
    "snapshot",
    "start_child",
    "step",
    "transaction",
    "until",
    "update",
    "uuid4",
    "workflow",
]
