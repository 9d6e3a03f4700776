"""How a stage or pipeline ended, in one place: status, reason, error record and the span's words."""

from __future__ import annotations

import traceback
from typing import Any, NamedTuple

from opentelemetry.trace import Span, Status, StatusCode

from otel_stage.manifest import jsonable
from otel_stage.redact import redactor
from otel_stage.semconv import (
    CANCELLED,
    CICD_RESULT,
    ERROR_TYPE,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    FAILED,
    SKIPPED,
    SPAN_ERROR_STATUSES,
    SUCCESS,
    TIMEOUT,
)

_LONGEST_TRACEBACK = 64_000


class Interrupted(BaseException):
    """A signal ended the work of a block; carries the signal's name."""


class Ending(NamedTuple):
    """How a block ended.

    Attributes:
        status: One of the manifest's.
        reason: Why, in one line; empty for a success.
        error: Message, type and traceback of the exception that failed the block.
        error_type: `error.type` of the span.
    """

    status: str
    reason: str = ""
    error: dict[str, Any] | None = None
    error_type: str = ""


def ending_of(exc: BaseException | None, skipped: str | None = None) -> Ending:
    """What an exception that left a block (or none) says about it."""
    if exc is None:
        return Ending(SUCCESS) if skipped is None else Ending(SKIPPED, skipped)
    if isinstance(exc, SystemExit):
        return _exit(exc)
    if isinstance(exc, Interrupted):
        return Ending(CANCELLED, str(exc), None, str(exc))
    name = type(exc).__name__
    if isinstance(exc, KeyboardInterrupt | GeneratorExit) or name == "CancelledError":
        text = _text(exc)
        return Ending(CANCELLED, f"{name}: {text}" if text else name, None, _type_of(exc))
    message = _text(exc)
    reason = f"{name}: {message}".partition("\n")[0] if message else name
    error_type = TIMEOUT if isinstance(exc, TimeoutError) else _type_of(exc)
    return Ending(FAILED, reason, error_record(exc, message), error_type)


def _exit(exc: SystemExit) -> Ending:
    code = exc.code
    if code is None or code == 0:
        return Ending(SUCCESS)
    message = f"exit code {code}" if isinstance(code, int) else f"exit code 1: {_text(exc)}"
    return Ending(FAILED, f"SystemExit: {message}", {"message": message, "type": "SystemExit"}, "SystemExit")


def error_record(exc: BaseException, message: str | None = None) -> dict[str, Any]:
    """Message, type and traceback of an exception, bounded, secrets masked."""
    record = {"message": (message if message is not None else _text(exc)) or type(exc).__name__, "type": _type_of(exc)}
    try:
        if getattr(exc, "_otel_stage_plain", False):
            return record
        text = "".join(traceback.format_exception(exc)).rstrip()
    except Exception:  # an exception whose __str__ raises
        text = "".join(traceback.format_tb(exc.__traceback__)).rstrip()
    if len(text) > _LONGEST_TRACEBACK:
        half = _LONGEST_TRACEBACK // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
    if text:
        record["traceback"] = redactor().text(text if text.isascii() else str(jsonable(text)))
    return record


def _text(exc: BaseException) -> str:
    try:
        text = str(exc)
    except Exception:
        return "(no message: __str__ of the exception raised)"
    return redactor().text(text if text.isascii() else str(jsonable(text)))


def _type_of(exc: BaseException) -> str:
    kind = type(exc)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def result_word(ending: Ending) -> str:
    """The field's word for an ending (`cicd.pipeline.task.run.result`)."""
    return TIMEOUT if ending.error_type == TIMEOUT else CICD_RESULT[ending.status]


def mark_span(span: Span, ending: Ending) -> None:
    """Put status, `error.type` and `exception.*` of an ending on a span."""
    if ending.status not in SPAN_ERROR_STATUSES:
        return
    span.set_status(Status(StatusCode.ERROR, ending.reason))
    span.set_attribute(ERROR_TYPE, ending.error_type or ending.status)
    if ending.error is not None:
        fields = {EXCEPTION_TYPE: ending.error.get("type", ""), EXCEPTION_MESSAGE: ending.error["message"]}
        if ending.error.get("traceback"):
            fields[EXCEPTION_STACKTRACE] = ending.error["traceback"]
        span.set_attributes(fields)
        span.add_event("exception", fields)
