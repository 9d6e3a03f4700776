"""Secrets that a name announces: `key=value`, `"key": "value"`, `--key value`, in all their quotings.

The pattern finds the names; where a value ends is found by code, since quotes may be escaped to any depth.
Both go through a text once: a value that is masked, or is never closed, is not looked at again.
"""

from __future__ import annotations

import re
from typing import Final

from otel_stage.redact._names import is_line_key, is_secret_key, is_secret_query
from otel_stage.redact._suspicion import MASK

__all__ = ["SCHEME", "mask_keyed"]

# `--flag value`, also as neighbours in the repr of a list, or `key = value`.
_KEYED: Final = re.compile(
    r"""(?<![\w.\-])(?:
      (?P<flag>--?[A-Za-z][\w.\-]*+) (?:\\*+["'],[ \t]*+|[ \t]++) (?![:=])
    | (?P<pre>(?i:access|account|api|auth|client|connection|encryption|license|master|private|secret|session
             |signing|ssh)[ ])?+
      (?P<key>[\w.\-]++) (?P<quote>(?P<slashes>\\*+)(?P<mark>["'`])\]?)?+
      [ \t]*+ (?P<sep>=>|:=|==?|:(?![:]|//)) [ \t]*+
    )""",
    re.VERBOSE | re.ASCII,
)
_PRE_KEYS: Final = frozenset(["key", "keys", "string", "id", "token"])
_OPEN: Final = re.compile(r"""(?:[bBrRuUfF]{1,2}(?=["']))?(?P<slashes>\\*+)(?P<mark>\"{3}|'{3}|["'`])""")
_CLOSE: Final = {mark: re.compile(r"(\\*+)" + re.escape(mark)) for mark in ('"', "'", "`", '"""', "'''")}
_BARE: Final = re.compile(
    r"""(?: [^\s"'`,;&)\]}\\<>]
      | \\(?!["'`])
      | <(?![/A-Za-z!])
      | [,;&)\]}"'`>](?![\s,;:&)\]}"'`<>\\]|\Z|[\w.\-%]{1,64}[=:])
    )++""",
    re.VERBOSE | re.ASCII,
)  # fmt: skip
# `password: str = "x"` and `a = token = "x"`: what was taken for a value is one more name.
_CHAIN: Final = re.compile(
    r"[)\]}]*+(?:[ \t]*+\|[ \t]*+[\w.]++)*+[ \t]*+(?:=>|:=|==?|:(?!:|//))[ \t]*+", re.ASCII
)
SCHEME: Final = re.compile(r"(?:bearer|basic|token|apikey|negotiate)[ \t]++(?=[^\s=:])", re.IGNORECASE)
_BRACKET: Final = re.compile(r"""\\*+["'`]|[{[(]|[)\]}]""")
_PLAIN: Final = frozenset(["", "null", "none", "true", "false", MASK])
_REACH: Final = 400
"""How far beyond its line a quoted value may go on, in characters."""


def mask_keyed(s: str) -> tuple[str, int]:
    """Mask the values of secret names, once over.

    Returns:
        The text, and how many values were replaced by the mask.
    """
    out: list[str] = []
    done = pos = 0
    while (m := _KEYED.search(s, pos)) is not None:
        pos = m.end()
        if not _named_secret(s, m):
            continue
        start, end, quote = _value(s, m)
        if end <= start or s[start:end].lower() in _PLAIN:
            continue
        # A bare value behind a quoted key is JSON or a repr: it stays one with the mask in the key's quotes.
        out += (s[done:start], f"{quote}{MASK}{quote}")
        done = pos = end
    if not out:
        return s, 0
    out.append(s[done:])
    return "".join(out), len(out) // 2


def _named_secret(s: str, m: re.Match[str]) -> bool:
    if m["flag"]:
        # `--password --verbose` asks for it on the terminal.
        return is_secret_key(m["flag"]) and not s.startswith("--", m.end())
    key, start = m["key"], m.start("key")
    if s.startswith("//", start - 2) and m["sep"] == ":":
        return False  # a URL's user or host
    if key in ("PWD", "OLDPWD") and s.startswith(("/", "~"), m.end()):
        return False  # where a shell is, not a password
    if is_secret_key(key) or (s.startswith("\\", start - 1) and is_secret_key(key[1:])):
        return True
    if m["pre"] and key.lower() in _PRE_KEYS:
        return is_secret_key(f"{m['pre'][:-1]}_{key}")
    return start > 0 and s[start - 1] in "?&" and is_secret_query(key)


