"""What is said of a run as a whole: that it began, on what, and how it ended."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import Span

from otel_stage._ending import Ending, mark_span, result_word
from otel_stage._environment import age_slow_facts, quick_facts, slow_facts, start_slow_facts
from otel_stage._run import Run
from otel_stage.manifest import now_ns, timestamp
from otel_stage.semconv import CICD_PIPELINE_RESULT, JOB_END, JOB_ENVIRONMENT, JOB_START

_FACTS_SECONDS = 0.5


def begin(run: Run, began: int) -> None:
    """Say that a run began at `began` nanoseconds since the epoch; for who began it, not for who joined it."""
    if run.job is None:
        return
    start = {k: v for k, v in run.job.start.items() if k not in ("event", "time")}
    run.say(JOB_START, began, start)
    if run.settings.facts:
        age_slow_facts()
        run.say(JOB_ENVIRONMENT, now_ns(), {"environment": quick_facts()})


def end(run: Run, span: Span, ending: Ending, seconds: float) -> None:
    """Say how a run ended after so many seconds, end its span, and send what waits for the network."""
    facts: dict[str, Any] = {}
    if run.settings.facts:
        start_slow_facts()
        facts = slow_facts(_FACTS_SECONDS)
    if facts and not run.joined:
        run.say(JOB_ENVIRONMENT, now_ns(), {"environment": facts})
    ns = now_ns()
    fields: dict[str, Any] = {
        "status": ending.status,
        "duration_seconds": round(seconds, 6),
        "otel": {"end_time_unix_nano": str(ns)},
    }
    if ending.reason:
        fields["reason"] = ending.reason
    if ending.error is not None:
        fields["error"] = {**ending.error, "timestamp": timestamp(ns)}
    span.set_attribute(CICD_PIPELINE_RESULT, result_word(ending))
    mark_span(span, ending)
    if not run.joined:
        run.say(JOB_END, ns, fields)
    span.end(ns)
    # The files are complete; only now may the network take its time.
    run.telemetry.flush(run.settings.otlp_shutdown_seconds)
    run.say_telemetry()
    run.refresh()
