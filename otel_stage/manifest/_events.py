"""Events as lines: one JSON object a line, `time` first, so that sorting the lines sorts the events."""

from __future__ import annotations

import time as _time
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import msgspec

from otel_stage.errors import ManifestError
from otel_stage.manifest._values import jsonable

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()
encode = _encoder.encode
decode = _decoder.decode

_last_ns = 0
_kept = (-1, "")


def now_ns() -> int:
    """Wall clock in nanoseconds that never stands still or goes back within this process."""
    global _last_ns
    ns = _time.time_ns()
    if ns <= _last_ns:
        ns = _last_ns + 1
    _last_ns = ns
    return ns


def event_time(ns: int) -> str:
    """`ns` since the epoch as RFC 3339 in UTC with nine decimals: the time of an event.

    Example:
        >>> event_time(1_764_226_201_002_000_000)
        '2025-11-27T06:50:01.002000000Z'
    """
    global _kept
    second, rest = divmod(ns, 1_000_000_000)
    # Second and text in one tuple: two threads at the turn of a second must not mix them.
    kept = _kept
    if kept[0] != second:
        kept = _kept = (second, _time.strftime("%Y-%m-%dT%H:%M:%S.", _time.gmtime(second)))
    return f"{kept[1]}{rest:09d}Z"


def timestamp(ns: int) -> str:
    """`ns` since the epoch as RFC 3339 in UTC with milliseconds: the times in manifests."""
    return event_time(ns)[:-7] + "Z"


def parse_time(text: str) -> int:
    """RFC 3339 text as nanoseconds since the epoch; raises ValueError on anything else."""
    from datetime import UTC, datetime

    head, dot, tail = text.partition(".")
    fraction, zone = tail, ""
    for i, ch in enumerate(tail):
        if not ch.isdigit():
            fraction, zone = tail[:i], tail[i:]
            break
    moment = datetime.fromisoformat(head + zone if dot else text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    nanos = int((fraction + "000000000")[:9]) if dot else 0
    return int(moment.timestamp()) * 1_000_000_000 + nanos


def event_line(name: str, ns: int, fields: Mapping[str, Any]) -> str:
    """One journal line, without its newline: the body of the log event as well."""
    try:
        return _encoder.encode({"time": event_time(ns), "event": name, **fields}).decode()
    except (UnicodeEncodeError, TypeError, OverflowError, RecursionError):
        # A lone surrogate, or a value that somebody did not bring into JSON's form: nothing else is lost.
        return _encoder.encode({"time": event_time(ns), "event": name, **jsonable(dict(fields))}).decode()


def parse_lines(data: bytes, *, where: str = "journal", strict: bool = False) -> Iterator[dict[str, Any]]:
    """The events in `data`, in order of time.

    A last line without its newline is one that a death or a full disk cut short, and is left out; so is, by
    default, any other line that is no JSON object.

    Args:
        data: Whole or partial content of a journal.
        where: Name of the file, for errors.
        strict: Raise `ManifestError` for a malformed line instead of leaving it out.
    """
    end = data.rfind(b"\n") + 1
    lines = data[:end].splitlines()
    lines.sort()
    for line in lines:
        if not line:
            continue
        try:
            event = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            if strict:
                raise ManifestError(f"{where}: {err} in line {line[:80]!r}") from None
            continue
        if type(event) is dict and "event" in event:
            yield event
        elif strict:
            raise ManifestError(f"{where}: expected an object with `event` in line {line[:80]!r}")


def in_order(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Events in order of time; those of the same instant in the order of their text, as lines sort."""
    ordered = sorted(events, key=_time_of)
    if any(_time_of(a) == _time_of(b) for a, b in pairwise(ordered)):
        ordered.sort(key=lambda event: (_time_of(event), _encoder.encode(event)))
    return ordered


def _time_of(event: Mapping[str, Any]) -> str:
    return str(event.get("time", ""))
