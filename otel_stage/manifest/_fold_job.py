"""Events of a job's journal into a job manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_stage.errors import ManifestError
from otel_stage.manifest._events import parse_time, timestamp
from otel_stage.semconv import (
    CANCELLED,
    CRASHED,
    EVENT_END,
    EVENT_START,
    FAILED,
    JOB_CONFIG,
    JOB_END,
    JOB_ENVIRONMENT,
    JOB_START,
    JOB_TELEMETRY,
    REUSED,
    RUNNING,
    SCHEMA_VERSION,
    SKIPPED,
    SUCCESS,
)

_LISTS = {
    RUNNING: "running_stages",
    SUCCESS: "completed_stages",
    FAILED: "failed_stages",
    SKIPPED: "skipped_stages",
    REUSED: "reused_stages",
    CRASHED: "crashed_stages",
    CANCELLED: "cancelled_stages",
}
_WORST_FIRST = (CRASHED, FAILED, CANCELLED)
_START_FIELDS = ("time", "version", "job_id", "run_id", "name", "process")
MALFORMED = (KeyError, TypeError, ValueError, AttributeError)
"""What taking an event that lacks its fields raises."""


class JobFold:
    """Events of one run of a job, taken one by one."""

    __slots__ = (
        "config", "end", "environment", "highest", "last", "numbers", "opened_by", "owners", "stages", "start",
        "telemetry",
    )  # fmt: skip

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.owners: dict[int, str] = {}
        self.highest = 0
        self.start: Mapping[str, Any] = {}
        self.end: Mapping[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.environment: dict[str, Any] = {}
        self.telemetry: dict[str, Mapping[str, Any]] = {}
        self.stages: dict[str, dict[str, Any]] = {}
        self.opened_by: dict[str, Mapping[str, Any]] = {}
        self.last = ""

    def _take_number(self, ident: str, number: int) -> None:
        self.numbers[ident] = number
        self.owners.setdefault(number, ident)
        self.highest = max(self.highest, number)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take one event; one that is malformed, or of a kind that this version does not know, is left out."""
        try:
            self._apply(event)
        except MALFORMED:
            return

    def _apply(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == EVENT_START:
            self._stage_start(event)
        elif kind == EVENT_END:
            self._stage_end(event)
        elif kind == JOB_START:
            # No reset: a stage of a host whose clock is behind may stand before it.
            self.start = {**{name: event[name] for name in _START_FIELDS}, **event}
            for ident, number in (event.get("numbers") or {}).items():
                self._take_number(ident, number)
        elif kind == JOB_CONFIG:
            self.config.update(event["config"])
        elif kind == JOB_ENVIRONMENT:
            self.environment.update(event["environment"])
        elif kind == JOB_TELEMETRY:
            process = event["process"]
            self.telemetry[f"{process['host']}/{process['pid']}"] = event
        elif kind == JOB_END:
            self.end = event

    def _stage_start(self, event: Mapping[str, Any]) -> None:
        ident = event["id"]
        self._take_number(ident, event["stage_number"])
        self.opened_by[ident] = event["process"]
        # A new attempt moves to the end: the order of the entries is the order of opening.
        self.stages.pop(ident, None)
        self.stages[ident] = {
            "status": RUNNING,
            "stage_number": event["stage_number"],
            "attempt": event.get("attempt", 1),
            "duration_seconds": None,
            "manifest": f"{event['folder']}/manifest.json",
            "log": f"{event['folder']}/stage.log",
            "process": event["process"],
        }

    def _stage_end(self, event: Mapping[str, Any]) -> None:
        entry = self.stages.get(event["id"])
        if entry is None:
            return
        entry.pop("process", None)
        entry["status"] = event["status"]
        entry["duration_seconds"] = event.get("duration_seconds")
        if event.get("manifest_sha256"):
            log = entry.pop("log")
            entry["manifest_sha256"] = event["manifest_sha256"]
            entry["log"] = log
        self.last = event["time"]

    @property
    def status(self) -> str:
        """How the run stands: as the pipeline block ended, or derived where there is none."""
        if self.end:
            return str(self.end["status"])
        if not self.start.get("open_ended") or not self.stages:
            return RUNNING
        seen = {entry["status"] for entry in self.stages.values()}
        if RUNNING in seen:
            return RUNNING
        return next((status for status in _WORST_FIRST if status in seen), SUCCESS)

    def manifest(self) -> dict[str, Any]:
        """The job manifest as of the events taken so far."""
        start, end = self.start, self.end
        if not start:
            raise ManifestError("no job.start among the events: a job manifest cannot be made")
        status = self.status
        pipeline: dict[str, Any] = {"status": status}
        for name in ("reason", "signal"):
            if end.get(name):
                pipeline[name] = end[name]
        lists: dict[str, list[str]] = {name: [] for name in _LISTS.values()}
        for ident, entry in self.stages.items():
            lists[_LISTS[entry["status"]]].append(ident)
        running = lists["running_stages"]
        pipeline["current_stage"] = running[-1] if running else None
        pipeline.update(lists)
        began = parse_time(start["time"])
        ended_at = end.get("time") or (self.last if status != RUNNING else "")
        ended = parse_time(ended_at) if ended_at else None
        total = end.get("duration_seconds")
        if total is None and ended is not None:
            total = round((ended - began) / 1e9, 6)
        m: dict[str, Any] = {
            "schema_version": start.get("schema_version", SCHEMA_VERSION),
            "version": start["version"],
            "timestamp": timestamp(began),
            "job_id": start["job_id"],
            "run_id": start["run_id"],
            "name": start["name"],
        }
        if start.get("open_ended"):
            m["open_ended"] = True
        m["pipeline"] = pipeline
        m["stages"] = self.stages
        m["timing"] = {
            "started_at": timestamp(began),
            "completed_at": timestamp(ended) if ended is not None else None,
            "total_seconds": total,
        }
        m["config"] = self.config
        m["environment"] = self.environment
        m["telemetry"] = self._telemetry()
        if end.get("error"):
            m["errors"] = [end["error"]]
        if start.get("log"):
            m["log"] = start["log"]
        if status == RUNNING:
            m["process"] = start["process"]
        if start.get("otel"):
            m["otel"] = {**start["otel"], **(end.get("otel") or {})}
        return m

    def _telemetry(self) -> dict[str, Any]:
        said = list(self.telemetry.values())
        endpoints = [e["otlp_endpoint"] for e in said if e.get("otlp_endpoint")]
        counts = {
            name: sum(e.get(name, 0) for e in said) for name in ("spans_exported", "logs_exported", "failed")
        }
        return {"otlp_endpoint": endpoints[-1] if endpoints else None, **counts}
