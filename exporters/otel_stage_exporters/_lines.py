"""Log lines: one record, one place at column 0, and nothing that drives a terminal.

`[2025-11-27 13:30:01] [stage.asr] [DEBUG] Loading WhisperX model: large-v2`
"""

from __future__ import annotations

import re
import time
from functools import cache
from typing import Any

from otel_stage.manifest import encode, jsonable

INDENT = "    "
_LEVELS = {"WARN": "WARNING", "FATAL": "CRITICAL"}


@cache
def _control() -> re.Pattern[str]:
    # C0 but tab and newline, DEL and C1, line and paragraph separators, bidirectional overrides, lone surrogates.
    return re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def has_surrogate(text: str) -> bool:
    """Whether a lone surrogate is in it, which has no place in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def level_name(severity_text: str | None) -> str:
    """The level as Python's logging names it."""
    text = severity_text or "INFO"
    return _LEVELS.get(text, text)


def escape(text: str) -> str:
    """`text` as it may stand after a header: continuation lines indented, control characters shown."""
    if text.isprintable():
        return text
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    text = text.rstrip("\n")
    text = _control().sub(_shown, text)
    return text.replace("\n", "\n" + INDENT) if "\n" in text else text


def one_line(text: str) -> str:
    """`text` as part of a header: control characters and line ends shown."""
    return text if text.isprintable() else escape(text.replace("\n", "\\n")).replace("\t", "\\t")


def _shown(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def plain(body: Any) -> str:
    """A log record's body as text."""
    if isinstance(body, str):
        return body
    return encode(jsonable(body)).decode()


class Clock:
    """The bracketed time of a line, made once a second.

    Args:
        utc: UTC instead of local time.
        milliseconds: With milliseconds.
    """

    def __init__(self, *, utc: bool = False, milliseconds: bool = False) -> None:
        # Second and text in one tuple: two threads at the turn of a second must not mix them.
        self.now = (-1, "")
        self._convert = time.gmtime if utc else time.localtime
        self._utc = utc
        self.milliseconds = milliseconds

    def at(self, ns: int) -> str:
        """The bracketed time of `ns` since the epoch."""
        second = ns // 1_000_000_000
        now = self.now
        if now[0] != second:
            now = self.now = (second, time.strftime("[%Y-%m-%d %H:%M:%S] ", self._convert(second)))
        if self.milliseconds:
            return f"{now[1][:-2]}.{ns // 1_000_000 % 1000:03d}] "
        return now[1]

    def zone(self, ns: int) -> str:
        """Offset of the lines' time from UTC: `+01:00`."""
        offset = 0 if self._utc else time.localtime(ns // 1_000_000_000).tm_gmtoff // 60
        sign = "-" if offset < 0 else "+"
        return f"{sign}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"


def span_of_time(seconds: float) -> str:
    """A duration as the ends of stages show it: `44.8s`."""
    return f"{seconds:.1f}s"
