"""One stage as its files tell it, whatever became of the process that wrote them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from otel_stage.errors import ManifestError
from otel_stage.jobdir import STATE_DIR
from otel_stage.jobdir._liveness import is_alive
from otel_stage.manifest import STAGE_MANIFEST, encode, fold, parse_lines, parse_stage, read_stage
from otel_stage.semconv import CRASHED, EVENT_START, RUNNING

_LAST_LINES = 20
_LAST_BYTES = 16_384


def load_stage(job_path: str | os.PathLike[str], stage: str | Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a stage as of now.

    One that is still running is the fold of its journal; when its process is dead it is shown as crashed,
    with the last lines of its log.

    Args:
        job_path: The job directory.
        stage: The stage's folder (`06_asr`), or its entry in the job manifest.

    Raises:
        ManifestError: There is no such stage, or what there is is malformed.
        OSError: A file cannot be read.

    Example:
        >>> load_stage("out/2025/11/27/baseline/1", "06_asr")["status"]  # doctest: +SKIP
        'success'
    """
    job = os.fspath(job_path)
    folder, process = (stage, None) if isinstance(stage, str) else (folder_of(stage), stage.get("process"))
    if not folder or folder.startswith(".") or "/" in folder or os.sep in folder:
        # Manifests may come from elsewhere: what they name must not lead out of their directory.
        raise ManifestError(f"{folder!a} is not the folder of a stage")
    journal = f"{job}/{STATE_DIR}/stages/{folder}.jsonl"
    known: dict[str, Any] | None = None
    while True:
        manifest, speaker = _read(f"{job}/{folder}", journal)
        if manifest is None:
            manifest, speaker = _from_job_journal(job, folder)
        if manifest["status"] != RUNNING:
            return manifest
        speaker = process or speaker or _by_environment(manifest)
        if speaker is None or is_alive(job, speaker):
            return manifest
        if manifest == known:
            return shown_as_crashed(manifest, f"{job}/{folder}", speaker)
        # What it wrote between our reading and its death must not be missed.
        known = manifest


def load_kept_stage(folder: str) -> dict[str, Any]:
    """The manifest of a stage that a later run or attempt replaced: nobody works on it any more.

    Raises:
        ManifestError: There is none, or it is malformed.
        OSError: A file cannot be read.
    """
    manifest, speaker = _read(folder, f"{folder}/journal.jsonl")
    if manifest is None:
        raise ManifestError(f"{folder}: no manifest and no journal")
    return manifest if manifest["status"] != RUNNING else shown_as_crashed(manifest, folder, speaker or {})


def folder_of(entry: Mapping[str, Any]) -> str:
    """The folder of a stage, by its entry in the job manifest."""
    return str(entry.get("manifest") or "").removesuffix(f"/{STAGE_MANIFEST}")


def events_of(path: str) -> list[dict[str, Any]]:
    """The events of a journal; none where there is no journal."""
    try:
        with open(path, "rb") as f:
            return list(parse_lines(f.read(), where=path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def folded(events: list[dict[str, Any]], where: str) -> dict[str, Any]:
    """`fold`, with an error that says which file it is about.

    Raises:
        ManifestError: The events amount to no manifest.
    """
    try:
        return fold(events)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        what = f"an event lacks {err}" if isinstance(err, KeyError) else str(err)
        raise ManifestError(f"{where}: {what}") from None


def _read(folder: str, journal: str) -> tuple[dict[str, Any] | None, Mapping[str, Any] | None]:
    """A stage's manifest, from its journal while it runs, and who runs it."""
    manifest: dict[str, Any] | None = None
    try:
        manifest = read_stage(f"{folder}/{STAGE_MANIFEST}")
    except (FileNotFoundError, NotADirectoryError):
        pass
    if manifest is not None and manifest["status"] != RUNNING:
        return manifest, None
    events = events_of(journal)
    start = next((e for e in reversed(events) if e["event"] == EVENT_START), None)
    if start is None:
        return manifest, None
    where = "/".join(journal.split("/")[-2:])
    return parse_stage(encode(folded(events, where)), where=where), start.get("process")


def _from_job_journal(job: str, folder: str) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """The stage of which only its opening is known: its process died before it wrote anything else."""
    for event in reversed(events_of(f"{job}/{STATE_DIR}/journal.jsonl")):
        if event["event"] == EVENT_START and event.get("folder") == folder:
            return folded([event], "journal.jsonl"), event.get("process")
    raise ManifestError(f"{folder}/{STAGE_MANIFEST}: there is no such stage in {job}")


def _by_environment(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    facts = manifest.get("environment") or {}
    return {"host": facts["host"], "pid": facts["pid"]} if {"host", "pid"} <= facts.keys() else None


def shown_as_crashed(manifest: dict[str, Any], folder: str, process: Mapping[str, Any]) -> dict[str, Any]:
    """A running stage's manifest as that of a crashed one: when it died is not known, and not guessed."""
    said = {
        "status": CRASHED,
        "reason": gone(process),
        "last_log": _last_lines(f"{folder}/stage.log"),
    }
    shown: dict[str, Any] = {}
    for name, value in manifest.items():
        if name == "status":
            shown.update((k, v) for k, v in said.items() if v)
        else:
            shown.setdefault(name, value)
    return shown


def gone(process: Mapping[str, Any]) -> str:
    """Why a run or stage is shown as crashed."""
    who = f"process {process['pid']} on {process['host']}" if {"pid", "host"} <= process.keys() else "its process"
    return f"{who} is gone, and did not say how it ended"


def _last_lines(path: str) -> list[str]:
    try:
        with open(path, "rb") as f:
            size = f.seek(0, os.SEEK_END)
            f.seek(max(0, size - _LAST_BYTES))
            data = f.read()
    except OSError:
        return []
    lines = data.decode("utf-8", "replace").split("\n")
    if size > len(data):
        del lines[0]  # its beginning was not read
    return [line for line in lines if line][-_LAST_LINES:]
