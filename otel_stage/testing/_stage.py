"""One stage of a job that is being written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from otel_stage.jobdir import folder_name
from otel_stage.manifest import encode, event_time, fold, to_json, write_atomic
from otel_stage.semconv import (
    CRASHED,
    EVENT_ARTIFACT,
    EVENT_CONFIG,
    EVENT_END,
    EVENT_ERROR,
    EVENT_START,
    EVENT_WARNING,
    FAILED,
    RUNNING,
    SCHEMA_VERSION,
)
from otel_stage.testing._lines import line
from otel_stage.testing._specs import FileSpec, StageSpec, as_file

if TYPE_CHECKING:
    from otel_stage.testing._job import _JobWriter

_CODE = {"kind": "script", "path": "/work/pipeline.py", "value": "sha256:" + "c0de" * 16}
_LOUD = ("INFO", "WARNING", "ERROR", "CRITICAL")


def event(kind: str, ns: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What `event_line` says, as the object that is read back."""
    return {"time": event_time(ns), "event": kind, **fields}


def raised(reason: str | None, number: int, function: str) -> dict[str, str]:
    """The error record of an exception: `RuntimeError: out of memory`, raised in line `number`."""
    text = reason or "RuntimeError: failed"
    kind, _, message = text.partition(": ")
    trace = f'Traceback (most recent call last):\n  File "/work/pipeline.py", line {number}, in {function}\n{text}'
    return {"message": message or kind, "type": kind, "traceback": trace}


