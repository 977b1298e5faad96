"""Workflows: coroutine functions, or classes with one, whose progress is durable."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, overload

from beamflow.authoring.class_form import ClassForm
from beamflow.authoring.fingerprint import fingerprint
from beamflow.authoring.namespace import local_names
from beamflow.authoring.runtime import current_runtime
from beamflow.authoring.signature import Signature
from beamflow.errors import DefinitionError
from beamflow.model.ids import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["DURATION_S_MAX", "Runs", "Workflow", "definition_of", "name_of", "workflow"]

DURATION_S_MAX = 100 * 366 * 86_400
"""The longest delay or deadline, in seconds."""

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
C = TypeVar("C")
F_co = TypeVar("F_co", covariant=True)

_DEFINITION = "__workflow__"


class Runs(Protocol[F_co]):
    """What a type checker takes an instance of a workflow class for: something with ``run``."""

    @property
    def run(self) -> F_co:
        """The coroutine function."""


class Workflow(Generic[P, R_co]):
    """A workflow, made by ``@workflow``. Start it with ``engine.start(workflow, ...)``.

    Called in another workflow it is a child of that: a workflow of its own, whose result comes
    back. Called anywhere else it runs as the plain coroutine function that it is, its steps as
    plain functions: good for a unit test, without durability.

    Attributes:
        function: the author's function; of a class, its ``run``.
        form: what the author's class declares, if it is one.
        name: its name in the log.
        version: its version in the log.
        deadline: seconds that it may take, unless its start says otherwise.
    """

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R_co]] | type,
        *,
        name: str | None,
        version: int,
        deadline: float | None,
        namespace: dict[str, Any] | None,
    ) -> None:
        """Declare the workflow; annotations are resolved when an engine takes it."""
        self._source = function
        own_name = getattr(function, "__name__", None)
        self.form = ClassForm(function, namespace) if isinstance(function, type) else None
        self.function: Callable[P, Coroutine[Any, Any, R_co]] = (
            function if self.form is None else self.form.run
        )
        if not inspect.iscoroutinefunction(self.function):
            message = f"a workflow must be an `async def`, not {function!r}"
            raise DefinitionError(message)
        self.name = checked_name(own_name if name is None else name, "workflow")
        if not _is_count(version):
            message = f"workflow {self.name!r}: version={version!r} must be an int, 0 or more"
            raise DefinitionError(message)
        self.version = version
        if deadline is not None and not _is_duration(deadline):
            message = f"workflow {self.name!r}: deadline={deadline!r} must be seconds, more than 0"
            raise DefinitionError(message)
        self.deadline = deadline
        self._namespace = namespace
        wrapped: Any = function
        functools.update_wrapper(self, wrapped, updated=() if self.form else ("__dict__",))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, None, R_co]:
        """Run the workflow: as a child inside another workflow, plainly anywhere else.

        A child is a workflow of its own, with its own log, called ``<parent>/<number>``. The call
        suspends until it has ended. A call that is cancelled cancels the child.

        Raises:
            ChildWorkflowError: the child failed, was cancelled, or could not be started.
            PayloadError: the arguments do not fit the annotations, or JSON.
        """
        runtime = current_runtime()
        if runtime is not None:
            return runtime.call_child(self, args, kwargs)
        return self.function(*args, **kwargs)

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of a new run, for an execution."""
        if self.form is not None:
            return self.form.begin(*args, **kwargs)
        return self.function(*args, **kwargs)

    @functools.cached_property
    def signature(self) -> Signature:
        """The payloads of the workflow; raises `DefinitionError` if its annotations are wrong."""
        where = f"workflow {self.name!r}"
        if self.form is None:
            return Signature(self.function, where, self._namespace)
        for method in self.form.methods.values():
            _ = method.signature
        return Signature(self.function, where, self._namespace, method=True)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the code's structure, recorded with each start; empty if its source cannot be read.

        It changes with the function, not with comments, layout or what the function calls.
        """
        return fingerprint(self._source)


def definition_of(workflow: object) -> Workflow[..., Any] | None:
    """Return the definition of a decorated function or class; None for anything else."""
    if isinstance(workflow, Workflow):
        return workflow
    # not that of a base: a class that was not decorated itself is no workflow
    return vars(workflow).get(_DEFINITION) if isinstance(workflow, type) else None


def name_of(workflow: str | Workflow[..., Any] | type) -> str:
    """Return the name in the log of a workflow, in whichever form; a name stands for itself.

    Raises:
        DefinitionError: it is neither.
    """
    if isinstance(workflow, str):
        return workflow
    definition = definition_of(workflow)
    if definition is None:
        raise DefinitionError(f"{workflow!r} is no workflow: give one, or its name in the log")
    return definition.name


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value <= DURATION_S_MAX


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


class _WorkflowDecorator(Protocol):
    @overload
    def __call__(self, workflow: type[C], /) -> type[C]: ...  # type: ignore[overload-overlap] # a class makes no coroutine
    @overload
    def __call__(self, workflow: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(function: type[C], /) -> type[C]: ...  # type: ignore[overload-overlap] # as above


@overload
def workflow(function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(
    *, name: str | None = ..., version: int = ..., deadline: float | None = ...
) -> _WorkflowDecorator: ...


def workflow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    version: int = 1,
    deadline: float | None = None,
) -> Any:
    """Make an ``async def`` a workflow: ``@workflow`` or ``@workflow(name="order", version=2)``.

    Or a class with an ``async def run``: each run begins with a fresh instance, whose attributes
    are as durable as local variables; its methods decorated with ``@signal``, ``@query`` and
    ``@update`` are called from outside. A decorated class stays the class that it was.

    Inside it plain asyncio is durable: ``await`` a step, ``asyncio.sleep``, ``asyncio.timeout``,
    ``gather``, ``TaskGroup``, queues and locks between branches. Everything that touches the
    outside world belongs into a step.

    Args:
        function: the function or class, when the decorator is used without parentheses.
        name: the name in the log; the function's or class's own by default.
        version: recorded with each start. An engine may hold several versions of one name, and
            what is open stays with the version that it was started with.
        deadline: seconds that it may take from its start; then it is told to end, and fails.

    Raises:
        DefinitionError: the function is no ``async def``, the class has no such ``run`` or cannot be
            made without arguments, or name or version make no sense.
    """
    namespace = local_names(sys._getframe(1))  # noqa: SLF001 - to resolve annotations of local types

    def declare(function: Callable[..., Any]) -> Any:
        definition: Workflow[..., Any] = Workflow(
            function, name=name, version=version, deadline=deadline, namespace=namespace
        )
        if definition.form is None:
            return definition
        setattr(function, _DEFINITION, definition)
        return function

    return declare if function is None else declare(function)
