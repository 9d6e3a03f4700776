"""An ended span becomes a stage: claim, log, journal, manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id

from otel_stage.errors import ManifestError, StageNumberError
from otel_stage.jobdir import Claim, Place, this_process
from otel_stage.manifest import event_line, fold_stage_journal, jsonable
from otel_stage.redact import redactor
from otel_stage.semconv import (
    EVENT_ARTIFACT,
    EVENT_CONFIG,
    EVENT_END,
    EVENT_ERROR,
    EVENT_RESOURCE,
    EVENT_START,
    EVENT_WARNING,
    REUSED,
    SCHEMA_VERSION,
    SKIPPED,
    SUCCESS,
)
from otel_stage_exporters._ended._artifacts import Artifacts
from otel_stage_exporters._ended._env import Env
from otel_stage_exporters._ended._jobs import Run, environment
from otel_stage_exporters._ended._lines import Line
from otel_stage_exporters._ended._spans import StageFacts, read_stage
from otel_stage_exporters._files import StageFiles, end_line, start_line
from otel_stage_exporters._lines import escape
from otel_stage_exporters._otel import ReadableSpan

# More than this is hashed when everything else is written: what ends the process may come first.
_SOON_BYTES = 64 << 20
_SEVERITY = {"WARNING": 13, "ERROR": 17}


class Written:
    """A stage whose files are written; late lines are appended.

    Args:
        run: Its run.
        place: Its folder.
        end: The fields of its `stage.end`.
        end_ns: When it ended.
        job_ns: When it ended as the job's journal has it.
    """

    __slots__ = ("_again", "_end", "_end_ns", "_job_ns", "_place", "_run")

    def __init__(self, run: Run, place: Place, end: dict[str, Any], end_ns: int, job_ns: int) -> None:
        self._run = run
        self._place = place
        self._end = end
        self._end_ns = end_ns
        self._job_ns = job_ns
        self._again = 0

    def seal(self, files: StageFiles) -> dict[str, Any]:
        """Write `stage.end` with what stage.log holds now, and the manifest; closes `files`."""
        # A nanosecond later each time: the last one said is the one that holds.
        ns = self._end_ns + self._again
        line = _masked(event_line(EVENT_END, ns, self._end))
        line, event = files.complete_end(line, self._run.files.clock.zone(ns))
        files.end(line, event, self._job_ns + self._again)
        self._again += 1
        return event

    def append(self, lines: list[Line], artifacts: Sequence[tuple[str, dict[str, Any]]] = ()) -> None:
        """Add what became known after the end, and make the manifest right again."""
        files = self._reopened()
        if files is None:
            return
        for line in lines:
            line.write(self._run.files, files)
        for role, record in artifacts:
            said = event_line(EVENT_ARTIFACT, self._end_ns + self._again, {"role": role, "artifact": record})
            files.write_event(_masked(said))
        self.seal(files)

    def _reopened(self) -> StageFiles | None:
        """The stage's files, unless a later run or attempt has them now."""
        self._run.job.sync()
        if not self._run.is_current:
            return None
        try:
            with open(self._place.journal_path, "rb") as f:
                there = fold_stage_journal(f.read())
        except (OSError, ManifestError):
            return None
        if (there["run_id"], there["attempt"]) != (self._run.run_id, self._place.attempt):
            return None
        return StageFiles(self._place, self._run.files)


