"""The shape of both manifests; that of the events is in `_event_model`.

These classes are the schema. They validate what is read and generate the published JSON Schema; the
manifests themselves travel as plain dictionaries, so that fields of a later minor version survive.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Status = Literal["running", "success", "failed", "skipped", "reused", "crashed", "cancelled"]
Role = Literal["input", "output", "intermediate"]
Count = Annotated[int, Meta(ge=0)]
Timestamp = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$|^$")]


class Artifact(Struct, kw_only=True):
    """A file or directory in one role; whatever metadata the user gave stands beside these."""

    type: Annotated[str, Meta(description="what it is to the stage: audio, transcript, file, …")] = "file"
    path: Annotated[str, Meta(description="relative to the job directory when inside it, else absolute; '/'")]
    size_bytes: Annotated[int, Meta(ge=0, description="bytes; a directory's total")] | None = None
    checksum: Annotated[str, Meta(description="<algorithm>:<hex> of the content")] | None = None
    format: Any = None
    exists: bool | None = None
    kind: Annotated[str, Meta(description="given when it is not a plain file: directory, fifo, …")] | None = None
    file_count: Annotated[int, Meta(ge=0, description="files in a directory")] | None = None
    link_target: Annotated[str, Meta(description="where the symbolic link points")] | None = None
    changed_during_stage: bool | None = None
    retained: Annotated[bool, Meta(description="an intermediate file that stays")] | None = None
    reason: Annotated[str, Meta(description="why an intermediate file stays")] | None = None


class Issue(Struct, kw_only=True):
    """A warning or an error."""

    message: str
    timestamp: str | None = None
    type: Annotated[str, Meta(description="class of the exception")] | None = None
    traceback: str | None = None


class Gpu(Struct, kw_only=True):
    """What our processes used of one GPU."""

    index: int
    name: str | None = None
    memory_mb: Annotated[float, Meta(description="peak memory of our processes in MiB")] | None = None
    utilization_percent: Annotated[float, Meta(description="mean over the stage")] | None = None
    utilization_peak_percent: float | None = None


class Resources(Struct, kw_only=True):
    """What the stage used; a figure that could not be measured is absent."""

    cpu_percent: Annotated[float, Meta(description="mean over the stage, 100 = one core")] | None = None
    cpu_seconds: Annotated[float, Meta(description="user + system, process and children")] | None = None
    memory_mb: Annotated[float, Meta(description="peak resident memory of the process tree, MiB")] | None = None
    memory_mean_mb: Annotated[float, Meta(description="mean of the same, MiB")] | None = None
    read_bytes: Count | None = None
    write_bytes: Count | None = None
    gpu_used: bool | None = None
    gpus: list[Gpu] = []
    shared_with: Annotated[list[str], Meta(description="stages open in the same process meanwhile")] = []


class Process(Struct, kw_only=True):
    """Which process speaks; enough to prove later that it is dead."""

    pid: int
    host: str
    start_ticks: int | None = None
    boot_id: str | None = None


class Otel(Struct, kw_only=True):
    """Where the same thing is found in a tracing backend."""

    trace_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    span_id: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    parent_span_id: str | None = None
    start_time_unix_nano: str | None = None
    end_time_unix_nano: str | None = None


class OtelEnd(Struct, kw_only=True):
    """What the end adds to `Otel`."""

    end_time_unix_nano: str | None = None


class Log(Struct, kw_only=True):
    """The stage's log when the stage ended."""

    path: str
    lines: Count | None = None
    size_bytes: Count | None = None
    timezone: Annotated[str, Meta(description="offset of the log's local time from UTC")] | None = None


class StageManifest(Struct, kw_only=True):
    """`NN_id/manifest.json`: what one stage did."""

    schema_version: Annotated[str, Meta(pattern=r"^\d+\.\d+$")]
    stage: str
    key: str | None = None
    stage_number: int
    run_id: str
    attempt: int = 1
    timestamp: Timestamp
    completed_at: Timestamp | None = None
    duration_seconds: Annotated[float, Meta(ge=0)] | None = None
    status: Status
    reason: Annotated[str, Meta(description="why it was skipped or cancelled")] | None = None
    signal: str | None = None
    last_log: Annotated[list[str], Meta(description="last lines of stage.log of a crashed stage")] = []
    inputs: list[Artifact]
    outputs: list[Artifact]
    intermediate_files: list[Artifact]
    config: dict[str, Any]
    resources: Resources
    errors: list[Issue]
    warnings: list[Issue]
    code: dict[str, Any] | None = None
    environment: dict[str, Any] = {}
    log: Log | None = None
    otel: Otel | None = None


class StageEntry(Struct, kw_only=True):
    """One stage in the job manifest."""

    status: Status
    stage_number: int | None = None
    attempt: int = 1
    duration_seconds: float | None = None
    manifest: str | None = None
    manifest_sha256: Annotated[str, Meta(description="seal of the ended stage's manifest")] | None = None
    log: str | None = None
    process: Annotated[Process, Meta(description="of a stage that is open")] | None = None


class PipelineState(Struct, kw_only=True):
    """How the run stands, as lists of stage ids."""

    status: Status
    reason: str | None = None
    signal: str | None = None
    current_stage: str | None = None
    running_stages: list[str] = []
    completed_stages: list[str] = []
    failed_stages: list[str] = []
    skipped_stages: list[str] = []
    reused_stages: list[str] = []
    crashed_stages: list[str] = []
    cancelled_stages: list[str] = []


class Timing(Struct, kw_only=True):
    """When the run began and ended."""

    started_at: Timestamp
    completed_at: Timestamp | None = None
    total_seconds: float | None = None


class JobManifest(Struct, kw_only=True):
    """`manifest.json` of the job directory: what one run did."""

    schema_version: Annotated[str, Meta(pattern=r"^\d+\.\d+$")]
    version: Annotated[str, Meta(description="of the library that wrote it")]
    timestamp: Timestamp
    job_id: str
    run_id: str
    name: str
    open_ended: Annotated[bool, Meta(description="stages without a pipeline() around them")] = False
    pipeline: PipelineState
    stages: dict[str, StageEntry]
    timing: Timing
    config: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    telemetry: dict[str, Any] = {}
    errors: list[Issue] = []
    log: Annotated[str, Meta(description="the pipeline log")] | None = None
    process: Process | None = None
    otel: Otel | None = None
    journal: Annotated[dict[str, Any], Meta(description="folded_bytes: how far the journal is in here")] = {}
