"""What a plain span says about a stage or a pipeline, in the words of our events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from opentelemetry.trace import StatusCode

from otel_stage.errors import StageNameError
from otel_stage.jobdir import check_key, check_name
from otel_stage.manifest import jsonable
from otel_stage.redact import redactor
from otel_stage.semconv import (
    CANCELLED,
    CICD_PIPELINE_RESULT,
    CICD_TASK_RESULT,
    ERROR_TYPE,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    FAILED,
    RUNNING,
    SKIPPED,
    SPAN_ERROR_STATUSES,
    STAGE_CONFIG,
    STAGE_KEY,
    STAGE_NAME,
    STAGE_NUMBER,
    STAGE_REASON,
    STAGE_RESOURCE,
    STAGE_STATUS,
    STATUSES,
    SUCCESS,
)
from otel_stage_exporters._otel import ReadableSpan

_LONGEST = 120
_RESULTS = {
    "success": SUCCESS, "failure": FAILED, "timeout": FAILED, "error": FAILED, "cancellation": CANCELLED,
    "skip": SKIPPED,
}  # fmt: skip
_NUMBERS = ("cpu_percent", "cpu_seconds", "memory_mb", "memory_mean_mb")
_COUNTS = ("read_bytes", "write_bytes")


@dataclass
class Ending:
    """How a span says that it ended."""

    status: str
    reason: str = ""
    errors: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class StageFacts:
    """What a span says about a stage."""

    name: str
    key: str | None
    number: int | None
    config: dict[str, Any]
    resources: dict[str, Any]
    ending: Ending
    warnings: list[str]


def attributes_of(span: ReadableSpan | None) -> Mapping[str, Any]:
    """A span's attributes; none for no span."""
    return (span.attributes or {}) if span is not None else {}


def text_of(attributes: Mapping[str, Any], name: str) -> str:
    """An attribute as text; empty where there is none."""
    value = attributes.get(name)
    return "" if value is None else str(jsonable(str(value)))


def safe_name(text: str, fallback: str) -> str:
    """`text` as it can be the name of a stage or pipeline and of its folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")[:_LONGEST] or fallback


def read_stage(span: ReadableSpan) -> StageFacts:
    """Identity, configuration, resources and end of the stage that a span stands for.

    Nothing raises: what cannot be taken as it is becomes a warning of the stage.
    """
    attributes = attributes_of(span)
    warnings: list[str] = []
    name = _name(attributes, warnings)
    key = _key(attributes, warnings)
    number = _number(attributes, warnings)
    resources = _resources(attributes, warnings)
    ending = read_ending(span)
    dropped = getattr(span, "dropped_attributes", 0)
    if dropped:
        warnings.append(f"{dropped} attributes of the span are missing: it had more than the span limits let through")
    return StageFacts(name, key, number, config_of(span), resources, ending, warnings + ending.warnings)


def config_of(span: ReadableSpan) -> dict[str, Any]:
    """`stage.config.<key>` of a span, secrets masked."""
    mask = redactor()
    config: dict[str, Any] = {}
    for name, value in attributes_of(span).items():
        if name.startswith(STAGE_CONFIG) and len(name) > len(STAGE_CONFIG):
            key = jsonable(name[len(STAGE_CONFIG) :])
            config[key] = mask.value(key, jsonable(value))
    return config


def read_ending(span: ReadableSpan) -> Ending:
    """Status, reason and errors of a span; a status that we do not know gives way to the span's own."""
    attributes = attributes_of(span)
    errors = _errors(span)
    said = text_of(attributes, STAGE_STATUS).strip().lower()
    result = text_of(attributes, CICD_TASK_RESULT) or text_of(attributes, CICD_PIPELINE_RESULT)
    is_error = span.status.status_code is StatusCode.ERROR
    ending = Ending(_RESULTS.get(result.strip().lower(), FAILED if is_error else SUCCESS), errors=errors)
    if said in STATUSES and said != RUNNING:
        ending.status = said
    elif said:
        ending.warnings.append(f"stage.status {said[:80]!r} is not known: {ending.status} is what the span itself says")
    if ending.status not in SPAN_ERROR_STATUSES:
        ending.reason = "" if ending.status == SUCCESS else text_of(attributes, STAGE_REASON)
        return ending
    ending.reason = text_of(attributes, STAGE_REASON) or _reason(span, errors)
    if not errors:
        record = _error(attributes)
        if not record and is_error and span.status.description:
            record = {"message": jsonable(span.status.description)}
        if record:
            error_type = text_of(attributes, ERROR_TYPE)
            if error_type:
                record.setdefault("type", error_type)
            errors.append((span.end_time or 0, record))
            ending.reason = ending.reason or _reason(span, errors)
    if errors:
        errors[-1][1]["ends"] = True
    return ending


