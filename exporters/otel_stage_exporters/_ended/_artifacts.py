"""The files that a span names: `stage.<role>.files`, each a path or a JSON object with one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec

from otel_stage.checksum import Facts, hash_many, look, survey
from otel_stage.manifest import jsonable
from otel_stage.redact import redactor
from otel_stage.semconv import ROLES
from otel_stage_exporters._ended._spans import attributes_of
from otel_stage_exporters._otel import ReadableSpan

# What a field of ours must be, for the manifest to be one.
_TYPES: dict[str, type] = {
    "type": str, "path": str, "size_bytes": int, "checksum": str, "exists": bool, "kind": str, "file_count": int,
    "link_target": str, "changed_during_stage": bool, "retained": bool, "reason": str,
}  # fmt: skip
_COUNTS = ("size_bytes", "file_count")
_MTIME = 3


class _Item:
    __slots__ = ("facts", "path", "record", "role")

    def __init__(self, role: str, path: str, record: dict[str, Any]) -> None:
        self.role = role
        self.path = path
        self.record = record
        self.facts: Facts | None = None


class Artifacts:
    """The artifacts of one span; size and checksum that it does not give are taken now.

    Args:
        span: The ended span.
        base: The job directory; paths inside it are recorded relative to it.
        algorithm: Of the checksums, or `off`.

    Attributes:
        warnings: What is not as it should be.
        unhashed_bytes: How much is to be read for the checksums.
    """

    def __init__(self, span: ReadableSpan, base: str, algorithm: str) -> None:
        self._base = base
        self._algorithm = algorithm
        self._ended = span.end_time or 0
        self.warnings: list[str] = []
        self.unhashed_bytes = 0
        self._items: list[_Item] = []
        self._todo: list[_Item] = []
        attributes = attributes_of(span)
        for role in ROLES:
            said = attributes.get(f"stage.{role}.files")
            for given in [said] if isinstance(said, str) else said if isinstance(said, list | tuple) else ():
                item = self._item(role, str(given))
                if item is not None:
                    self._items.append(item)
                    self._look(item)

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(role, record) of each artifact, in the order given."""
        for item in self._items:
            yield item.role, _ordered(item.record)

    def hash(self) -> list[tuple[str, dict[str, Any]]]:
        """Take the checksums that are wanted; gives the records that have become others."""
        todo, self._todo = self._todo, []
        if not todo:
            return []
        pairs = [(item.path, item.facts) for item in todo if item.facts is not None]
        for item, digest in zip(todo, hash_many(pairs, self._algorithm), strict=True):
            if digest.checksum is not None:
                item.record["checksum"] = digest.checksum
                if digest.size is not None:
                    item.record["size_bytes"] = digest.size
            else:
                self.warnings.append(f"{item.role} {item.record['path']} has no checksum: {digest.error}")
        self.unhashed_bytes = 0
        return [(item.role, _ordered(item.record)) for item in todo]

    def _item(self, role: str, given: str) -> _Item | None:
        fields: dict[str, Any] = {"path": given}
        if given.lstrip()[:1] == "{":
            try:
                parsed = msgspec.json.decode(given)
            except (msgspec.DecodeError, UnicodeError):
                parsed = None
            if isinstance(parsed, dict) and isinstance(parsed.get("path"), str):
                fields = parsed
        path = fields["path"]
        if not path or "\0" in path:
            self.warnings.append(f"{role} {given[:80]!r} names no file")
            return None
        absolute = os.path.abspath(path)
        inside = os.path.join(self._base, path)
        # Relative paths mean the current directory; those of a manifest mean the job directory.
        if not os.path.lexists(absolute) and os.path.lexists(inside):
            absolute = os.path.normpath(inside)
        record: dict[str, Any] = {
            "type": "intermediate" if role == "intermediate" else "file",
            "path": self._recorded(absolute),
        }
        mask = redactor()
        for key, value in fields.items():
            if key == "path":
                continue
            name = jsonable(key)
            wanted = _TYPES.get(key)
            if wanted is not None and not _is_a(key, value, wanted):
                name = f"metadata.{key}"
                self.warnings.append(f"{key} of {role} {record['path']} is no {wanted.__name__}: kept as {name!r}")
            record[name] = mask.value(name, jsonable(value))
        return _Item(role, absolute, record)

    def _recorded(self, absolute: str) -> str:
        path = absolute.replace(os.sep, "/")
        shown: str = jsonable(path.removeprefix(self._base + "/"))
        return shown

    def _look(self, item: _Item) -> None:
        record = item.record
        if "checksum" in record:
            return
        facts = look(item.path)
        if facts.kind == "directory":
            facts = survey(item.path)
            record["kind"] = "directory"
            if facts.file_count is not None:
                record.setdefault("file_count", facts.file_count)
        if facts.link_target is not None:
            record["link_target"] = jsonable(facts.link_target)
        if not facts.exists:
            self._missing(item)
            return
        if facts.kind not in ("file", "directory"):
            record["kind"] = facts.kind
            self.warnings.append(f"{item.role} {record['path']} is a {facts.kind}: it has no size and no checksum")
            return
        if facts.size is not None:
            record.setdefault("size_bytes", facts.size)
        item.facts = facts
        if item.role == "output" and len(facts.signature) > _MTIME and facts.signature[_MTIME] > self._ended:
            self.warnings.append(f"output {record['path']} was written to after the stage: it is recorded as it is now")
        if item.role != "intermediate" and self._algorithm != "off":
            self._todo.append(item)
            self.unhashed_bytes += facts.size or 0

    def _missing(self, item: _Item) -> None:
        if "size_bytes" in item.record:
            return
        item.record["exists"] = False
        if item.role != "intermediate":
            self.warnings.append(f"{item.role} {item.record['path']} does not exist")


def _is_a(key: str, value: Any, wanted: type) -> bool:
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        return False
    return not (isinstance(value, int) and key in _COUNTS and value < 0)


def _ordered(record: dict[str, Any]) -> dict[str, Any]:
    head: dict[str, Any] = {name: record[name] for name in ("type", "path", "size_bytes", "checksum") if name in record}
    return {**head, **record}
