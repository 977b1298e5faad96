"""The errors: one tree, one root, drawn as it is; they travel between processes."""

from __future__ import annotations

import builtins
import pickle
import re
from typing import Any

import pytest

from beamflow import errors
from beamflow.errors import BeamflowError

KINDS: list[type[BeamflowError]] = [getattr(errors, name) for name in errors.__all__]

EXAMPLES: list[BeamflowError] = [
    errors.DefinitionError("x"),
    errors.PayloadError("argument 'a'", "no"),
    errors.WorkflowExistsError("w", "taken"),
    errors.WorkflowNotFoundError("w", "none"),
    errors.WorkflowFailedError("w", error_type="t", error_message="m", traceback="tb", step="pay"),
    errors.WorkflowParkedError("w", reason="r", detail="d"),
    errors.UnknownHandlerError("w", "query", "total", ("size",)),
    errors.QueryFailedError("w", "query", name="n", error_type="t", error_message="m"),
    errors.UpdateRejectedError("w", "update", name="n", error_type="t", error_message="m"),
    errors.UpdateFailedError("w", name="n", error_type="t", error_message="m", traceback="tb"),
    errors.UpdateExistsError("w", "taken"),
    errors.ReadOnlyError("x"),
    errors.StepFailedError("s", error_type="t", error_message="m", traceback="tb"),
    errors.StepTimeoutError("s", 3),
    errors.HostLoopError("x"),
    errors.NondeterminismError("w", seq=3, recorded="a", issued="b"),
    errors.ConflictError("w", 3),
    errors.FencedError(3),
    errors.StoreLockedError("file", "pid 1"),
    errors.StoreUnavailableError("file", "full", "Make room"),
    errors.CorruptLogError("w", 3, "no"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_can_be_pickled(error: BeamflowError) -> None:
    """Type, text and facts arrive."""
    there: Any = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert (str(there), there.args, vars(there)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_builtin_base_does_not_eat_the_message(error: BeamflowError) -> None:
    """OSError takes two arguments for an errno; ours have one message."""
    assert len(error.args) == 1
    assert str(error) == error.args[0]


def test_an_exception_without_a_message_leaves_no_colon() -> None:
    """A TimeoutError says nothing by itself; the message must not read as if it had been cut."""
    failed = errors.WorkflowFailedError(
        "w", error_type="builtins.TimeoutError", error_message="", traceback="", step=None
    )
    assert "failed: builtins.TimeoutError (engine" in str(failed)


def test_all_errors_have_one_root() -> None:
    """Catch BeamflowError for anything."""
    defined = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    ]
    assert sorted(kind.__name__ for kind in defined) == sorted(errors.__all__)
    assert all(issubclass(kind, BeamflowError) for kind in KINDS)


def test_the_tree_is_drawn_as_it_is() -> None:
    """Each error stands below its parent, with its builtin base and its depth."""
    drawn: dict[str, tuple[int, str]] = {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│ ├└─]*)(\w+Error)(?:\((\w+)\))?", line)
        if found:
            drawn[found[2]] = (len(found[1]) // 4, found[3] or "")
    assert sorted(drawn) == sorted(errors.__all__)
    for kind in KINDS:
        depth = sum(issubclass(base, BeamflowError) for base in kind.__mro__) - 1
        direct = [base.__name__ for base in kind.__bases__ if hasattr(builtins, base.__name__)]
        assert drawn[kind.__name__] == (depth, "".join(direct)), kind
