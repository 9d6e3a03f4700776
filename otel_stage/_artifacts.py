"""Files that a stage tracks: said when tracked, and again at the end if their facts are others then."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from otel_stage._artifact_words import as_text, missing, ordered, real_folder
from otel_stage.checksum import Facts, Hasher, Pending, hash_many, look, survey
from otel_stage.manifest import jsonable
from otel_stage.redact import redactor

_OURS = frozenset(
    ("type", "path", "size_bytes", "checksum", "exists", "kind", "file_count", "link_target",
     "changed_during_stage", "retained", "reason")
)  # fmt: skip
_MOST_KINDS = 1_000

Said = Callable[[str, dict[str, Any]], None]
Warn = Callable[[str], None]


class _Tracked:
    """One artifact; plain tuples and dictionaries of plain values, which the garbage collector passes over."""

    __slots__ = ("kind", "path", "pending", "record", "signature")

    def __init__(self, path: str, record: dict[str, Any], facts: Facts, pending: Pending | None) -> None:
        self.path = path
        self.record = record
        self.kind = facts.kind
        self.signature = facts.signature
        self.pending = pending


class Artifacts:
    """The artifacts of one stage, as this process tracks them.

    Args:
        base: The job directory; paths inside it are recorded relative to it.
        algorithm: Of the checksums, or `off`.
        said: Called with (role, record) whenever an artifact is to be written down.
        warn: Called with a message where something is not as it should be.
        stage_dir: Gives the stage's own folder.
    """

    def __init__(self, base: str, algorithm: str, said: Said, warn: Warn, stage_dir: Callable[[], str]) -> None:
        self._base = base + "/"
        self._algorithm = algorithm
        self._said = said
        self._warn = warn
        self._stage_dir = stage_dir
        self._hasher = Hasher()
        self._kinds: dict[str, str] = {}
        self._masked: dict[str, list[str]] = {}
        self._roles: dict[str, dict[str, _Tracked]] = {"input": {}, "output": {}, "intermediate": {}}

    def track(self, role: str, path: Any, kind: str, metadata: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
        """Track a file or directory.

        Args:
            role: `input`, `output` or `intermediate`.
            path: Whatever the user gave; relative ones mean the current directory.
            kind: What it is to the stage.
            metadata: The user's keywords.
            extra: Our own fields: `retained`, `reason`.

        Returns:
            The absolute path.
        """
        text = os.fspath(path)
        if type(text) is not str:
            text = os.fsdecode(text)
        if not text:
            raise ValueError("an empty path names nothing")
        # abspath costs a microsecond, and most paths are what it would give.
        plain = text[0] == "/" == os.sep and text[-1] != "/" and "//" not in text and "/." not in text
        absolute = text if plain else os.path.abspath(text)
        facts = look(absolute)
        said = self.recorded(absolute)
        masked = redactor().text(said)
        record: dict[str, Any] = {
            "type": self._kinds.get(kind) or self._kind(kind) if type(kind) is str else as_text(kind),
            "path": said if masked is said else self._told_apart(masked, absolute),
        }
        pending = None
        if facts.kind == "file":
            record["size_bytes"] = facts.size
            if role == "input" and self._algorithm != "off":
                pending = self._hasher.submit(absolute, facts, self._algorithm)
                if pending.done:
                    self._put_digest(record, pending)
        else:
            facts = self._describe(role, absolute, facts, record)
            if facts.kind == "directory" and role == "input" and self._hashes(absolute):
                pending = self._hasher.submit(absolute, facts, self._algorithm)
        if metadata:
            self._put_metadata(record, metadata)
        if extra:
            record.update(redactor().mapping(extra))
        if facts.link_target is not None:
            record["link_target"] = redactor().text(jsonable(facts.link_target))
        self._roles[role][absolute] = _Tracked(absolute, record, facts, pending)
        self._said(role, record)
        return absolute

    def _holds_ours(self, absolute: str) -> bool:
        """Whether files that we write ourselves lie in a folder: the stage's own, or one around it."""
        return f"{self._stage_dir()}/".startswith(f"{absolute}/")

    def _hashes(self, absolute: str) -> bool:
        return self._algorithm != "off" and not self._holds_ours(absolute)

    def _kind(self, kind: str) -> str:
        """What an artifact is to the stage, masked once for all of its kind."""
        if len(self._kinds) > _MOST_KINDS:
            self._kinds.clear()
        masked = self._kinds[kind] = redactor().text(str(jsonable(kind)))
        return masked

    def knows(self, role: str, path: Any) -> bool:
        """Whether a path is tracked in that role already."""
        return os.path.abspath(os.fsdecode(path)) in self._roles[role]

    def _told_apart(self, masked: str, absolute: str) -> str:
        """A masked path; two that differ only in a secret stay two."""
        known = self._masked.setdefault(masked, [])
        if absolute not in known:
            known.append(absolute)
        n = known.index(absolute)
        return masked if n == 0 else f"{masked}~{n + 1}"

    def recorded(self, absolute: str) -> str:
        """A path as manifests have it: relative inside the job directory, '/'-separated."""
        if os.sep != "/":
            absolute = absolute.replace(os.sep, "/")
        inside = absolute.removeprefix(self._base)
        if inside is absolute or inside == absolute:
            # The job directory may lie behind a link, and the current directory never does.
            inside = absolute.removeprefix(real_folder(self._base))
        absolute = inside
        if not absolute.isascii():
            shown: str = jsonable(absolute)
            return shown
        return absolute

    def _describe(self, role: str, absolute: str, facts: Facts, record: dict[str, Any]) -> Facts:
        if facts.kind == "directory":
            facts = survey(absolute)
            record.update(size_bytes=facts.size, kind="directory", file_count=facts.file_count)
            if self._holds_ours(absolute):
                self._warn(
                    f"{role} {record['path']} holds stage.log and manifest.json, which go on changing: it has no "
                    "checksum; track what is in it"
                )
        elif facts.exists:
            record["kind"] = facts.kind
            self._warn(f"{role} {record['path']} is a {facts.kind}: it has no size and no checksum")
        else:
            if facts.kind != "missing":
                record["kind"] = facts.kind
            if role == "input":
                record["exists"] = False
                self._warn(f"input {record['path']} {missing(facts)}")
        return facts

    def _put_metadata(self, record: dict[str, Any], metadata: Mapping[str, Any]) -> None:
        mask = redactor()
        for key, value in metadata.items():
            name = key
            if key in _OURS:
                name = f"metadata.{key}"
                self._warn(f"metadata {key!r} of {record['path']} has the name of a field: it is kept as {name!r}")
            if not key.isascii():
                name = jsonable(name)
            record[name] = mask.value(key, jsonable(value))

    def _put_digest(self, record: dict[str, Any], pending: Pending) -> None:
        digest = pending.result()
        if digest is None:
            return
        if digest.checksum is not None:
            record["checksum"] = digest.checksum
            if digest.size is not None:
                record["size_bytes"] = digest.size
        elif digest.error:
            self._warn(f"{record['path']} has no checksum: {digest.error}")

    # --- the stage's end

    def settle(self) -> None:
        """Look at everything once more: sizes and checksums of outputs, inputs that changed."""
        for tracked in list(self._roles["input"].values()):
            self._settle_input(tracked)
        for tracked in list(self._roles["intermediate"].values()):
            self._settle_facts("intermediate", tracked)
        self._settle_outputs()

    def _settle_input(self, tracked: _Tracked) -> None:
        record = dict(tracked.record)
        if tracked.pending is not None and "checksum" not in record:
            self._put_digest(record, tracked.pending)
        if tracked.signature:
            now = survey(tracked.path) if tracked.kind == "directory" else look(tracked.path)
            digest = tracked.pending.result() if tracked.pending is not None else None
            unstable = digest is not None and digest.checksum is not None and not digest.stable
            if (unstable or now.signature != tracked.signature) and self._is_other(record, now, tracked.path):
                record["changed_during_stage"] = True
                if tracked.path not in self._roles["output"]:
                    self._warn(f"input {record['path']} changed while the stage ran")
        self._say_again("input", tracked, record)

    def _is_other(self, record: dict[str, Any], now: Facts, path: str) -> bool:
        """Whether content differs from what was recorded; a new date alone is no change."""
        if not now.exists or "checksum" not in record or now.size != record.get("size_bytes"):
            return True
        again = hash_many([(path, now)], self._algorithm)[0]
        return bool(again.checksum != record["checksum"])

    def _settle_facts(self, role: str, tracked: _Tracked) -> tuple[dict[str, Any], Facts]:
        """Size and kind as they are now, in a fresh record which is said if it is news."""
        record = {k: v for k, v in tracked.record.items() if k not in ("exists", "kind", "file_count")}
        facts = look(tracked.path)
        if facts.kind == "directory":
            facts = survey(tracked.path)
            record.update(size_bytes=facts.size, kind="directory", file_count=facts.file_count)
        elif facts.kind == "file":
            record["size_bytes"] = facts.size
        else:
            record.pop("size_bytes", None)
            if facts.kind != "missing":
                record["kind"] = facts.kind
            if not facts.exists:
                record["exists"] = False
        if facts.link_target is not None:
            record["link_target"] = redactor().text(jsonable(facts.link_target))
        if role == "intermediate":
            self._say_again(role, tracked, record)
        return record, facts

    def _settle_outputs(self) -> None:
        todo: list[tuple[_Tracked, dict[str, Any], Facts]] = []
        for tracked in list(self._roles["output"].values()):
            record, facts = self._settle_facts("output", tracked)
            if not facts.exists:
                self._warn(f"output {record['path']} {missing(facts)} at the end of the stage")
            if facts.kind in ("file", "directory") and self._hashes(tracked.path):
                todo.append((tracked, record, facts))
            else:
                self._say_again("output", tracked, record)
        if not todo:
            return
        digests = hash_many([(tracked.path, facts) for tracked, _, facts in todo], self._algorithm)
        for (tracked, record, _), digest in zip(todo, digests, strict=True):
            if digest.checksum is not None:
                record["checksum"] = digest.checksum
                if digest.size is not None:
                    record["size_bytes"] = digest.size
                if not digest.stable:
                    self._warn(f"output {record['path']} changed while its checksum was taken")
            else:
                self._warn(f"output {record['path']} has no checksum: {digest.error}")
            self._say_again("output", tracked, record)

    def _say_again(self, role: str, tracked: _Tracked, record: dict[str, Any]) -> None:
        if record != tracked.record:
            tracked.record = ordered(record)
            self._said(role, tracked.record)

    # --- what spans show

    def summary(self, role: str, most: int, most_bytes: int) -> tuple[int, int, list[dict[str, Any]]]:
        """(number, bytes in all, the first records within the bounds)."""
        records = [tracked.record for tracked in list(self._roles[role].values())]
        total = sum(size for record in records if isinstance(size := record.get("size_bytes"), int))
        shown: list[dict[str, Any]] = []
        room = most_bytes
        for record in records[:most]:
            room -= 64 + sum(len(str(k)) + len(str(v)) + 6 for k, v in record.items())
            if room < 0:
                break
            shown.append(record)
        return len(records), total, shown