def _reason(span: ReadableSpan, errors: list[tuple[int, dict[str, Any]]]) -> str:
    if errors:
        last = errors[-1][1]
        text = f"{last['type']}: {last['message']}" if last.get("type") else last["message"]
    else:
        text = jsonable(span.status.description or "")
    return str(text).strip().partition("\n")[0]


def _errors(span: ReadableSpan) -> list[tuple[int, dict[str, Any]]]:
    found: list[tuple[int, dict[str, Any]]] = []
    seen: set[tuple[Any, ...]] = set()
    for event in span.events:
        if event.name != "exception":
            continue
        record = _error(event.attributes or {}) or {"message": "exception"}
        same = (record["message"], record.get("type"))
        # Recorded by the user and once more on leaving the block: one error.
        if same not in seen:
            seen.add(same)
            found.append((event.timestamp, record))
    return found


def _error(attributes: Mapping[str, Any]) -> dict[str, Any]:
    kind = text_of(attributes, EXCEPTION_TYPE)
    message = text_of(attributes, EXCEPTION_MESSAGE)
    if not kind and not message:
        return {}
    record = {"message": message or kind}
    if kind:
        record["type"] = kind
    trace = text_of(attributes, EXCEPTION_STACKTRACE).rstrip()
    if trace:
        record["traceback"] = trace
    return record


def _name(attributes: Mapping[str, Any], warnings: list[str]) -> str:
    given = text_of(attributes, STAGE_NAME)
    try:
        return check_name(given)
    except StageNameError:
        name = safe_name(given, "stage")
        warnings.append(f"stage.name {given[:200]!r} cannot be a folder name: {name!r} is taken")
        return name


def _key(attributes: Mapping[str, Any], warnings: list[str]) -> str | None:
    given = text_of(attributes, STAGE_KEY)
    if not given:
        return None
    try:
        return check_key(given)
    except StageNameError:
        key = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]+", "_", given)).strip("._")[:_LONGEST] or "key"
        warnings.append(f"stage.key {given[:200]!r} cannot be part of a folder name: {key!r} is taken")
        return key.rstrip(".")


def _number(attributes: Mapping[str, Any], warnings: list[str]) -> int | None:
    given = attributes.get(STAGE_NUMBER)
    if given is None:
        return None
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= 999_999:
        return given
    warnings.append(f"stage.number {str(given)[:40]!r} is no integer from 0 to 999999: the next free one is taken")
    return None


def _resources(attributes: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in attributes.items():
        if not name.startswith(STAGE_RESOURCE) or len(name) == len(STAGE_RESOURCE):
            continue
        key = jsonable(name[len(STAGE_RESOURCE) :])
        plain = jsonable(value)
        if key == "gpus":
            plain = [_object(item) for item in plain] if isinstance(plain, list) else [None]
        if _fits(key, plain):
            found[key] = plain
        else:
            warnings.append(f"{name} is left out: {str(plain)[:80]!r} is not what this figure can be")
    return found


def _object(text: Any) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, TypeError, UnicodeError):
        return None


def _fits(key: str, value: Any) -> bool:
    """Whether a resource that the manifest's schema knows has the type that it wants."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in _NUMBERS:
        return number
    if key in _COUNTS:
        return number and isinstance(value, int) and value >= 0
    if key == "gpu_used":
        return isinstance(value, bool)
    if key == "gpus":
        return isinstance(value, list) and all(isinstance(i, dict) and isinstance(i.get("index"), int) for i in value)
    if key == "shared_with":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return True
