"""The live processor: log records and events into files at the moment they are said.

It stands first in the chain: it masks in place and completes `stage.end` before anybody else sees them.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from opentelemetry.context import Context

from otel_stage import jobdir
from otel_stage.jobdir import Place
from otel_stage.manifest import jsonable
from otel_stage.redact import redactor
from otel_stage.semconv import (
    EVENT_END,
    EVENT_ERROR,
    EVENT_START,
    EVENT_WARNING,
    JOB_END,
    JOB_START,
    PLACE_KEY,
    REUSED,
    SKIPPED,
    SUCCESS,
)
from otel_stage_exporters._files import JobFiles, StageFiles, end_line, start_line
from otel_stage_exporters._job_lines import job_end_line, job_start_line
from otel_stage_exporters._lines import escape, has_surrogate, level_name, one_line, plain
from otel_stage_exporters._otel import LogRecordProcessor, ReadWriteLogRecord

_log = logging.getLogger("otel_stage")
_INFO = 9
_MOST_TAGS = 10_000
_EVENTS = ("stage.", "job.")


class Options:
    """What the file exporter can be told; the settings of a run stand in for it."""

    console = "plain"
    utc = False
    milliseconds = False
    hold_gil = True
    fsync = False
    strict = False


class StageFilesLogProcessor(LogRecordProcessor):
    """Turns records whose context carries a Place into lines, journals and manifests.

    Args:
        options: For places that carry none of their own.
    """

    def __init__(self, options: Any = None) -> None:
        self._options = options or Options()
        self._jobs: dict[int, JobFiles] = {}
        self._tags: dict[tuple[str, str | None], tuple[str, str, bool]] = {}
        self._events = {
            EVENT_START: self._stage_start,
            EVENT_END: self._stage_end,
            EVENT_WARNING: self._stage_issue,
            EVENT_ERROR: self._stage_issue,
            JOB_START: self._job_start,
            JOB_END: self._job_end,
        }

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Write one record; never raises."""
        record = log_record.log_record
        try:
            body: Any = record.body
            if not getattr(record, "masked", False):
                body = self._masked(record)
            context: Context | None = record.context
            place: Any = None if context is None else context.get(PLACE_KEY)
            name = record.event_name
            if name is not None and place is not None and name.startswith(_EVENTS):
                self._event(record, place, name, body)
                return
            if place is None:
                place = jobdir.fallback_place()
            if place is not None:
                self._line(log_record, place, body)
        except Exception as err:
            if self._options.strict:
                raise
            _log.warning("a record could not be written: %s: %s", type(err).__name__, err)

    def _masked(self, record: Any) -> str:
        """The text of a record for files; secrets are masked in place, for everybody behind."""
        body = record.body
        mask = redactor()
        if isinstance(body, str):
            text = mask.text(body)
            if not text.isascii() and has_surrogate(text):
                # One of them fails a whole OTLP batch.
                text = str(jsonable(text))
            if text is not body:
                record.body = text
        else:
            record.body = mask.value("", body)
            text = plain(record.body)
        if not hasattr(record, "quiet"):
            # Not of our making: attributes may hold anything, a traceback among it.
            attributes = record.attributes
            for key, value in dict(attributes or {}).items():
                clean = mask.value(key, value)
                if clean is not value and clean != value:
                    attributes[key] = clean
            trace = (attributes or {}).get("exception.stacktrace")
            text = f"{text}\n{str(trace).rstrip()}" if trace else text
        return text

    # --- text

    def _line(self, log_record: ReadWriteLogRecord, place: Place, body: str) -> None:
        record = log_record.log_record
        text, lines = (body, 1) if body.isprintable() else _escaped(body)
        files = place.files
        if files is None:
            files = self._open(place)
        job = files.job_files
        ns = record.timestamp or record.observed_timestamp
        when = job.clock.at(ns)
        scope = log_record.instrumentation_scope
        source = "otel" if scope is None else scope.name
        try:
            own, common, told = self._tags[source, record.severity_text]
        except KeyError:
            own, common, told = self._tag(source, record)
        if job is files:
            common = own
        else:
            files.write_log(f"{when}{own}{text}\n", lines)
        if told:
            line = f"{when}{common}{text}\n"
            job.write(line)
            if job.console.on and not getattr(record, "quiet", False):
                job.console.write(line, place.job.console_fd)

    def _tag(self, source: str, record: Any) -> tuple[str, str, bool]:
        """Header of a record in stage.log, in the pipeline log, and whether it goes there."""
        level = one_line(level_name(record.severity_text))
        number = record.severity_number
        common = "pipeline" if source.startswith("stage.") else source
        told = number is not None and number.value >= _INFO
        tag = f"[{one_line(source)}] [{level}] ", f"[{one_line(common)}] [{level}] ", told
        if len(self._tags) > _MOST_TAGS:
            self._tags.clear()
        self._tags[source, record.severity_text] = tag
        return tag

    # --- files

    def _open(self, place: Place) -> Any:
        job = self._job_files(place)
        place.files = StageFiles(place, job) if place.ident else job
        return place.files

    def _job_files(self, place: Place) -> JobFiles:
        files = self._jobs.get(id(place.job))
        if files is None or files.run_id != place.job.run_id:
            if files is not None:
                files.close()
            files = self._jobs[id(place.job)] = JobFiles(place, place.options or self._options)
        return files

    # --- events

    def _event(self, record: Any, place: Place, name: str, body: str) -> None:
        files = place.files
        if files is None:
            files = self._open(place)
        special = self._events.get(name)
        if special is not None:
            special(record, place, body)
        elif files.job_files is not files:
            files.write_event(body)
        else:
            place.job.append(body)

    def _stage_start(self, record: Any, place: Place, body: str) -> None:
        files: StageFiles = place.files
        event = files.start(body)
        job, line = files.job_files, start_line(event, place.job.start.get("stages_total"))
        job.say("INFO", line, record.timestamp)
        if job.progress is not None:
            job.progress.opened(place.ident, line.removeprefix("▶ Stage ").replace(":", ""))

    def _stage_issue(self, record: Any, place: Place, body: str) -> None:
        files = place.files
        if type(files) is not StageFiles:
            return
        files.write_event(body)
        event = msgspec.json.decode(body)
        if event.get("logged"):
            return
        job = files.job_files
        level = level_name(record.severity_text)
        text = event["message"]
        if event.get("type"):
            text = f"{event['type']}: {text}"
        shown, lines = _escaped(f"{text}\n{event['traceback']}" if event.get("traceback") else text)
        files.write_log(f"{job.clock.at(record.timestamp)}{files.tag}[{level}] {shown}\n", lines)
        # The error that ends the stage has its ✗ line.
        if not event.get("ends"):
            job.say(level, escape(text), record.timestamp)

    def _stage_end(self, record: Any, place: Place, body: str) -> None:
        files: StageFiles = place.files
        job = files.job_files
        line, event = files.complete_end(body, job.clock.zone(record.timestamp))
        record.body = line
        files.end(line, event, record.timestamp)
        level = "INFO" if event["status"] in (SUCCESS, SKIPPED, REUSED) else "ERROR"
        if job.progress is not None:
            job.progress.ended(place.ident)
        job.say(level, end_line(event, place.ident), record.timestamp)

    def _job_start(self, record: Any, place: Place, body: str) -> None:
        files: JobFiles = place.files
        files.say("INFO", job_start_line(msgspec.json.decode(body), place.job.path), record.timestamp)

    def _job_end(self, record: Any, place: Place, body: str) -> None:
        files: JobFiles = place.files
        event = msgspec.json.decode(body)
        try:
            place.job.append(body)
            place.job.sync()
        except OSError as err:
            files.trouble("the journal", err)
        level = "INFO" if event["status"] == SUCCESS else "ERROR"
        files.say(level, job_end_line(event, place.job), record.timestamp)
        try:
            place.job.write_manifest(fsync=files.fsync)
        except OSError as err:
            files.trouble("the job manifest", err)
        self._jobs.pop(id(place.job), None)
        files.close()

    # --- the SDK's interface

    def shutdown(self) -> None:
        """Nothing waits here."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Nothing waits here."""
        return True


def _escaped(body: str) -> tuple[str, int]:
    text = escape(body)
    return text, text.count("\n") + 1
