"""What the span exporter and the log exporter of one process share: traces, and whatever is held for them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

from otel_stage.errors import OtelStageError
from otel_stage.semconv import SCOPE_NAME, STAGE_JOB_DIR, STAGE_NAME
from otel_stage_exporters._ended._env import Env, read_env
from otel_stage_exporters._ended._jobs import Run, end_run, is_pipeline, open_run
from otel_stage_exporters._ended._lines import Line, line_of
from otel_stage_exporters._ended._open import OpenSpans, is_live, is_local_root, local_parent
from otel_stage_exporters._ended._spans import attributes_of, text_of
from otel_stage_exporters._ended._stages import write_stage
from otel_stage_exporters._ended._trace import Trace
from otel_stage_exporters._otel import ReadableLogRecord, ReadableSpan

_log = logging.getLogger("otel_stage")
_MOST_TRACES = 1_000
_MOST_LINES = 20_000

open_spans = OpenSpans()


class Writer:
    """Turns ended spans and log records into files, whichever come first."""

    def __init__(self, forked_ns: int = 0) -> None:
        self.pid = os.getpid()
        self._forked_ns = forked_ns
        self._lock = threading.RLock()
        self._traces: OrderedDict[int, Trace] = OrderedDict()
        self._held = 0
        self._said: set[str] = set()
        self._dirty: dict[int, Run] = {}
        self._env: Env = read_env()

    def spans(self, batch: Sequence[ReadableSpan]) -> None:
        """Take in ended spans."""
        with self._lock:
            self._env = read_env()
            open_spans.attach()
            plain: dict[int, list[ReadableSpan]] = {}
            for span in batch:
                # A forked child may end a span of its parent, whose business that is.
                if span.context is None or (span.start_time or 0) < self._forked_ns:
                    continue
                open_spans.saw(span)
                if is_live(span):
                    continue
                trace_id = span.context.trace_id
                plain.setdefault(trace_id, []).append(span)
                self._trace(trace_id).ended(span.context.span_id, local_parent(span))
            # One trace after the other: the next run of a directory begins when the one before has ended.
            for trace_id, spans in sorted(plain.items(), key=lambda item: min(map(_started, item[1]))):
                self._guard(self._ended, self._trace(trace_id), sorted(spans, key=_started))
            self._refresh()

    def _ended(self, trace: Trace, spans: list[ReadableSpan]) -> None:
        stages = {
            span.context.span_id: span for span in spans if span.context and attributes_of(span).get(STAGE_NAME)
        }
        lines = self._take(trace, set(stages))
        loose = lines.get(0, [])
        for span_id, span in stages.items():
            if self._run(trace, span) is not None:
                # The pipeline log tells things in the order in which they happened, as far as is known.
                earlier = [line for line in loose if line.ns < _started(span)]
                loose = lines[0] = loose[len(earlier) :]
                self._place(trace, {0: earlier})
            self._guard(self._stage, trace, span, lines.pop(span_id, []))
        roots = [span for span in spans if is_local_root(span)]
        pipelines = [] if open_spans.is_live(trace.id) else [span for span in roots if is_pipeline(span)]
        if pipelines and trace.run is None:
            self._run(trace, pipelines[-1])
        if trace.run is None and not roots:
            # Perhaps a stage is still to come.
            waiting = lines.pop(0, [])
            trace.held += waiting
            self._held += len(waiting)
        self._place(trace, lines)
        for root in pipelines:
            for run in trace.runs.values():
                if run.ends_here:
                    end_run(run, root)

    def records(self, batch: Sequence[ReadableLogRecord]) -> None:
        """Take in log records."""
        with self._lock:
            self._env = read_env()
            touched: dict[int, Trace] = {}
            for record in batch:
                trace_id = record.log_record.trace_id or 0
                scope = record.instrumentation_scope
                # Without a trace it belongs nowhere; what belongs to a live trace has been written.
                if not trace_id or open_spans.is_live(trace_id) or (scope is not None and scope.name == SCOPE_NAME):
                    continue
                trace = self._trace(trace_id)
                trace.held.append(line_of(record))
                self._held += 1
                touched[trace_id] = trace
            for trace in touched.values():
                if trace.run is not None:
                    self._guard(self._place, trace, self._take(trace, set()))
            while self._held > _MOST_LINES:
                self._forget_one()
            self._refresh()

    def close(self) -> None:
        """Write what is still held wherever it can belong, and the job manifests."""
        with self._lock:
            for trace in self._traces.values():
                lines = self._take(trace, set())
                # Their spans never ended, or not here.
                lines[0] = sorted(lines.get(0, []) + trace.held)
                self._held -= len(trace.held)
                trace.held = []
                self._guard(self._place, trace, lines)
            self._refresh()
            for trace in self._traces.values():
                trace.release()

    @property
    def has_traces(self) -> bool:
        """Whether any span or record has come."""
        return bool(self._traces)

    # --- inside

    def _trace(self, trace_id: int) -> Trace:
        trace = self._traces.get(trace_id)
        if trace is not None:
            return trace
        trace = self._traces[trace_id] = Trace(trace_id)
        if len(self._traces) > _MOST_TRACES:
            _, oldest = self._traces.popitem(last=False)
            self._held -= len(oldest.held)
            oldest.release()
        return trace

    def _run(self, trace: Trace, span: ReadableSpan) -> Run | None:
        named = text_of(attributes_of(span), STAGE_JOB_DIR)
        path = os.path.abspath(named).replace(os.sep, "/") if named else ""
        run = trace.runs.get(path) if path else trace.run
        if run is None and path not in trace.refused:
            try:
                run = open_run(
                    trace.id, span, open_spans, self._env, forked_ns=self._forked_ns, has_forked=_has_forked
                )
                trace.runs[path or run.job.path] = run
            except OtelStageError as err:
                trace.refused.add(path)
                self._say(f"{err}; what belongs there is not recorded")
        if run is not None:
            self._dirty[id(run)] = run
        return run

    def _stage(self, trace: Trace, span: ReadableSpan, lines: list[Line]) -> None:
        run = self._run(trace, span)
        if run is None or span.context is None:
            return
        run.job.sync()
        if not run.is_current:
            self._say(f"a stage of run {run.run_id} is not recorded: a later run began in {run.job.path}")
            return
        lost, trace.lost = trace.lost, 0
        written = write_stage(span, run, lines, lost, self._env)
        if written is not None:
            trace.stages[span.context.span_id] = written

    def _take(self, trace: Trace, coming: set[int]) -> dict[int, list[Line]]:
        before = len(trace.held)
        lines = trace.take(coming)
        self._held -= before - len(trace.held)
        return lines

    def _place(self, trace: Trace, lines: dict[int, list[Line]]) -> None:
        """Late lines go to the stages that are written already, those without a stage to the pipeline log."""
        run = trace.run
        if run is None or open_spans.is_live(trace.id):
            return
        for stage_span, late in lines.items():
            written = trace.stages.get(stage_span)
            if written is not None:
                written.append(late)
                continue
            for line in late:
                line.write(run.files)
        if lines:
            self._dirty[id(run)] = run

    def _forget_one(self) -> None:
        """Of all that is held, the oldest line of the oldest trace goes."""
        for trace in self._traces.values():
            if trace.held:
                del trace.held[0]
                trace.lost += 1
                self._held -= 1
                return
        self._held = 0

    def _refresh(self) -> None:
        for run in self._dirty.values():
            self._guard(run.write_manifest)
            if not run.ends_here:
                run.release()
        self._dirty.clear()

    def _guard(self, work: object, *args: object) -> None:
        """Telemetry never takes anything down: what fails is said once."""
        try:
            work(*args)  # type: ignore[operator]  # callables of several shapes
        except Exception as err:
            self._say(f"a span or log record could not be written: {type(err).__name__}: {err}")

    def _say(self, text: str) -> None:
        if text not in self._said and len(self._said) < 100:
            self._said.add(text)
            _log.warning("%s", text)


def _started(span: ReadableSpan) -> int:
    return span.start_time or 0


_writer: Writer | None = None
_making = threading.Lock()
_forked_ns = 0
_has_forked = False


def writer() -> Writer:
    """The writer of this process, made when the first span or record comes."""
    global _writer
    found = _writer
    if found is not None and found.pid == os.getpid():
        return found
    with _making:
        if _writer is None or _writer.pid != os.getpid():
            _writer = Writer(_forked_ns)
        return _writer


def _after_fork() -> None:
    global _making, _writer, _forked_ns
    _making = threading.Lock()
    _writer = None
    _forked_ns = time.time_ns()
    open_spans.after_fork()


def _after_fork_in_parent() -> None:
    global _has_forked
    _has_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork, after_in_parent=_after_fork_in_parent)
