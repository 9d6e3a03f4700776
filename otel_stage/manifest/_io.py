"""Manifests as files: written whole or not at all, read with an exact word about what is wrong."""

from __future__ import annotations

import itertools
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from otel_stage.errors import ManifestError
from otel_stage.manifest._events import decode, encode
from otel_stage.semconv import SCHEMA_VERSION

STAGE_MANIFEST = "manifest.json"
JOB_MANIFEST = "manifest.json"
JOB_MANIFEST_BESIDE_FOREIGN = "job.manifest.json"

_MAJOR = SCHEMA_VERSION.partition(".")[0]
_SEED_FIELDS = ("inputs", "outputs", "intermediate_files", "errors", "warnings")
_names = itertools.count()


def to_json(manifest: Mapping[str, Any]) -> bytes:
    """A manifest as people read it: UTF-8 JSON, two spaces, one final newline."""
    return msgspec.json.format(encode(manifest), indent=2) + b"\n"


def write_atomic(path: str, data: bytes, *, fsync: bool = False) -> None:
    """Put `data` at `path` so that readers see the old content or the new, never a part.

    Args:
        path: The file; a temporary one appears beside it for an instant.
        data: The whole new content.
        fsync: Also wait until file and folder are on the disk.

    Raises:
        OSError: It could not be written; the old content is untouched and the temporary file is gone.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{next(_names)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if fsync:
                os.fsync(fd)
        finally:
            os.close(fd)
        _replace(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise
    if fsync and sys.platform != "win32":
        fd = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _replace(source: str, target: str) -> None:
    if sys.platform != "win32":
        os.replace(source, target)
        return
    # Windows refuses while a reader has the target open; readers are quick.
    for attempt in range(20):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == 19:
                raise
            time.sleep(0.005)


def is_ours(data: bytes) -> bool:
    """Whether a `manifest.json` in a job directory is a job manifest of this library."""
    try:
        raw = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(raw, dict) and all(name in raw for name in ("schema_version", "run_id", "pipeline", "stages"))


def parse_stage(data: bytes, *, where: str = "manifest.json") -> dict[str, Any]:
    """A stage manifest, checked; unknown fields stay, those that the older kind lacks are filled in.

    Args:
        data: JSON of this library (same major version) or of the older kind (no `schema_version`).
        where: Name of the file, for errors.

    Raises:
        ManifestError: What is wrong and where: `06_asr/manifest.json: expected str, got int - at $.stage`.
    """
    raw = _object(data, where)
    if "schema_version" not in raw:
        raw = _from_seed(raw)
    _check(raw, "StageManifest", where)
    return raw


def parse_job(data: bytes, *, where: str = "manifest.json") -> dict[str, Any]:
    """A job manifest, checked; unknown fields stay.

    Raises:
        ManifestError: What is wrong and where.
    """
    raw = _object(data, where)
    _check(raw, "JobManifest", where)
    return raw


def read_stage(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check one stage manifest.

    Raises:
        ManifestError: It is malformed.
        OSError: It cannot be read.
    """
    return parse_stage(_read(path), where=_where(path))


def read_job(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check one job manifest.

    Raises:
        ManifestError: It is malformed, or not of this library.
        OSError: It cannot be read.
    """
    return parse_job(_read(path), where=_where(path))


def _read(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as f:
        return f.read()


def _where(path: str | os.PathLike[str]) -> str:
    folder, name = os.path.split(os.fspath(path))
    return "/".join(part for part in (os.path.basename(folder), name) if part)


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        raw = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise ManifestError(f"{where}: {err}") from None
    if not isinstance(raw, dict):
        raise ManifestError(f"{where}: expected object, got {type(raw).__name__} - at $")
    return raw


def _check(raw: dict[str, Any], model: str, where: str) -> None:
    # Writers never check what they fold; the model costs milliseconds to import.
    from otel_stage.manifest import _model

    version = raw.get("schema_version")
    if isinstance(version, str) and version.partition(".")[0] not in ("0", _MAJOR):
        raise ManifestError(
            f"{where}: written by a newer version (schema {version}, this one reads {_MAJOR}.x) - at $.schema_version"
        )
    try:
        msgspec.convert(raw, getattr(_model, model))
    except msgspec.ValidationError as err:
        raise ManifestError(f"{where}: {_plain(str(err))}") from None


def _plain(message: str) -> str:
    # "Expected `str`, got `int` - at `$.stage`" → "expected str, got int - at $.stage"
    text = re.sub(r"`([^`]*)`", r"\1", message)
    return (text[:1].lower() + text[1:]) if " - at " in text else text[:1].lower() + text[1:] + " - at $"


def _from_seed(raw: dict[str, Any]) -> dict[str, Any]:
    filled: dict[str, Any] = {"schema_version": "0.0", "run_id": "", "key": None, "attempt": 1, **raw}
    filled.setdefault("stage_number", 0)
    filled.setdefault("timestamp", "")
    filled.setdefault("config", {})
    filled.setdefault("resources", {})
    for name in _SEED_FIELDS:
        items = filled.setdefault(name, [])
        if name in ("errors", "warnings") and isinstance(items, list):
            filled[name] = [{"message": item} if isinstance(item, str) else item for item in items]
    return filled
