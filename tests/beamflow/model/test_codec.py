"""JSON in and out: what goes in comes back as its type, or is refused with the path to it."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import subprocess
import sys
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from beamflow import PayloadError
from beamflow.model.codec import Payload, checksum, decode_event, encode_event, encode_json
from beamflow.model.events import WorkflowCompleted


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Address:
    street: str
    number: int


class Person(msgspec.Struct, frozen=True):
    name: str
    homes: list[Address]
    born: dt.date | None = None


class Point(NamedTuple):
    x: float
    y: float


class Options(TypedDict, total=False):
    deep: dict[str, list[int]]


BERLIN = dt.timezone(dt.timedelta(hours=2))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (str, "grün ✓ \0 \u2028"),
        (int, -(2**63)),
        (int, 2**200),
        (float, 0.1 + 0.2),
        (float, -0.0),
        (bool, True),
        (None, None),
        (bytes, b"\xff\x00"),
        (dt.datetime, dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=BERLIN)),
        (dt.datetime, dt.datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001 - naive on purpose
        (dt.date, dt.date(2026, 1, 2)),
        (dt.time, dt.time(3, 4, 5)),
        (dt.timedelta, dt.timedelta(days=3, seconds=1)),
        (Decimal, Decimal("1.10")),
        (uuid.UUID, uuid.UUID(int=7)),
        (Colour, Colour.RED),
        (Level, Level.LOW),
        (Literal["a", "b"], "a"),
        (Address, Address("Hauptstraße", 7)),
        (Person, Person("Ann", [Address("x", 1)], dt.date(1990, 1, 1))),
        (Point, Point(1.5, 2.5)),
        (Options, {"deep": {"a": [1]}}),
        (Options, {}),
        (list[Person | None], [Person("Ann", []), None]),
        (tuple[int, str], (1, "a")),
        (set[int], {3, 1, 2}),
        (frozenset[str], frozenset({"b", "a"})),
        (dict[str, int], {"b": 1, "a": 2}),
        (dict[int, str], {10: "a", 9: "b"}),
        (dict[uuid.UUID, dict[dt.date, int]], {uuid.UUID(int=7): {dt.date(2026, 1, 2): 3}}),
        (dict[Colour, int], {Colour.BLUE: 1}),
        (Any, {"a": [1, 2.5, None, "x"]}),
    ],
)
def test_a_value_comes_back_as_it_was(annotation: Any, value: object) -> None:
    """By its annotation, type and all."""
    payload: Payload[Any] = Payload(annotation, "it")
    back = payload.decode(payload.encode(value))
    assert (back, type(back)) == (value, type(value))
    if not isinstance(value, dict | set | frozenset):  # which come back sorted
        assert str(back) == str(value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(plain)
def test_plain_data_comes_back_or_is_refused(value: object) -> None:
    """Any of it; infinities become null, as JSON has none."""
    payload: Payload[Any] = Payload(Any, "it")
    try:
        data = payload.encode(value)
    except PayloadError:
        return
    assert payload.encode(payload.decode(data)) == data
    event = decode_event(encode_event(WorkflowCompleted(result=Raw(data))))
    assert isinstance(event, WorkflowCompleted)
    assert bytes(event.result) == data


def test_equal_values_have_equal_bytes() -> None:
    """Insertion order is no part of a dict, hash order none of a set."""
    assert encode_json({"b": 1, "a": {"z", "y"}}, "it") == b'{"a":["y","z"],"b":1}'
    assert encode_json({2: 1, 1: {"z", "y"}}, "it") == b'{"1":["y","z"],"2":1}'


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    """A digest of them stands in the log."""
    code = (
        "from beamflow.model.codec import encode_json;"
        "print(encode_json({'s': set('abcdefgh'), 'f': {frozenset('ab')}, 1: 2}, 'it'))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Unset(msgspec.Struct):
    name: str


def unset() -> Unset:
    value = Unset("x")
    del value.name
    return value


UNWRITABLE: list[Any] = [
    (lambda: None, "function"),
    (object(), "object"),
    (open, "builtin"),
    ({"a": [1, {1j}]}, "complex"),
    ({(1, 2): 3}, "keys"),
    ({1, "a"}, "not supported between"),
    ("\ud800", "lone surrogate, '\\ud800'"),
    ({"a\udfff": 1}, "lone surrogate"),
    (10**5000, "digits"),
    (nested(100_000), "nested too deeply"),
    (endless(), "nested too deeply, or contains itself"),
    (unset(), "unset"),
    (Raw(b"["), "truncated"),
]


@pytest.mark.parametrize(("value", "problem"), UNWRITABLE, ids=range(len(UNWRITABLE)))
def test_what_cannot_be_written_is_refused(value: object, problem: str) -> None:
    """The error names the value, what is wrong with it and what to pass instead."""
    payload: Payload[Any] = Payload(Any, "argument 'x'")
    with pytest.raises(PayloadError, match="argument 'x'") as caught:
        payload.decode(payload.encode(value))
    assert problem in str(caught.value)


def test_what_has_been_written_can_be_read_deep_down_a_stack() -> None:
    """A payload near the limit of the decoder is refused when it is written, not when it is read."""
    payload: Payload[Any] = Payload(Any, "it")
    deepest = next(depth for depth in range(1000, 0, -1) if _fits(payload, nested(depth)))
    data = payload.encode(nested(deepest))
    event = encode_event(WorkflowCompleted(result=Raw(data)))

    def down(levels: int) -> Any:
        return down(levels - 1) if levels else (payload.decode(data), decode_event(event))

    assert down(100)


def _fits(payload: Payload[Any], value: object) -> bool:
    try:
        payload.encode(value)
    except PayloadError:
        return False
    return True


MISFITS: list[Any] = [
    (Person, b'{"name":"Ann","homes":[{"street":"x","number":"7"}]}', "`$.homes[0].number`"),
    (Person, b'{"homes":[]}', "missing required field `name`"),
    (dict[str, list[int]], b'{"a":[1,null]}', "`$[...][1]`"),
    (Colour, b'"green"', "Invalid enum value 'green'"),
    (dt.datetime, b'"yesterday"', "datetime"),
    (float, b"null", "neither NaN nor infinity"),
    (int, b"1.5", "Expected `int`"),
    (str, b'"\xff"', "utf-8"),
    (Any, b'"\\ud800"', "truncated"),
    (Any, b"{", "truncated"),
    (Any, b"1 2", "trailing"),
    (Any, b"", "truncated"),
    (Any, b"[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("annotation", "data", "problem"), MISFITS, ids=range(len(MISFITS)))
def test_what_does_not_fit_is_refused_with_its_path(
    annotation: Any, data: bytes, problem: str
) -> None:
    """And never with anything else than a PayloadError."""
    with pytest.raises(PayloadError) as caught:
        Payload(annotation, "it").decode(data)
    assert problem in str(caught.value)


def test_what_an_authors_own_check_raises_is_a_payload_error() -> None:
    """__post_init__ is the author's code and may raise anything."""

    @dataclass
    class Checked:
        number: int

        def __post_init__(self) -> None:
            raise KeyError("unheard of")

    with pytest.raises(PayloadError, match="unheard of"):
        Payload(Checked, "it").decode(b'{"number":1}')


@given(st.binary(max_size=60))
def test_no_bytes_at_all_raise_anything_else(data: bytes) -> None:
    """Whatever a damaged store holds."""
    for annotation in (Any, Person, dict[str, int], list[Colour]):
        with contextlib.suppress(PayloadError):
            Payload(annotation, "it").decode(data)


def test_a_checksum_covers_bytes_and_place() -> None:
    """A flipped bit or a moved row is seen."""
    sums = {
        checksum(stream, seq, data)
        for stream in ("a", "b")
        for seq in (1, 2, 11)
        for data in (b"x", b"y")
    }
    assert len(sums) == 12
