"""What a stage is made of, and how it says things."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, get_current_span

from otel_stage._run import Run
from otel_stage._sdk import emit, severity
from otel_stage._sdk._records import StageLogRecord, StageReadWriteRecord
from otel_stage._stage_logger import text_of
from otel_stage.jobdir import Place, stage_id
from otel_stage.manifest import event_line, jsonable, now_ns
from otel_stage.redact import redactor
from otel_stage.semconv import (
    EVENT_ARTIFACT,
    EVENT_WARNING,
    SCOPE_NAME,
    STAGE_ARTIFACT_CHECKSUM,
    STAGE_ARTIFACT_PATH,
    STAGE_ARTIFACT_ROLE,
)

if TYPE_CHECKING:
    from otel_stage._resources import Meter

_log = logging.getLogger("otel_stage")
INFO, WARNING, ERROR = severity(20, "INFO"), severity(30, "WARNING"), severity(40, "ERROR")


class StageCore:
    """State of a stage and its way to say events; `Stage` adds the verbs, `_lifecycle` opens and ends it."""

    def __init__(
        self, run: Run, parent: Context, name: str, key: str | None, number: int | None,
        code: Mapping[str, Any] | None = None,
    ) -> None:
        self._run = run
        self._parent = parent
        self._name = name
        self._key = key
        self._number = number
        self._code = code
        self._pid = os.getpid()
        self._began = 0.0
        self._skipped: str | None = None
        self._counts = {"warning": 0, "error": 0}
        self._config: dict[str, Any] = {}
        self._dir = ""
        self._ident = stage_id(name, key)
        self._attempt = 1
        self._place: Place | None = None
        self._span: Span = NonRecordingSpan(get_current_span(parent).get_span_context())
        self._logger: logging.Logger | None = None
        self._meter: Meter | None = None
        self._ended = False
        self._told_late = False
        self._exits = contextlib.ExitStack()
        self.context: Context = parent
        self._otel = run.telemetry.logger(SCOPE_NAME) if run.job is not None else None
        # Imported with the first stage: opening a pipeline should cost little more than the SDK.
        from otel_stage._artifacts import Artifacts

        self._artifacts = Artifacts(
            run.path, run.settings.checksum, self._say_artifact, self._warn, lambda: self._dir
        )
        self._attributes: dict[str, Any] = {}

    # --- events

    def _silent(self) -> bool:
        """Whether there is nobody to tell: the SDK is disabled, or the stage is over."""
        if self._otel is None:
            return True
        if self._ended:
            if not self._told_late:
                self._told_late = True
                _log.warning("stage %s has ended: what is said now is not recorded", self._ident)
            return True
        return False

    def _say(self, name: str, fields: Mapping[str, Any], level: tuple[Any, str] = INFO) -> None:
        self._say_at(now_ns(), name, fields, level)

    def _say_at(
        self, ns: int, name: str, fields: Mapping[str, Any], level: tuple[Any, str] = INFO,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        if self._otel is None:
            return
        if attributes is None and self._run.telemetry.others:
            attributes = self._attributes
        emit(self._otel, ns, self.context, level, event_line(name, ns, fields), name, attributes)

    def _say_artifact(self, role: str, record: dict[str, Any]) -> None:
        attributes = None
        if self._run.telemetry.others:
            attributes = {**self._attributes, STAGE_ARTIFACT_ROLE: role, STAGE_ARTIFACT_PATH: record["path"]}
            if "checksum" in record:
                attributes[STAGE_ARTIFACT_CHECKSUM] = record["checksum"]
        if self._otel is not None:
            ns = now_ns()
            line = event_line(EVENT_ARTIFACT, ns, {"role": role, "artifact": record})
            # `emit` spelt out: this is the hot one.
            said = StageLogRecord(ns, self.context, INFO, line, EVENT_ARTIFACT, attributes)
            self._otel.emit(StageReadWriteRecord(said, self._otel))

    def _warn(self, message: str) -> None:
        try:
            self._counts["warning"] += 1
            self._say(EVENT_WARNING, {"message": redactor().text(plain_text(message))}, WARNING)
        except Exception as err:
            self._trouble("a warning", err)

    def _trouble(self, what: str, err: Exception) -> None:
        if self._run.settings.strict:
            raise err
        text = f"{what} could not be recorded: {type(err).__name__}: {text_of(err)}"
        _log.warning("stage %s: %s", self._ident, text)
        try:
            self._counts["warning"] += 1
            said = {"message": redactor().text(plain_text(text)), "logged": True}
            self._say(EVENT_WARNING, said, WARNING)
        except Exception:  # the log line has said it
            return


def plain_text(value: object) -> str:
    """`str(value)` as JSON can hold it, whatever its class does."""
    text = value if type(value) is str else text_of(value)
    return text if text.isascii() else str(jsonable(text))
