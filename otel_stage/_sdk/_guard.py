"""A processor of somebody else's may raise; a pipeline must not notice."""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

_log = logging.getLogger("otel_stage")


class _Once:
    def __init__(self, name: str) -> None:
        self._name = name
        self._said = False

    def say(self, err: Exception) -> None:
        if not self._said:
            self._said = True
            _log.warning(
                "exporter %s failed (%s: %s); what it should get may be missing there, the pipeline goes on",
                self._name, type(err).__name__, err,
            )  # fmt: skip


class _Guarded:
    """What both kinds share: the processor behind, and the one warning."""

    def __init__(self, inner: Any, name: str, counts: Counts | None = None) -> None:
        self._inner = inner
        self._once = _Once(name)
        self.counts = counts

    def shutdown(self) -> None:
        """Shut down the processor behind."""
        try:
            self._inner.shutdown()
        except Exception as err:
            self._once.say(err)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the processor behind."""
        try:
            return bool(self._inner.force_flush(timeout_millis))
        except Exception as err:
            self._once.say(err)
            return False


class GuardedSpanProcessor(_Guarded, SpanProcessor):
    """Passes everything on, and no exception back."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        try:
            self._inner.on_start(span, parent_context)
        except Exception as err:
            self._once.say(err)

    def _on_ending(self, span: Span) -> None:
        try:
            self._inner._on_ending(span)
        except Exception as err:
            self._once.say(err)

    def on_end(self, span: ReadableSpan) -> None:
        if self.counts is not None and span.context is not None and span.context.trace_flags.sampled:
            self.counts.handed_over += 1
        try:
            self._inner.on_end(span)
        except Exception as err:
            self._once.say(err)


class GuardedLogProcessor(_Guarded, LogRecordProcessor):
    """Passes everything on, and no exception back."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if self.counts is not None:
            self.counts.handed_over += 1
        try:
            self._inner.on_emit(log_record)
        except Exception as err:
            self._once.say(err)


class Counts:
    """What left this process by the network."""

    def __init__(self) -> None:
        self.handed_over = 0
        self.spans_exported = 0
        self.logs_exported = 0

    def as_dict(self) -> dict[str, int]:
        """The counts under their names in the job manifest; what is not delivered has failed so far."""
        exported = self.spans_exported + self.logs_exported
        return {
            "spans_exported": self.spans_exported,
            "logs_exported": self.logs_exported,
            "failed": max(self.handed_over - exported, 0),
        }


class CountingExporter:
    """An exporter that counts what the one behind it delivered.

    Duck-typed: batch processors call `export`, `shutdown` and `force_flush`, and nothing else.
    """

    def __init__(self, inner: Any, counts: Counts, field: str) -> None:
        self._inner = inner
        self._counts = counts
        self._field = field

    def export(self, batch: Any) -> Any:
        """Pass a batch on and count its records."""
        result = self._inner.export(batch)
        if getattr(result, "name", "") == "SUCCESS":
            setattr(self._counts, self._field, getattr(self._counts, self._field) + len(batch))
        return result

    def shutdown(self) -> None:
        """Shut down the exporter behind."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the exporter behind."""
        flush = getattr(self._inner, "force_flush", None)
        return True if flush is None else bool(flush(timeout_millis))
