"""`fold(events) → manifest`: the only way a manifest comes to be.

Pure: no clock, no file, no environment. The same events give the same manifest, live, from a journal or read
back from OTLP, in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from otel_stage.errors import ManifestError
from otel_stage.manifest._events import in_order, parse_lines, parse_time, timestamp
from otel_stage.manifest._fold_job import MALFORMED, JobFold
from otel_stage.semconv import (
    EVENT_ARTIFACT,
    EVENT_CONFIG,
    EVENT_END,
    EVENT_ERROR,
    EVENT_RESOURCE,
    EVENT_START,
    EVENT_WARNING,
    JOB_START,
    ROLES,
    RUNNING,
    SCHEMA_VERSION,
)

# Length of the times that we write: 2025-11-27T06:50:01.002000000Z.
_OUR_TIME = 30
_ISSUE_FIELDS = ("message", "type", "timestamp", "traceback")


def _moment(event: Mapping[str, Any]) -> str:
    time: str = event["time"]
    if len(time) == _OUR_TIME and time[-1] == "Z":
        return f"{time[:23]}Z"
    return timestamp(parse_time(time))


def _issue(event: Mapping[str, Any]) -> dict[str, Any]:
    issue = {"message": event["message"], "timestamp": _moment(event)}
    for name in ("type", "traceback"):
        if event.get(name) is not None:
            issue[name] = event[name]
    return {name: issue[name] for name in _ISSUE_FIELDS if name in issue}


class StageFold:
    """Events of one stage, taken one by one."""

    __slots__ = ("artifacts", "config", "end", "errors", "resources", "start", "warnings")

    def __init__(self) -> None:
        self.start: Mapping[str, Any] = {}
        self.end: Mapping[str, Any] = {}
        self.artifacts: dict[str, dict[str, Any]] = {role: {} for role in ROLES}
        self.config: dict[str, Any] = {}
        self.resources: dict[str, Any] = {}
        self.errors: list[dict[str, Any]] = []
        self.warnings: list[dict[str, Any]] = []

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take one event; one that is malformed, or of a kind that this version does not know, is left out."""
        try:
            self._apply(event)
        except MALFORMED:
            return

    def _apply(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == EVENT_ARTIFACT:
            role = self.artifacts.get(event["role"])
            if role is not None:
                artifact = event["artifact"]
                role[artifact["path"]] = artifact
        elif kind == EVENT_CONFIG:
            self.config.update(event["config"])
        elif kind == EVENT_WARNING:
            self.warnings.append(_issue(event))
        elif kind == EVENT_ERROR:
            self.errors.append(_issue(event))
        elif kind == EVENT_RESOURCE:
            self.resources.update(event["resources"])
        elif kind == EVENT_START:
            _moment(event)
            self.start = event
        elif kind == EVENT_END:
            _moment(event)
            self.end = event

    def manifest(self) -> dict[str, Any]:
        """The stage manifest as of the events taken so far."""
        start, end = self.start, self.end
        if not start:
            raise ManifestError("no stage.start among the events: a stage manifest cannot be made")
        m: dict[str, Any] = {
            "schema_version": start.get("schema_version", SCHEMA_VERSION),
            "stage": start["stage"],
            "key": start.get("key"),
            "stage_number": start["stage_number"],
            "run_id": start["run_id"],
            "attempt": start.get("attempt", 1),
            "timestamp": _moment(start),
            "completed_at": _moment(end) if end else None,
            "duration_seconds": end.get("duration_seconds") if end else None,
            "status": end.get("status", RUNNING) if end else RUNNING,
        }
        for name in ("reason", "signal", "last_log"):
            if end.get(name):
                m[name] = end[name]
        m["inputs"] = list(self.artifacts["input"].values())
        m["outputs"] = list(self.artifacts["output"].values())
        m["intermediate_files"] = list(self.artifacts["intermediate"].values())
        m["config"] = self.config
        m["resources"] = {**end.get("resources", {}), **self.resources}
        m["errors"] = self.errors
        m["warnings"] = self.warnings
        code = end.get("code") or start.get("code")
        if code:
            m["code"] = code
        m["environment"] = {**start.get("environment", {}), **end.get("environment", {})}
        log = end.get("log") or {"path": f"{start['folder']}/stage.log"}
        m["log"] = log
        otel = {**(start.get("otel") or {}), **(end.get("otel") or {})}
        if otel:
            m["otel"] = otel
        return m


def fold(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest that `events` amount to: of a stage, or of a job if they hold a `job.start`.

    Args:
        events: Events of one stage's journal, or of a job's journal, in any order.

    Raises:
        ManifestError: There is neither a `stage.start` nor a `job.start` among them.
    """
    ordered = in_order(events)
    into: StageFold | JobFold = JobFold() if any(e["event"] == JOB_START for e in ordered) else StageFold()
    for event in ordered:
        into.apply(event)
    return into.manifest()


def fold_stage_journal(data: bytes) -> dict[str, Any]:
    """The stage manifest that a journal's bytes amount to, without holding all its events at once."""
    into = StageFold()
    for event in parse_lines(data):
        into.apply(event)
    return into.manifest()
