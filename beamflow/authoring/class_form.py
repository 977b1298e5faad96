"""Workflows written as classes: what makes a class one, and how a run of it begins."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from beamflow.authoring.methods import HandlerMethod
from beamflow.authoring.runtime import required_runtime
from beamflow.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ClassForm"]


class ClassForm:
    """A class with ``run``, and the methods of it that are called from outside.

    Args:
        kind: the author's class.
        namespace: the local names at the place of definition.

    Attributes:
        run: its ``run``, as a plain function.
        methods: its handlers, in order of definition.

    Raises:
        DefinitionError: it has no ``async def run``, cannot be made without arguments, or has two
            handlers of one kind and name.
    """

    def __init__(self, kind: type, namespace: dict[str, Any] | None) -> None:
        """Look through the class and its bases."""
        self._class = kind
        where = f"workflow class {kind.__name__!r}"
        run = getattr(kind, "run", None)
        if not inspect.iscoroutinefunction(run):
            message = f"{where} needs a method `async def run(self, ...)`"
            raise DefinitionError(message)
        self.run: Callable[..., Any] = run
        try:
            inspect.signature(kind).bind()
        except TypeError as error:
            message = (
                f"{where} must be made without arguments ({error}): each run begins with a fresh "
                f"instance, and its input goes to run()"
            )
            raise DefinitionError(message) from error
        self.methods: dict[tuple[str, str], HandlerMethod] = {}
        attributes = {
            name: value for base in reversed(kind.__mro__) for name, value in vars(base).items()
        }
        for method in attributes.values():
            if isinstance(method, HandlerMethod):
                if self.methods.setdefault((method.kind, method.name), method) is not method:
                    message = f"{where} has two handlers for {method.kind} {method.name!r}"
                    raise DefinitionError(message)
                if method.namespace is None:
                    method.namespace = namespace

    async def begin(self, *args: Any, **kwargs: Any) -> Any:
        """Make a fresh instance, register its handlers, then run it."""
        runtime = required_runtime("a workflow class")
        instance = self._class()
        for method in self.methods.values():
            runtime.handle(method.bound_to(instance))
        return await instance.run(*args, **kwargs)