class StageWriter:
    """Writes a stage's folder and journal; says what belongs into the job's.

    Attributes:
        began: When it opened.
        ended: When it ended; 0 while it runs.
        closing: Its `stage.end` for the job's journal; None while it runs.
        pipeline_lines: What it adds to the pipeline log between ▶ and its end.
    """

    def __init__(
        self, spec: StageSpec, ident: str, key: str | None, number: int, attempt: int, job: _JobWriter
    ) -> None:
        self.spec, self.ident, self.key, self.number, self.job = spec, ident, key, number, job
        self.attempt, self.folder = attempt, folder_name(number, ident)
        self.began = job.clock()
        self.ended = 0
        self.closing: dict[str, Any] | None = None
        self.pipeline_lines: list[str] = []
        self._log: list[str] = []
        self._events: list[dict[str, Any]] = []

    def opening(self) -> dict[str, Any]:
        """Its `stage.start` for the job's journal."""
        fields = {
            "id": self.ident, "stage": self.spec.name, "stage_number": self.number,
            "run_id": self.job.run_id, "attempt": self.attempt, "folder": self.folder, "process": self.job.process,
            "schema_version": SCHEMA_VERSION,
        }  # fmt: skip
        if self.key is not None:
            fields["key"] = self.key
        return event(EVENT_START, self.began, fields)

    def write(self) -> None:
        """Write everything."""
        spec = self.spec
        self._start()
        self._track("input", spec.inputs)
        self._track("output", spec.outputs)
        self._track("intermediate", spec.intermediates)
        if spec.config:
            self._say(EVENT_CONFIG, {"config": dict(spec.config)})
        for level, text in spec.log:
            self._line(self.job.clock(), level, text)
        for text in spec.warnings:
            self._line(self._say(EVENT_WARNING, {"message": text}), "WARNING", text)
        for text in spec.errors:
            self._line(self._say(EVENT_ERROR, {"message": text}), "ERROR", text)
        if spec.status != RUNNING:
            if spec.status != CRASHED:
                self._settle(spec.outputs)
            self._end()
        self._write_files()

    def _start(self) -> None:
        job = self.job
        own_trace = job.open_ended
        fields: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "stage": self.spec.name,
            "id": self.ident,
            "stage_number": self.number,
            "run_id": job.run_id,
            "attempt": self.attempt,
            "folder": self.folder,
            "process": job.process,
            "job_id": job.job_id,
            "otel": {
                "trace_id": f"{job.ids.trace_id():032x}" if own_trace else job.trace_id,
                "span_id": f"{job.ids.span_id():016x}",
                "parent_span_id": None if own_trace else job.span_id,
                "start_time_unix_nano": str(self.began),
            },
            "environment": job.environment() if job.facts else {},
        }
        if self.key is not None:
            fields["key"] = self.key
        if job.facts:
            fields["code"] = _CODE
        self._events.append(event(EVENT_START, self.began, fields))

    def _say(self, kind: str, fields: Mapping[str, Any]) -> int:
        ns = self.job.clock()
        self._events.append(event(kind, ns, fields))
        return ns

    def _line(self, ns: int, level: str, text: str) -> None:
        self._log.append(line(ns, f"stage.{self.ident}", level, text))
        if level in _LOUD:
            self.pipeline_lines.append(line(ns, "pipeline", level, text))

    # --- artifacts

    def _recorded(self, role: str, path: str) -> str:
        if role != "input" and not os.path.isabs(path):
            path = f"{self.folder}/{path}"
        return path.removeprefix(f"{self.job.path}/")

    def _track(self, role: str, files: Sequence[FileSpec | str]) -> None:
        for given in files:
            file = as_file(given)
            path = self._recorded(role, file.path)
            facts = self.job.known.get(path) if role == "input" and file.content is None else None
            if facts is None:
                facts = file.facts(path)
            record: dict[str, Any] = {"type": file.type, "path": path}
            if file.content is not None:
                target = os.path.join(self.job.path, path)
                if role == "output" and os.path.exists(target):
                    # An earlier run wrote it: what it was is said when it is tracked.
                    record["size_bytes"] = os.path.getsize(target)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "wb") as f:
                    f.write(file.content)
            if role == "input":
                record.update(facts or {"exists": False})
                if not facts:
                    text = f"input {path} does not exist"
                    self._line(self._say(EVENT_WARNING, {"message": text}), "WARNING", text)
            elif role == "intermediate" and facts:
                record["size_bytes"] = facts["size_bytes"]
            record.update(file.metadata)
            self._say(EVENT_ARTIFACT, {"role": role, "artifact": record})

    def _settle(self, outputs: Sequence[FileSpec | str]) -> None:
        # What is missing is known first, what has to be hashed comes after.
        for file in sorted(map(as_file, outputs), key=lambda file: file.exists):
            path = self._recorded("output", file.path)
            facts = file.facts(path)
            if facts:
                self.job.known[path] = facts
                record = {"type": file.type, "path": path, **facts, **file.metadata}
            else:
                record = {"type": file.type, "path": path, **file.metadata, "exists": False}
                text = f"output {path} does not exist at the end of the stage"
                self._line(self._say(EVENT_WARNING, {"message": text}), "WARNING", text)
            self._say(EVENT_ARTIFACT, {"role": "output", "artifact": record})

    # --- the end

    def _end(self) -> None:
        spec, job = self.spec, self.job
        job.clock.advance(spec.seconds)
        if spec.status == FAILED:
            error = raised(spec.why, 10 * self.number, spec.name)
            text = f"{error['type']}: {error['message']}\n{error['traceback']}"
            ns = self._say(EVENT_ERROR, {**error, "ends": True})
            self._log.append(line(ns, f"stage.{self.ident}", "ERROR", text))
        self.ended = ns = job.clock()
        fields: dict[str, Any] = {"id": self.ident, "status": spec.status}
        if spec.status == CRASHED:
            fields["duration_seconds"] = None
            fields["last_log"] = "".join(self._log).splitlines()[-20:]
        else:
            fields["duration_seconds"] = spec.seconds
            fields["resources"] = spec.used
            fields["environment"] = {"packages_sha256": "5a" * 32} if job.facts else {}
        fields["otel"] = {"end_time_unix_nano": str(ns)}
        if spec.why:
            fields["reason"] = spec.why
        data = "".join(self._log).encode()
        path = f"{self.folder}/stage.log"
        lines = data.count(b"\n")
        fields["log"] = {"path": path, "lines": lines, "size_bytes": len(data), "timezone": "+00:00"}
        self._events.append(event(EVENT_END, ns, fields))

    def _write_files(self) -> None:
        job, spec = self.job, self.spec
        folder = f"{job.path}/{self.folder}"
        with open(f"{folder}/stage.log", "wb") as f:
            f.write("".join(self._log).encode())
        with open(f"{job.state}/stages/{self.folder}.jsonl", "wb") as f:
            f.write(b"".join(encode(one) + b"\n" for one in self._events))
        if spec.samples:
            with open(f"{job.state}/stages/{self.folder}.samples.jsonl", "wb") as f:
                for n in range(spec.samples):
                    point = {"t": n * 1.0, "cpu_percent": 40.0 + n % 60, "memory_mb": 256.0 + n % 512}
                    f.write(encode(point) + b"\n")
        # While it runs a stage's manifest says what was known when it opened.
        data = to_json(fold(self._events if self.ended else self._events[:1]))
        write_atomic(f"{folder}/manifest.json", data)
        if self.ended:
            fields = {
                "id": self.ident,
                "status": spec.status,
                "duration_seconds": None if spec.status == CRASHED else spec.seconds,
                "manifest_sha256": hashlib.sha256(data).hexdigest(),
            }
            self.closing = event(EVENT_END, self.ended, fields)
