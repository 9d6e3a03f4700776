"""Ended spans and log records in, files out: for `opentelemetry-instrument` and other providers not of our making.

`OTEL_TRACES_EXPORTER=stage_files OTEL_LOGS_EXPORTER=stage_files` builds these, without arguments and behind batch
processors. Scripts that use our own API are written live, and are left alone here; a span of anybody else's that
carries `stage.name` becomes a stage when it has ended. No file is touched before there is one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from otel_stage_exporters._ended._writer import open_spans, writer
from otel_stage_exporters._otel import (
    LogRecordExporter,
    LogRecordExportResult,
    ReadableLogRecord,
    ReadableSpan,
    SpanExporter,
    SpanExportResult,
)

__all__ = ["StageFilesLogExporter", "StageFilesSpanExporter"]

_log = logging.getLogger("otel_stage")
_span_exporters: set[int] = set()


class StageFilesSpanExporter(SpanExporter):
    """Writes stage.log, journals and manifests of ended spans that carry `stage.name`.

    Example:
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> from opentelemetry.sdk.trace.export import BatchSpanProcessor
        >>> TracerProvider().add_span_processor(BatchSpanProcessor(StageFilesSpanExporter()))
    """

    def __init__(self) -> None:
        _span_exporters.add(id(self))
        open_spans.attach()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the stages among `spans`; never raises."""
        try:
            writer().spans(spans)
        except Exception as err:
            _complain(err)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Write what waits for nothing any more, and the job manifests."""
        _span_exporters.discard(id(self))
        _close()

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Nothing waits here but what waits for other spans."""
        return True


class StageFilesLogExporter(LogRecordExporter):
    """Writes log records into the stage.log and pipeline log of the stage in whose span they were said."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Write the records, or hold them until their span has ended; never raises."""
        try:
            if _span_exporters or writer().has_traces:
                writer().records(batch)
        except Exception as err:
            _complain(err)
            return LogRecordExportResult.FAILURE
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Write what waits for nothing any more, and the job manifests."""
        _close()

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Nothing waits here but what waits for spans."""
        return True


def _close() -> None:
    # At exit logs are shut down before traces: their records wait for the last spans.
    if _span_exporters:
        return
    try:
        writer().close()
    except Exception as err:
        _complain(err)


def _complain(err: Exception) -> None:
    _log.warning("spans or log records could not be written: %s: %s", type(err).__name__, err)
