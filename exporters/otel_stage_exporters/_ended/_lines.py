"""Log records as lines, kept until it is known where they belong."""

from __future__ import annotations

from typing import NamedTuple

from otel_stage.redact import redactor
from otel_stage.semconv import EXCEPTION_STACKTRACE
from otel_stage_exporters._ended._spans import text_of
from otel_stage_exporters._files import JobFiles, StageFiles
from otel_stage_exporters._lines import escape, level_name, plain
from otel_stage_exporters._otel import ReadableLogRecord

_INFO = 9
_LEVELS = ("DEBUG", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_STAGE_SCOPE = "stage."


class Line(NamedTuple):
    """One log record, masked and escaped.

    Attributes:
        ns: When it was said, in nanoseconds since the epoch.
        span_id: In which span; 0 for none.
        source: Who said it.
        level: Its level as Python's logging names it.
        severity: Its level as OpenTelemetry numbers it.
        text: What was said.
    """

    ns: int
    span_id: int
    source: str
    level: str
    severity: int
    text: str

    def write(self, job: JobFiles, stage: StageFiles | None = None) -> None:
        """Append the line to stage.log, if there is a stage, and from INFO on to the pipeline log."""
        when = job.clock.at(self.ns)
        if stage is not None and stage.log_fd >= 0:
            stage.write_log(f"{when}[{self.source}] [{self.level}] {self.text}\n", self.text.count("\n") + 1)
        if self.severity >= _INFO:
            source = "pipeline" if self.source.startswith(_STAGE_SCOPE) else self.source
            job.write(f"{when}[{source}] [{self.level}] {self.text}\n")


def line_of(record: ReadableLogRecord) -> Line:
    """A log record as a line."""
    said = record.log_record
    body = said.body if isinstance(said.body, str) else plain(said.body)
    trace = text_of(said.attributes or {}, EXCEPTION_STACKTRACE).rstrip()
    if trace and trace not in body:
        body = f"{body}\n{trace}"
    severity = said.severity_number.value if said.severity_number is not None else 0
    name = said.severity_text or ""
    level = level_name(name) if name.isalnum() else _LEVELS[min(max(severity - 1, 0) // 4, 5)]
    scope = record.instrumentation_scope
    source = scope.name if scope is not None and scope.name else "root"
    ns = said.timestamp or said.observed_timestamp or 0
    return Line(ns, said.span_id or 0, escape(source), level, severity, escape(redactor().text(body)))
