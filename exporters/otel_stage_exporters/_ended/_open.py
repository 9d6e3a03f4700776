"""Spans that are still open, as far as their end depends on them: local roots, and what is written live.

An exporter sees a span when it has ended, and the root of a trace ends last. Yet the root names the pipeline and
its directory, and spans of our own API mean that the live processors write this trace already.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from opentelemetry.context import Context

from otel_stage.semconv import SCOPE_NAME, STAGE_JOB_DIR
from otel_stage_exporters._otel import ReadableSpan, Span, SpanProcessor

_MOST = 2_000


def is_live(span: ReadableSpan) -> bool:
    """Whether a span comes from our own API, whose files the live processors write."""
    scope = span.instrumentation_scope
    return scope is not None and scope.name == SCOPE_NAME


def is_local_root(span: ReadableSpan) -> bool:
    """Whether a span has no parent in this process."""
    return span.parent is None or span.parent.is_remote


def local_parent(span: ReadableSpan) -> int:
    """The id of a span's parent in this process; 0 for none."""
    return 0 if span.parent is None or span.parent.is_remote else span.parent.span_id


class OpenSpans(SpanProcessor):
    """Remembers per trace the local root and the latest span of our own API; bounded, the oldest go first."""

    def __init__(self) -> None:
        self._roots: OrderedDict[int, ReadableSpan] = OrderedDict()
        self._live: OrderedDict[int, ReadableSpan] = OrderedDict()
        self._lock = threading.Lock()
        self._attached: Any = None

    def attach(self) -> None:
        """Listen to the global provider, once it is one of the SDK."""
        if self._attached is not None:
            return
        from opentelemetry.trace import get_tracer_provider

        provider = get_tracer_provider()
        add = getattr(provider, "add_span_processor", None)
        if add is not None:
            self._attached = provider
            add(self)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's signature
        """Remember a span that others will ask for."""
        self.saw(span)

    def saw(self, span: ReadableSpan) -> None:
        """Take in a span, ended ones as well: where nothing was heard of its start, better late than never."""
        if span.context is None:
            return
        trace_id = span.context.trace_id
        if is_live(span):
            self._keep(self._live, trace_id, span)
        elif is_local_root(span):
            before = self._roots.get(trace_id)
            # A span whose parent came in from outside does not displace the root of them all.
            if before is None or before.parent is not None or span.parent is None:
                self._keep(self._roots, trace_id, span)

    def _keep(self, kept: OrderedDict[int, ReadableSpan], trace_id: int, span: ReadableSpan) -> None:
        with self._lock:
            kept[trace_id] = span
            if len(kept) > _MOST:
                kept.popitem(last=False)

    def root(self, trace_id: int) -> ReadableSpan | None:
        """The local root of a trace, open or ended, if it was seen."""
        return self._roots.get(trace_id)

    def is_live(self, trace_id: int) -> bool:
        """Whether the live processors write this trace."""
        return trace_id in self._live

    def live_job_dir(self, trace_id: int) -> str:
        """The job directory in which a trace is written live; empty for none."""
        span = self._live.get(trace_id)
        found = (span.attributes or {}).get(STAGE_JOB_DIR) if span is not None else None
        return found if isinstance(found, str) else ""

    def after_fork(self) -> None:
        """A lock that another thread held is held for ever in the child."""
        self._lock = threading.Lock()
