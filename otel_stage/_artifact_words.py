"""Small words of artifact records."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from otel_stage.checksum import Facts
from otel_stage.manifest import encode, jsonable
from otel_stage.redact import redactor


def as_text(kind: Any) -> str:
    """`type=` of another kind than text: an enum's value, or compact JSON."""
    value = jsonable(kind)
    return redactor().text(value if isinstance(value, str) else encode(value).decode())


@cache
def real_folder(folder: str) -> str:
    """A folder without links in its path, with a slash behind it."""
    return os.path.realpath(folder) + "/"


def missing(facts: Facts) -> str:
    """Why there is nothing, as the end of a sentence."""
    if facts.kind == "symlink-dangling":
        return f"is a link to {facts.link_target}, which does not exist"
    return f"cannot be looked at ({facts.error})" if facts.error else "does not exist"


def ordered(record: dict[str, Any]) -> dict[str, Any]:
    """Size and checksum stand right behind the path, as people read it."""
    head: dict[str, Any] = {name: record[name] for name in ("type", "path", "size_bytes", "checksum") if name in record}
    return {**head, **record}
