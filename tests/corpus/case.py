"""What the corpus says of each of its workflows: how it is started, what happens, how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from beamflow import WorkflowCancelledError, WorkflowFailedError, WorkflowParkedError
from beamflow.authoring.workflow import definition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from beamflow import Workflow
    from tests.corpus.outsiders import Act

__all__ = [
    "CANCELLED",
    "CASES",
    "HELPERS",
    "TERMINATED",
    "Case",
    "End",
    "case",
    "end_of",
    "failed",
    "helper",
    "parked",
    "returned",
]

W = TypeVar("W")

End = tuple[str, Any]
"""How a workflow ended: the kind of end, and with what."""

CANCELLED: End = ("cancelled", None)
TERMINATED: End = ("terminated", None)


def returned(result: Any = None) -> End:
    """It returned that, as plain JSON data."""
    return "returned", result


def failed(kind: type[BaseException]) -> End:
    """It failed with an error of that type."""
    return "failed", f"{kind.__module__}.{kind.__qualname__}"


def parked(reason: str) -> End:
    """It stands still, for that reason."""
    return "parked", reason


def end_of(outcome: Any) -> End:
    """Tell what `WorkflowHandle.result` returned, or the error it raised."""
    match outcome:
        case WorkflowFailedError():
            return "failed", outcome.error_type
        case WorkflowCancelledError():
            return "terminated" if outcome.terminated else "cancelled", None
        case WorkflowParkedError():
            return "parked", outcome.reason
        case BaseException():
            raise outcome
        case _:
            return returned(outcome)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One workflow of the corpus; it is started under its name.

    Attributes:
        workflow: the workflow.
        args: what it is started with.
        options: how it is started.
        outsiders: what others do to it, one after the other.
        ends: how it must end.
        effects: what its steps must have done: each once for each key, in whatever order.
        may: effects that it may have had or not, as those of a step that was given up.
        undone: what its compensations must have done, in this order.
        needs_file: whether it needs the store to be a file.
        timed: whether its end depends on how fast its steps are; where real time passes, only its
            log is looked at then.
        only_killed: whether a power cut cannot be played in a process that lives on, because other
            processes belong to what is cut off.
    """

    workflow: Workflow[..., Any]
    args: tuple[Any, ...]
    options: Mapping[str, Any]
    outsiders: tuple[Act, ...]
    ends: End
    effects: tuple[str, ...]
    may: frozenset[str]
    undone: tuple[str, ...]
    needs_file: bool
    timed: bool
    only_killed: bool

    @property
    def name(self) -> str:
        """Its name, and the workflow's id."""
        return self.workflow.name


CASES: dict[str, Case] = {}
HELPERS: list[Workflow[..., Any]] = []
"""Workflows that others of the corpus start."""


def case(
    *args: Any,
    ends: End,
    effects: Sequence[str] = (),
    may: Sequence[str] = (),
    undone: Sequence[str] = (),
    outsiders: Sequence[Act] = (),
    needs_file: bool = False,
    timed: bool = False,
    only_killed: bool = False,
    **options: Any,
) -> Callable[[W], W]:
    """Take a workflow into the corpus; see `Case`."""

    def declare(workflow: W) -> W:
        definition = definition_of(workflow)
        assert definition is not None
        made = Case(
            workflow=definition,
            args=args,
            options=options,
            outsiders=tuple(outsiders),
            ends=ends,
            effects=tuple(effects),
            may=frozenset(may),
            undone=tuple(undone),
            needs_file=needs_file,
            timed=timed,
            only_killed=only_killed,
        )
        assert made.name not in CASES, made.name
        CASES[made.name] = made
        return workflow

    return declare


def helper(workflow: W) -> W:
    """Give the engine a workflow that is no case of its own."""
    HELPERS.append(workflow)
    return workflow
