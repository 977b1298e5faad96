"""Parameters and results as payloads: bound, checked, written and read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from beamflow import DefinitionError, PayloadError
from beamflow.authoring.signature import Signature

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass
class Item:
    name: str
    count: int


def signature(function: Any) -> Signature:
    return Signature(function, "step 'f'", None)


def everything(a: int, b: Item, /, c: str = "x", *, d: list[Item], e: float = 1.5) -> None: ...


def test_arguments_come_back_as_they_were_bound() -> None:
    """Positional and keyword-only ones, defaults applied, converted by their annotations."""
    arguments = signature(everything).arguments
    data = arguments.encode((1, Item("i", 2)), {"d": [Item("j", 3)]})
    assert data == b'[1,{"name":"i","count":2},"x",[{"name":"j","count":3}],1.5]'
    args, kwargs = arguments.decode(data)
    assert args == (1, Item("i", 2), "x")
    assert kwargs == {"d": [Item("j", 3)], "e": 1.5}


def test_one_call_has_one_encoding() -> None:
    """By position or by name: the digest is the same."""

    def f(a: int, b: int = 2) -> None: ...

    arguments = signature(f).arguments
    assert arguments.encode((1, 2), {}) == arguments.encode((1,), {"b": 2})
    assert arguments.encode((1, 2), {}) == arguments.encode((), {"b": 2, "a": 1})
    assert arguments.encode((1,), {}) == arguments.encode((1, 2), {})


def test_no_parameters_are_an_empty_list() -> None:
    """And without annotations anything is plain data."""

    def none(): ...

    def bare(a, *, b=None): ...

    assert signature(none).arguments.decode(signature(none).arguments.encode((), {})) == ((), {})
    bare_arguments = signature(bare).arguments
    assert bare_arguments.decode(bare_arguments.encode(((1, "x"),), {})) == (
        ([1, "x"],),
        {"b": None},
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3, 4), {}, "too many positional arguments"),
        ((1, Item("i", 2)), {"d": [], "x": 1}, "unexpected keyword argument 'x'"),
        (("one", Item("i", 2)), {"d": []}, "Expected `int`, got `str` - at `a`"),
        ((1, {"name": "i", "count": "2"}), {"d": []}, "at `b.count`"),
        ((1, Item("i", 2)), {"d": [Item("j", 3), None]}, "at `d[1]`"),
        ((1, Item("i", 2)), {"d": [], "e": float("nan")}, "neither NaN nor infinity"),
        ((1, Item("\ud800", 2)), {"d": []}, "lone surrogate"),
    ],
    ids=range(8),
)
def test_wrong_arguments_are_refused_with_the_path(
    args: tuple[Any, ...], kwargs: dict[str, Any], problem: str
) -> None:
    """The message names the step, the parameter and the field."""
    arguments = signature(everything).arguments
    with pytest.raises(PayloadError, match="arguments of step 'f'") as caught:
        arguments.decode(arguments.encode(args, kwargs))
    assert problem in str(caught.value)


def test_what_was_recorded_with_fewer_parameters_says_what_is_missing() -> None:
    with pytest.raises(PayloadError, match="arguments of step 'f': missing 'c', 'd', 'e'"):
        signature(everything).arguments.decode(b'[1,{"name":"i","count":2}]')


def star(*items: int) -> None: ...


def stars(**items: int) -> None: ...


def unresolvable(a: Decimal) -> None: ...  # imported for type checkers alone


def unknown(a: Missing) -> None: ...  # noqa: F821 - that is what is tested


def crooked(a: "int |") -> None: ...  # noqa: F722 - that is what is tested


def impossible(a: 1 + x) -> None: ...  # noqa: F821 - that is what is tested


def unreadable(a: open) -> None: ...


def unreadable_result() -> open: ...


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (star, "'*items: 'int'' is refused: a log needs named parameters"),
        (stars, "Take a list or a dict instead"),
        (unresolvable, "not under TYPE_CHECKING"),
        (unknown, "'Missing' is not defined"),
        (crooked, "Annotations must be resolvable"),
        (impossible, "Annotations must be resolvable"),
        (unreadable, "its parameters cannot be read from JSON"),
        (unreadable_result, "its result annotation cannot be read from JSON"),
    ],
)
def test_what_no_log_could_hold_is_refused(function: Any, problem: str) -> None:
    """At the definition's first use, with its name and what to do."""
    with pytest.raises(DefinitionError, match="step 'f'") as caught:
        signature(function)
    assert problem in str(caught.value)


def test_a_step_that_only_raises_may_say_so() -> None:
    """NoReturn is no type of a value."""

    def f() -> NoReturn:
        raise ValueError

    assert signature(f).result.decode(b"null") is None


def test_local_types_are_found_where_the_function_was_defined() -> None:
    """By the names at that place."""

    @dataclass
    class Local:
        x: int

    def f(a: Local) -> Local:
        return a

    there = Signature(f, "step 'f'", {"Local": Local})
    args, _ = there.arguments.decode(there.arguments.encode((Local(1),), {}))
    assert args == (Local(1),)
    assert there.result.decode(b'{"x":2}') == Local(2)
