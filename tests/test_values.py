"""`jsonable`: every Python value has one JSON form, and finding it never raises."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import math
import os
import pathlib
import types
import uuid
from typing import Any, ClassVar, NamedTuple

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_stage.manifest._values import jsonable


class Colour(enum.Enum):
    RED = "red"
    WEIRD = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


class Name(str, enum.Enum):
    A = "a-value"


class Point(NamedTuple):
    x: int
    y: Any


@dataclasses.dataclass
class Data:
    where: pathlib.Path
    shared: ClassVar[int] = 7
    n: int = 1


@attrs.define
class Attrs:
    n: int = 1


class Struct(msgspec.Struct):
    n: int = 1


class Model:
    """Quacks like a pydantic model."""

    def model_dump(self) -> dict[str, Any]:
        return {"n": 1, "at": dt.date(2025, 1, 2)}


class Array:
    """Quacks like a numpy array, which we must not import."""

    dtype = "float32"

    def __init__(self, value: Any, shape: tuple[int, ...]) -> None:
        self.value, self.shape = value, shape

    def item(self) -> Any:
        return self.value

    def tolist(self) -> Any:
        return self.value


class Text(str):
    __slots__ = ()


class Opaque:
    def __repr__(self) -> str:
        raise AssertionError("repr may hold a secret and is never asked")

    __str__ = __repr__


AWARE = dt.datetime(2025, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=1)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (pathlib.PureWindowsPath("C:\\a\\b"), "C:/a/b"),
        (pathlib.PurePosixPath(os.fsdecode(b"a/\xff")), "a/\\udcff"),
        ("\ud800x", "\\ud800x"),
        ("grüße", "grüße"),
        (Text("abc"), "abc"),
        (dt.datetime(2025, 1, 2, 3, 4, 5), "2025-01-02T03:04:05"),
        (AWARE, "2025-01-02T03:04:05+01:00"),
        (dt.date(2025, 1, 2), "2025-01-02"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(minutes=1, milliseconds=5), 60.005),
        (Colour.RED, "red"),
        (Colour.WEIRD, [1, 2]),
        (Level.HIGH, 3),
        (Name.A, "a-value"),
        (b"plain text\n", "plain text\n"),
        (b"\x00\xff", "base64:AP8="),
        (b"base64:xx", "base64:YmFzZTY0Onh4"),
        (bytearray(b"x"), "x"),
        (memoryview(b"x"), "x"),
        (bytes(70_000), "<builtins.bytes of 70000 bytes>"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (-math.inf, "-Infinity"),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, "9223372036854775808"),
        (-(2**63) - 1, "-9223372036854775809"),
        (decimal.Decimal("1.50"), "1.50"),
        (decimal.Decimal("NaN"), "NaN"),
        (fractions.Fraction(1, 3), "1/3"),
        (1 + 2j, "(1+2j)"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ((1, "a"), [1, "a"]),
        (collections.deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        (Data(pathlib.PurePosixPath("x")), {"where": "x", "n": 1}),
        (Attrs(), {"n": 1}),
        (Struct(), {"n": 1}),
        (Model(), {"n": 1, "at": "2025-01-02"}),
        (Point(1, None), {"x": 1, "y": None}),
        (argparse.Namespace(a=1), {"a": 1}),
        (types.SimpleNamespace(a=1), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (Array(1.5, ()), 1.5),
        (Array([1, float("nan")], (2,)), [1, "NaN"]),
        (Array(None, (3, 4000)), "<tests.test_values.Array shape=(3, 4000) dtype=float32>"),
        ({1: 1, None: 2, (1, 2): 4, 1.5: 5, Level.HIGH: 6}, {"1": 1, "null": 2, "[1,2]": 4, "1.5": 5, "3": 6}),
        ({"1": "a", 1: "b"}, {"1": "b"}),
        (Opaque(), "<tests.test_values.Opaque>"),
        (Opaque, "<builtins.type>"),
        (len, "<builtins.builtin_function_or_method>"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_every_kind_of_value_has_its_documented_form(value: Any, expected: Any) -> None:
    """A value becomes what the table in the module says, whether on its own or inside a container."""
    here = json.dumps(expected).replace("tests.test_values", Opaque.__module__)
    for got in (jsonable(value), jsonable([value])[0], jsonable({"k": value})["k"]):
        assert json.dumps(got) == here
        assert type(got) in (str, int, float, bool, type(None), list, dict)


@pytest.mark.parametrize("value", ["a", 1, 1.5, True, False, None])
def test_plain_values_come_back_as_they_are(value: Any) -> None:
    """What JSON knows already is returned as the same object."""
    assert jsonable(value) is value


def test_an_integer_too_long_for_decimal_text_is_written_in_hex() -> None:
    """The interpreter's limit on digits does not surface."""
    assert jsonable(1 << 40_000).startswith("0x1000")


