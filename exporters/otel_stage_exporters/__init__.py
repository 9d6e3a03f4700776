"""Spans and logs in, files out: stage.log, the pipeline log and the manifests.

Loaded by entry points, through the door that everybody's exporters use: `stage_files` in the group
`otel_stage_exporter` (live processors), `opentelemetry_traces_exporter` and `opentelemetry_logs_exporter`
(for `opentelemetry-instrument`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_stage_exporters._live import StageFilesLogProcessor
from otel_stage_exporters._otel import SpanProcessor
from otel_stage_exporters._spans import MaskingSpanProcessor

if TYPE_CHECKING:
    from otel_stage_exporters._ended import StageFilesLogExporter, StageFilesSpanExporter

__all__ = ["StageFilesLogExporter", "StageFilesLogProcessor", "StageFilesSpanExporter", "stage_files"]


def stage_files(settings: Any) -> tuple[SpanProcessor, StageFilesLogProcessor]:
    """The live processors, as the settings want them."""
    return MaskingSpanProcessor(), StageFilesLogProcessor(settings)


def __getattr__(name: str) -> Any:
    if name in ("StageFilesLogExporter", "StageFilesSpanExporter"):
        from otel_stage_exporters import _ended

        return getattr(_ended, name)
    raise AttributeError(name)
