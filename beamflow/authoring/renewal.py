"""How workflow code begins anew: the same workflow, another input, a log that need not be replayed."""

from __future__ import annotations

from typing import Any, NoReturn

from beamflow.authoring.runtime import required_runtime

__all__ = ["ContinueAsNew", "continue_as_new", "renewal_of"]


class ContinueAsNew(BaseException):
    """Ends a run of a workflow's code so that another one begins; nobody's ``except Exception`` sees it.

    Attributes:
        input: the arguments of the next run, as JSON.
    """

    def __init__(self, payload: bytes) -> None:
        """Keep the arguments."""
        super().__init__("the workflow begins anew")
        self.input = payload


def continue_as_new(*args: Any) -> NoReturn:
    """End this run of the workflow and begin another one, with these arguments; never returns.

    Id, log and handles stay; what was replayed so far is not replayed any more. Signals that were
    not received yet go to the next run, in order. Tasks that were left running are cancelled;
    children are treated as at the end, by their ``on_close``. What the run has completed is final:
    it is not compensated if a later run fails. A workflow that was told to end ends instead.

    Args:
        *args: the arguments of the next run, by position.

    Raises:
        PayloadError: they do not fit the annotations, or JSON.
        DefinitionError: called outside of a workflow, or in another task than its own.
    """
    required_runtime("continue_as_new").continue_as_new(args)


def renewal_of(error: BaseException) -> ContinueAsNew | None:
    """Return what asks for the next run, also where a task group stands around it; None for errors."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        (error,) = error.exceptions
    return error if isinstance(error, ContinueAsNew) else None