def test_a_generator_is_named_and_not_consumed() -> None:
    """Recording a config must not eat the iterator that the stage is about to use."""
    numbers = iter([1, 2])
    assert jsonable(numbers) == "<builtins.list_iterator>"
    assert list(numbers) == [1, 2]


def test_cycles_end() -> None:
    """A container within itself is written as such, and one that merely appears twice is written twice."""
    knot: list[Any] = [1]
    knot.append(knot)
    assert jsonable(knot) == [1, "<cycle>"]
    node = types.SimpleNamespace()
    node.me = {"n": node}
    assert jsonable(node) == {"me": {"n": "<cycle>"}}
    twice = [1]
    assert jsonable([twice, twice]) == [[1], [1]]


def test_depth_is_limited() -> None:
    """Containers beyond the depth are written as too deep, leaves at that depth are not."""
    assert jsonable([[[1]]], max_depth=2) == [["<too deep>"]]
    assert jsonable([[dt.date(2025, 1, 1)]], max_depth=2) == [["2025-01-01"]]
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert "<too deep>" in json.dumps(jsonable(deep))


def test_items_are_limited_over_the_whole_result() -> None:
    """What is cut says how much of it there was, and shared lists cannot multiply."""
    assert jsonable(list(range(10)), max_items=3) == [0, 1, 2, "<7 more>"]
    assert jsonable({"a": 1, "b": 2, "c": 3}, max_items=1) == {"a": 1, "...": "<2 more>"}
    assert jsonable([[1, 2], [3, 4]], max_items=3) == [[1, "<1 more>"], ["<2 more>"]]
    assert len(jsonable(set(range(10)), max_items=3)) == 4
    bomb: Any = []
    for _ in range(30):
        bomb = [bomb, bomb]
    assert len(json.dumps(jsonable(bomb))) < 1_000_000


class LyingClass:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("no")


class BadIter(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        raise RuntimeError("no")


class BadKeys(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise RuntimeError("no")

    keys = __iter__ = __len__ = items


class BadPath:
    def __fspath__(self) -> Any:
        return 3


class BadMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError("no")


def bad() -> Any:
    """Make an object whose very type refuses to be looked at."""
    return BadMeta("Bad", (), {})()


class Endless(collections.UserList):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: Any) -> Any:
        return Endless()

    def __iter__(self) -> Any:
        while True:
            yield Endless()


@pytest.mark.parametrize("make", [LyingClass, BadIter, BadKeys, BadPath, bad, Endless])
def test_hostile_objects_do_not_raise(make: Any) -> None:
    """Whatever an object does when looked at, it costs no more than its own entry."""
    out = jsonable({"before": 1, "after": 2, "bad": make()})
    assert out["before"] == 1
    assert out["after"] == 2
    msgspec.json.encode(out)


def test_the_value_itself_is_left_alone_and_not_shared() -> None:
    """Changing the original afterwards does not change what was recorded."""
    inner = {"a": [1]}
    out = jsonable(inner)
    inner["a"].append(2)
    assert out == {"a": [1]}


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())) | st.binary()
    | st.datetimes() | st.timedeltas() | st.decimals() | st.complex_numbers() | st.uuids() | st.fractions()
    | st.sampled_from([Colour.RED, Level.HIGH, object, pathlib.Path("a")])
    | st.builds(Opaque) | st.builds(BadIter)
)  # fmt: skip
HASHABLE = st.none() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())) | st.binary()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(HASHABLE, inner) | st.sets(HASHABLE) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(VALUES)
def test_every_result_can_be_encoded_and_is_its_own_form(value: Any) -> None:
    """Both encoders take any result, it survives a round trip, and converting it again changes nothing."""
    out = jsonable(value)
    text = json.dumps(out, allow_nan=False)
    assert json.loads(text) == out
    assert json.loads(msgspec.json.encode(out).decode("utf-8")) == out
    assert json.dumps(jsonable(out)) == text


@given(st.sets(st.integers() | st.text()), st.randoms())
def test_sets_have_one_order(items: set[Any], random: Any) -> None:
    """Two equal sets are written alike, however they were built."""
    other = list(items)
    random.shuffle(other)
    assert jsonable(set(other)) == jsonable(items)
