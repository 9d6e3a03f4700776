"""Names of attributes, events and environment variables, and nothing else.

The field's names come first (OpenTelemetry semantic conventions 1.44: `cicd.*`, `error.*`, `exception.*`,
`process.*`, `code.*`); `stage.*` is our own namespace for what they lack. No name is the prefix of another
followed by a dot, so that stores which unfold dots into objects can hold them all.
"""

from __future__ import annotations

from typing import Final

SCOPE_NAME: Final = "otel_stage"
SCHEMA_VERSION: Final = "1.0"

# --- the key under which the OpenTelemetry context carries where we are (a jobdir.Place)
PLACE_KEY: Final = "otel-stage.place"

# --- environment variables that carry a run into another process
ENV_JOB_DIR: Final = "OTEL_STAGE_JOB_DIR"
ENV_RUN_ID: Final = "OTEL_STAGE_RUN_ID"
ENV_TRACEPARENT: Final = "TRACEPARENT"
ENV_TRACESTATE: Final = "TRACESTATE"
ENV_BAGGAGE: Final = "BAGGAGE"
ENV_PORTABLE: Final = "OTEL_STAGE_PORTABLE"

# --- spans: the field's names
CICD_PIPELINE_NAME: Final = "cicd.pipeline.name"
CICD_PIPELINE_RUN_ID: Final = "cicd.pipeline.run.id"
CICD_PIPELINE_RESULT: Final = "cicd.pipeline.result"
CICD_TASK_NAME: Final = "cicd.pipeline.task.name"
CICD_TASK_RUN_ID: Final = "cicd.pipeline.task.run.id"
CICD_TASK_RESULT: Final = "cicd.pipeline.task.run.result"
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
PROCESS_EXECUTABLE_NAME: Final = "process.executable.name"
PROCESS_COMMAND_ARGS: Final = "process.command_args"
PROCESS_PID: Final = "process.pid"
PROCESS_EXIT_CODE: Final = "process.exit.code"
PROCESS_SIGNAL: Final = "stage.process.signal"
CODE_FILE_PATH: Final = "code.file.path"
CODE_FUNCTION_NAME: Final = "code.function.name"
CODE_LINE_NUMBER: Final = "code.line.number"

# --- spans: ours
STAGE_NAME: Final = "stage.name"
STAGE_ID: Final = "stage.id"
STAGE_KEY: Final = "stage.key"
STAGE_NUMBER: Final = "stage.number"
STAGE_ATTEMPT: Final = "stage.attempt"
STAGE_STATUS: Final = "stage.status"
STAGE_REASON: Final = "stage.reason"
STAGE_CONFIG: Final = "stage.config."
STAGE_CONFIG_DROPPED: Final = "stage.config_dropped"
STAGE_RESOURCE: Final = "stage.resource."
STAGE_WARNING_COUNT: Final = "stage.warning.count"
STAGE_ERROR_COUNT: Final = "stage.error.count"
STAGE_MANIFEST_PATH: Final = "stage.manifest.path"
STAGE_JOB_ID: Final = "stage.job.id"
STAGE_JOB_DIR: Final = "stage.job.dir"
STAGE_RUN_ID: Final = "stage.run.id"
ROLES: Final = ("input", "output", "intermediate")
# per role: stage.<role>.count, .bytes, .files (one compact JSON object per artifact), .dropped
STAGE_ARTIFACT_ROLE: Final = "stage.artifact.role"
STAGE_ARTIFACT_PATH: Final = "stage.artifact.path"
STAGE_ARTIFACT_CHECKSUM: Final = "stage.artifact.checksum"

# --- events: lines of the journals and log events alike
JOB_START: Final = "job.start"
JOB_CONFIG: Final = "job.config"
JOB_ENVIRONMENT: Final = "job.environment"
JOB_TELEMETRY: Final = "job.telemetry"
JOB_END: Final = "job.end"
EVENT_START: Final = "stage.start"
EVENT_CONFIG: Final = "stage.config"
EVENT_ARTIFACT: Final = "stage.artifact"
EVENT_WARNING: Final = "stage.warning"
EVENT_ERROR: Final = "stage.error"
EVENT_RESOURCE: Final = "stage.resource"
EVENT_END: Final = "stage.end"

# --- statuses, and the one table to the field's words
RUNNING: Final = "running"
SUCCESS: Final = "success"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
REUSED: Final = "reused"
CRASHED: Final = "crashed"
CANCELLED: Final = "cancelled"
STATUSES: Final = (RUNNING, SUCCESS, FAILED, SKIPPED, REUSED, CRASHED, CANCELLED)
CICD_RESULT: Final = {
    SUCCESS: "success",
    REUSED: "success",
    SKIPPED: "skip",
    FAILED: "failure",
    CANCELLED: "cancellation",
    CRASHED: "error",
}
TIMEOUT: Final = "timeout"
SPAN_ERROR_STATUSES: Final = frozenset({FAILED, CRASHED, CANCELLED})
