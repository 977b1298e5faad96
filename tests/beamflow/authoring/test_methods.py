"""Methods that are called from outside: what is refused at their declaration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from beamflow import DefinitionError, query, signal, update

if TYPE_CHECKING:
    from collections.abc import Callable


async def waits() -> None: ...


def generates() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: query(waits), "query 'waits' must be a plain `def`"),
        (lambda: update(lambda self: None).validator(waits), "validator .* must be a plain `def`"),
        (lambda: signal(generates), "is a generator"),
        (lambda: signal(name="")(waits), "signal name '' is refused"),
        (lambda: signal(3), "a function is needed|name '' is refused"),
        (lambda: update(raises=[int])(waits), "must list exception types"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(
    declare: Callable[[], Any], said: str
) -> None:
    """At import."""
    with pytest.raises(DefinitionError, match=said):
        declare()
