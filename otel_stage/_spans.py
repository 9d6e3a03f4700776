"""What stands on a stage's span: primitives and arrays of strings, bounded; events carry the whole record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span

from otel_stage._ending import Ending, result_word
from otel_stage.manifest import encode
from otel_stage.semconv import (
    CICD_PIPELINE_NAME,
    CICD_PIPELINE_RUN_ID,
    CICD_TASK_NAME,
    CICD_TASK_RESULT,
    CICD_TASK_RUN_ID,
    ROLES,
    STAGE_ATTEMPT,
    STAGE_CONFIG,
    STAGE_CONFIG_DROPPED,
    STAGE_ERROR_COUNT,
    STAGE_ID,
    STAGE_JOB_DIR,
    STAGE_JOB_ID,
    STAGE_KEY,
    STAGE_MANIFEST_PATH,
    STAGE_NAME,
    STAGE_NUMBER,
    STAGE_REASON,
    STAGE_RESOURCE,
    STAGE_RUN_ID,
    STAGE_STATUS,
    STAGE_WARNING_COUNT,
)

if TYPE_CHECKING:
    from otel_stage._run import Run
    from otel_stage._stage import Stage

# Tempo cuts an attribute at 2 KiB, receivers refuse requests of some megabytes.
_MOST_FILES = 100
_MOST_BYTES = 32_768
_MOST_CONFIG = 500
_MOST_CONFIG_ELSEWHERE = 64
_LONGEST_VALUE = 2_000


def run_attributes(run: Run, name: str) -> dict[str, Any]:
    """Attributes of a pipeline's span."""
    return {CICD_PIPELINE_NAME: name, CICD_PIPELINE_RUN_ID: run.run_id, **run.event_attributes()}


def start_attributes(stage: Stage) -> dict[str, Any]:
    """Attributes that a stage's span has from its first moment."""
    run = stage._run
    job = run.job
    attributes: dict[str, Any] = {
        STAGE_NAME: stage.name,
        STAGE_ID: stage.id,
        STAGE_NUMBER: stage.number,
        STAGE_ATTEMPT: stage._attempt,
        STAGE_RUN_ID: run.run_id,
        STAGE_JOB_DIR: run.path,
        CICD_TASK_NAME: stage.name,
        CICD_TASK_RUN_ID: f"{run.run_id}/{stage.id}",
        CICD_PIPELINE_RUN_ID: run.run_id,
    }
    if stage.key is not None:
        attributes[STAGE_KEY] = stage.key
    if job is not None:
        attributes[STAGE_JOB_ID] = job.job_id
        attributes[CICD_PIPELINE_NAME] = job.name
        attributes[STAGE_MANIFEST_PATH] = f"{stage._dir[len(job.path) + 1:]}/manifest.json"
    return attributes


def set_end_attributes(stage: Stage, span: Span, ending: Ending, resources: dict[str, Any]) -> None:
    """Attributes that a stage's span gets at its end, in one call."""
    if not span.is_recording():
        return
    attributes = _config_attributes(stage)
    attributes |= {
        STAGE_STATUS: ending.status,
        CICD_TASK_RESULT: result_word(ending),
        STAGE_WARNING_COUNT: stage._counts["warning"],
        STAGE_ERROR_COUNT: stage._counts["error"],
    }
    if ending.reason:
        attributes[STAGE_REASON] = ending.reason
    for role in ROLES:
        count, size, shown = stage._artifacts.summary(role, _MOST_FILES, _MOST_BYTES)
        if count:
            attributes[f"stage.{role}.count"] = count
            attributes[f"stage.{role}.bytes"] = size
            attributes[f"stage.{role}.files"] = [encode(record).decode() for record in shown]
            if count > len(shown):
                attributes[f"stage.{role}.dropped"] = count - len(shown)
    for key, value in resources.items():
        if key == "gpus":
            attributes[STAGE_RESOURCE + key] = [encode(gpu).decode() for gpu in value]
        else:
            attributes[STAGE_RESOURCE + key] = primitive(value)
    span.set_attributes(attributes)


def _config_attributes(stage: Stage) -> dict[str, Any]:
    # First, since a full span drops its oldest attributes; few, where its limit is not ours.
    most = _MOST_CONFIG if stage._run.telemetry.own_tracers else _MOST_CONFIG_ELSEWHERE
    shown = list(stage._config.items())[:most]
    attributes = {STAGE_CONFIG + key.replace(".", "_"): primitive(value) for key, value in shown}
    if len(stage._config) > most:
        attributes[STAGE_CONFIG_DROPPED] = len(stage._config) - most
    return attributes


def primitive(value: Any) -> Any:
    """A JSON value as an attribute: as it is, or as compact JSON, bounded."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return value[:_MOST_FILES]
    text = value if isinstance(value, str) else encode(value).decode()
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
