"""Python's logging into OTel's `Logger`: every logger but the stage's own, and the warnings module.

While a pipeline is open, `logging.Logger.callHandlers` is wrapped, once per process. A handler on the root
logger would be the usual way, and would change what applications do: `logging.basicConfig()` does nothing
when the root has a handler, `dictConfig` throws handlers away, and the last resort that prints warnings falls
silent. The wrapper changes none of that.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context, get_current

from otel_stage import jobdir
from otel_stage._sdk import Telemetry, severity
from otel_stage._sdk._records import StageLogRecord, StageReadWriteRecord
from otel_stage._stage_logger import formatted, is_otel, text_of
from otel_stage.jobdir import Place
from otel_stage.semconv import PLACE_KEY

_root = logging.getLogger()
_time_ns = time.time_ns
_WARNING = severity(30, "WARNING")


class Listening:
    """Hears every logger and the warnings module while somebody is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._call: Callable[[logging.Logger, logging.LogRecord], None] | None = None
        self._show: Any = None
        self._root_level: int | None = None
        self.telemetry: Telemetry | None = None
        self.fallback: Callable[[], Context | None] = lambda: None
        self.console = False

    def start(self, telemetry: Telemetry, fallback: Callable[[], Context | None], *, console: bool, level: str) -> None:
        """Begin to listen, or stay with those who do already.

        Args:
            telemetry: Where records go.
            fallback: Gives the context for records from threads that have none.
            console: Whether our console shows INFO and above.
            level: Level of the root logger meanwhile; empty: unchanged.
        """
        with self._lock:
            self._users += 1
            jobdir.fallback_place = lambda: place_of(fallback())
            self.telemetry, self.fallback, self.console = telemetry, fallback, console
            if level and self._root_level is None:
                self._root_level = _root.level
                _root.setLevel(level)
            if self._users > 1:
                return
            self._call = logging.Logger.callHandlers
            logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign,assignment]  # see the module's docstring
            self._show = warnings.showwarning
            warnings.showwarning = _show_warning

    def stop(self) -> None:
        """One user less; the last one puts everything back."""
        with self._lock:
            self._users -= 1
            if self._users > 0:
                return
            self._users = 0
            jobdir.fallback_place = lambda: None
            if self._root_level is not None:
                _root.setLevel(self._root_level)
                self._root_level = None
            # Somebody may have wrapped us meanwhile: then we stay, and pass everything on.
            if logging.Logger.callHandlers is _call_handlers and self._call is not None:
                logging.Logger.callHandlers = self._call  # type: ignore[method-assign,assignment]  # as it was
            if warnings.showwarning is _show_warning:
                warnings.showwarning = self._show

    @property
    def active(self) -> bool:
        """Whether anybody is open."""
        return self._users > 0


listening = Listening()


def _call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
    original = listening._call
    shown = False
    if listening._users and not record.name.startswith("opentelemetry"):
        try:
            shown = _forward(logger, record)
        except Exception as err:
            _complain(err)
    if original is not None and not (shown and _last_resort(logger)):
        original(logger, record)


def _forward(logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Into OTel; True if our console has shown it."""
    telemetry = listening.telemetry
    if telemetry is None:
        return False
    for handler in _root.handlers:
        if is_otel(handler):
            return False
    context: Context | None = get_current()
    if context is None or PLACE_KEY not in context:
        context = listening.fallback()
        if context is None:
            return False
    args = record.args
    text = text_of(record.msg) if not args else formatted(record.msg, args if isinstance(args, tuple) else (args,))
    if record.exc_info and record.exc_info[0] is not None:
        text = f"{text}\n{''.join(traceback.format_exception(*record.exc_info)).rstrip()}"
    elif record.exc_text:
        text = f"{text}\n{record.exc_text}"
    if record.stack_info:
        text = f"{text}\n{record.stack_info}"
    otel = telemetry.logger(record.name)
    log_record = StageLogRecord(
        int(record.created * 1e9), context, severity(record.levelno, record.levelname), text
    )
    # A library that prints by itself must not be printed twice; who is on the root is the console's to see.
    if logger.handlers or logger.parent is not _root:
        log_record.quiet = _prints(logger)
    otel.emit(StageReadWriteRecord(log_record, otel))
    return listening.console and record.levelno >= 20


def _prints(logger: logging.Logger) -> bool:
    """Whether a handler below the root writes to stderr."""
    current: logging.Logger | None = logger
    while current is not None and current is not _root:
        for handler in current.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.__stderr__):
                return True
        current = current.parent if current.propagate else None
    return False


def _last_resort(logger: logging.Logger) -> bool:
    """Whether no handler is found, so that logging would print to stderr itself."""
    if _root.handlers:
        return False
    current: logging.Logger | None = logger
    while current is not None:
        if current.handlers:
            return False
        if not current.propagate:
            return True
        current = current.parent
    return True


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    # With logging.captureWarnings the record comes through logging, once.
    captured = getattr(logging, "_warnings_showwarning", None) is not None
    if file is None and not captured and listening._users and listening.telemetry is not None:
        try:
            context: Context | None = get_current()
            if context is None or PLACE_KEY not in context:
                context = listening.fallback()
            if context is not None:
                text = f"{filename}:{lineno}: {category.__name__}: {message}"
                otel = listening.telemetry.logger("py.warnings")
                record = StageLogRecord(_time_ns(), context, _WARNING, text)
                # The warnings module prints it on the console itself.
                record.quiet = True
                otel.emit(StageReadWriteRecord(record, otel))
        except Exception as err:
            _complain(err)
    listening._show(message, category, filename, lineno, file, line)


def _complain(err: Exception) -> None:
    try:
        sys.stderr.write(f"otel_stage: a log record could not be recorded: {type(err).__name__}: {err}\n")
    except Exception:  # a process without stderr
        return


def place_of(context: Context | None) -> Place | None:
    """The Place that a context carries."""
    found = None if context is None else context.get(PLACE_KEY)
    return found if isinstance(found, Place) else None
