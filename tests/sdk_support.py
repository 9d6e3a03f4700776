"""What the tests of OpenTelemetry around us run, in processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess

from support import JobFiles, texts

Python = Callable[..., CompletedProcess[str]]


WORK = """
import sys
from pathlib import Path
from otel_stage import current_stage, pipeline, stage, wrap

@stage
def asr(audio: Path, *, model: str = "large") -> Path:
    text = current_stage().dir / "segments.json"
    text.write_text(audio.read_text().upper())
    return text

def work(job_dir, **options):
    with pipeline("subtitles", job_dir=job_dir, **options) as job:
        with stage("demux") as st:
            audio = st.track_output(st.dir / "audio.wav", type="audio")
            audio.write_text("sound")
            st.set_config(rate=16000)
            st.log.info("demuxing")
            st.add_warning("mono")
        text = wrap(asr)(audio)
        try:
            with stage("bad"):
                raise RuntimeError("caught")
        except RuntimeError:
            pass
    return text.read_text()
"""


def is_whole(job: JobFiles) -> None:
    """What `work` does is in the files."""
    assert job.stage("demux")["config"] == {"rate": 16000}
    assert job.stage("demux")["outputs"][0]["size_bytes"] == 5
    assert texts(job.stage_log("demux")) == ["demuxing", "mono"]
    assert [o["path"] for o in job.stage("asr")["outputs"]] == ["02_asr/segments.json"]
    p = job.manifest["pipeline"]
    assert (p["status"], p["completed_stages"], p["failed_stages"]) == ("success", ["demux", "asr"], ["bad"])


OWNED = """
import json, logging
from opentelemetry import trace
from opentelemetry._logs import get_logger_provider, set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
seen = {"spans": [], "logs": []}
class Spans(SpanProcessor):
    def on_end(self, span):
        seen["spans"].append({
            "name": span.name, "attributes": dict(span.attributes), "trace": span.context.trace_id,
            "id": span.context.span_id, "parent": span.parent.span_id if span.parent else None,
            "kind": sorted({type(v).__name__ for v in span.attributes.values()}),
        })
class Logs(LogRecordProcessor):
    def on_emit(self, log_record):
        record = log_record.log_record
        seen["logs"].append({
            "event": record.event_name, "body": record.body, "attributes": dict(record.attributes or {}),
            "trace": record.trace_id, "span": record.span_id, "scope": log_record.instrumentation_scope.name,
            "severity": record.severity_text,
        })
    def shutdown(self): pass
    def force_flush(self, timeout_millis=0): return True
tracers = TracerProvider(span_limits=SpanLimits(max_span_attributes=4, max_span_attribute_length=6) if LIMITED else None)
tracers.add_span_processor(Spans())
trace.set_tracer_provider(tracers)
loggers = LoggerProvider()
loggers.add_log_record_processor(Logs())
set_logger_provider(loggers)
"""
