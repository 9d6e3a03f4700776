"""The shape of every event: one line of a journal, and the body of a log event."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from otel_stage.manifest._model import Artifact, Issue, Log, Otel, OtelEnd, Process, Role, Status


class _Event(Struct, kw_only=True, tag_field="event"):
    time: Annotated[str, Meta(description="RFC 3339, UTC, nanoseconds: orders the events of a journal")]


class StageStart(_Event, kw_only=True, tag="stage.start"):
    """A stage opened."""

    schema_version: str
    stage: str
    key: str | None = None
    id: str
    stage_number: int
    run_id: str
    attempt: int = 1
    folder: str
    process: Process
    job_id: str | None = None
    otel: Otel | None = None
    environment: dict[str, Any] = {}
    code: dict[str, Any] | None = None


class StageConfig(_Event, kw_only=True, tag="stage.config"):
    """Configuration was set; keys of later events win."""

    config: dict[str, Any]


class StageArtifact(_Event, kw_only=True, tag="stage.artifact"):
    """An artifact was tracked, or its facts were found to be others at the stage's end."""

    role: Role
    artifact: Artifact


class StageWarning(_Event, kw_only=True, tag="stage.warning"):
    """Something to know about."""

    message: str
    logged: Annotated[bool, Meta(description="a logger has said it, it needs no line of its own")] = False


class StageError(_Event, kw_only=True, tag="stage.error"):
    """Something went wrong."""

    message: str
    ends: Annotated[bool, Meta(description="the exception that ended the stage")] = False
    type: str | None = None
    traceback: str | None = None


class StageResource(_Event, kw_only=True, tag="stage.resource"):
    """Resource figures given by the user; they win over measured ones."""

    resources: dict[str, Any]


class StageEnd(_Event, kw_only=True, tag="stage.end"):
    """A stage ended; in the job's journal with the seal of its manifest."""

    id: str
    status: Status
    duration_seconds: float | None = None
    reason: str | None = None
    signal: str | None = None
    last_log: list[str] = []
    resources: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    code: dict[str, Any] | None = None
    log: Log | None = None
    otel: OtelEnd | None = None
    manifest: str | None = None
    manifest_sha256: str | None = None


class JobStart(_Event, kw_only=True, tag="job.start"):
    """A run began."""

    schema_version: str
    version: str
    name: str
    job_id: str
    run_id: str
    process: Process
    open_ended: bool = False
    numbers: Annotated[dict[str, int], Meta(description="numbers that ids of this directory own")] = {}
    stages_total: int | None = None
    log: str | None = None
    otel: Otel | None = None


class JobConfig(_Event, kw_only=True, tag="job.config"):
    """Configuration of the whole run."""

    config: dict[str, Any]


class JobEnvironment(_Event, kw_only=True, tag="job.environment"):
    """Facts about the run's process, code and machine."""

    environment: dict[str, Any]


class JobTelemetry(_Event, kw_only=True, tag="job.telemetry"):
    """What left by OTLP, as one process counts it; later events of the same process win."""

    process: Process
    otlp_endpoint: str | None = None
    spans_exported: int = 0
    logs_exported: int = 0
    failed: int = 0


class JobEnd(_Event, kw_only=True, tag="job.end"):
    """A run ended."""

    status: Status
    duration_seconds: float | None = None
    reason: str | None = None
    signal: str | None = None
    error: Issue | None = None
    otel: OtelEnd | None = None


Event = (
    StageStart
    | StageConfig
    | StageArtifact
    | StageWarning
    | StageError
    | StageResource
    | StageEnd
    | JobStart
    | JobConfig
    | JobEnvironment
    | JobTelemetry
    | JobEnd
)