def write_stage(span: ReadableSpan, run: Run, lines: list[Line], lost: int, env: Env) -> Written | None:
    """Write one stage.

    Args:
        span: The ended span.
        run: Its run.
        lines: The log lines that have come so far, in order of time.
        lost: How many of the trace's lines were too many to hold.
        env: The settings.

    Returns:
        What late lines are given to; None if the stage could not be written.
    """
    where = span.context
    if where is None:
        return None
    start, end = span.start_time or 0, max(span.end_time or 0, span.start_time or 0)
    facts = read_stage(span)
    artifacts = Artifacts(span, run.job.path, env.checksum)
    large = artifacts.unhashed_bytes > _SOON_BYTES
    if not large:
        artifacts.hash()
    otel = {
        "trace_id": format_trace_id(where.trace_id),
        "span_id": format_span_id(where.span_id),
        "parent_span_id": format_span_id(span.parent.span_id) if span.parent is not None else None,
        "start_time_unix_nano": str(start),
    }
    # The job's journal is folded in order of time: nothing there may seem to be older than the run.
    claim = _claim(run, facts, otel, max(start, run.began_ns + 1))
    if claim is None:
        return None
    place = Place(
        run.job, ident=claim.ident, number=claim.number, folder=claim.folder, attempt=claim.attempt,
    )  # fmt: skip
    files = StageFiles(place, run.files)
    started = {
        "schema_version": SCHEMA_VERSION,
        "stage": facts.name,
        "key": claim.key,
        "id": claim.ident,
        "stage_number": claim.number,
        "run_id": run.run_id,
        "attempt": claim.attempt,
        "folder": claim.folder,
        "process": this_process(),
        "job_id": run.job.job_id,
        "otel": otel,
        "environment": environment(env),
    }
    files.write_event(_masked(event_line(EVENT_START, start, started)))
    run.files.say("INFO", start_line(started, run.job.start.get("stages_total")), start)
    _write_events(files, facts, artifacts, start)
    warnings = facts.warnings + artifacts.warnings
    if lost:
        warnings.append(f"{lost} log records of this trace are missing: too many were said before a span ended")
    for line in sorted(lines + _write_issues(files, facts, warnings, end), key=lambda line: line.ns):
        line.write(run.files, files)
    fields: dict[str, Any] = {
        "id": claim.ident,
        "status": facts.ending.status,
        "duration_seconds": round((end - start) / 1e9, 6),
        "otel": {"end_time_unix_nano": str(end)},
    }
    if facts.ending.reason:
        fields["reason"] = facts.ending.reason
    written = Written(run, place, fields, end, max(end, claim.time_ns + 1))
    event = written.seal(files)
    level = "INFO" if event["status"] in (SUCCESS, SKIPPED, REUSED) else "ERROR"
    run.files.say(level, end_line(event, claim.ident), end)
    if large:
        written.append([], artifacts.hash())
    return written


def _claim(run: Run, facts: StageFacts, otel: dict[str, Any], ns: int) -> Claim | None:
    extra = {"otel": otel}
    try:
        try:
            return run.job.claim(facts.name, facts.key, facts.number, extra, ns)
        except StageNumberError as err:
            facts.warnings.append(str(err))
            return run.job.claim(facts.name, facts.key, None, extra, ns)
    except OSError as err:
        run.files.trouble(f"stage {facts.name}", err)
        return None


def _write_events(files: StageFiles, facts: StageFacts, artifacts: Artifacts, start: int) -> None:
    ns = start
    if facts.config:
        ns += 1
        files.write_event(_masked(event_line(EVENT_CONFIG, ns, {"config": facts.config})))
    for role, record in artifacts.records():
        ns += 1
        files.write_event(_masked(event_line(EVENT_ARTIFACT, ns, {"role": role, "artifact": record})))
    if facts.resources:
        files.write_event(_masked(event_line(EVENT_RESOURCE, ns + 1, {"resources": facts.resources})))


def _write_issues(files: StageFiles, facts: StageFacts, warnings: list[str], end: int) -> list[Line]:
    """Warnings and errors into the journal; gives their lines."""
    source = f"stage.{files.place.ident}"
    mask, mask_value = redactor().text, redactor().value
    lines: list[Line] = []
    for n, message in enumerate(warnings):
        text = mask(jsonable(message))
        files.write_event(event_line(EVENT_WARNING, end - len(warnings) + n, {"message": text}))
        lines.append(Line(end, 0, source, "WARNING", _SEVERITY["WARNING"], escape(text)))
    for ns, record in facts.ending.errors:
        masked: dict[str, Any] = mask_value("", record)
        files.write_event(event_line(EVENT_ERROR, ns, masked))
        text = f"{masked['type']}: {masked['message']}" if masked.get("type") else masked["message"]
        whole = escape(f"{text}\n{masked['traceback']}" if masked.get("traceback") else text)
        # The error that ends the stage has its ✗ line in the pipeline log.
        lines.append(Line(ns, 0, source, "ERROR", 0 if masked.get("ends") else _SEVERITY["ERROR"], whole))
    return lines


def _masked(line: str) -> str:
    return redactor().text(line)
