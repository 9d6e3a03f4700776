"""The redactor: masks text, JSON-like values and argument lists by every rule there is."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from otel_stage.redact._environ import forms, secrets_of
from otel_stage.redact._names import is_secret_key
from otel_stage.redact._suspicion import MASK, escaped_json, suspicious

__all__ = ["Redactor"]

_DEEP: Final = 100
_CURL_USER: Final = frozenset(["-u", "--user", "--proxy-user", "-U"])


class Redactor:
    """Masks secrets in text, JSON-like values and argument lists; cheap where there are none.

    It may be used from any thread. Nothing here raises: text that cannot be examined is masked as a whole.

    Example:
        >>> Redactor({}).text("postgres://app:hunter2@db/x password='a b'")
        "postgres://app:***@db/x password='***'"
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Learn the secrets of an environment.

        Args:
            environ: The environment to read; `os.environ` by default.
        """
        self._known: set[str] = set()
        self._needles: tuple[str, ...] = ()
        # One slot per thread, written by it alone: no lock that a fork or a signal handler could meet.
        self._counts: dict[int, int] = {}
        self.refresh(environ)

    @property
    def count(self) -> int:
        """How many values were masked so far."""
        return sum(list(self._counts.values()))

    def refresh(self, environ: Mapping[str, str] | None = None) -> None:
        """Read the values of secret-named variables again; one that was seen once stays known.

        Args:
            environ: The environment to read; `os.environ` by default.
        """
        try:
            found = [v for name, value in dict(os.environ if environ is None else environ).items()
                     for v in secrets_of(name, value)]  # fmt: skip
        except Exception:
            return  # changed by another thread while it was read: the next call sees it
        self._learn(found)

    def add_secret(self, value: str) -> None:
        """Mask this very value from now on, wherever it stands; shorter than four characters is ignored."""
        if len(value) >= 4:
            self._learn([value])

    def text(self, s: str) -> str:
        """Mask the secrets in a text, which may be a JSON document and is a valid one afterwards.

        Returns:
            The very same object when there was nothing to mask.
        """
        for needle in self._needles:
            if needle in s:
                break
        else:
            # The ordinary message leaves here; every pattern needs one of these.
            if not (
                "=" in s or ":" in s or "-" in s or "_" in s or "eyJ" in s or "IA" in s or "AIza" in s
                or "earer" in s or "EARER" in s or "asic" in s or "ASIC" in s or "\\" in s
            ):  # fmt: skip
                return s
            if not suspicious(s) and not escaped_json(s):
                return s
        tally = [0]
        try:
            out = self._clean(s, tally)
        except Exception:
            out, tally = MASK, [1]
        self._add(tally[0])
        return out

    def value(self, key: str, value: Any) -> Any:
        """Mask a JSON-like value (dict, list, tuple, str, number) that stands under a key.

        Under a secret key every scalar below becomes the mask, except None, booleans and "". A list of
        strings is also read as an argument list: what follows `--password` is masked.

        Args:
            key: The name the value stands under; empty for none.
            value: What `jsonable` returns, or alike; without cycles. It is left untouched.

        Returns:
            The very same object when there was nothing to mask.
        """
        tally = [0]
        try:
            out = self._walk(value, _is_secret_item(key, value), 0, tally)
        except Exception:
            out, tally = MASK, [1]
        self._add(tally[0])
        return out

    def mapping(self, d: Mapping[str, Any]) -> dict[str, Any]:
        """Mask a mapping by its keys and values; see `value`."""
        out = self.value("", d if isinstance(d, dict) else dict(d))
        return out if isinstance(out, dict) else {}

    def argv(self, args: Sequence[str]) -> list[str]:
        """Mask a command line: `--password x`, `--token=x`, `KEY=x`, `-H "Cookie: …"`, URLs, `curl -u`.

        Args:
            args: The arguments, the program first.
        """
        tally = [0]
        try:
            out = self._arguments([a if isinstance(a, str) else os.fsdecode(a) for a in args], tally)
        except Exception:
            out, tally = [MASK] * len(args), [1]
        self._add(tally[0])
        return out

    def _add(self, n: int) -> None:
        if n:
            ident = threading.get_ident()
            self._counts[ident] = self._counts.get(ident, 0) + n

    def _learn(self, values: Iterable[str]) -> None:
        new = {v for v in values if v not in self._known and MASK not in v and v not in MASK}
        if new:
            self._known |= new
            every = {form for v in list(self._known) for form in forms(v)}
            # Longest first: a secret that holds another goes as one.
            self._needles = tuple(sorted(every, key=lambda form: (-len(form), form)))

    def _clean(self, s: str, tally: list[int]) -> str:
        if s.lstrip()[:1] in ("{", "["):
            document = self._json(s, tally)
            if document is not None:
                return document
        total, out = 0, s
        # Until nothing is left: masking one value may bring another into view.
        for _ in range(8):
            out, n = self._once(out)
            if not n:
                break
            total += n
        tally[0] += total
        return out if total else s

    def _once(self, s: str) -> tuple[str, int]:
        count = 0
        for needle in self._needles:
            if needle in s:
                count += s.count(needle)
                s = s.replace(needle, MASK)
        if not suspicious(s):
            return s, count
        # Compiling the patterns takes milliseconds, and most processes never meet a suspicious text.
        from otel_stage.redact._keyed import mask_keyed
        from otel_stage.redact._shapes import mask_shapes

        s, shaped = mask_shapes(s)
        s, keyed = mask_keyed(s)
        return s, count + shaped + keyed

    def _json(self, s: str, tally: list[int]) -> str | None:
        """Mask a JSON document by its structure, so that it stays one; None when it is none."""
        here = [0]
        try:
            document = json.loads(s)
            masked = self._walk(document, secret=False, depth=0, tally=here)
            if masked is document:
                return s
            # Written in the manner it came in; escaped surrogates must stay escaped.
            body = s.strip()
            lines = "\n" in body
            out = json.dumps(
                masked,
                ensure_ascii=s.isascii() or "\\u" in s,
                allow_nan=False,
                indent=2 if lines else None,
                separators=(",", ": ") if lines else (", ", ": ") if '": ' in body else (",", ":"),
            )
        except (ValueError, RecursionError):
            return None
        tally[0] += here[0]
        return out + s[len(s.rstrip()) :]

    def _walk(self, value: Any, secret: bool, depth: int, tally: list[int]) -> Any:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            if not secret:
                quick = self._quick(value)
                return value if quick else self._clean(value, tally)
            if not value or value == MASK:
                return value
        elif depth > _DEEP:
            tally[0] += 1
            return MASK
        elif isinstance(value, dict):
            return self._walk_dict(value, secret, depth, tally)
        elif isinstance(value, (list, tuple)):
            return self._walk_list(value, secret, depth, tally)
        elif not secret:
            return value
        tally[0] += 1
        return MASK

    def _walk_dict(self, value: dict[Any, Any], secret: bool, depth: int, tally: list[int]) -> dict[Any, Any]:
        changed = False
        out: dict[Any, Any] = {}
        for key, item in value.items():
            named = key
            if isinstance(key, str) and len(key) >= 16 and not self._quick(key):
                named = self._clean(key, tally)
            inner = secret or (isinstance(key, str) and _is_secret_item(key, item))
            masked = self._walk(item, inner, depth + 1, tally)
            changed = changed or masked is not item or named is not key
            out[named] = masked
        return out if changed else value

    def _walk_list(
        self, value: list[Any] | tuple[Any, ...], secret: bool, depth: int, tally: list[int]
    ) -> list[Any] | tuple[Any, ...]:
        out: list[Any]
        if not secret and value and isinstance(value[0], str) and all(isinstance(v, str) for v in value):
            out = list(self._arguments(value, tally))
        else:
            out = [self._walk(item, secret, depth + 1, tally) for item in value]
        if all(a is b for a, b in zip(out, value, strict=True)):
            return value
        return tuple(out) if isinstance(value, tuple) else out

    def _quick(self, s: str) -> bool:
        """Tell that there is certainly nothing to mask in a string."""
        return not (suspicious(s) or escaped_json(s) or any(needle in s for needle in self._needles))

    def _arguments(self, args: Sequence[str], tally: list[int]) -> list[str]:
        out: list[str] = []
        before = ""
        curl = False
        for arg in args:
            follows_flag = before[:1] == "-" and "=" not in before
            head, separator, tail = arg.partition(":")
            if follows_flag and is_secret_key(before) and not (arg[:2] == "--" and arg[2:3].isalpha()):
                out.append(self._argument("", arg, tally))
            elif before in ("-H", "--header") and separator and is_secret_key(head):
                kept = len(tail) - len(tail.lstrip())
                from otel_stage.redact._keyed import SCHEME

                scheme = SCHEME.match(tail, kept)
                kept = scheme.end() if scheme else kept
                out.append(self._argument(head + separator + tail[:kept], tail[kept:], tally))
            elif curl and before in _CURL_USER and tail:
                out.append(self._argument(head + separator, tail, tally))
            else:
                out.append(self._assignment(arg, tally))
            before = arg
            curl = curl or os.path.basename(arg) in ("curl", "curl.exe")
        return out

    def _assignment(self, arg: str, tally: list[int]) -> str:
        """Mask `KEY=value` and `--option=KEY=value` whole, spaces in the value included."""
        done = 0
        for _ in range(3):
            equals = arg.find("=", done)
            if equals < 0:
                break
            name = arg[done:equals].lstrip("-")
            if name.replace("-", "_").replace(".", "_").isidentifier():
                if _is_secret_item(name, arg[equals + 1 :]):
                    return self._argument(arg[: equals + 1], arg[equals + 1 :], tally)
            else:
                break
            done = equals + 1
        return arg if self._quick(arg) else self._clean(arg, tally)

    def _argument(self, kept: str, secret: str, tally: list[int]) -> str:
        if not secret or secret == MASK:
            return kept + secret
        tally[0] += 1
        return kept + MASK


def _is_secret_item(key: str, value: object) -> bool:
    if key in ("PWD", "OLDPWD") and isinstance(value, str) and value[:1] in ("/", "~"):
        return False  # where a shell is, not a password
    return is_secret_key(key)
