r"""The one rule by which any Python value becomes JSON: `jsonable`.

| value | becomes |
|---|---|
| `str`, `bool`, `None`, `int` within 64 bits, finite `float` | itself |
| `int` beyond 64 bits, `Decimal`, `Fraction`, `complex`, `UUID` | its text |
| NaN and the infinities | `"NaN"`, `"Infinity"`, `"-Infinity"` |
| `Path` and other path-likes | the path with `/` between its parts |
| bytes | their text when printable UTF-8, else `"base64:…"`; above 64 KiB `"<builtins.bytes of N bytes>"` |
| date, time, datetime | ISO 8601, with the offset when there is one |
| timedelta | seconds |
| Enum | what its value becomes |
| numpy scalar (torch, jax, … alike) | the Python number; an array of up to 1 000 numbers the nested list |
| a larger array | `"<numpy.ndarray shape=(3, 4000) dtype=float32>"` |
| mapping, dataclass, attrs, namedtuple, msgspec struct, pydantic model, `Namespace` | object |
| list, tuple, deque, range, other sequences | array |
| set | array, sorted by the JSON text of its items |
| anything else | `"<module.QualName>"` of its type; never its `repr`: it may raise, or hold secrets |

Keys become text by the same rule (`1` is `"1"`, `None` is `"null"`); of two that collide the last one stays.
Lone surrogates, as in file names that are no UTF-8, are written out as `\udcff`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from math import isfinite, isnan
from typing import Any, Final, SupportsFloat

__all__ = ["jsonable"]

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**63 - 1
_ARRAY_ITEMS: Final = 1000
_BYTES: Final = 65_536
_GONE: Final = object()
_TOO_DEEP: Final = "<too deep>"


class _Walk:
    """One conversion: what limits it, how much of it is used up, and the containers that we are inside of."""

    __slots__ = ("inside", "left", "max_depth")

    def __init__(self, max_depth: int, max_items: int) -> None:
        self.max_depth = max_depth
        self.left = max_items
        self.inside: set[int] = set()


def jsonable(value: Any, *, max_depth: int = 32, max_items: int = 10_000) -> Any:
    """Turn any value into one that every JSON encoder takes; the module's table says how.

    Whatever the value's own code raises is swallowed: such a value is written as its type's name.

    Args:
        value: The value; it is not changed, and its iterators are not consumed.
        max_depth: Containers within containers before `"<too deep>"`.
        max_items: Items in the whole result; what is beyond is cut, with `"<N more>"` as the last item.

    Returns:
        `None`, `bool`, `int`, `float`, `str`, or a new `list` or `dict` of these.

    Example:
        >>> jsonable({"path": Path("a/b"), "rate": float("nan"), 3: {2, 1}})
        {'path': 'a/b', 'rate': 'NaN', '3': [1, 2]}
    """
    simple = _SIMPLE.get(type(value))
    if simple is not None:
        return simple(value)
    return _convert(value, 0, _Walk(max_depth, max_items))


def _text(value: str) -> str:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _integer(value: int) -> int | str:
    if _INT_MIN <= value <= _INT_MAX:
        return value
    try:
        return str(value)
    except ValueError:  # beyond the interpreter's limit on decimal digits
        return hex(value)


def _number(value: float) -> float | str:
    if isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _bytes(value: bytes | bytearray | memoryview) -> str:
    raw = bytes(value) if not isinstance(value, memoryview) else value.tobytes()
    if len(raw) > _BYTES:
        return f"<{_name(type(value))} of {len(raw)} bytes>"
    try:
        text = raw.decode()
        if (text.isprintable() or text.translate(_BREAKS).isprintable()) and not text.startswith("base64:"):
            return text
    except UnicodeDecodeError:
        pass
    import binascii

    return "base64:" + binascii.b2a_base64(raw, newline=False).decode()


_BREAKS: Final = {ord("\n"): " ", ord("\r"): " ", ord("\t"): " "}


def _same(value: Any) -> Any:
    return value


_SIMPLE: Final[dict[type, Callable[[Any], Any]]] = {
    str: _text, int: _integer, float: _number, bool: _same, type(None): _same,
}  # fmt: skip
# By name, since a value of such a type proves that its module is imported, and we need not import it.
_NAMED: Final[dict[tuple[str, str], Callable[[Any], Any]]] = {
    ("datetime", "datetime"): lambda v: v.isoformat(),
    ("datetime", "date"): lambda v: v.isoformat(),
    ("datetime", "time"): lambda v: v.isoformat(),
    ("datetime", "timedelta"): lambda v: v.total_seconds(),
    ("decimal", "Decimal"): str,
    ("fractions", "Fraction"): str,
    ("uuid", "UUID"): str,
    ("builtins", "complex"): str,
    ("types", "SimpleNamespace"): vars,
    ("argparse", "Namespace"): vars,
    ("enum", "Enum"): lambda v: v.value,
    # Subclasses of the simple types lose only their own name.
    ("builtins", "str"): str.__str__,
    ("builtins", "int"): int.__int__,
    ("builtins", "float"): float.__float__,
}


def _name(kind: type) -> str:
    try:
        return _text(f"{kind.__module__}.{kind.__qualname__}")
    except Exception:
        return "object"


def _convert(value: Any, depth: int, walk: _Walk) -> Any:
    # Only the type is asked what the value is: `__class__` may be a property that raises or lies.
    kind = type(value)
    simple = _SIMPLE.get(kind)
    if simple is not None:
        return simple(value)
    mark = id(value)
    if mark in walk.inside:
        return "<cycle>"
    # Containers look at their depth themselves; this stops what is for ever its own value.
    if depth > walk.max_depth + 8:
        return _TOO_DEEP
    walk.inside.add(mark)
    try:
        return _structure(value, kind, depth, walk)
    except Exception:
        return f"<{_name(kind)}>"
    finally:
        walk.inside.discard(mark)


def _structure(value: Any, kind: type, depth: int, walk: _Walk) -> Any:
    if kind is dict:
        return _object(value.items(), len(value), depth, walk)
    if kind is list or kind is tuple:
        return _array(value, len(value), depth, walk)
    if issubclass(kind, (bytes, bytearray, memoryview)):
        return _bytes(value)
    if hasattr(kind, "__fspath__"):
        return _path(value, kind)
    bases = [(base.__module__, base.__qualname__) for base in kind.__mro__]
    # An Enum that is also a str or an int goes by its value: "enum" is looked for first.
    for base in [("enum", "Enum"), *bases] if ("enum", "Enum") in bases else bases:
        known = _NAMED.get(base)
        if known is not None:
            plain = known(value)
            # A numpy.float64 is a float; an item that is no simpler than its owner would go on for ever.
            return _convert(plain, depth + 1, walk) if type(plain) is not kind else f"<{_name(kind)}>"
    if hasattr(kind, "item") and hasattr(kind, "tolist") and hasattr(kind, "dtype"):
        return _tensor(value, kind, depth, walk)
    fields = _fields(kind)
    if fields is not None:
        present = [(name, got) for name in fields if (got := getattr(value, name, _GONE)) is not _GONE]
        return _object(present, len(present), depth, walk)
    if hasattr(kind, "model_dump"):
        return _convert(value.model_dump(), depth + 1, walk)
    if issubclass(kind, Mapping):
        return _object(value.items(), len(value), depth, walk)
    if issubclass(kind, AbstractSet):
        return _array(value, len(value), depth, walk, ordered=False)
    if issubclass(kind, Sequence):
        return _array(value, len(value), depth, walk)
    return f"<{_name(kind)}>"


def _path(value: Any, kind: type) -> str:
    path = value.as_posix() if hasattr(kind, "as_posix") else value.__fspath__()
    if not isinstance(path, (str, bytes)):
        return f"<{_name(kind)}>"
    text = os.fsdecode(path)
    return _text(text if os.sep == "/" else text.replace(os.sep, "/"))


def _tensor(value: Any, kind: type, depth: int, walk: _Walk) -> Any:
    shape = tuple(int(n) for n in value.shape)
    size = 1
    for n in shape:
        size *= n
    if not shape:
        item = value.item()
        if type(item) is kind:  # numpy.longdouble has no simpler form of its own
            return _number(float(item)) if isinstance(item, SupportsFloat) else f"<{_name(kind)}>"
        return _convert(item, depth + 1, walk)
    if size <= _ARRAY_ITEMS:
        return _convert(value.tolist(), depth, walk)
    return _text(f"<{_name(kind)} shape={shape} dtype={value.dtype}>")


def _fields(kind: Any) -> Iterable[str] | None:
    """Name the fields of what describes itself; None when it does not."""
    found: Any = getattr(kind, "__dataclass_fields__", None)
    if isinstance(found, dict):
        # A dataclass proves that its module is imported; importing it here would cost 10 ms for nothing.
        return [field.name for field in sys.modules["dataclasses"].fields(kind)]
    found = getattr(kind, "__attrs_attrs__", None)
    if found is not None:
        return [attribute.name for attribute in found]
    found = getattr(kind, "__struct_fields__", None)
    if found is None and issubclass(kind, tuple):
        found = getattr(kind, "_fields", None)
    return found if isinstance(found, tuple) else None


def _object(items: Iterable[tuple[Any, Any]], size: int, depth: int, walk: _Walk) -> dict[str, Any] | str:
    if depth >= walk.max_depth:
        return _TOO_DEEP
    taken = list(islice(items, max(0, walk.left)))
    walk.left -= len(taken)
    out: dict[str, Any] = {}
    for key, item in taken:
        name = _text(key) if type(key) is str else _key(key, depth, walk)
        simple = _SIMPLE.get(type(item))
        out[name] = simple(item) if simple is not None else _convert(item, depth + 1, walk)
    if size > len(taken):
        out["..."] = f"<{size - len(taken)} more>"
    return out


def _array(
    items: Iterable[Any], size: int, depth: int, walk: _Walk, *, ordered: bool = True
) -> list[Any] | str:
    if depth >= walk.max_depth:
        return _TOO_DEEP
    taken = list(islice(items, max(0, walk.left)))
    walk.left -= len(taken)
    out: list[Any] = []
    for item in taken:
        simple = _SIMPLE.get(type(item))
        out.append(simple(item) if simple is not None else _convert(item, depth + 1, walk))
    if not ordered:
        out.sort(key=_json)
    if size > len(taken):
        out.append(f"<{size - len(taken)} more>")
    return out


def _key(key: Any, depth: int, walk: _Walk) -> str:
    converted = _convert(key, depth + 1, walk)
    return converted if isinstance(converted, str) else _json(converted)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
