"""The waist: what writers write and readers read, and the one way from events to a manifest.

Knows files and JSON; knows nothing of OpenTelemetry, processes or locks.
"""

from __future__ import annotations

from otel_stage.manifest._events import (
    encode,
    event_line,
    event_time,
    in_order,
    now_ns,
    parse_lines,
    parse_time,
    timestamp,
)
from otel_stage.manifest._fold import StageFold, fold, fold_stage_journal
from otel_stage.manifest._fold_job import JobFold
from otel_stage.manifest._io import (
    JOB_MANIFEST,
    JOB_MANIFEST_BESIDE_FOREIGN,
    STAGE_MANIFEST,
    is_ours,
    parse_job,
    parse_stage,
    read_job,
    read_stage,
    to_json,
    write_atomic,
)
from otel_stage.manifest._otlp import events_from_otlp
from otel_stage.manifest._schema import json_schema
from otel_stage.manifest._values import jsonable

__all__ = [
    "JOB_MANIFEST",
    "JOB_MANIFEST_BESIDE_FOREIGN",
    "STAGE_MANIFEST",
    "JobFold",
    "StageFold",
    "encode",
    "event_line",
    "event_time",
    "events_from_otlp",
    "fold",
    "fold_stage_journal",
    "in_order",
    "is_ours",
    "json_schema",
    "jsonable",
    "now_ns",
    "parse_job",
    "parse_lines",
    "parse_stage",
    "parse_time",
    "read_job",
    "read_stage",
    "timestamp",
    "to_json",
    "write_atomic",
]
