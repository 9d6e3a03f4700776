"""The pipeline log's first and last line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_stage.jobdir import JobDir
from otel_stage_exporters._lines import escape, span_of_time


def job_start_line(event: Mapping[str, Any], path: str) -> str:
    """`Pipeline subtitles: started in out/… (run …)`."""
    return f"Pipeline {event['name']}: started in {escape(path)} (run {event['run_id']})"


def job_end_line(event: Mapping[str, Any], job: JobDir) -> str:
    """`Pipeline subtitles: SUCCESS (4.2s), 2 stages: 2 success`; `job` must know all that others have said."""
    counts = job.stage_count()
    stages = sum(counts.values())
    told = ", ".join(f"{n} {status}" for status, n in counts.items())
    reason = f": {escape(event['reason'])}" if event.get("reason") else ""
    return (
        f"Pipeline {job.name}: {event['status'].upper()} ({span_of_time(event['duration_seconds'])})"
        f"{reason}, {stages} stage{'' if stages == 1 else 's'}" + (f": {told}" if told else "")
    )