def _value(s: str, m: re.Match[str]) -> tuple[int, int, str]:
    """Find the value behind a key: where it starts and ends, and the quotes that a bare one has to get."""
    pos = m.end()
    if opened := _OPEN.match(s, pos):
        return opened.end(), _closing(s, opened.end(), len(opened["slashes"]), opened["mark"]), ""
    quote = (m["slashes"] or "") + (m["mark"] or "")
    if s[pos : pos + 1] in ("{", "[", "("):
        end = _bracketed(s, pos)
        return pos, end if end > pos + 2 else pos, quote  # an empty one holds no secret
    if scheme := SCHEME.match(s, pos):
        bare = _BARE.match(s, scheme.end())
        return scheme.end(), bare.end() if bare else scheme.end(), quote
    key = m["key"]
    if key and not quote:
        first = m.start("pre") if m["pre"] else m.start("key")
        if first and s[first - 1] in "\"'`":
            # The key and its value stand in one pair of quotes: "X-Api-Key: abc def".
            return pos, _closing(s, pos, _slashes(s, first - 1), s[first - 1]), ""
        if m["sep"] == ":" and is_line_key(key):
            return pos, pos + len(s[pos : _line_end(s, pos)].rstrip()), ""
    return pos, _bare_end(s, pos), quote


def _bare_end(s: str, pos: int) -> int:
    end = pos
    while True:
        bare = _BARE.match(s, end)
        if bare is None:
            return end
        if s.startswith(MASK, end) and bare.end() == end + 3:
            return bare.end()
        end = bare.end()
        chain = _CHAIN.match(s, end)
        if chain:
            after = chain.end()
        elif s[end - 1] in ":=" and s[end : end + 1] in (" ", "\t"):
            after = end + 1
        else:
            return end
        if opened := _OPEN.match(s, after):
            close = _closing(s, opened.end(), len(opened["slashes"]), opened["mark"])
            return min(len(s), close + len(opened["slashes"]) + len(opened["mark"]))
        if not _BARE.match(s, after):
            return end
        end = after


def _slashes(s: str, at: int) -> int:
    """Count the backslashes before a quotation mark, as far as escaping goes in practice."""
    n = 0
    while n < 32 and at - n > 0 and s[at - n - 1] == "\\":
        n += 1
    return n


def _closing(s: str, pos: int, depth: int, mark: str) -> int:
    """Find where a quoted value ends, its own escaped quotes counted as part of it.

    An opening quote with `depth` backslashes is written at a level where one backslash takes `depth + 1`. A
    value that is never closed ends with its line.
    """
    near = pos + _REACH
    checked = pos
    for m in _CLOSE[mark].finditer(s, pos):
        if m.start() > near:
            if s.find("\n", checked, m.start()) >= 0:
                break
            checked = m.start()
        n = len(m[1]) - depth
        if n < 0 or n // (depth + 1) % 2 == 0:
            return m.end() - len(mark) - min(depth, len(m[1]))
    return _line_end(s, pos)


def _bracketed(s: str, pos: int) -> int:
    """Find the end of a list or mapping that is a secret's value; one never closed ends with its line."""
    start = checked = pos
    near = pos + _REACH
    level = 0
    while (m := _BRACKET.search(s, pos)) is not None:
        pos = m.end()
        if pos > near:
            if s.find("\n", checked, pos) >= 0:
                break
            checked = pos
        found = m[0]
        if found in ("{", "[", "("):
            level += 1
        elif found in ("}", "]", ")"):
            level -= 1
            if level <= 0:
                return pos
        else:
            pos = _closing(s, pos, len(found) - 1, found[-1]) + len(found)
    return _line_end(s, start)


def _line_end(s: str, pos: int) -> int:
    newline = s.find("\n", pos)
    return newline if newline >= 0 else len(s)
