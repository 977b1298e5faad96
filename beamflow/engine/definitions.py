"""The workflows that an engine was given: several versions of one name stand side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from beamflow.authoring.workflow import definition_of
from beamflow.errors import DefinitionError, DuplicateWorkflowError, UnknownWorkflowError

if TYPE_CHECKING:
    from beamflow.authoring.workflow import Workflow

__all__ = ["Definitions"]


class Definitions:
    """Finds the code of a workflow by the name and the version that its log has.

    An open workflow stays with the version that it was started with; nothing moves it to another.

    Args:
        workflows: all that the engine can run.

    Attributes:
        workflows: the same, in the order given.

    Raises:
        DuplicateWorkflowError: two have the same name and version.
        DefinitionError: one is no workflow, or its annotations cannot be used.
    """

    def __init__(self, workflows: Iterable[object]) -> None:
        """Check them; code that cannot be read back from a log is refused here."""
        self.workflows: tuple[Workflow[..., Any], ...] = ()
        self._versions: dict[str, dict[int, Workflow[..., Any]]] = {}
        if not isinstance(workflows, Iterable):
            message = f"workflows={workflows!r} is refused: give a list of workflows"
            raise DefinitionError(message)
        for given in workflows:
            workflow = definition_of(given)
            if workflow is None:
                message = f"{given!r} is no workflow; decorate it with @workflow"
                raise DefinitionError(message)
            self.workflows += (workflow,)
            versions = self._versions.setdefault(workflow.name, {})
            if versions.setdefault(workflow.version, workflow) is not workflow:
                message = (
                    f"two workflows are called {workflow.name!r}, version {workflow.version}; give "
                    f"one a name of its own, @workflow(name=...), or another version, "
                    f"@workflow(version=...)"
                )
                raise DuplicateWorkflowError(message)
            _ = workflow.signature, workflow.fingerprint

    def get(self, name: str, version: int) -> Workflow[..., Any]:
        """Return the code of a workflow; raises `UnknownWorkflowError`, naming what there is."""
        versions = self._versions.get(name, {})
        found = versions.get(version)
        if found is None:
            raise UnknownWorkflowError(self._gone(name, version, versions))
        return found

    def given(self, given: object) -> Workflow[..., Any]:
        """Return the workflow if it is one of these; raises `UnknownWorkflowError`."""
        workflow = definition_of(given)
        if workflow is None:
            message = f"{given!r} is no workflow; decorate it with @workflow"
            raise UnknownWorkflowError(message)
        if self.get(workflow.name, workflow.version) is not workflow:
            message = (
                f"the engine has another workflow called {workflow.name!r}, version "
                f"{workflow.version}, than {workflow!r}; give one of them a name or a version of "
                f"its own: @workflow(name=..., version=...)"
            )
            raise UnknownWorkflowError(message)
        return workflow

    def _gone(self, name: str, version: int, versions: dict[int, Workflow[..., Any]]) -> str:
        if versions:
            there = ", ".join(map(str, sorted(versions)))
            return (
                f"this engine has workflow {name!r} in version {there}, not in version {version}. "
                f"What is open stays with its version: give the engine that one as well, "
                f"Engine(..., workflows=[...]), until the last of them has ended"
            )
        known = ", ".join(sorted(self._versions)) or "none"
        return (
            f"this engine was not given a workflow {name!r} (it has: {known}). "
            f"Add it to Engine(..., workflows=[...])"
        )
