"""The one place here that imports the SDK's log classes, which are still provisional (`_logs`).

Exporter classes are loaded with their own names: the live path has no use for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

__all__ = [
    "LogRecordExportResult",
    "LogRecordExporter",
    "LogRecordProcessor",
    "ReadWriteLogRecord",
    "ReadableLogRecord",
    "ReadableSpan",
    "Span",
    "SpanExportResult",
    "SpanExporter",
    "SpanProcessor",
]


def __getattr__(name: str) -> Any:
    if name in ("LogRecordExporter", "LogRecordExportResult"):
        from opentelemetry.sdk._logs import export as logs_export

        return getattr(logs_export, name)
    if name in ("SpanExporter", "SpanExportResult"):
        from opentelemetry.sdk.trace import export as trace_export

        return getattr(trace_export, name)
    raise AttributeError(name)
