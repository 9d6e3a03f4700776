"""Which values an environment gives away as secrets, and in which spellings they may turn up."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Final

from otel_stage.redact._names import is_secret_key

__all__ = ["forms", "secrets_of"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Everyday words in secret variables: masking them everywhere would hide the run, not a secret.
_TRIVIAL: Final = _words(
    "anonymous bearer cancelled changeme crashed default develop disabled enabled example failed failure "
    "localhost optional password postgres production required running secret skipped staging stdout "
    "stderr success testing undefined unknown username"
)
_URL_PASSWORD: Final = re.compile(r"""://[^\s/?"'<>@:]*+:([^\s/?"'<>]+)@""")


def secrets_of(name: str, value: str) -> Iterable[str]:
    """Give the secrets that one environment variable holds: none, its value, its lines, a URL's password."""
    if "://" in value and "@" in value:
        yield from (password for password in _URL_PASSWORD.findall(value) if _telling(password))
    if is_secret_key(name) and name not in ("PWD", "OLDPWD"):
        if _telling(value):
            yield value
        if "\n" in value:
            # A key is logged line by line, too.
            yield from (line for line in value.split("\n") if len(line) >= 16)


def _telling(value: str) -> bool:
    """Tell a secret from a word, a small number or a path that a variable may hold instead."""
    if len(value.strip()) < 6 or value.lower() in _TRIVIAL or (value.isdecimal() and len(value) < 8):
        return False
    return not (value[0] in "/~." and os.path.lexists(os.path.expanduser(value)))


def forms(value: str) -> set[str]:
    """Give every way in which a secret is written: plain, percent-encoded, escaped in JSON and in a repr."""
    found = {value, value.strip()}
    if not value.isalnum():
        from urllib.parse import quote, quote_plus

        plain = value.encode("utf-8", "surrogateescape")
        percent = {quote(plain), quote(plain, safe=""), quote_plus(plain)}
        found |= percent | {re.sub("%..", lambda m: m[0].lower(), form) for form in percent}
        found |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    return {form for form in found if form}
