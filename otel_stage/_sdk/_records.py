"""Log records made cheaply: what `Logger.emit` would build, without its walks and copies.

The SDK takes a `ReadWriteLogRecord` as it is. Ours leaves trace ids and attributes until somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordLimits, ReadWriteLogRecord
from opentelemetry.trace import get_current_span

from otel_stage.semconv import CODE_FILE_PATH, CODE_FUNCTION_NAME, CODE_LINE_NUMBER

_LIMITS = LogRecordLimits(
    max_attributes=LogRecordLimits.UNSET,
    max_attribute_length=LogRecordLimits.UNSET,
    max_log_record_attributes=LogRecordLimits.UNSET,
    max_log_record_attribute_length=LogRecordLimits.UNSET,
)
_SEVERITY: dict[int, tuple[SeverityNumber, str]] = {
    10: (SeverityNumber.DEBUG, "DEBUG"),
    20: (SeverityNumber.INFO, "INFO"),
    30: (SeverityNumber.WARN, "WARN"),
    40: (SeverityNumber.ERROR, "ERROR"),
    50: (SeverityNumber.FATAL, "FATAL"),
}


class StageLogRecord(LogRecord):
    """An API log record; `trace_id`, `span_id` and `trace_flags` are found when asked for."""

    exception = None
    quiet = False
    """Not for the console: somebody else shows it there."""
    masked = False
    """Its body was masked field by field where it was made."""

    def __init__(
        self,
        timestamp: int,
        context: Context,
        severity: tuple[SeverityNumber, str],
        body: str,
        event_name: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        code: tuple[CodeType, int] | None = None,
    ) -> None:
        self.timestamp = self.observed_timestamp = timestamp
        # Twice: a batch processor replaces `context` in its copy, and the ids must still be found.
        self.context = self._origin = context
        self.severity_number, self.severity_text = severity
        self.body = body
        self.event_name = event_name
        if event_name is not None:
            self.masked = True
        if code is None:
            self.attributes = {} if attributes is None else attributes
        else:
            self.attributes = CodeAttributes(code)

    def __getattr__(self, name: str) -> Any:
        if name in ("trace_id", "span_id", "trace_flags"):
            span = get_current_span(self.__dict__["_origin"]).get_span_context()
            self.trace_id, self.span_id, self.trace_flags = span.trace_id, span.span_id, span.trace_flags
            return self.__dict__[name]
        raise AttributeError(name)


class CodeAttributes(Mapping[str, Any]):
    """Where a record was made, as attributes; put together only if somebody reads them."""

    __slots__ = ("_code",)

    def __init__(self, code: tuple[CodeType, int]) -> None:
        self._code = code

    def _made(self) -> dict[str, Any]:
        code, line = self._code
        return {CODE_FILE_PATH: code.co_filename, CODE_FUNCTION_NAME: code.co_qualname, CODE_LINE_NUMBER: line}

    def __getitem__(self, key: str) -> Any:
        return self._made()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return 3


class StageReadWriteRecord(ReadWriteLogRecord):
    """An SDK log record around a `StageLogRecord`."""

    def __init__(self, log_record: StageLogRecord, logger: Any) -> None:
        self.log_record = log_record
        self.resource = logger.resource
        self.instrumentation_scope = logger.instrumentation_scope
        self.limits = _LIMITS


def severity(levelno: int, levelname: str) -> tuple[SeverityNumber, str]:
    """OTel's severity of a level of `logging`."""
    known = _SEVERITY.get(levelno)
    if known is not None:
        return known
    # 10 steps of logging are 4 of OTel: 10 to 13 are DEBUG to DEBUG4, 14 to 19 DEBUG4, and so on.
    if levelno < 10:
        return SeverityNumber.TRACE, levelname
    tens, ones = divmod(min(levelno, 53), 10)
    return SeverityNumber(4 * tens + 1 + min(ones, 3)), levelname


def emit(
    logger: Any,
    timestamp: int,
    context: Context,
    level: tuple[SeverityNumber, str],
    body: str,
    event_name: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    code: tuple[CodeType, int] | None = None,
) -> None:
    """Send one record through an SDK logger (anything else has nobody to listen)."""
    logger.emit(
        StageReadWriteRecord(
            StageLogRecord(timestamp, context, level, body, event_name, attributes, code), logger
        )
    )
